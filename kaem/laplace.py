"""The evidence log p(x) by importance sampling from a Laplace approximation of the posterior.

For each datum a Langevin chain is annealed from the prior to the posterior and finds its middle;
there the curvature is that of Gauss and Newton, J^T J / sigma^2 plus the inverse variances of the
prior, with J the decoder's Jacobian. The draws come from a Student t with that shape, whose
heavy tails keep the weights bounded where a Gaussian's would not be. Whatever the fit, the mean
weight is an unbiased estimate of p(x), so its log errs downwards: a stochastic lower bound, like
that of Burda et al. 2016 (arXiv 1509.00519) for a VAE. A good fit makes it tight.

It takes a few hundred passes of the decoder, where an annealed path from the prior to the posterior
crosses thousands of nats.
"""

import math
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor

from kaem.langevin import adapted, mala_step
from kaem.likelihood import Evidence, evidence_from_weights
from kaem.posterior import Posterior, PosteriorState
from kaem.random import randn
from kaem.thermodynamic import power_schedule

ANNEALING, EXPLORATION = 0.25, 0.15  # shares of the passes
POWER = 3.0  # of the temperatures t_k = (k/n)^power
FIRST_STEP_SIZE, GAIN = 0.05, 0.3  # of MALA, whose step sizes adapt throughout
BURN_IN = 1 / 3  # share of the exploration that does not count for the middle
DEGREES = 5  # of freedom of the Student t
DIFFERENCE = 1e-2  # step of the Jacobian's differences, in standard deviations of the prior
FEWEST = 10  # steps of each chain, and draws


class Proposal(NamedTuple):
    """A Student t per datum, in d dimensions.

    Attributes:
        centre: (b, d).
        factor: (b, d, d), the lower Cholesky factor of the shape's inverse.
    """

    centre: Tensor
    factor: Tensor

    def draw(self, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw once per datum, (b, d); return the draws and their log densities, (b,)."""
        b, d = self.centre.shape
        normal = randn(b, (d,), generator, like=self.centre)
        scale = randn(b, (DEGREES,), generator, like=self.centre).square().mean(1, keepdim=True)
        unit = normal / scale.sqrt()
        away = torch.linalg.solve_triangular(self.factor.mT, unit.unsqueeze(-1), upper=True)
        log_volume = self.factor.diagonal(dim1=1, dim2=2).log().sum(1)
        log_norm = math.lgamma((DEGREES + d) / 2) - math.lgamma(DEGREES / 2)
        log_norm -= 0.5 * d * math.log(DEGREES * math.pi)
        tail = -0.5 * (DEGREES + d) * torch.log1p(unit.square().sum(1) / DEGREES)
        return self.centre + away.squeeze(-1), log_norm + log_volume + tail


@torch.no_grad()
def laplace_importance(
    posterior: Posterior, passes: int, generator: torch.Generator | None = None
) -> Evidence:
    """Estimate log p(x) of each datum, in nats.

    Args:
        passes: of the decoder, for each datum; all are counted. Four in ten carry a gradient.

    Raises:
        ValueError: too few passes for a fit and draws.
    """
    latents = math.prod(posterior.event_shape)
    if passes < fewest_passes(latents):
        raise ValueError(
            f"{passes} passes are too few to estimate log p(x) with {latents} latents; "
            f"it takes at least {fewest_passes(latents)}"
        )
    annealing, exploration, draws = _shares(passes, latents)
    z = posterior.prior_draws(len(posterior.x), generator)
    centre = _middle(posterior, z, annealing, exploration, generator)
    proposal = Proposal(
        centre.double(), torch.linalg.cholesky(gauss_newton_precision(posterior, centre))
    )
    log_weights = [_log_weight(posterior, proposal, generator) for _ in range(draws)]
    return evidence_from_weights(torch.stack(log_weights, dim=1))


def fewest_passes(latents: int) -> int:
    """Return the passes that a fit and draws take at least."""
    return next(n for n in count(1) if min(_shares(n, latents)) >= FEWEST)


def _shares(passes: int, latents: int) -> tuple[int, int, int]:
    """Divide the passes among annealing, exploration and draws; the fit takes 1 + 2 d others."""
    annealing, exploration = int(ANNEALING * passes), int(EXPLORATION * passes)
    return annealing, exploration, passes - 1 - annealing - exploration - 2 * latents


def _middle(
    posterior: Posterior,
    z: Tensor,
    annealing: int,
    exploration: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Return the mean of a chain at t = 1 that began at z, flattened: (b, d)."""
    state, size = annealed(posterior, z, annealing, generator)
    total, counted = torch.zeros_like(z), 0
    for number in range(1, exploration + 1):
        state, info = mala_step(state, posterior.evaluate, posterior.domain, size, 1.0, generator)
        size = adapted(size, info.acceptance, GAIN)
        if number > BURN_IN * exploration:
            total, counted = total + state.z, counted + 1
    return (total / counted).flatten(1)


def annealed(
    posterior: Posterior, z: Tensor, steps: int, generator: torch.Generator | None = None
) -> tuple[PosteriorState, Tensor]:
    """Anneal MALA chains from z (n, ...) while the temperature rises from 0 to 1; return where
    they end and their step sizes, (n,)."""
    state = posterior.evaluate(z)
    size = torch.full((len(z),), FIRST_STEP_SIZE, dtype=z.dtype, device=z.device)
    for t in power_schedule(steps, POWER)[1:].tolist():
        state, info = mala_step(state, posterior.evaluate, posterior.domain, size, t, generator)
        size = adapted(size, info.acceptance, GAIN)
    return state, size


def gauss_newton_precision(posterior: Posterior, centre: Tensor) -> Tensor:
    """Return Gauss and Newton's curvature of -log p(z|x) at (b, d), in float64: (b, d, d).

    Central differences: it costs 2 d passes of the decoder for each datum.
    """
    variance = posterior.marginals.variance().flatten().double()
    columns = []
    for j, step in enumerate(DIFFERENCE * variance.sqrt()):
        low, high = (_decode(posterior, _moved(centre, j, s)) for s in (-step, step))
        columns.append((high - low).double() / (2 * step))
    jacobian = torch.stack(columns, dim=2) / posterior.model.sigma
    precision: Tensor = jacobian.mT @ jacobian + torch.diag(1 / variance)
    return precision


def _moved(z: Tensor, j: int, step: Tensor) -> Tensor:
    z = z.clone()
    z[:, j] += step.to(z.dtype)
    return z


def _decode(posterior: Posterior, flat: Tensor) -> Tensor:
    return posterior.decode(torch.unflatten(flat, 1, posterior.event_shape)).flatten(1)


def _log_weight(
    posterior: Posterior, proposal: Proposal, generator: torch.Generator | None
) -> Tensor:
    """Return log p(x|z) + log p(z) - log q(z) at a draw per datum, (b,); -inf beyond the walls."""
    flat, log_density = proposal.draw(generator)
    z = flat.to(posterior.x.dtype).unflatten(1, posterior.event_shape)
    log_prior = posterior.log_prior(z)  # -inf beyond the walls, where any finite image will do
    log_likelihood = posterior.log_likelihood(z.clamp(*posterior.domain))
    return log_likelihood.double() + log_prior.double() - log_density

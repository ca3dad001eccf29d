"""The evidence log p(x) by importance sampling from Laplace approximations of the posterior.

A posterior may have several modes, most of them many nats worse than the best. So each datum has
several starts, independent of each other. A start is a few Langevin chains annealed from the prior
to the posterior; steps of Gauss and Newton lead the best of their ends to the middle of its mode.
There the curvature is J^T J / sigma^2 plus the inverse variances of the prior, with J the
decoder's Jacobian. A Student t of that shape lies at this middle and at the other ends,
which count as their densities say, with a floor: two modes may be equally good.

The proposal is the mixture of all starts and the prior. There are as many draws from each, and
every draw is weighed by the density of the whole mixture (the balance heuristic of Veach & Guibas
1995). Whatever the fit, the mean weight is an unbiased estimate of p(x), so its log errs
downwards: a stochastic lower bound, like that of Burda et al. 2016 (arXiv 1509.00519) for a VAE.

The standard error is the larger of two: that of the draws, given the proposal, and the scatter of
the estimates that leave out one start. Where a single start found the mode that matters, another
run may miss it. A mode that no draw has found shows in no error.

It takes a few hundred passes of the decoder, where an annealed path from the prior to the posterior
crosses thousands of nats.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kaem.langevin import adapted, mala_step
from kaem.likelihood import Evidence, evidence_from_weights, log_mean_exp
from kaem.posterior import Posterior, PosteriorState, per_row
from kaem.precision import full_precision
from kaem.random import rand, randn
from kaem.tempering import power_schedule

STARTS = 5  # per datum
ROUNDS, FIT = 3, 0.35  # of Gauss and Newton, and the share of a start's passes that they may take
SEARCH = 0.5  # share of the other passes that goes to chains
CHAINS, CHAIN = 4, 20  # per start, where each has at least so many passes
PRIOR_DRAWS = 0.25  # share of a chain's passes; it begins at the most likely one
POWER = 2.0  # of the temperatures t_k = (k/n)^power
FIRST_STEP_SIZE, GAIN = 0.1, 0.3  # of MALA, whose step sizes adapt throughout
FLOOR = 0.1  # share of a start's draws that its chains' ends divide alike
DEGREES = 10  # of freedom of the Student t
DIFFERENCE = 1e-3  # step of the Jacobian's differences, in standard deviations of the prior
FEWEST = 10  # passes of each start for chains, and for draws


class Proposal(NamedTuple):
    """k mixtures in d dimensions for each datum, each of c Student t of one shape.

    Attributes:
        centre: (c, k, b, d).
        log_share: (c, k, b), the logs of what each mixture's parts weigh; they sum to one.
        factor: (k, b, d, d), the lower Cholesky factors of the shapes' inverses.
    """

    centre: Tensor
    log_share: Tensor
    factor: Tensor

    def draw(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw once from each mixture, (k, b, d)."""
        k, b, d = self.centre.shape[1:]
        normal = randn(k, (b, d), generator, like=self.centre)
        scale = randn(k, (b, DEGREES), generator, like=self.centre).square().mean(2, keepdim=True)
        unit = (normal / scale.sqrt()).unsqueeze(-1)
        away = torch.linalg.solve_triangular(self.factor.mT, unit, upper=True).squeeze(-1)
        part = self.log_share.exp().cumsum(0) < rand(k, (b,), generator, like=self.centre)
        part = part.sum(0, keepdim=True).clamp(max=len(self.centre) - 1)
        middle = self.centre.take_along_dim(part.unsqueeze(-1), dim=0).squeeze(0)
        draws: Tensor = middle + away
        return draws

    def log_density(self, z: Tensor) -> Tensor:
        """Return the log density of each mixture at z, (m, b, d) -> (k, m, b)."""
        d = z.shape[-1]
        away = z - self.centre.unsqueeze(2)
        squares = torch.einsum("ckmbi,kbij->ckmbj", away, self.factor).square().sum(-1)
        tail = -0.5 * (DEGREES + d) * torch.log1p(squares / DEGREES)
        log_volume = self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1).unsqueeze(1)
        log_norm = math.lgamma((DEGREES + d) / 2) - math.lgamma(DEGREES / 2)
        log_norm -= 0.5 * d * math.log(DEGREES * math.pi)
        density: Tensor = log_norm + log_volume + (self.log_share.unsqueeze(2) + tail).logsumexp(0)
        return density


class Shares(NamedTuple):
    """How the passes for a datum are spent."""

    starts: int
    chains: int  # of each start
    prior_draws: int  # of each chain
    steps: int  # of each chain
    rounds: int  # of Gauss and Newton
    draws: int  # from each component


@torch.no_grad()
def laplace_importance(
    posterior: Posterior, passes: int, generator: torch.Generator | None = None
) -> Evidence:
    """Estimate log p(x) of each datum, in nats.

    Args:
        passes: of the decoder, for each datum at most; all are counted. A third carry a gradient.

    Raises:
        ValueError: too few passes for a fit and draws.
    """
    latents = math.prod(posterior.event_shape)
    if passes < fewest_passes(latents):
        raise ValueError(
            f"{passes} passes are too few to estimate log p(x) with {latents} latents; "
            f"it takes at least {fewest_passes(latents)}"
        )
    shares = _shares(passes, latents)
    with full_precision(posterior.x):
        proposal = _fit(posterior, *_search(posterior, shares, generator), shares.rounds)
        draws = [_weighed_draws(posterior, proposal, generator) for _ in range(shares.draws)]
    log_joint, log_density = (torch.stack(parts, dim=-2) for parts in zip(*draws, strict=True))
    return _evidence(log_joint, log_density)


def fewest_passes(latents: int) -> int:
    """Return the passes that two starts, the fewest with an error, take at least."""
    return 2 * _fewest_of_a_start(latents)


def _fewest_of_a_start(latents: int) -> int:
    return latents + 2 + 2 * FEWEST


def _shares(passes: int, latents: int) -> Shares:
    """Divide the passes; a round of the fit takes d + 2."""
    starts = min(STARTS, passes // _fewest_of_a_start(latents))
    each = passes // starts
    rounds = min(ROUNDS, max(1, int(FIT * each / (latents + 2))))
    each -= rounds * (latents + 2)
    search = max(FEWEST, int(SEARCH * each))
    chains = min(CHAINS, max(1, search // CHAIN))
    prior_draws = max(1, int(PRIOR_DRAWS * (search // chains)))
    steps = search // chains - prior_draws - 1
    draws = starts * (each - search // chains * chains) // (starts + 1)
    return Shares(starts, chains, prior_draws, steps, rounds, draws)


def _search(
    posterior: Posterior, shares: Shares, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Return where the chains of each start end, flattened, and the log density there up to a
    constant: (chains, starts, b, d) and (chains, starts, b)."""
    by_chain = (shares.chains, shares.starts, len(posterior.x))
    z = _likely_prior_draws(posterior, math.prod(by_chain), shares.prior_draws, generator)
    state, _ = annealed(posterior, z, shares.steps, generator)
    return state.z.flatten(1).unflatten(0, by_chain), state.log_density(1.0).unflatten(0, by_chain)


def _likely_prior_draws(
    posterior: Posterior, rows: int, draws: int, generator: torch.Generator | None
) -> Tensor:
    """Return the most likely of some prior draws for each row."""
    z = posterior.prior_draws(rows, generator)
    likelihood = posterior.log_likelihood(z)
    for _ in range(draws - 1):
        other = posterior.prior_draws(rows, generator)
        of_other = posterior.log_likelihood(other)
        take = of_other > likelihood
        z = torch.where(per_row(take, z), other, z)
        likelihood = torch.where(take, of_other, likelihood)
    return z


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


def _fit(posterior: Posterior, ends: Tensor, log_density: Tensor, rounds: int) -> Proposal:
    """Lead the best end of each start to the middle of its mode; return the proposal around it and
    the other ends, which may be in other modes."""
    best = log_density.argmax(0, keepdim=True)
    place = best.unsqueeze(-1).expand(1, *ends.shape[1:])
    flat = ends.gather(0, place).flatten(0, 2)
    for _ in range(rounds):
        score = posterior.score(flat.unflatten(1, posterior.event_shape)).flatten(1)
        factor = torch.linalg.cholesky(gauss_newton_precision(posterior, flat))
        step = torch.cholesky_solve(score.double().unsqueeze(-1), factor).squeeze(-1)
        flat = (flat + step).clamp(*posterior.domain).to(flat.dtype)
    centre = ends.scatter(0, place, flat.reshape(place.shape)).double()
    factor = factor.unflatten(0, ends.shape[1:3])
    share = FLOOR / len(ends) + (1 - FLOOR) * log_density.double().softmax(0)
    return Proposal(centre, share.log(), factor)


def gauss_newton_precision(posterior: Posterior, centre: Tensor) -> Tensor:
    """Return Gauss and Newton's curvature of -log p(z|x) at (b, d), in float64: (b, d, d).

    By differences towards the middle of the domain: it costs d + 1 passes of the decoder for each
    datum.
    """
    variance = posterior.marginals.variance().flatten().double()
    here = _decode(posterior, centre)
    steps = DIFFERENCE * variance.sqrt() * torch.where(centre > sum(posterior.domain) / 2, -1, 1)
    columns = []
    for j, step in enumerate(steps.to(centre.dtype).unbind(1)):
        there = centre.clone()
        there[:, j] += step
        change = _decode(posterior, there) - here
        columns.append(change.double() / step.double().unsqueeze(1))
    jacobian = torch.stack(columns, dim=2) / posterior.model.sigma
    precision: Tensor = jacobian.mT @ jacobian + torch.diag(1 / variance)
    return precision


def _decode(posterior: Posterior, flat: Tensor) -> Tensor:
    with full_precision(flat):
        return posterior.decode(torch.unflatten(flat, 1, posterior.event_shape)).flatten(1)


def _weighed_draws(
    posterior: Posterior, proposal: Proposal, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Draw once from each component, the prior last; return log p(x, z), (k + 1, b), and the log
    density of each component at each draw, (k + 1, k + 1, b). -inf beyond the walls."""
    b = len(posterior.x)
    of_prior = posterior.prior_draws(b, generator).flatten(1).to(proposal.centre)
    flat = torch.cat([proposal.draw(generator), of_prior.unsqueeze(0)])
    z = flat.flatten(0, 1).to(posterior.x.dtype).unflatten(1, posterior.event_shape)
    log_prior = posterior.log_prior(z).double().unflatten(0, (-1, b))
    # Beyond the walls any finite image will do.
    log_likelihood = posterior.log_likelihood(z.clamp(*posterior.domain)).double()
    log_density = torch.cat([proposal.log_density(flat), log_prior.unsqueeze(0)])
    return log_likelihood.unflatten(0, (-1, b)) + log_prior, log_density


def _evidence(log_joint: Tensor, log_density: Tensor) -> Evidence:
    """Estimate log p(x), with the larger of the errors of the draws and of the starts.

    Args:
        log_joint: log p(x, z) of n draws from each of m components, (m, n, b).
        log_density: (m, m, n, b), the first index that of the component whose density it is.
    """
    result = evidence_from_weights(_log_weights(log_joint, log_density), strata=len(log_joint))
    components = torch.arange(len(log_joint), device=log_joint.device)
    others = []
    for start in components[:-1]:
        keep = components[components != start]
        others.append(log_mean_exp(_log_weights(log_joint[keep], log_density[keep][:, keep])))
    scatter = torch.stack(others).std(dim=0, correction=0)
    error = torch.maximum(result.standard_error, scatter)
    return result._replace(standard_error=error.masked_fill(error.isnan(), math.inf))


def _log_weights(log_joint: Tensor, log_density: Tensor) -> Tensor:
    """Weigh draws by the density of the whole mixture, in which all components count alike."""
    return (log_joint - log_mean_exp(log_density.movedim(0, -1))).flatten(0, 1).T

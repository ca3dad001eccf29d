"""Draws from the posterior of each image by chains whose mixing is measured.

A chain per image and start is annealed from a prior draw to the posterior. From there on it moves
in coordinates in which Gauss and Newton's curvature at that place is the identity: MALA is exact in
any coordinates, and in these it needs few steps to cross a mode. Chains from different prior draws
may still end in different modes; the split R-hat of Gelman et al. (Bayesian Data Analysis, 3rd
edition, section 11.4) over all chains of an image says where they did.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kaem.langevin import adapted, mala_step
from kaem.laplace import GAIN, annealed, gauss_newton_precision
from kaem.posterior import Posterior, PosteriorState

FIRST_WHITENED_STEP_SIZE = 0.3


class Draws(NamedTuple):
    """Draws from the posterior of b images, each by several chains.

    Attributes:
        z: (steps, chains, b, d).
        acceptance: scalar tensor, the mean over the steps that were kept.
    """

    z: Tensor
    acceptance: Tensor


@torch.no_grad()
def draw_posterior(
    posterior: Posterior,
    *,
    chains: int,
    annealing: int,
    burn_in: int,
    kept: int,
    generator: torch.Generator | None = None,
) -> Draws:
    """Draw `kept` times from each chain, for latents of one dimension (d,).

    Args:
        chains: per image.
        annealing, burn_in, kept: passes of the decoder with a gradient for each chain; the
            curvature takes d + 1 without.
    """
    z = posterior.prior_draws(chains * len(posterior.x), generator)
    start = annealed(posterior, z, annealing, generator)[0].z
    whitened = _Whitened(posterior, start)
    state = whitened.evaluate(torch.zeros_like(start))
    size = torch.full_like(start[:, 0], FIRST_WHITENED_STEP_SIZE)
    draws, acceptance = [], []
    for step in range(burn_in + kept):
        state, info = mala_step(
            state, whitened.evaluate, (-math.inf, math.inf), size, generator=generator
        )
        if step < burn_in:
            size = adapted(size, info.acceptance, GAIN)
        else:
            draws.append(whitened.latents(state.z).unflatten(0, (chains, -1)))
            acceptance.append(info.acceptance.mean())
    return Draws(torch.stack(draws), torch.stack(acceptance).mean())


def split_r_hat(z: Tensor) -> Tensor:
    """Compute split R-hat, (steps, chains, b, d) -> (b, d), of each image's chains and latent.

    One where the halves of all chains agree; a latent on which they say nothing has NaN.
    """
    half = len(z) // 2
    parts = torch.cat([z[:half], z[len(z) - half :]], dim=1).double()
    within = parts.var(dim=0).mean(dim=0)
    between = parts.mean(dim=0).var(dim=0)
    return ((half - 1) / half + between / within).sqrt()


class _Whitened:
    """The posterior in coordinates y, z = start + L^{-T} y, where L L^T is the curvature there."""

    def __init__(self, posterior: Posterior, start: Tensor):
        self.posterior = posterior
        self.start = start
        factor = torch.linalg.cholesky(gauss_newton_precision(posterior, start))
        identity = torch.eye(start.shape[1], dtype=factor.dtype, device=factor.device)
        inverse = torch.linalg.solve_triangular(factor.mT, identity.expand_as(factor), upper=True)
        self.map = inverse.to(start.dtype)

    def latents(self, y: Tensor) -> Tensor:
        return self.start + (self.map @ y.unsqueeze(-1)).squeeze(-1)

    def evaluate(self, y: Tensor) -> PosteriorState:
        """Evaluate at y; beyond the walls the prior is zero, and MALA does not go there."""
        z = self.latents(y)
        a, b = self.posterior.domain
        inside = ((z >= a) & (z <= b)).all(dim=1)
        state = self.posterior.evaluate(z.clamp(a, b))
        gradients = (
            (self.map.mT @ gradient.unsqueeze(-1)).squeeze(-1)
            for gradient in (state.grad_log_likelihood, state.grad_log_prior)
        )
        log_prior = state.log_prior.masked_fill(~inside, -math.inf)
        return PosteriorState(y, state.log_likelihood, log_prior, *gradients)

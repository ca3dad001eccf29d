"""Faults of the published code, kept so that the tests can be shown to reject them."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from kaem.importance import ImportanceSampling, PosteriorParticles
from kaem.resampling import RESAMPLERS
from kaem.tempering import Swaps, exchange


def sample_by_running_sum(
    density: Callable[[np.ndarray], np.ndarray],
    domain: tuple[float, float],
    n_nodes: int,
    u: np.ndarray,
) -> np.ndarray:
    """Inverse transform whose CDF at a node is the running sum of Gauss-Legendre weights.

    The sum already holds the whole weight of the node's own cell, so the CDF runs half a cell
    ahead, and nothing is ever drawn below the first node.
    """
    x, w = np.polynomial.legendre.leggauss(n_nodes)
    a, b = domain
    nodes = a + (x + 1) * (b - a) / 2
    cdf = np.cumsum(w * density(nodes))
    return np.interp(u * cdf[-1], cdf, nodes)


def select_particles_softmax_twice(
    log_likelihood: Tensor, sampler: ImportanceSampling, generator: torch.Generator | None = None
) -> PosteriorParticles:
    """Weights that already sum to one go through a second softmax, resampled or not.

    A resampled draw should weigh 1/m, and an unresampled one its softmax weight.
    """
    weights = log_likelihood.softmax(dim=1)
    ess = 1 / weights.square().sum(1)
    if sampler.ess_threshold > 0:
        drawn = RESAMPLERS[sampler.resampler](weights, sampler.survivors, generator)
        again = weights.gather(1, drawn).softmax(dim=1)
        weights = torch.zeros_like(weights).scatter_add_(1, drawn, again)
    else:
        weights = weights.softmax(dim=1)
    indices = (weights > 0).any(dim=0).nonzero().squeeze(1)
    return PosteriorParticles(indices, weights[:, indices], ess)


def lognormal_log_density_without_the_square(z: Tensor) -> Tensor:
    """The exponent -log(z)/2 where -log(z)^2/2 is meant: the density z^(-3/2) / sqrt(2 pi)."""
    return -0.5 * z.log() - z.log() - 0.5 * np.log(2 * np.pi)


def lognormal_log_density_of_wrong_scale(z: Tensor) -> Tensor:
    """The constant 2 pi where sqrt(2 pi) is meant."""
    return -0.5 * z.log().square() - z.log() - np.log(2 * np.pi)


def covering_domain_by_factors(samples: Tensor, margin: float = 0.1) -> tuple[float, float]:
    """Widens each end by a share of its distance from zero, not of the range.

    0.9 times a negative lower end lies above it, so the domain shrinks below the samples; a
    positive lower end hardly moves where it is close to zero.
    """
    return (1 - margin) * samples.min().item(), (1 + margin) * samples.max().item()


def exchange_whole_batch(
    log_likelihood: Tensor,
    temperatures: Tensor,
    parity: int,
    generator: torch.Generator | None = None,
) -> Swaps:
    """One swap for the whole batch: the log-likelihoods are summed over the data first.

    The product of all posteriors stays invariant, so no stationary distribution shows the fault.
    But the sum's spread grows with the batch, and the acceptance vanishes.
    """
    total = log_likelihood.sum(dim=1, keepdim=True)
    swaps = exchange(total, temperatures, parity, generator)
    return Swaps(swaps.source.expand(-1, log_likelihood.shape[1]), swaps.acceptance)


def sample_without_prior_steps(model, n: int, generator: torch.Generator | None = None) -> Tensor:
    """What was timed as the neural EBM: the decoder alone, its Langevin steps left out."""
    dtype = next(model.parameters()).dtype
    return model.decoder(torch.randn(n, model.latents, generator=generator, dtype=dtype))

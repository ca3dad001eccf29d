"""Faults of the published code, kept so that the tests can be shown to reject them."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from kaem.importance import ImportanceSampling, PosteriorParticles
from kaem.resampling import RESAMPLERS


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

"""Posterior expectations by importance sampling from the prior (paper, section 4).

The gradient of the log-likelihood is an expectation under the posterior,

    grad log p(x) = E_{p(z|x)}[ grad log p(x|z) + grad log p(z) ],

and the posterior is represented by s draws from the prior, shared by the whole batch, with
self-normalised weights proportional to p(x|z_s). The estimate is consistent, not unbiased:
its bias falls as 1/s (`tests/kaem/test_importance.py` measures it).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kaem.likelihood import effective_sample_size
from kaem.resampling import RESAMPLERS


@dataclass(frozen=True)
class ImportanceSampling:
    """Hyperparameters of the importance sampler.

    Args:
        proposals: s, draws from the prior per update, shared by the batch.
        survivors: m, draws that a resampled datum keeps.
        ess_threshold: gamma; a datum is resampled when its ESS is below gamma s. 1 resamples
            every datum, 0 none.
        resampler: one of `kaem.resampling.RESAMPLERS`.

    >>> from kaem import ImportanceSampling
    >>> sampler = ImportanceSampling(proposals=500, resampler="systematic")
    >>> sampler.survivors
    20
    """

    proposals: int = 1000
    survivors: int = 20
    ess_threshold: float = 0.5
    resampler: str = "residual"

    def __post_init__(self) -> None:
        if self.resampler not in RESAMPLERS:
            known = ", ".join(RESAMPLERS)
            raise ValueError(f"unknown resampler {self.resampler!r}; known: {known}")
        if self.proposals < 1 or self.survivors < 1:
            raise ValueError("proposals and survivors must be at least 1")
        if not 0 <= self.ess_threshold <= 1:
            raise ValueError(f"ess_threshold must be in [0, 1], got {self.ess_threshold}")


@dataclass(frozen=True)
class PosteriorParticles:
    """A weighted particle approximation of the posterior of each datum.

    Attributes:
        indices: (k,) which proposals carry weight for at least one datum.
        weights: (b, k), rows sum to one.
        ess: (b,), effective sample size before resampling.
    """

    indices: Tensor
    weights: Tensor
    ess: Tensor


@torch.no_grad()
def select_particles(
    log_likelihood: Tensor, sampler: ImportanceSampling, generator: torch.Generator | None = None
) -> PosteriorParticles:
    """Weight the proposals, resample where the ESS is low, drop the proposals that nobody kept.

    After resampling each of a datum's m draws weighs 1/m: the weights were used up by the draw.

    Args:
        log_likelihood: (b, s), log p(x_b | z_s).
    """
    weights = log_likelihood.softmax(dim=1)
    ess = effective_sample_size(weights)
    low = ess < sampler.ess_threshold * weights.shape[1]
    if low.any():
        resample = RESAMPLERS[sampler.resampler]
        drawn = resample(weights[low], sampler.survivors, generator)
        copies = torch.zeros_like(weights[low])
        copies.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=copies.dtype))
        weights[low] = copies / sampler.survivors
    indices = (weights > 0).any(dim=0).nonzero().squeeze(1)
    return PosteriorParticles(indices, weights[:, indices], ess)

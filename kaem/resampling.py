"""Resampling schemes: draw indices so that index s is expected m w_s times.

Each takes normalised weights (b, s), a count m and a generator, and returns indices (b, m).
All rows are resampled independently, in one batched call. Reference: Douc, Cappe & Moulines
2005, "Comparison of resampling schemes for particle filtering".
"""

import torch
from torch import Tensor

from kaem.random import rand


def multinomial(weights: Tensor, m: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw m times independently."""
    return _inverse_cdf(weights, _uniform(weights, m, generator))


def stratified(weights: Tensor, m: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw with one uniform number in each of m equal strata."""
    strata = torch.arange(m, device=weights.device)
    return _inverse_cdf(weights, (strata + _uniform(weights, m, generator)) / m)


def systematic(weights: Tensor, m: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw with one uniform number per row, shifted into each of m equal strata."""
    strata = torch.arange(m, device=weights.device)
    return _inverse_cdf(weights, (strata + _uniform(weights, 1, generator)) / m)


def residual(weights: Tensor, m: int, generator: torch.Generator | None = None) -> Tensor:
    """Take floor(m w_s) copies of each index, and draw the rest from what is left over."""
    copies = (m * weights.double()).floor()
    left_over = (m * weights.double() - copies).clamp_min(0.0)
    drawn = _inverse_cdf(left_over, _uniform(weights, m, generator))
    position = torch.arange(m, device=weights.device, dtype=torch.float64)
    position = position.expand(len(weights), m).contiguous()
    ends = copies.cumsum(dim=1)
    certain = torch.searchsorted(ends, position, side="right").clamp(max=weights.shape[1] - 1)
    return torch.where(position < ends[:, -1:], certain, drawn)


RESAMPLERS = {
    "residual": residual,
    "systematic": systematic,
    "stratified": stratified,
    "multinomial": multinomial,
}


def _uniform(weights: Tensor, m: int, generator: torch.Generator | None) -> Tensor:
    return rand(len(weights), (m,), generator, like=weights.double())


def _inverse_cdf(weights: Tensor, u: Tensor) -> Tensor:
    """Find the index whose stretch of the cumulative weights holds u, (b, s), (b, m) -> (b, m)."""
    cumulative = weights.double().cumsum(dim=1)
    target = u * cumulative[:, -1:]
    # side="right" never lands on a zero weight, except beyond the end when rounding makes
    # the target equal to the total: then the last index with a weight is meant.
    index = torch.searchsorted(cumulative, target.contiguous(), side="right")
    last = weights.shape[1] - 1 - (weights > 0).flip(1).int().argmax(dim=1, keepdim=True)
    return torch.minimum(index, last)

"""Latents given their sum."""

from torch import Tensor

from kaem.random import Generators
from kaem.tabulated import PiecewiseLinearDensity


def split_sums(latents: PiecewiseLinearDensity, h: Tensor, generator: Generators = None) -> Tensor:
    """Draw independent latents given their sums over p, (n, q) -> (n, q, p)."""
    raise NotImplementedError

"""Basis functions B_1..B_G of a KAN edge function on a bounded domain."""

import torch
from torch import Tensor, nn


def check_domain(domain: tuple[float, float]) -> tuple[float, float]:
    """The domain (a, b) as floats; ValueError unless it is finite and a < b."""
    a, b = (float(end) for end in domain)
    if not (-float("inf") < a < b < float("inf")):
        raise ValueError(f"domain must be finite with a < b, got ({a}, {b})")
    return a, b


class GaussianRBF(nn.Module):
    """Gaussian radial basis functions B_i(z) = exp(-((z - c_i) / w)^2 / 2).

    The `grid_size` centres c_i are equally spaced from a to b; the width w is their spacing.
    """

    def __init__(self, grid_size: int, domain: tuple[float, float]):
        super().__init__()
        a, b = check_domain(domain)
        if grid_size < 2:
            raise ValueError(f"grid_size must be at least 2, got {grid_size}")
        self.grid_size = grid_size
        self.register_buffer("centres", torch.linspace(a, b, grid_size))
        self.width = (b - a) / (grid_size - 1)

    def forward(self, z: Tensor) -> Tensor:
        """(...) -> (..., grid_size)."""
        return torch.exp(-0.5 * ((z.unsqueeze(-1) - self.centres) / self.width) ** 2)


BASES = {"rbf": GaussianRBF}


def make_basis(name: str, grid_size: int, domain: tuple[float, float]) -> nn.Module:
    """The basis called `name`; ValueError with the known names otherwise."""
    if name not in BASES:
        raise ValueError(f"unknown basis {name!r}; known: {', '.join(BASES)}")
    return BASES[name](grid_size, domain)

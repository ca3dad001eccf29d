"""KAN edge functions: learnable functions of one variable (Liu et al. 2024, arXiv 2404.19756)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from kaem.bases import make_basis


class EdgeFunctions(nn.Module):
    """A rows x columns matrix of edge functions over one shared basis:

        f_rc(z) = w_base_rc silu(z) + w_spline_rc sum_i c_rci B_i(z)

    Args:
        rows, columns: the matrix; (q, p) in a prior, (inputs, outputs) in a KAN layer.
        basis, grid_size, domain: the basis, see `kaem.bases`.
        base_scale: standard deviation of the initial w_base.
        noise_scale: standard deviation of the initial coefficients c.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        *,
        basis: str = "rbf",
        grid_size: int = 20,
        domain: tuple[float, float] = (-4.0, 4.0),
        base_scale: float = 0.1,
        noise_scale: float = 0.1,
    ):
        super().__init__()
        self.basis = make_basis(basis, grid_size, domain)
        self.w_base = nn.Parameter(base_scale * torch.randn(rows, columns))
        self.w_spline = nn.Parameter(torch.ones(rows, columns))
        self.coefficients = nn.Parameter(noise_scale * torch.randn(rows, columns, grid_size))

    def curves(self, points: Tensor) -> Tensor:
        """Every function at the same points: (n,) -> (rows, columns, n)."""
        spline = self.coefficients @ self.basis(points).T
        return self.w_base.unsqueeze(-1) * silu(points) + self.w_spline.unsqueeze(-1) * spline

    def sum_over_rows(self, x: Tensor) -> Tensor:
        """A KAN layer: y_c = sum_r f_rc(x_r), (n, rows) -> (n, columns)."""
        weights = self.w_spline.unsqueeze(-1) * self.coefficients
        rows, columns, grid_size = weights.shape
        # One matrix product over (row, basis function) pairs.
        weights = weights.transpose(1, 2).reshape(rows * grid_size, columns)
        return silu(x) @ self.w_base + self.basis(x).flatten(1) @ weights

"""KAN edge functions: learnable functions of one variable (Liu et al. 2024, arXiv 2404.19756)."""

import copy
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, silu

from kaem.bases import EVEN, Basis, check_domain, check_placement, make_basis, quantiles
from kaem.refit import REFIT_RIDGE, least_squares, levelled_off

BASE_FUNCTIONS: dict[str, Callable[[Tensor], Tensor] | None] = {
    "silu": silu,
    "relu": relu,
    "none": None,
}
FREQUENCY = 10.0  # of a Morlet wavelet at first, in radians per scale: the author's

REFIT_POINTS = 20  # per basis function, in a least-squares refit
PIECE = 2**20  # numbers at once in a refit: a decoder's layer has curves for many gigabytes


class UnivariateFunctions(nn.Module):
    """A rows x columns matrix of functions f_rc of one variable, on a domain."""

    @property
    @abstractmethod
    def domain(self) -> tuple[float, float]:
        """Return (a, b)."""

    @abstractmethod
    def curves(self, points: Tensor) -> Tensor:
        """Evaluate every function at the same points: (n,) -> (rows, columns, n)."""

    @abstractmethod
    def place(
        self, domain: tuple[float, float], samples: Tensor | None = None, even: float = EVEN
    ) -> None:
        """Move to another domain; the functions stay what they are where they were known."""

    def sparsity(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the KAN regulariser penalises (arXiv 2404.19756, equations 2.17 to 2.20).

        Returns:
            l1: the sum over the functions of mean |f_rc| over the points (n,).
            entropy: of the functions' shares of that sum, in nats; small when few functions
                carry the whole layer.
        """
        size = self.curves(points).abs().mean(dim=-1).flatten()
        total, tiny = size.sum(), torch.finfo(size.dtype).tiny
        # Where a share is zero the entropy's slope is infinite: the floor cuts it off.
        share = (size / total.clamp_min(tiny)).clamp_min(tiny)
        return total, torch.special.entr(share).sum()


class MorletFunctions(UnivariateFunctions):
    """A Morlet wavelet for each function, with a place, a scale and a frequency that are learned:

        f_rc(z) = w_rc cos(omega_r t) exp(-t^2 / 2),  t = (z - place_rc) / scale_rc

    Its places are parameters, not a grid: where the domain moves, the functions stay what they are.
    Weights, places and scales start small (Glorot & Bengio 2010), as the author's do.

    Args:
        rows, columns: the matrix; (q, p) in a prior.
        domain: (a, b).
    """

    ends: Tensor

    def __init__(self, rows: int, columns: int, domain: tuple[float, float]) -> None:
        super().__init__()
        self.weights, self.places, self.scales = (
            nn.Parameter(draw(torch.empty(rows, columns)))
            for draw in (nn.init.xavier_normal_, nn.init.xavier_normal_, nn.init.xavier_uniform_)
        )
        self.frequencies = nn.Parameter(torch.full((rows,), FREQUENCY))
        self.register_buffer("ends", torch.tensor(check_domain(domain)))

    @property
    def domain(self) -> tuple[float, float]:
        a, b = self.ends.tolist()
        return a, b

    def curves(self, points: Tensor) -> Tensor:
        t = (points - self.places.unsqueeze(-1)) / self.scales.unsqueeze(-1)
        wave = torch.cos(self.frequencies[:, None, None] * t) * torch.exp(-0.5 * t.square())
        return self.weights.unsqueeze(-1) * wave

    @torch.no_grad()
    def place(
        self, domain: tuple[float, float], samples: Tensor | None = None, even: float = EVEN
    ) -> None:
        self.ends.copy_(torch.tensor(check_placement(domain, samples, even)))


class EdgeFunctions(UnivariateFunctions):
    """A rows x columns matrix of edge functions over one shared basis:

        f_rc(z) = w_base_rc base(z) + w_spline_rc sum_i c_rci B_i(z)

    Args:
        rows, columns: the matrix; (q, p) in a prior, (inputs, outputs) in a KAN layer.
        basis, grid_size, domain, basis_options: the basis, see `kaem.bases`.
        base: "silu", "relu" or "none".
        train_scale: of basis "rbf": learn how wide the functions of each row are, in distances
            of their centres, starting at one (unlearned widths are 1.5).
        smooth_start: of basis "fourier": let the initial c fall with the square of the order.
        base_scale: standard deviation of the initial w_base.
        noise_scale: standard deviation of the initial coefficients c.

    >>> import torch
    >>> from kaem.univariate import EdgeFunctions
    >>> functions = EdgeFunctions(3, 2, grid_size=8)
    >>> functions.curves(torch.linspace(-4, 4, 50)).shape
    torch.Size([3, 2, 50])
    >>> functions.sum_over_rows(torch.zeros(7, 3)).shape  # a KAN layer
    torch.Size([7, 2])
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        *,
        basis: str = "rbf",
        grid_size: int = 20,
        domain: tuple[float, float] = (-4.0, 4.0),
        base: str = "silu",
        train_scale: bool = False,
        smooth_start: bool = False,
        base_scale: float = 0.1,
        noise_scale: float = 0.1,
        **basis_options: Any,
    ) -> None:
        super().__init__()
        if base not in BASE_FUNCTIONS:
            raise ValueError(f"unknown base {base!r}; known: {', '.join(BASE_FUNCTIONS)}")
        for option, owner in (
            (train_scale and "train_scale", "rbf"),
            (smooth_start and "smooth_start", "fourier"),
        ):
            if option and basis != owner:
                raise ValueError(f"{option} belongs to basis {owner!r}, not {basis!r}")
        self.basis = make_basis(basis, grid_size, domain, **basis_options)
        self.base = BASE_FUNCTIONS[base]
        if self.base:
            self.w_base = nn.Parameter(base_scale * torch.randn(rows, columns))
        self.w_spline = nn.Parameter(torch.ones(rows, columns))
        noise = noise_scale * torch.randn(rows, columns, grid_size)
        if smooth_start:
            noise /= ((torch.arange(grid_size) + 1) // 2).clamp_min(1).square()
        self.coefficients = nn.Parameter(noise)
        self.scales = nn.Parameter(torch.ones(rows)) if train_scale else None

    @property
    def domain(self) -> tuple[float, float]:
        return self.basis.domain

    def curves(self, points: Tensor) -> Tensor:
        spline = self.w_spline.unsqueeze(-1) * self._splines(self.basis, points)
        if self.base is None:
            return spline
        return self.w_base.unsqueeze(-1) * self.base(points) + spline

    def _splines(self, basis: Basis, points: Tensor, rows: slice = slice(None)) -> Tensor:
        """Evaluate sum_i c_rci B_i at points (n,) in the points' precision, (rows, columns, n)."""
        splines: Tensor = self.coefficients[rows].to(points) @ self._at(basis, points, rows).mT
        return splines

    def _at(self, basis: Basis, points: Tensor, rows: slice) -> Tensor:
        """Evaluate the basis at points (n,): (n, grid_size), with trained widths for each row."""
        scales = () if self.scales is None else (self.scales[rows, None, None].to(points),)
        return basis(points, *scales)

    def sum_over_rows(self, x: Tensor) -> Tensor:
        """Apply a KAN layer: y_c = sum_r f_rc(x_r), (n, rows) -> (n, columns)."""
        weights = self.w_spline.unsqueeze(-1) * self.coefficients
        rows, columns, grid_size = weights.shape
        # One matrix product over (row, basis function) pairs.
        weights = weights.transpose(1, 2).reshape(rows * grid_size, columns)
        scales = () if self.scales is None else (self.scales.unsqueeze(-1),)
        y: Tensor = self.basis(x, *scales).flatten(1) @ weights
        return y if self.base is None else self.base(x) @ self.w_base + y

    @torch.no_grad()
    def place(
        self,
        domain: tuple[float, float],
        samples: Tensor | None = None,
        even: float = EVEN,
        ridge: float = REFIT_RIDGE,
    ) -> None:
        """Move the basis to another domain and refit the coefficients to the same functions.

        Least squares. Beyond the old domain nobody has learned what the splines are: there they
        level off within their own range, so that exp(f) does not draw the prior's mass to where
        nothing is known, not after many moves either. With samples, half the points of the fit
        are their quantiles, so that the fit is closest where the samples are.

        Args, errors: see `kaem.bases.Basis.place`.
            ridge: of the fit, see `least_squares`: the larger, the smaller the coefficients.
        """
        # On copies: nothing has changed until all is known to have worked.
        old, new = (copy.deepcopy(self.basis).double() for _ in range(2))
        new.place(domain, samples, even)
        points = self._refit_points(domain, samples)
        fitted = torch.empty_like(self.coefficients)
        size = max(1, PIECE // (len(points) * fitted.shape[1]))
        for first in range(0, len(fitted), size):
            rows = slice(first, first + size)
            curves = levelled_off(partial(self._splines, old, rows=rows), old.domain, points)
            fitted[rows] = least_squares(self._at(new, points, rows), curves, ridge)
        self.basis.grid.copy_(new.grid)
        self.coefficients.copy_(fitted)

    def _refit_points(self, domain: tuple[float, float], samples: Tensor | None) -> Tensor:
        count = REFIT_POINTS * self.basis.grid_size
        a, b = domain
        points = torch.linspace(a, b, count, dtype=torch.float64, device=self.coefficients.device)
        if samples is None:
            return points
        levels = torch.linspace(0, 1, count, dtype=points.dtype, device=points.device)
        return torch.cat([points, quantiles(samples, levels).clamp(*domain)])


def make_functions(
    rows: int,
    columns: int,
    *,
    basis: str,
    grid_size: int,
    domain: tuple[float, float],
    train_grid: bool = False,
    **options: Any,
) -> UnivariateFunctions:
    """Build a matrix of functions: with `train_grid` Morlet wavelets, whose place and scale are
    learned, else edge functions.

    Raises:
        ValueError: train_grid with another basis or grid size, or beside other options.
    """
    if not train_grid:
        return EdgeFunctions(
            rows, columns, basis=basis, grid_size=grid_size, domain=domain, **options
        )
    if basis != "morlet" or grid_size != 1 or options:
        raise ValueError("train_grid needs basis 'morlet' and grid_size 1, and nothing else")
    return MorletFunctions(rows, columns, domain)

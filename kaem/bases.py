"""Basis functions B_1..B_G of a KAN edge function on a bounded domain.

Each basis is a module that maps z (...) to the values of its `grid_size` functions at z,
(..., grid_size). Its one buffer, `grid`, holds the points that it is laid out on, and `place`
moves them: to another domain, and closer together where samples are dense.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

EVEN = 0.8  # share of equal spacing in a grid that follows samples, unless told otherwise


def check_domain(domain: tuple[float, float]) -> tuple[float, float]:
    """Return the domain (a, b) as floats; ValueError unless it is finite and a < b."""
    a, b = (float(end) for end in domain)
    if not (-float("inf") < a < b < float("inf")):
        raise ValueError(f"domain must be finite with a < b, got ({a}, {b})")
    return a, b


def check_placement(
    domain: tuple[float, float], samples: Tensor | None, even: float
) -> tuple[float, float]:
    """Return the domain (a, b) as floats; ValueError for what no grid can be placed by.

    Args: see `Basis.place`.
    """
    if not 0 < even <= 1:
        raise ValueError(f"even must be in (0, 1], got {even}")
    if samples is not None and not (samples.numel() and samples.isfinite().all()):
        raise ValueError("samples must be finite, and there must be some")
    return check_domain(domain)


class Basis(nn.Module):
    """A basis of `grid_size` functions on a domain [a, b].

    Args:
        grid_size: number of functions.
        domain: (a, b).
        grid_points: length of `grid`; as many as functions unless given.

    Attributes:
        grid: (grid_points,), ascending from a to b.

    >>> import torch
    >>> from kaem.bases import make_basis
    >>> basis = make_basis("bspline", grid_size=5, domain=(-1.0, 1.0))
    >>> values = basis(torch.tensor([-1.0, 0.0, 1.0]))  # B-splines sum to one
    >>> values.shape, values.sum(dim=1).tolist()
    (torch.Size([3, 5]), [1.0, 1.0, 1.0])
    """

    smallest = 2  # the fewest functions that span more than the constants
    grid: Tensor
    __call__: Callable[..., Tensor]

    def __init__(self, grid_size: int, domain: tuple[float, float], grid_points: int | None = None):
        super().__init__()
        a, b = check_domain(domain)
        if grid_size < self.smallest:
            raise ValueError(f"grid_size must be at least {self.smallest}, got {grid_size}")
        self.grid_size = grid_size
        self.register_buffer("grid", torch.linspace(a, b, grid_points or grid_size))

    @property
    def domain(self) -> tuple[float, float]:
        """Return (a, b)."""
        return float(self.grid[0]), float(self.grid[-1])

    @torch.no_grad()
    def place(
        self, domain: tuple[float, float], samples: Tensor | None = None, even: float = EVEN
    ) -> None:
        """Lay the grid out on another domain.

        Args:
            domain: the new (a, b).
            samples: where the functions will be needed, any shape. The inner grid points become a
                convex mix of equally spaced points and of the samples' quantiles (KAN,
                arXiv 2404.19756, appendix on grid extension); without samples equally spaced.
            even: the share of equal spacing in the mix. It must be positive: equal samples would
                otherwise put several grid points on one spot.

        Raises:
            ValueError: an invalid domain, share or sample; nothing has moved then.
        """
        a, b = check_placement(domain, samples, even)
        grid = torch.linspace(a, b, len(self.grid), dtype=torch.float64)
        if samples is not None:
            levels = torch.linspace(0, 1, len(grid), dtype=torch.float64)
            grid = even * grid + (1 - even) * quantiles(samples, levels).clamp(a, b)
            grid[0], grid[-1] = a, b
        self.grid.copy_(grid)


class GaussianRBF(Basis):
    """Gaussian radial basis functions exp(-t^2 / 2), t = (z - centre) / width.

    The centres are the grid. A width is one and a half times the mean distance to the neighbours:
    smooth functions are then met closely, on uneven grids too. `widths` says another number of
    times, or one for each input: (..., 1) beside the last axis of z.
    """

    def forward(self, z: Tensor, widths: float | Tensor = 1.5) -> Tensor:
        gaps = self.grid.diff()
        spacing = torch.cat([gaps[:1], 0.5 * (gaps[1:] + gaps[:-1]), gaps[-1:]])
        return torch.exp(-0.5 * ((z.unsqueeze(-1) - self.grid) / (widths * spacing)).square())


class Morlet(Basis):
    """Morlet wavelets cos(5t) exp(-t^2 / 2), t = (z - centre) / scale.

    The centres are the grid. The scales are 2, 4, 8 and 16 times its mean spacing, in turn: one
    wavelet passes one octave of frequencies, and a smooth function has several.
    """

    octaves = 4

    def forward(self, z: Tensor) -> Tensor:
        spacing = (self.grid[-1] - self.grid[0]) / (self.grid_size - 1)
        octave = torch.arange(self.grid_size, device=z.device) % self.octaves
        t = (z.unsqueeze(-1) - self.grid) / (2 * spacing * 2.0**octave)
        return torch.cos(5 * t) * torch.exp(-0.5 * t.square())


class BSpline(Basis):
    """B-splines of one degree on the grid as inner knots, by the Cox-de Boor recursion.

    The knots go on beyond both ends with the distance of the outermost two, so that all functions
    look alike; on [a, b] they sum to one. Beyond [a, b] they die out.

    Args:
        degree: 0 for steps, 1 for hats, 3 for cubic splines.
    """

    def __init__(self, grid_size: int, domain: tuple[float, float], *, degree: int = 3):
        if degree < 0 or grid_size < degree + 1:
            raise ValueError(
                f"need degree >= 0 and grid_size >= degree + 1, got {degree}, {grid_size}"
            )
        super().__init__(grid_size, domain, grid_points=grid_size - degree + 1)
        self.degree = degree

    @property
    def knots(self) -> Tensor:
        """Return the knots, (grid_size + degree + 1,), ascending."""
        steps = torch.arange(1, self.degree + 1, device=self.grid.device)
        before = self.grid[0] - steps.flip(0) * (self.grid[1] - self.grid[0])
        after = self.grid[-1] + steps * (self.grid[-1] - self.grid[-2])
        return torch.cat([before, self.grid, after])

    def forward(self, z: Tensor) -> Tensor:
        knots, z = self.knots, z.unsqueeze(-1)
        inside = (z >= knots[:-1]) & (z < knots[1:])
        # The right end belongs to the last inner cell: a spline is continuous on the closed [a, b].
        last = len(knots) - self.degree - 2
        cell = torch.arange(len(knots) - 1, device=z.device)
        values = torch.where(z == self.grid[-1], cell == last, inside).to(z.dtype)
        for k in range(1, self.degree + 1):
            rising = (z - knots[: -k - 1]) / (knots[k:-1] - knots[: -k - 1])
            falling = (knots[k + 1 :] - z) / (knots[k + 1 :] - knots[1:-k])
            values = rising * values[..., :-1] + falling * values[..., 1:]
        return values


class Fourier(Basis):
    """1, cos s, sin s, cos 2s, ..., with s running from 0 to pi over the domain.

    Half a period, so that a function need not take the same value at both ends.
    """

    smallest = 1

    def __init__(self, grid_size: int, domain: tuple[float, float]):
        super().__init__(grid_size, domain, grid_points=2)

    def forward(self, z: Tensor) -> Tensor:
        s = torch.pi * ((z - self.grid[0]) / (self.grid[-1] - self.grid[0])).unsqueeze(-1)
        order = torch.arange(self.grid_size, device=z.device)
        angle = ((order + 1) // 2) * s
        return torch.where(order % 2 == 1, angle.cos(), torch.where(order > 0, angle.sin(), 1.0))


class Chebyshev(Basis):
    """Chebyshev polynomials T_0, ..., T_{G-1} of the domain mapped to [-1, 1].

    z is held at the ends of the domain, where the polynomials would otherwise run away.
    """

    smallest = 1

    def __init__(self, grid_size: int, domain: tuple[float, float]):
        super().__init__(grid_size, domain, grid_points=2)

    def forward(self, z: Tensor) -> Tensor:
        unit = 2 * (z - self.grid[0]) / (self.grid[-1] - self.grid[0]) - 1
        unit = unit.clamp(-1, 1)
        values = [torch.ones_like(unit), unit]
        while len(values) < self.grid_size:
            values.append(2 * unit * values[-1] - values[-2])
        return torch.stack(values[: self.grid_size], dim=-1)


BASES: dict[str, Callable[..., Basis]] = {
    "bspline": BSpline,
    "rbf": GaussianRBF,
    "fourier": Fourier,
    "chebyshev": Chebyshev,
    "morlet": Morlet,
}


def make_basis(name: str, grid_size: int, domain: tuple[float, float], **options: Any) -> Basis:
    """Build the basis called `name`; ValueError with the known names otherwise.

    Args:
        options: {"degree": int} for "bspline".
    """
    if name not in BASES:
        raise ValueError(f"unknown basis {name!r}; known: {', '.join(BASES)}")
    return BASES[name](grid_size, domain, **options)


def quantiles(samples: Tensor, levels: Tensor) -> Tensor:
    """Interpolate quantiles of all values of `samples`, on the device of `levels`.

    (torch.quantile refuses more than 16 million values.)
    """
    ordered = samples.detach().flatten().sort().values.to(levels)
    position = levels * (len(ordered) - 1)
    below = position.floor().long()
    above = (below + 1).clamp(max=len(ordered) - 1)
    return torch.lerp(ordered[below], ordered[above], position - below)

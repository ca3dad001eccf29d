"""Darcy flow: the pressure of a fluid in random porous ground, computed, not downloaded.

The problem is that of Li et al. 2021, "Fourier Neural Operator for Parametric Partial Differential
Equations" (arXiv 2010.08895), section 5.2:

    -div(a grad u) = 1 on the unit square, u = 0 on its boundary,
    a = 12 where g > 0, else 3,      g ~ N(0, (-Laplace + 9)^-2)

where g has no normal derivative at the boundary and, as in their generator, no constant mode.
Theirs has all on one grid and interpolates with splines; here a is constant on the cells of a grid
and u is at their corners, some of which are the centres of the pixels: nothing is interpolated.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from scipy.fft import dstn, idctn, idstn
from scipy.sparse.linalg import LinearOperator, cg

from benchmark.base.devices import available_cores
from benchmark.base.progress import show_progress
from benchmark.base.seeding import PhiloxStreams, derive_seed
from benchmark.config.facts import Facts
from benchmark.data.pixels import to_uint8
from benchmark.data.sources import Part, Parts

SEED = derive_seed("darcy_flow")
# Per pixel and side; even, so that a pixel's centre is a corner of cells. At 32 x 32 pixels, images
# differ by 0.3% (relative L2, over eight) from those of 16 cells with all the modes of these: about
# as much as by rounding to grey levels. With 2 cells it is 0.5%.
CELLS = 4
# Of the residual. So small that rounding to 256 grey levels hides what machines do differently.
TOLERANCE = 1e-12


def darcy_parts(facts: Facts) -> Parts:
    """Compute the images, numbered through all parts and scaled by the extremes of the whole set.

    They take all cores that the process may use, and depend on none of them.
    """
    count, side = sum(facts.needed.values()), facts.image_shape[1]
    images = grey_levels(solutions(count, side, available_cores(), f"{facts.name} · solutions"))
    parts, start = {}, 0
    for part, needed in facts.needed.items():
        parts[part] = Part(images[start : start + needed])
        start += needed
    return parts


def grey_levels(u: np.ndarray) -> np.ndarray:
    """Scale a whole set, (n, side, side), to [0, 1], as uint8."""
    return to_uint8(torch.from_numpy((u - u.min()) / np.ptp(u))).numpy()


def solutions(count: int, side: int, workers: int, title: str = "Darcy flow") -> np.ndarray:
    """Return u at the pixels' centres, (count, side, side); each depends on its number alone."""
    solved = np.empty((count, side, side))
    with ThreadPoolExecutor(workers) as pool, show_progress(title, count) as report:
        for number, u in enumerate(pool.map(partial(solution, side=side), range(count))):
            solved[number] = u
            report(number + 1, {})
    return solved


def solution(number: int, side: int) -> np.ndarray:
    """Return u at the pixels' centres, (side, side), for the permeability of a number."""
    u = solve(permeability(number, CELLS * side), np.ones(()))
    return u[CELLS // 2 - 1 :: CELLS, CELLS // 2 - 1 :: CELLS]


def permeability(number: int, cells: int) -> np.ndarray:
    """Return a, (cells, cells), of which about half is 12 and the rest 3."""
    like = torch.empty(0, dtype=torch.float64)
    normal = PhiloxStreams(SEED, number, number + 1).randn(1, (cells, cells), like)[0].numpy()
    return np.where(gaussian_field(normal, cells) > 0, 12.0, 3.0)


def gaussian_field(normal: np.ndarray, cells: int) -> np.ndarray:
    """Return g at the centres of cells x cells, by its Karhunen-Loeve series.

    The modes are products of cosines, with variances (pi^2 (k^2 + l^2) + 9)^-2.

    Args:
        normal: standard normal numbers (m, m), one per mode, m <= cells; that of the constant
            mode does not count.
    """
    squares = (np.pi * np.arange(len(normal))) ** 2
    deviation = 1 / (squares[:, None] + squares + 9)
    deviation[0, 0] = 0
    modes = np.zeros((cells, cells))
    modes[: len(normal), : len(normal)] = deviation * normal
    return cells * idctn(modes, norm="ortho")


def solve(a: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Solve -div(a grad u) = source with u = 0 on the boundary by finite differences.

    The error falls with the square of the cells' width where a is smooth. The coefficient between
    two corners is the mean of the two cells beside that edge. The solver is conjugate gradients,
    preconditioned by the Poisson equation, which a sine transform solves: its steps depend on
    max a / min a, not on the grid.

    Args:
        a: at the centres of the cells, (n, n), positive.
        source: at the inner corners, (n - 1, n - 1), or one for all.

    Returns:
        u at the inner corners, (n - 1, n - 1).
    """
    n = len(a)
    shape, size = (n - 1, n - 1), (n - 1) ** 2
    down, right = n**2 * (a[:, 1:] + a[:, :-1]) / 2, n**2 * (a[1:] + a[:-1]) / 2
    half = 4 * n**2 * np.sin(np.pi * np.arange(1, n) / (2 * n)) ** 2
    eigenvalues = half[:, None] + half
    whole = np.zeros((n + 1, n + 1))  # with the boundary

    def operator(u: np.ndarray) -> np.ndarray:
        whole[1:-1, 1:-1] = u.reshape(shape)
        fluxes = down * np.diff(whole[:, 1:-1], axis=0), right * np.diff(whole[1:-1], axis=1)
        return -(np.diff(fluxes[0], axis=0) + np.diff(fluxes[1], axis=1)).ravel()

    def poisson(residual: np.ndarray) -> np.ndarray:
        return idstn(dstn(residual.reshape(shape), type=1) / eigenvalues, type=1).ravel()

    u, steps = cg(
        LinearOperator((size, size), operator, dtype=float),
        np.broadcast_to(source, shape).ravel(),
        rtol=TOLERANCE,
        M=LinearOperator((size, size), poisson, dtype=float),
    )
    if steps:
        raise ArithmeticError(f"conjugate gradients do not converge in {steps} steps")
    return u.reshape(shape)

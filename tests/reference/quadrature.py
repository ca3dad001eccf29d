"""One-dimensional quadrature in numpy, float64, and the Kolmogorov-Smirnov test on it."""

from collections.abc import Callable

import numpy as np
from scipy import signal, stats


def trapezoid(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Integral over the last axis: (..., n), (n,) -> (...)."""
    return np.trapezoid(values.astype(np.float64), points, axis=-1)


def running_integral(values: np.ndarray, points: np.ndarray) -> Callable:
    """The function z -> integral from points[0] to z, from dense values (n,)."""
    cells = 0.5 * (values[1:] + values[:-1]) * np.diff(points)
    cumulative = np.concatenate([[0.0], np.cumsum(cells)])
    return lambda z: np.interp(z, points, cumulative)


def gauss_legendre_cells(
    a: float, b: float, cells: int, order: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights of the composite rule, for integrands smooth within each equal cell."""
    x, w = np.polynomial.legendre.leggauss(order)
    edges = np.linspace(a, b, cells + 1)
    half = 0.5 * np.diff(edges)[:, None]
    middle = 0.5 * (edges[1:] + edges[:-1])[:, None]
    return (middle + half * x).ravel(), (half * w).ravel()


def cdf_of_sum(densities: np.ndarray, nodes: np.ndarray, cells: int) -> tuple[np.ndarray, ...]:
    """Points, and the distribution function there of the sum of polylines (p, n) at even nodes.

    Each polyline's mass in a cell, `cells` of which make one of its own, goes to both ends of the
    cell so that its mean stays. The error falls as the square of the width: two widths, and
    Richardson's extrapolation.
    """

    def at(cells: int) -> np.ndarray:
        fine = np.linspace(nodes[0], nodes[-1], cells * (len(nodes) - 1) + 1)
        width, total = fine[1] - fine[0], np.ones(1)
        for row in densities:
            left, right = (values := np.interp(fine, nodes, row))[:-1], values[1:]
            masses = np.zeros(len(fine))
            masses[:-1] += width * (2 * left + right) / 6
            masses[1:] += width * (left + 2 * right) / 6
            total = signal.fftconvolve(total, masses)
        return np.cumsum(total) - 0.5 * total

    values = (4 * at(2 * cells)[::2] - at(cells)) / 3
    return np.linspace(*len(densities) * nodes[[0, -1]], len(values)), values


def smallest_p_value(draws: np.ndarray, densities: np.ndarray, points: np.ndarray) -> float:
    """The least Kolmogorov-Smirnov p-value over latents: draws (n, *event), densities (*event, m).

    The distribution function is the running integral of the densities at the points (m,).
    """
    return min(
        stats.kstest(
            draws[(slice(None), *index)], running_integral(densities[index], points), method="asymp"
        ).pvalue
        for index in np.ndindex(*densities.shape[:-1])
    )

"""One-dimensional quadrature in numpy, float64, and the Kolmogorov-Smirnov test on it."""

from collections.abc import Callable

import numpy as np
from scipy import stats


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


def convolution(f: Callable, f_breaks: np.ndarray, g: Callable, g_breaks: np.ndarray) -> Callable:
    """s -> integral of f(z) g(s - z) over z, exact for piecewise polynomials of low degree.

    Both must vanish beyond their breaks; at a break they may jump.
    """
    x, w = np.polynomial.legendre.leggauss(4)

    def at(s: np.ndarray) -> np.ndarray:
        flat = np.ravel(s)[:, None]
        # Between these the integrand is a polynomial.
        edges = np.concatenate([f_breaks + 0 * flat, flat - g_breaks], axis=1)
        edges.sort(axis=1)
        half = 0.5 * np.diff(edges)[..., None]
        z = 0.5 * (edges[:, 1:] + edges[:, :-1])[..., None] + half * x
        return (half * w * f(z) * g(flat[..., None] - z)).sum((1, 2)).reshape(np.shape(s))

    return at


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

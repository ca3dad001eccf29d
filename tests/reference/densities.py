"""A prior's densities from its parameters and their definition, in float64.

pi_qp(z) is exp(f_qp) pi_0 at equally spaced nodes, linear between them, divided by its
integral. Basis functions come from SciPy and numpy. Everything is differentiable in the
parameters, and the densities in z too, so that a posterior can be built on them.
"""

import copy

import numpy as np
import torch
from scipy import stats
from scipy.interpolate import BSpline
from scipy.special import eval_chebyt
from torch import Tensor

# --- basis functions: points (n,), functions, grid -> values (n, functions) -------------------


def bspline_values(points: np.ndarray, functions: int, grid: np.ndarray) -> np.ndarray:
    """Each B-spline by itself, so that it also ends where it should beyond the grid."""
    degree = functions - len(grid) + 1
    first, last = grid[1] - grid[0], grid[-1] - grid[-2]
    before = [grid[0] - k * first for k in range(degree, 0, -1)]
    after = [grid[-1] + k * last for k in range(1, degree + 1)]
    knots = np.array([*before, *grid, *after])
    inside = (points >= grid[0]) & (points <= grid[-1])
    values = np.zeros((len(points), functions))
    for i in range(functions):
        element = BSpline.basis_element(knots[i : i + degree + 2], extrapolate=False)
        values[~inside, i] = np.nan_to_num(element(points[~inside]))
    values[inside] = BSpline.design_matrix(points[inside], knots, degree).toarray()
    return values


def rbf_values(points: np.ndarray, functions: int, grid: np.ndarray) -> np.ndarray:
    gaps = np.diff(grid)
    bumps = []
    for i, centre in enumerate(grid):
        width = 1.5 * np.mean(gaps[max(i - 1, 0) : i + 1])
        # A normal density without its constant.
        bumps.append(stats.norm.pdf(points, centre, width) * width * np.sqrt(2 * np.pi))
    assert len(bumps) == functions
    return np.stack(bumps, axis=1)


def morlet_values(points: np.ndarray, functions: int, grid: np.ndarray) -> np.ndarray:
    scales = (grid[-1] - grid[0]) / (functions - 1) * np.resize([2, 4, 8, 16], functions)
    # A Gaussian wave packet as the real part of a complex exponential: -t^2/2 + 5it.
    t = (points[:, None] - grid) / scales
    return np.exp(-(t**2) / 2 + 5j * t).real


def fourier_values(points: np.ndarray, functions: int, grid: np.ndarray) -> np.ndarray:
    s = np.pi * (points - grid[0]) / (grid[-1] - grid[0])
    harmonics = [np.ones_like(s)]
    for k in range(1, functions):
        harmonics += [np.cos(k * s), np.sin(k * s)]
    return np.stack(harmonics[:functions], axis=1)


def chebyshev_values(points: np.ndarray, functions: int, grid: np.ndarray) -> np.ndarray:
    unit = np.interp(points, [grid[0], grid[-1]], [-1, 1])  # constant beyond both ends
    return eval_chebyt(np.arange(functions), unit[:, None])


BASIS_VALUES = {
    "BSpline": bspline_values,
    "GaussianRBF": rbf_values,
    "Fourier": fourier_values,
    "Chebyshev": chebyshev_values,
    "Morlet": morlet_values,
}


def basis_values(basis, domain: tuple[float, float], points: Tensor) -> Tensor:
    """B_i(points) of a `kaem.bases.Basis` on a domain, (n,) -> (n, functions)."""
    grid = basis.grid.double().cpu().numpy()
    np.testing.assert_allclose(grid[[0, -1]], domain, atol=1e-6)
    function = BASIS_VALUES[type(basis).__name__]
    return torch.from_numpy(function(points.detach().double().numpy(), basis.grid_size, grid))


# --- edge functions and densities -------------------------------------------------------------


def edge_functions(functions, domain: tuple[float, float], points: Tensor) -> Tensor:
    """f_rc(points), summed basis function by basis function: (n,) -> (rows, columns, n)."""
    points = points.double()
    coefficients = functions.coefficients.double()
    values = basis_values(functions.basis, domain, points)
    spline = torch.zeros(*coefficients.shape[:2], len(points), dtype=torch.float64)
    for i in range(coefficients.shape[2]):
        spline = spline + coefficients[:, :, i, None] * values[:, i]
    base = points / (1 + torch.exp(-points))
    return (
        functions.w_base.double()[..., None] * base
        + functions.w_spline.double()[..., None] * spline
    )


def reference_density(prior, reference: str, points: Tensor) -> Tensor:
    """pi_0 at the points, (n,) or, for "learnable_gaussian", (q, p, n)."""
    points = points.double()
    if reference == "learnable_gaussian":
        mean, log_scale = prior.reference.mean.double(), prior.reference.log_scale.double()
        normal = torch.distributions.Normal(mean[..., None], log_scale.exp()[..., None])
        return normal.log_prob(points).exp()
    z, (a, b) = points.detach().numpy(), prior.domain
    pdf = {
        "flat": np.ones_like,
        "uniform": stats.uniform(a, b - a).pdf,
        "gaussian": stats.norm.pdf,
        "lognormal": stats.lognorm(s=1).pdf,
    }[reference]
    return torch.from_numpy(np.asarray(pdf(z)))


def unnormalised(prior, reference: str, points: Tensor) -> Tensor:
    """exp(f_qp) pi_0 at the points, (q, p, n)."""
    functions = edge_functions(prior.functions, prior.domain, points)
    return torch.exp(functions) * reference_density(prior, reference, points)


def mass(prior, reference: str) -> Tensor:
    """Z_qp, the area below the polyline through exp(f_qp) pi_0 at the nodes: (q, p)."""
    nodes = torch.linspace(*prior.domain, len(prior.nodes), dtype=torch.float64)
    return torch.trapezoid(unnormalised(prior, reference, nodes), nodes)


def component_densities(prior, reference: str, points: Tensor) -> Tensor:
    """pi_qp at the points, which must lie in the domain: (n,) -> (q, p, n)."""
    nodes = torch.linspace(*prior.domain, len(prior.nodes), dtype=torch.float64)
    values = unnormalised(prior, reference, nodes) / mass(prior, reference)[..., None]
    # Linear interpolation as a sum of hat functions.
    hats = (1 - (points.double()[:, None] - nodes).abs() / (nodes[1] - nodes[0])).clamp_min(0.0)
    return values @ hats.T


def latent_densities(prior, reference: str, points: Tensor) -> Tensor:
    """The density of each latent at the points: (n,) -> (*event_shape, n)."""
    components = component_densities(prior, reference, points)
    if len(prior.event_shape) == 2:
        return components
    weights = prior.weight_logits.double().exp()
    weights = weights / weights.sum(1, keepdim=True)
    return (weights[..., None] * components).sum(1)


def log_prior(prior, reference: str, z: Tensor) -> Tensor:
    """log p(z), latent by latent: (n, *event_shape) -> (n,)."""
    columns = z.flatten(1).T
    # Every latent's density at every latent's points, of which the matching ones are meant.
    densities = latent_densities(prior, reference, columns.flatten()).flatten(0, -2)
    matching = densities.unflatten(1, columns.shape).diagonal().T
    return matching.log().sum(0)


# --- what `log_prob` says, latent by latent ---------------------------------------------------


def in_every_latent(prior, points) -> Tensor:
    """The same points for every latent: (n,) -> (n, *event_shape)."""
    points = torch.as_tensor(points, dtype=prior.nodes.dtype)
    return points.reshape(-1, *(1 for _ in prior.event_shape)).expand(-1, *prior.event_shape)


@torch.no_grad()
def densities_of_log_prob(prior, points: np.ndarray) -> np.ndarray:
    """exp(prior.log_prob) of each latent at the points, (*event_shape, n).

    log_prob is a sum over latents. Along a line that moves one of them and keeps the others at
    z0 it is that latent's log density plus a constant, which is subtracted.
    """
    prior = copy.deepcopy(prior).double()
    z0 = in_every_latent(prior, [0.3 * points[0] + 0.7 * points[-1]])
    at_z0 = prior.marginals().log_prob(z0)[0]
    torch.testing.assert_close(prior.log_prob(z0), at_z0.sum()[None])
    densities = np.empty((*prior.event_shape, len(points)))
    for index in np.ndindex(*prior.event_shape):
        z = z0.repeat(len(points), *(1 for _ in prior.event_shape))
        z[(slice(None), *index)] = torch.from_numpy(points)
        densities[index] = (prior.log_prob(z) - (at_z0.sum() - at_z0[index])).exp().numpy()
    return densities

"""A prior's densities from its parameters and their definition, in float64.

pi_qp(z) is exp(f_qp) pi_0 at equally spaced nodes, linear between them, divided by its
integral. Everything is differentiable, so that a posterior can be built on it.
"""

import math

import torch
from torch import Tensor


def edge_functions(functions, domain: tuple[float, float], points: Tensor) -> Tensor:
    """f_rc(points), summed basis function by basis function: (n,) -> (rows, columns, n)."""
    points = points.double()
    coefficients = functions.coefficients.double()
    grid_size = coefficients.shape[2]
    width = (domain[1] - domain[0]) / (grid_size - 1)
    spline = torch.zeros(*coefficients.shape[:2], len(points), dtype=torch.float64)
    for i in range(grid_size):
        bump = torch.exp(-((points - (domain[0] + i * width)) ** 2) / (2 * width**2))
        spline = spline + coefficients[:, :, i, None] * bump
    base = points / (1 + torch.exp(-points))
    return (
        functions.w_base.double()[..., None] * base
        + functions.w_spline.double()[..., None] * spline
    )


def unnormalised(prior, reference: str, points: Tensor) -> Tensor:
    """exp(f_qp) pi_0 at the points, (q, p, n)."""
    points = points.double()
    pi_0 = {
        "flat": torch.ones_like(points),
        "gaussian": torch.exp(-(points**2) / 2) / math.sqrt(2 * math.pi),
    }[reference]
    return torch.exp(edge_functions(prior.functions, prior.domain, points)) * pi_0


def component_densities(prior, reference: str, points: Tensor) -> Tensor:
    """pi_qp at the points, which must lie in the domain: (n,) -> (q, p, n)."""
    nodes = torch.linspace(*prior.domain, len(prior.nodes), dtype=torch.float64)
    step = nodes[1] - nodes[0]
    values = unnormalised(prior, reference, nodes)
    mass = step * (values.sum(-1) - 0.5 * (values[..., 0] + values[..., -1]))
    # Linear interpolation as a sum of hat functions.
    hats = (1 - (points.double()[:, None] - nodes).abs() / step).clamp_min(0.0)
    return (values / mass[..., None]) @ hats.T


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

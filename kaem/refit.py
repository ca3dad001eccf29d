"""What a refit of curves to another domain needs: continuation beyond their ends, least squares."""

from collections.abc import Callable

import torch
from torch import Tensor

RANGE_POINTS = 400  # at which the range of a curve is looked up
SLOPE_STEP = 1e-3  # of the domain's width, for a slope at its end
LEVELLING = 0.05  # of the old domain's width: how soon a refit lets a curve level off beyond it
REFIT_RIDGE = 1e-10  # of a refit, see `least_squares`


def levelled_off(
    curves: Callable[[Tensor], Tensor], domain: tuple[float, float], points: Tensor
) -> Tensor:
    """Continue curves that are known on [a, b]: beyond, they level off with a smooth start.

    Each goes on with the slope that it had at the end, which dies out exponentially, the sooner
    where the curve would otherwise leave the range of its values on [a, b].

    Args:
        curves: (m,) points in [a, b] -> (..., m).
        points: (n,).

    Returns:
        (..., n).
    """
    a, b = domain
    inside = points.clamp(a, b)
    values = curves(inside)
    seen = curves(torch.linspace(a, b, RANGE_POINTS).to(points))
    step = SLOPE_STEP * (b - a)
    near = curves(torch.tensor([a, a + step, b - step, b]).to(points))
    for end, neighbour, beyond in ((0, 1, points < a), (3, 2, points > b)):
        slope = (near[..., end] - near[..., neighbour]) / step  # outwards
        top, bottom = seen.amax(-1), seen.amin(-1)
        room = torch.where(slope > 0, top - near[..., end], near[..., end] - bottom)
        tiny = torch.finfo(slope.dtype).tiny
        length = (room / slope.abs().clamp_min(tiny)).clamp(tiny, LEVELLING * (b - a))
        distance = (points - inside).abs() / length.unsqueeze(-1)
        rise = (slope * length).unsqueeze(-1) * -torch.expm1(-distance)
        values = values + torch.where(beyond, rise, 0.0)
    return values


def least_squares(design: Tensor, values: Tensor, ridge: float = REFIT_RIDGE) -> Tensor:
    """Fit the coefficients whose curves come closest to `values`, by ridge regression.

    The ridge is tiny. It decides only where the points leave coefficients undetermined: those of
    basis functions that no point reaches become zero.

    Args:
        design: (n, grid_size), the basis at the points; or (rows, n, grid_size), one for each row.
        values: (rows, columns, n), the curves to fit at the points.
        ridge: relative to the Gram matrix's largest eigenvalue.

    Returns:
        (rows, columns, grid_size).
    """
    u, s, v = torch.linalg.svd(design, full_matrices=False)
    damped = s / (s.square() + ridge * s.amax(-1, keepdim=True).square())
    coefficients: Tensor = ((values @ u) * damped.unsqueeze(-2)) @ v
    return coefficients

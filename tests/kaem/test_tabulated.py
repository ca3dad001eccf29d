"""Piecewise linear densities: log_prob, cdf and icdf against numpy on the same polyline."""

import math

import numpy as np
import pytest
import torch
from reference.quadrature import gauss_legendre_cells, running_integral, trapezoid

from kaem.errors import NonFiniteError
from kaem.tabulated import PiecewiseLinearDensity, log_integral

NODES = torch.linspace(-2, 3, 26, dtype=torch.float64)
DENSE = np.linspace(-2, 3, 25 * 400 + 1)  # holds the nodes, so that the trapezoid rule is exact


def normalised(log_values: torch.Tensor, nodes: torch.Tensor = NODES) -> PiecewiseLinearDensity:
    """The density proportional to exp(log_values) at the nodes, normalised by numpy."""
    mass = trapezoid(log_values.double().exp().numpy(), nodes.double().numpy())
    log_mass = torch.from_numpy(np.log(np.asarray(mass))).to(log_values.dtype)
    return PiecewiseLinearDensity(log_values - log_mass.unsqueeze(-1), nodes)


@pytest.fixture
def log_values() -> torch.Tensor:
    return 2 * torch.randn(2, 3, len(NODES), dtype=torch.float64)


def test_log_integral_is_the_trapezoid_rule(log_values):
    expected = np.log(trapezoid(log_values.exp().numpy(), NODES.numpy()))
    np.testing.assert_allclose(log_integral(log_values, NODES), expected, atol=1e-12)


def test_log_integral_does_not_overflow(log_values):
    torch.testing.assert_close(
        log_integral(log_values + 1e4, NODES), log_integral(log_values, NODES) + 1e4
    )


def test_log_prob_and_cdf_are_the_polyline_and_its_integral(log_values):
    density = normalised(log_values)
    points = torch.from_numpy(DENSE)[:, None, None].expand(-1, 2, 3)
    log_prob, cdf = density.log_prob(points), density.cdf(points)
    assert log_prob.shape == cdf.shape == points.shape
    for q, p in np.ndindex(2, 3):
        polyline = np.interp(DENSE, NODES, density.log_density[q, p].exp())
        np.testing.assert_allclose(log_prob[:, q, p].exp(), polyline, atol=1e-12)
        integral = running_integral(polyline, DENSE)(DENSE)
        np.testing.assert_allclose(cdf[:, q, p], integral, atol=1e-10)


def test_icdf_inverts_the_cdf(log_values):
    density = normalised(log_values)
    u = torch.rand(2000, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(density.cdf(density.icdf(u)), u, atol=1e-12, rtol=0)


@pytest.mark.parametrize("u", [-0.1, -1e-9, 1.5, math.nan, math.inf])
@pytest.mark.parametrize("n", [1, 5000])  # searched, and by the guide table
def test_icdf_of_what_is_no_probability(u, n, log_values):
    density = normalised(log_values)
    chances = torch.full((n, 2, 3), 0.5, dtype=torch.float64)
    assert density.icdf(chances).isfinite().all()
    chances[n // 2, 1, 2] = u
    with pytest.raises(ValueError, match="a probability to invert is outside"):
        density.icdf(chances)


def test_icdf_of_a_ramp_is_the_square_root():
    nodes = torch.tensor([0.0, 1.0], dtype=torch.float64)
    ramp = PiecewiseLinearDensity(torch.tensor([[-1e4, math.log(2)]]).double(), nodes)
    u = torch.linspace(0, 1, 11, dtype=torch.float64)[:, None]
    torch.testing.assert_close(ramp.icdf(u), u.sqrt())
    torch.testing.assert_close(ramp.cdf(u), u.square())


def test_variances_of_a_rectangle_a_triangle_and_a_ramp():
    nodes = torch.linspace(-2, 4, 61, dtype=torch.float64)  # six wide
    rectangle = torch.ones(61, dtype=torch.float64)
    triangle, ramp = 3 - (nodes - 1).abs(), nodes + 2
    density = normalised(torch.stack([rectangle, triangle, ramp]).log(), nodes)
    expected = torch.tensor([36 / 12, 36 / 24, 36 / 18], dtype=torch.float64)
    torch.testing.assert_close(density.variance(), expected, atol=1e-12, rtol=0)


def test_variance_is_the_quadrature_of_the_polyline(log_values):
    density = normalised(log_values)
    points, weights = gauss_legendre_cells(-2, 3, 25)
    for q, p in np.ndindex(2, 3):
        polyline = np.interp(points, NODES, density.log_density[q, p].exp())
        mean = (weights * points * polyline).sum()
        expected = (weights * (points - mean) ** 2 * polyline).sum()
        assert density.variance()[q, p].item() == pytest.approx(expected, abs=1e-12)


def test_variance_in_single_precision_far_from_zero(log_values):
    # The mean of squares less the square of the mean: most digits cancel.
    expected = normalised(log_values).variance()
    nodes = NODES.float() + 1000
    result = normalised(log_values.float(), nodes).variance()
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), expected, rtol=1e-4, atol=0)


def test_outside_the_domain(log_values):
    density = normalised(log_values)
    z = torch.tensor([-math.inf, -2 - 1e-9, 3 + 1e-9, math.inf], dtype=torch.float64)
    z = z[:, None, None].expand(-1, 2, 3)
    assert (density.log_prob(z) == -math.inf).all()
    assert (density.cdf(z)[:2] == 0).all()
    assert (density.cdf(z)[2:] == 1).all()


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def gappy(request) -> PiecewiseLinearDensity:
    """A density with cells of no mass at the start, in the middle and at the end."""
    log_values = torch.zeros(1, len(NODES), dtype=request.param)
    for gap in (slice(0, 4), slice(10, 14), slice(22, None)):
        log_values[:, gap] = -1e5
    return normalised(log_values, NODES.to(request.param))


def empty_cells() -> list[tuple[float, float]]:
    """The stretches without mass of `gappy`; the cells beside them are ramps."""
    return [(NODES[i].item(), NODES[j].item()) for i, j in ((0, 3), (10, 13), (22, 25))]


def test_cells_of_no_mass_are_never_drawn(gappy):
    # Every value that the CDF takes at a node, where a search could land on the wrong side
    # of a plateau, the neighbouring floats, and a dense sweep.
    at_nodes = gappy.cdf(gappy.nodes[:, None])
    sweep = torch.linspace(0, 1, 20_001, dtype=at_nodes.dtype)[:, None]
    u = torch.cat(
        [at_nodes, at_nodes.nextafter(torch.ones(())), at_nodes.nextafter(torch.zeros(())), sweep]
    )
    z = gappy.icdf(u[u < 1][:, None])
    assert len(z) > 20_000
    for start, end in empty_cells():
        assert not ((z > start + 1e-6) & (z < end - 1e-6)).any()


def test_the_quantiles_of_0_and_1_are_the_ends_of_the_support(gappy):
    ends = gappy.icdf(torch.tensor([[0.0], [1.0]], dtype=gappy.nodes.dtype))
    support = torch.tensor([[NODES[3]], [NODES[22]]], dtype=gappy.nodes.dtype)
    # The density falls to zero there, so that the quantile moves with the root of a rounding.
    torch.testing.assert_close(ends, support, atol=1e-3, rtol=0)


def test_gradients_are_finite_everywhere_and_correct(log_values):
    log_values = (10 * log_values).requires_grad_()  # neighbours differ by factors of e^30
    ends_and_nodes = torch.cat([NODES, torch.tensor([-5.0, 9.0]), NODES + 0.37 * 0.2])
    z = ends_and_nodes[:, None, None].repeat(1, 2, 3).requires_grad_()
    log_prob = PiecewiseLinearDensity(log_values, NODES).log_prob(z)
    assert not log_prob.isnan().any()
    log_prob[log_prob > -math.inf].sum().backward()
    assert log_values.grad.isfinite().all()
    assert z.grad.isfinite().all()


def test_log_prob_and_gradients_are_finite_where_the_density_underflows(gappy):
    log_values = gappy.log_density.clone().requires_grad_()
    z = torch.cat([gappy.nodes, gappy.nodes + 0.1])[:-1, None].requires_grad_()
    log_prob = PiecewiseLinearDensity(log_values, gappy.nodes).log_prob(z)
    assert log_prob.isfinite().all()
    log_prob.sum().backward()
    assert log_values.grad.isfinite().all()
    assert z.grad.isfinite().all()


def test_gradcheck(log_values):
    z = (NODES[:-1] + 0.3 * 0.2)[:, None, None].repeat(1, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v, z: PiecewiseLinearDensity(v, NODES).log_prob(z), (log_values.requires_grad_(), z)
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_density_that_is_not_finite_is_refused(log_values, value):
    log_values[1, 2] = value
    u = torch.full((4, 2, 3), 0.5, dtype=torch.float64)
    density = PiecewiseLinearDensity(log_values, NODES)
    for use in (lambda: density.icdf(u), lambda: density.cdf(u), density.variance):
        with pytest.raises(NonFiniteError, match=r"Lower the learning rate\.$"):
            use()


def test_a_wrong_shape_is_named(log_values):
    with pytest.raises(ValueError, match=r"expected shape \(n, 2, 3\), got \(4, 3\)"):
        normalised(log_values).log_prob(torch.zeros(4, 3))

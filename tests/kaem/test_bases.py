"""Basis functions against SciPy and their formulas, and where `place` puts their grid."""

import math

import numpy as np
import pytest
import torch
from reference.densities import basis_values
from scipy.interpolate import BSpline

from kaem.bases import BASES, check_domain, make_basis, quantiles

DOMAIN = (-1.0, 3.0)

names = pytest.mark.parametrize("name", BASES)
degrees = pytest.mark.parametrize("degree", range(5))


def samples() -> torch.Tensor:
    """Most of them around 2, none below 1."""
    return 2 + 0.3 * torch.randn(40, 50, dtype=torch.float64).clamp(-3, 3)


# --- values ----------------------------------------------------------------------------------


@names
@pytest.mark.parametrize("moved", [False, True])
def test_a_basis_is_its_formula_inside_at_the_ends_and_beyond(name, moved):
    basis, domain = make_basis(name, 7, DOMAIN).double(), DOMAIN
    if moved:
        domain = (-1.5, 4.0)
        basis.place(domain, samples(), even=0.3)
    points = torch.cat([torch.linspace(-4, 6, 301, dtype=torch.float64), basis.grid])
    assert basis(points).shape == (len(points), 7)
    torch.testing.assert_close(basis(points), basis_values(basis, domain, points))


@degrees
@pytest.mark.parametrize("moved", [False, True])
def test_bsplines_are_scipys_and_sum_to_one(degree, moved):
    basis = make_basis("bspline", 8, DOMAIN, degree=degree).double()
    if moved:
        basis.place(DOMAIN, samples(), even=0.3)
    grid = basis.grid.numpy()
    # SciPy takes its knots from here, not from the basis: the outermost cells go on.
    steps = np.arange(1, degree + 1)
    before = (grid[0] - steps * (grid[1] - grid[0]))[::-1]
    after = grid[-1] + steps * (grid[-1] - grid[-2])
    points = np.concatenate([np.linspace(*DOMAIN, 200), grid])  # holds both ends
    expected = BSpline.design_matrix(points, np.concatenate([before, grid, after]), degree)
    values = basis(torch.from_numpy(points)).numpy()
    np.testing.assert_allclose(values, expected.toarray(), atol=1e-12)
    np.testing.assert_allclose(values.sum(1), 1, atol=1e-12)
    assert values.min() >= 0


# A domain that float32 cannot hold exactly: the right end must not fall out of the last cell.
@degrees
def test_bsplines_sum_to_one_at_both_ends_in_float32(degree):
    basis = make_basis("bspline", 9, (0.1, 0.7), degree=degree)
    torch.testing.assert_close(basis(torch.tensor([0.1, 0.7])).sum(1), torch.ones(2))


@degrees
def test_bsplines_die_out_beyond_the_domain(degree):
    basis = make_basis("bspline", 8, DOMAIN, degree=degree)
    cells = DOMAIN[1] - DOMAIN[0]  # more than the `degree` cells that the knots go on for
    far = torch.tensor([DOMAIN[0] - degree * cells - 0.1, DOMAIN[1] + degree * cells + 0.1])
    assert torch.equal(basis(far), torch.zeros(2, 8))


def test_rbf_width_is_one_and_a_half_spacings_of_the_centres():
    values = make_basis("rbf", 3, (0.0, 10.0))(torch.tensor([0.0, 5.0, 10.0]))
    once, twice = math.exp(-2 / 9), math.exp(-8 / 9)
    expected = torch.tensor([[1, once, twice], [once, 1, once], [twice, once, 1]])
    torch.testing.assert_close(values, expected)


def test_a_morlet_wavelet_oscillates_five_radians_in_two_widths():
    values = make_basis("morlet", 3, (0.0, 2.0)).double()(torch.tensor([0.0, 2.0]).double())
    # The wavelet at 0 is one there, and cos(5) exp(-1/2) two widths on, at 2.
    assert values[0, 0].item() == 1
    assert values[1, 0].item() == pytest.approx(math.cos(5) * math.exp(-0.5), abs=1e-12)


def test_fourier_and_chebyshev_by_hand():
    # At two thirds of the domain s = 2 pi / 3, and on [-1, 1] the point is 1/3.
    z = torch.tensor([2.0], dtype=torch.float64)
    fourier = make_basis("fourier", 5, (0.0, 3.0)).double()(z)[0].tolist()
    root = math.sqrt(3) / 2
    assert fourier == pytest.approx([1, -0.5, root, -0.5, -root], abs=1e-12)
    chebyshev = make_basis("chebyshev", 4, (0.0, 3.0)).double()(z)[0].tolist()
    assert chebyshev == pytest.approx([1, 1 / 3, -7 / 9, -23 / 27], abs=1e-12)


@names
def test_a_basis_adds_one_dimension_to_any_shape(name):
    basis = make_basis(name, 6, (-2.0, 2.0))
    z = torch.rand(2, 3, 4)
    assert basis(z).shape == (2, 3, 4, 6)
    torch.testing.assert_close(basis(z)[1, 2, 3], basis(z[1, 2, 3]))
    assert basis(torch.zeros(0)).shape == (0, 6)


@names
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_finite_at_zero_at_the_grid_and_far_away(name, dtype):
    basis = make_basis(name, 6, (-2.0, 2.0)).to(dtype)
    special = torch.tensor([0.0, -0.0, 1e-30, -1e-30, -2.0, 2.0, 50.0, -50.0, 1e6, -1e6])
    z = torch.cat([special.to(dtype), basis.grid]).requires_grad_()
    values = basis(z)
    assert values.dtype == dtype
    values.sum().backward()
    assert values.isfinite().all()
    assert z.grad.isfinite().all()


@names
def test_gradient_in_z(name):
    basis = make_basis(name, 6, DOMAIN).double()
    z = torch.linspace(-0.97, 2.93, 17, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(basis, (z,))


# --- the grid --------------------------------------------------------------------------------


@names
def test_the_grid_is_equally_spaced_at_first_and_after_a_move_without_samples(name):
    basis = make_basis(name, 7, DOMAIN).double()
    for domain in (DOMAIN, (-2.0, 9.0)):
        basis.place(domain)
        expected = np.linspace(*domain, len(basis.grid))
        np.testing.assert_allclose(basis.grid, expected, atol=1e-12)
        assert basis.domain == domain
    fresh = make_basis(name, 7, (-2.0, 9.0))
    torch.testing.assert_close(fresh.grid, basis.grid.float())


def test_the_grid_is_the_mix_of_equal_spacing_and_numpys_quantiles():
    z, basis = samples(), make_basis("rbf", 9, DOMAIN).double()
    basis.place(DOMAIN, z, even=0.25)
    levels = np.linspace(0, 1, 9)
    expected = 0.25 * np.linspace(*DOMAIN, 9) + 0.75 * np.quantile(z.numpy(), levels)
    np.testing.assert_allclose(basis.grid[1:-1], expected[1:-1], atol=1e-12)


@pytest.mark.parametrize("name", ["bspline", "rbf", "morlet"])
def test_samples_draw_the_grid_towards_them(name):
    z, basis = samples(), make_basis(name, 21, DOMAIN).double()
    near = [(basis.grid > 1.4).logical_and(basis.grid < 2.6).sum().item()]
    for even in (0.8, 0.5, 0.2):
        basis.place(DOMAIN, z, even)
        near.append((basis.grid > 1.4).logical_and(basis.grid < 2.6).sum().item())
        assert basis.domain == DOMAIN  # the ends stay
    assert near == sorted(near)
    assert near[-1] >= 2 * near[0]


@names
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("where", [-1.0, 0.7, 3.0, -100.0, 100.0])
@pytest.mark.parametrize("count", [1, 1000])
def test_the_grid_ascends_even_if_all_samples_are_equal(name, dtype, where, count):
    basis = make_basis(name, 30, DOMAIN).to(dtype)
    basis.place(DOMAIN, torch.full((count,), where), even=0.01)
    assert (basis.grid.diff() > 0).all()
    assert basis.domain == DOMAIN
    points = torch.cat([torch.linspace(*DOMAIN, 99, dtype=dtype), basis.grid])
    assert basis(points).isfinite().all()


@names
@pytest.mark.parametrize("even", [0.0, -0.1, 1.1, math.nan])
def test_an_even_share_out_of_range(name, even):
    basis = make_basis(name, 6, DOMAIN)
    before = basis.grid.clone()
    with pytest.raises(ValueError, match=r"even must be in \(0, 1\]"):
        basis.place((-3.0, 3.0), samples(), even)
    assert torch.equal(basis.grid, before)


@names
def test_a_saved_basis_comes_back_where_it_was_placed(name):
    basis, fresh = make_basis(name, 6, DOMAIN), make_basis(name, 6, DOMAIN)
    basis.place((-2.0, 5.0), samples())
    fresh.load_state_dict(basis.state_dict())
    assert fresh.domain == (-2.0, 5.0)
    z = torch.linspace(-2, 5, 20)
    assert torch.equal(fresh(z), basis(z))


@pytest.mark.parametrize("n", [1, 2, 1001])
def test_quantiles_are_numpys(n):
    values = torch.randn(n, dtype=torch.float64)
    levels = torch.linspace(0, 1, 14, dtype=torch.float64)
    np.testing.assert_allclose(quantiles(values, levels), np.quantile(values.numpy(), levels))


# --- arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rbf", "morlet"])
def test_too_small_a_grid(name):
    with pytest.raises(ValueError, match="grid_size must be at least 2, got 1"):
        make_basis(name, 1, (-1.0, 1.0))


@pytest.mark.parametrize(("degree", "grid_size"), [(3, 3), (-1, 5), (0, 0)])
def test_too_few_bsplines_for_their_degree(degree, grid_size):
    with pytest.raises(ValueError, match=r"degree >= 0 and grid_size >= degree \+ 1"):
        make_basis("bspline", grid_size, (-1.0, 1.0), degree=degree)


BAD_DOMAINS = [(1.0, 1.0), (2.0, 1.0), (-math.inf, 1.0), (0.0, math.inf), (math.nan, 1.0)]
BAD_DOMAINS += [(0.0, math.nan), (math.nan, math.nan)]


@pytest.mark.parametrize("domain", BAD_DOMAINS)
def test_a_domain_must_be_a_finite_interval(domain):
    with pytest.raises(ValueError, match="domain must be finite with a < b"):
        check_domain(domain)
    for name in BASES:
        with pytest.raises(ValueError, match="domain must be finite with a < b"):
            make_basis(name, 6, domain)
        basis = make_basis(name, 6, DOMAIN)
        with pytest.raises(ValueError, match="domain must be finite with a < b"):
            basis.place(domain)
        assert basis.domain == DOMAIN


def test_a_domain_may_be_given_in_integers():
    assert check_domain((-1, 2)) == (-1.0, 2.0)

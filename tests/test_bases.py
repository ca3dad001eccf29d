"""Basis functions against their formula."""

import math

import pytest
import torch

from kaem.bases import BASES, check_domain, make_basis


def test_rbf_is_the_formula():
    a, b, grid_size = -1.0, 3.0, 5
    z = torch.linspace(-2, 4, 13, dtype=torch.float64)
    values = make_basis("rbf", grid_size, (a, b)).double()(z)
    assert values.shape == (13, grid_size)
    for i, point in enumerate(z.tolist()):
        for j in range(grid_size):
            centre = -1.0 + j  # five centres from -1 to 3, one apart
            expected = math.exp(-((point - centre) ** 2) / 2)
            assert values[i, j].item() == pytest.approx(expected, abs=1e-12)


def test_rbf_width_is_the_spacing_of_the_centres():
    values = make_basis("rbf", 3, (0.0, 10.0))(torch.tensor([0.0, 5.0, 10.0]))
    once, twice = math.exp(-0.5), math.exp(-2.0)
    expected = torch.tensor([[1, once, twice], [once, 1, once], [twice, once, 1]])
    torch.testing.assert_close(values, expected)


@pytest.mark.parametrize("name", BASES)
def test_a_basis_adds_one_dimension_to_any_shape(name):
    basis = make_basis(name, 6, (-2.0, 2.0))
    z = torch.rand(2, 3, 4)
    assert basis(z).shape == (2, 3, 4, 6)
    torch.testing.assert_close(basis(z)[1, 2, 3], basis(z[1, 2, 3]))


def test_unknown_basis_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown basis 'nope'; known: .*rbf"):
        make_basis("nope", 5, (-1.0, 1.0))


def test_too_small_a_grid():
    with pytest.raises(ValueError, match="grid_size must be at least 2, got 1"):
        make_basis("rbf", 1, (-1.0, 1.0))


@pytest.mark.parametrize(
    "domain", [(1.0, 1.0), (2.0, 1.0), (-math.inf, 1.0), (0.0, math.inf), (math.nan, 1.0)]
)
def test_a_domain_must_be_a_finite_interval(domain):
    with pytest.raises(ValueError, match="domain must be finite with a < b"):
        check_domain(domain)


def test_a_domain_may_be_given_in_integers():
    assert check_domain((-1, 2)) == (-1.0, 2.0)

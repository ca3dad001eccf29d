"""Edge functions against a plain implementation."""

import pytest
import torch
from reference.densities import edge_functions

from kaem.univariate import EdgeFunctions

DOMAIN = (-2.0, 3.0)


@pytest.fixture
def functions() -> EdgeFunctions:
    functions = EdgeFunctions(3, 4, grid_size=6, domain=DOMAIN).double()
    with torch.no_grad():
        for parameter in functions.parameters():  # no parameter at a special value
            parameter.normal_()
    return functions


def test_curves_are_the_formula(functions):
    points = torch.linspace(-3, 4, 50, dtype=torch.float64)
    expected = edge_functions(functions, DOMAIN, points)
    torch.testing.assert_close(functions.curves(points), expected, atol=1e-6, rtol=0)


def test_a_layer_sums_its_edge_functions_over_the_inputs(functions):
    x = torch.randn(5, 3, dtype=torch.float64)
    y = functions.sum_over_rows(x)
    assert y.shape == (5, 4)
    for i in range(5):
        for column in range(4):
            terms = [
                edge_functions(functions, DOMAIN, x[i, row : row + 1])[row, column]
                for row in range(3)
            ]
            assert y[i, column].item() == pytest.approx(sum(terms).item(), abs=1e-6)


def test_gradients_of_a_layer(functions):
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)

    def layer(x, *parameters):
        names = [name for name, _ in functions.named_parameters()]
        return torch.func.functional_call(Layer(functions), _prefixed(names, parameters), (x,))

    assert torch.autograd.gradcheck(layer, (x, *functions.parameters()))


class Layer(torch.nn.Module):
    """`sum_over_rows` as a forward pass, which `functional_call` wants."""

    def __init__(self, functions: EdgeFunctions):
        super().__init__()
        self.functions = functions

    def forward(self, x):
        return self.functions.sum_over_rows(x)


def _prefixed(names, parameters):
    return {f"functions.{name}": value for name, value in zip(names, parameters, strict=True)}


# The sample standard deviation of n normals has relative error (2n)^-1/2: below 0.3% here,
# and the tolerance is more than five times that.
def test_initial_scales():
    functions = EdgeFunctions(250, 300, grid_size=4, base_scale=0.3, noise_scale=0.05)
    assert functions.w_base.std().item() == pytest.approx(0.3, rel=0.02)
    assert functions.coefficients.std().item() == pytest.approx(0.05, rel=0.02)
    assert torch.equal(functions.w_spline, torch.ones(250, 300))

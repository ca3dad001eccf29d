"""Short runs of Langevin dynamics against closed forms of their stationary distribution.

Comparisons of moments are at five standard errors, a false alarm of 6e-7 each for a new seed;
the Kolmogorov-Smirnov (KS) tests have alpha = 1e-4 each.
"""

import pytest
import torch
from scipy import stats
from torch import nn

from baselines.langevin import gradient, short_run
from baselines.networks import mlp

ALPHA = 1e-4
MEAN, VARIANCE = 0.6, 0.5
SHAPE = 2.0  # of the log-gamma density, which has one steep and one slow tail


def gaussian(z: torch.Tensor) -> torch.Tensor:
    """log N(MEAN, VARIANCE I) up to a constant."""
    return -(z - MEAN).square().flatten(1).sum(1) / (2 * VARIANCE)


def log_gamma(z: torch.Tensor) -> torch.Tensor:
    """The logarithm of a gamma variable, up to a constant."""
    return (SHAPE * z - z.exp()).squeeze(1)


@pytest.fixture
def network() -> nn.Module:
    """A smooth log density, (n, 2) -> (n, 1)."""
    return mlp([2, 8, 1], nn.GELU).double()


def start(n: int, *shape: int) -> torch.Tensor:
    """Standard normal numbers, (n, *shape)."""
    draws = torch.Generator().manual_seed(9)
    return torch.randn(n, *shape, generator=draws, dtype=torch.float64)


def test_a_step_by_hand(seeded):
    z, step_size = start(4, 2, 3), 0.3
    moved = short_run(z, gaussian, steps=2, step_size=step_size, generator=seeded())
    draws, expected = seeded(), z
    for _ in range(2):
        drift = step_size**2 / 2 * (MEAN - expected) / VARIANCE
        noise = torch.randn(z.shape, generator=draws, dtype=torch.float64)
        expected = expected + drift + step_size * noise
    torch.testing.assert_close(moved, expected)


@pytest.mark.parametrize("step_size", [0.9, 0.5, 0.2])
def test_the_stationary_variance_is_off_by_what_theory_says(step_size, seeded):
    # z' - m = a (z - m) + s xi with a = 1 - s^2/(2 v): variance s^2 / (1 - a^2).
    keep = 1 - step_size**2 / (2 * VARIANCE)
    steps = int(-8 / torch.tensor(abs(keep)).log()) + 1  # forgets its start by e^-8
    z = short_run(start(20_000, 1), gaussian, steps=steps, step_size=step_size, generator=seeded())
    squares = (z - MEAN).square() / VARIANCE
    expected = 1 / (1 - step_size**2 / (4 * VARIANCE))
    assert abs(squares.mean() - expected) < 5 * squares.std() / len(z) ** 0.5
    assert abs(z.mean() - MEAN) < 5 * z.std() / len(z) ** 0.5


def test_small_steps_find_a_density_that_is_not_normal_and_large_ones_do_not(seeded):
    z = start(5000, 1)
    exact = stats.loggamma(SHAPE).cdf
    result = {
        step_size: short_run(z, log_gamma, steps=steps, step_size=step_size, generator=seeded())
        for step_size, steps in ((0.1, 1000), (1.0, 50))
    }
    values = {step_size: draws[:, 0].numpy() for step_size, draws in result.items()}
    assert stats.kstest(values[0.1], exact).pvalue > ALPHA
    assert stats.kstest(values[1.0], exact).pvalue < ALPHA
    assert stats.kstest(z[:, 0].numpy(), exact).pvalue < ALPHA  # which is where they began


@pytest.mark.parametrize("grad", [True, False])
def test_a_run_leaves_no_gradient_and_needs_no_grad_mode(network, grad, seeded):
    z, calls = start(5, 2), []
    with torch.set_grad_enabled(grad):
        ends = short_run(
            z,
            lambda z: calls.append(len(z)) or network(z),
            steps=3,
            step_size=0.3,
            generator=seeded(),
        )
    assert calls == [5] * 3
    assert not ends.requires_grad
    assert not z.requires_grad
    assert all(p.grad is None for p in network.parameters())


def test_gradient_is_that_of_each_row(network):
    z = start(5, 2)
    result = gradient(network, z)
    assert not result.requires_grad
    step = 1e-5 * torch.eye(2, dtype=torch.float64)
    with torch.no_grad():
        differences = [(network(z + h) - network(z - h)) / 2e-5 for h in step]
    torch.testing.assert_close(result, torch.cat(differences, dim=1), atol=1e-8, rtol=0)

"""Sobol indices and eta squared against closed forms and scipy."""

import numpy as np
import pytest
import torch
from reference.linear_gaussian import linear_gaussian_model
from scipy.stats import f_oneway

from benchmark.inspection.sensitivity import eta_squared, total_sobol_indices

DRAWS = 4000


def test_a_linear_generator_has_the_indices_of_its_columns(seeded):
    """x = W z + b, z ~ N(0, I): the share of latent j is |w_j|^2 / |W|^2."""
    model = linear_gaussian_model(4)
    one, other = (model.prior.sample(DRAWS, seeded(seed)) for seed in (1, 2))
    found = total_sobol_indices(model.decoder, one, other)
    squares = model.decoder.linear.weight.detach().square().sum(0)
    expected = squares / squares.sum()
    # The variance below has an error of its own, of about sqrt(1 / DRAWS) of the index.
    error = (found.error.square() + expected.square() / DRAWS).sqrt()
    assert ((found.total - expected).abs() < 4 * error).all()
    assert (found.error < 0.05 * expected).all()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda z: z[:, :1] * z[:, 1:2], [1.0, 1.0, 0.0]),  # nothing without the other
        (lambda z: z[:, :1] + z[:, 1:2] * z[:, 2:], [0.5, 0.5, 0.5]),
        (lambda z: z[:, [2, 2]] ** 2, [0.0, 0.0, 1.0]),
    ],
    ids=["product", "sum and product", "one alone"],
)
def test_interactions_count_for_each_latent_that_takes_part(function, expected, seeded):
    one, other = (torch.randn(DRAWS, 3, generator=seeded(seed)) for seed in (1, 2))
    found = total_sobol_indices(function, one, other)
    # Variances of products of normal numbers are known to a few per cent from so many.
    torch.testing.assert_close(
        found.total, torch.tensor(expected, dtype=torch.float64), atol=0.12, rtol=0
    )


def test_eta_squared_is_that_of_an_analysis_of_variance(seeded):
    labels = torch.randint(5, (200,), generator=seeded(0)).numpy()
    noise = torch.randn(200, 3, generator=seeded(1)).numpy()
    values = noise + labels[:, None] * np.array([0.0, 0.3, 5.0])
    found = eta_squared(values, labels)
    f, _ = f_oneway(*(values[labels == c] for c in range(5)))
    np.testing.assert_allclose(found, 4 * f / (4 * f + 195), rtol=1e-6)
    assert found[2] > 0.95


def test_eta_squared_of_labels_that_say_nothing_is_chance(seeded):
    labels = np.arange(100) % 10
    values = torch.randn(100, 2000, generator=seeded(0)).double().numpy()
    found = eta_squared(values, labels)
    assert found.mean() == pytest.approx(9 / 99, abs=4 * found.std() / 2000**0.5)

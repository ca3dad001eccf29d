"""Resampling schemes: expectations, support, counts and independence of the rows.

Every z-test below compares at 5 standard errors, a false alarm of 6e-7 per comparison; there
are under 300 comparisons, so that a correct scheme fails with probability below 2e-4 when
the seed is changed.
"""

import pytest
import torch

import kaem.resampling
from kaem.resampling import RESAMPLERS

ROWS = 20_000
WEIGHTS = {
    "uneven": [0.05, 0.4, 0.13, 0.22, 0.2],
    "equal": [0.25] * 4,
    "zeros at the ends and inside": [0.0, 0.0, 0.31, 0.0, 0.46, 0.23, 0.0, 0.0],
    "one survivor": [0.0, 0.0, 1.0, 0.0],
    "first only": [1.0, 0.0, 0.0],
    "last only": [0.0, 0.0, 1.0],
    "tiny": [1e-30, 1 - 2e-7, 2e-7],
}

schemes = pytest.mark.parametrize("scheme", RESAMPLERS)
counts_m = pytest.mark.parametrize("m", [1, 3, 10])
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
weightings = pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)


def draw_counts(scheme: str, weights: torch.Tensor, m: int, generator) -> torch.Tensor:
    """How often each index was drawn, (b, s), after checks that hold for every scheme."""
    drawn = RESAMPLERS[scheme](weights, m, generator)
    assert drawn.shape == (len(weights), m)
    assert ((drawn >= 0) & (drawn < weights.shape[1])).all()
    counts = torch.zeros(weights.shape, dtype=torch.float64)
    counts.scatter_add_(1, drawn, torch.ones(drawn.shape, dtype=torch.float64))
    return counts


@schemes
@weightings
@counts_m
@dtypes
def test_expected_counts(scheme, weights, m, dtype, seeded):
    weights = torch.tensor(weights, dtype=dtype)
    counts = draw_counts(scheme, weights.expand(ROWS, -1), m, seeded(3))
    assert (counts.sum(1) == m).all()
    assert (counts[:, weights == 0] == 0).all()
    expected = m * weights.double()
    # The last term is for weights so small that their normal approximation does not hold.
    tolerance = 5 * (counts.var(0) / ROWS).sqrt() + 5 / ROWS
    assert ((counts.mean(0) - expected).abs() <= tolerance).all()


@schemes
@counts_m
@pytest.mark.parametrize("u", [0.0, 0.25, 0.5, 0.75, 1 - 2**-53])
def test_zero_weights_are_not_drawn_at_the_edges_of_the_stretches(scheme, m, u, monkeypatch):
    # Uniform numbers that fall exactly on a cumulative weight, or round up to the total.
    monkeypatch.setattr(
        kaem.resampling,
        "_uniform",
        lambda weights, m, _: torch.full((len(weights), m), u, dtype=torch.float64),
    )
    weights = torch.tensor([[0.0, 0.25, 0.0, 0.25, 0.5, 0.0]], dtype=torch.float64)
    counts = draw_counts(scheme, weights, m, None)
    assert (counts[weights == 0] == 0).all()
    assert counts.sum() == m


@schemes
@counts_m
def test_each_row_is_drawn_from_its_own_weights(scheme, m, seeded):
    # Row i has its weight on indices i and i + 1 only.
    weights = 0.3 * torch.eye(50, 51) + 0.7 * torch.eye(50, 52)[:, 1:]
    counts = draw_counts(scheme, weights, m, seeded())
    assert (counts[weights == 0] == 0).all()
    assert (counts.sum(1) == m).all()


@schemes
def test_rows_are_independent(scheme, seeded):
    weights = torch.tensor([0.15, 0.35, 0.5]).expand(ROWS, -1)
    counts = draw_counts(scheme, weights, 5, seeded())[:, 0]
    even, odd = counts[::2], counts[1::2]
    correlation = torch.corrcoef(torch.stack([even, odd]))[0, 1]
    assert counts.var() > 0.1
    assert correlation.abs() < 5 * (ROWS / 2) ** -0.5


@schemes
def test_the_generator_decides(scheme, seeded):
    weights = torch.rand(4, 9).softmax(1)
    resample = RESAMPLERS[scheme]
    first = resample(weights, 20, seeded(1))
    assert torch.equal(first, resample(weights, 20, seeded(1)))
    assert not torch.equal(first, resample(weights, 20, seeded(2)))


def random_weights(rows: int = 2000) -> torch.Tensor:
    return (3 * torch.randn(rows, 12, dtype=torch.float64)).softmax(1)


@counts_m
def test_residual_keeps_the_certain_copies(m, seeded):
    weights = random_weights()
    counts = draw_counts("residual", weights, m, seeded())
    assert (counts >= (m * weights).floor()).all()


def test_residual_has_nothing_left_to_draw_from_whole_numbers(seeded):
    weights = torch.tensor([[0.5, 0.0, 0.25, 0.25]])
    assert draw_counts("residual", weights, 8, seeded()).tolist() == [[4, 0, 2, 2]]


@counts_m
def test_systematic_counts_are_the_floor_or_the_ceiling(m, seeded):
    weights = random_weights()
    counts = draw_counts("systematic", weights, m, seeded())
    assert (counts >= (m * weights - 1e-9).floor()).all()
    assert (counts <= (m * weights + 1e-9).ceil()).all()


@counts_m
@pytest.mark.parametrize("scheme", ["stratified", "systematic"])
def test_stratified_running_counts_are_within_one(scheme, m, seeded):
    # One draw in each stratum: up to any index, the count is the cumulative weight's floor or
    # ceiling, and a single index's count is within two of its expectation.
    weights = random_weights()
    counts = draw_counts(scheme, weights, m, seeded())
    assert ((counts - m * weights).cumsum(1).abs() < 1 + 1e-9).all()
    assert ((counts - m * weights).abs() < 2).all()


def test_variances_are_ordered(seeded):
    # Douc, Cappe & Moulines 2005: residual and stratified resampling never have more
    # variance than the multinomial scheme; here both have clearly less.
    weights = torch.tensor([0.05, 0.4, 0.13, 0.22, 0.2], dtype=torch.float64)
    h = torch.tensor([1.0, -1.0, 3.0, 0.5, -2.0], dtype=torch.float64)
    variance = {
        scheme: (draw_counts(scheme, weights.expand(ROWS, -1), 10, seeded()) @ h).var().item()
        for scheme in RESAMPLERS
    }
    exact = 10 * ((weights * h**2).sum() - (weights * h).sum() ** 2).item()
    assert variance["multinomial"] == pytest.approx(exact, rel=0.06)  # 6 standard errors
    assert variance["residual"] < 0.8 * exact
    assert variance["stratified"] < 0.8 * exact

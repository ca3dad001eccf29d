"""Intervals and tests: scipy's own where it has them, coverage and error rates by simulation."""

import math

import numpy as np
import pytest
from scipy import stats
from support.records import update_row

from benchmark.claims.compare import ERRORS
from benchmark.claims.estimates import (
    ALPHA,
    CONFIDENCE,
    Estimate,
    log_latency,
    mean_estimate,
    mean_of_estimates,
)
from benchmark.evaluation.frechet import SHARES, extrapolate
from benchmark.records.measurements import Time

REPETITIONS = 2000  # a rate of 5% then has a standard error of 0.5 points
TOLERANCE = 0.02  # four of them: one seed in a thousand would fail one of the eleven rates

A, B = [3.1, 2.7, 3.6], [2.0, 4.4, 1.1, 2.9]


def test_interval_and_p_value_of_a_difference_are_scipys():
    difference = mean_estimate(A) - mean_estimate(B)
    expected = stats.ttest_ind(A, B, equal_var=False)
    assert difference.p_different() == pytest.approx(expected.pvalue)
    assert difference.interval() == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_equivalence_is_the_larger_of_two_one_sided_tests():
    margin = 2.5
    shifted = [
        stats.ttest_ind(np.add(A, shift), B, equal_var=False, alternative=side).pvalue
        for shift, side in ((margin, "greater"), (-margin, "less"))
    ]
    difference = mean_estimate(A) - mean_estimate(B)
    assert difference.p_equivalent(margin) == pytest.approx(max(shifted))


def test_known_errors_make_a_normal_distribution():
    difference = Estimate(3.0, 0.3) - Estimate(2.0, 0.4)
    assert (difference.value, difference.error) == pytest.approx((1.0, 0.5))
    assert difference.interval() == pytest.approx(tuple(stats.norm.interval(0.95, 1.0, 0.5)))
    assert difference.p_different() == pytest.approx(2 * stats.norm.sf(2.0))


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0, 2.0]])
def test_nothing_follows_from_one_value_or_from_equal_ones(values):
    estimate = mean_estimate(values) - mean_estimate(A)
    assert estimate.interval() == (-math.inf, math.inf)
    assert estimate.p_different() > 0.5
    assert estimate.p_equivalent(100.0) >= 0.5


def test_a_count_has_no_error():
    count = Estimate(1.0, 0.0)
    assert count.interval() == (1.0, 1.0)
    assert (Estimate(1.5, 0.0) - count).interval() == (0.5, 0.5)
    assert (count.p_different(), count.p_equivalent(2.0), count.p_equivalent(0.5)) == (0, 0, 1)


@pytest.mark.parametrize(
    ("counts", "sds"),
    [((3, 3), (1.0, 1.0)), ((3, 3), (1.0, 2.0)), ((10, 4), (1.0, 3.0))],
)
def test_simulated_seeds_are_covered_and_tested_at_their_nominal_rates(counts, sds):
    draws = np.random.default_rng(1)
    truth, margin = 7.0, 30.0  # far wider than the noise: only one of its two tests matters
    samples = [
        loc + sd * draws.standard_normal((REPETITIONS, n))
        for loc, n, sd in zip((truth, 0.0), counts, sds, strict=True)
    ]
    covered = different = equivalent = 0
    for a, b in zip(*samples, strict=True):
        estimate = mean_estimate(a) - mean_estimate(b)
        low, high = estimate.interval()
        covered += low < truth < high
        null = Estimate(estimate.value - truth, estimate.error, estimate.df)
        different += null.p_different() < ALPHA
        at_the_margin = Estimate(null.value + margin, estimate.error, estimate.df)
        equivalent += at_the_margin.p_equivalent(margin) < ALPHA
    rates = [covered / REPETITIONS, different / REPETITIONS, equivalent / REPETITIONS]
    assert rates == pytest.approx([CONFIDENCE, ALPHA, ALPHA], abs=TOLERANCE)


FREEDOM = ERRORS["infinity_"][1]


def test_the_degrees_of_freedom_are_those_of_the_fit():
    assert len(SHARES) - 2 == FREEDOM


def test_a_mean_of_errors_has_satterthwaites_degrees_of_freedom():
    mean = mean_of_estimates([1.0, 2.0, 6.0], [0.3, 0.3, 0.3], 4)
    assert (mean.value, mean.error, mean.df) == pytest.approx((3.0, 0.3 / 3**0.5, 12))
    assert mean_of_estimates([1.0, 2.0], [0.3, 1e-9], 4).df == pytest.approx(4)
    assert mean_of_estimates([1.0, 2.0], [0.3, 0.1], math.inf).df == math.inf
    assert mean_of_estimates([1.0, 2.0], [0.0, 0.0], 4).error == 0


def limits(draws: np.random.Generator, count: int) -> tuple[list[float], list[float]]:
    """Limits of distances 7 + 70/N with noise of variance 1/N, and their errors."""
    sizes = 1000 * np.array(SHARES)
    noise = draws.standard_normal((count, len(sizes))) / np.sqrt(sizes)
    return tuple(zip(*(extrapolate(sizes, 7 + 70 / sizes + each) for each in noise), strict=True))


@pytest.mark.parametrize("counts", [(1, 1), (1, 3), (2, 3)])
def test_limits_of_one_distance_are_told_apart_at_the_nominal_rate(counts):
    draws = np.random.default_rng(3)
    different = {FREEDOM: 0, math.inf: 0}
    for _ in range(REPETITIONS):
        sides = [limits(draws, count) for count in counts]
        for df in different:
            one, other = (mean_of_estimates(*side, df) for side in sides)
            different[df] += (one - other).p_different() < ALPHA
    rates = {df: count / REPETITIONS for df, count in different.items()}
    # Three standard errors: one seed in 400 would fail one of the three rates.
    assert rates[FREEDOM] == pytest.approx(ALPHA, abs=0.015)
    assert rates[math.inf] > rates[FREEDOM]
    if counts == (1, 1):  # the fault: 8 tests of 100
        assert rates[math.inf] > ALPHA + 0.02


def latency_estimate(times: np.ndarray) -> Estimate:
    q25, median, q75 = np.percentile(times, [25, 50, 75])
    latency = {"median": median, "q25": q25, "q75": q75, "p95": q75}
    return log_latency(Time(**update_row(repetitions=len(times), latency_ms=latency)))


@pytest.mark.parametrize("repetitions", [3, 5, 20, 100])
def test_simulated_ratios_of_latencies_are_covered(repetitions):
    draws = np.random.default_rng(2)
    times = 5.0 * np.exp(0.2 * draws.standard_normal((REPETITIONS, 2, repetitions)))
    effects = [latency_estimate(one) - latency_estimate(other) for one, other in times]
    covered = sum(low < 0 < high for low, high in (effect.interval() for effect in effects))
    # Coverage of quartiles of so few values is nominal within two points, and that of 2,000 is
    # known to half a point. As many degrees of freedom as repetitions, less one: 0.90 at five.
    assert 0.92 <= covered / REPETITIONS <= 0.98


def test_equal_quartiles_tell_no_error():
    assert latency_estimate(np.array([2.0])).interval() == (-math.inf, math.inf)

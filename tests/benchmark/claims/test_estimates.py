"""Intervals and tests: scipy's own where it has them, coverage and error rates by simulation."""

import math

import numpy as np
import pytest
from scipy import stats
from support.records import update_row

from benchmark.claims.estimates import ALPHA, CONFIDENCE, Estimate, log_latency, mean_estimate
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


@pytest.mark.parametrize("repetitions", [20, 100])
def test_simulated_latencies_are_covered(repetitions):
    draws = np.random.default_rng(2)
    times = 5.0 * np.exp(0.2 * draws.standard_normal((REPETITIONS, repetitions)))
    covered = 0
    for q25, median, q75 in np.percentile(times, [25, 50, 75], axis=1).T:
        latency = {"median": median, "q25": q25, "q75": q75, "p95": q75}
        row = update_row(repetitions=repetitions, latency_ms=latency)
        low, high = log_latency(Time(**row)).interval()
        covered += low < math.log(5.0) < high
    assert covered / REPETITIONS == pytest.approx(CONFIDENCE, abs=TOLERANCE)

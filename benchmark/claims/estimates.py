"""Estimates of verdicts and comparisons, with a standard error, and what they allow.

Everything is a t distribution: the mean over seeds (Student), the mean of values with errors of
their own and the difference of two means with Satterthwaite's degrees of freedom (Welch 1947),
equivalence by two one-sided tests (Schuirmann 1987).
`tests/benchmark/claims/test_estimates.py` holds coverage and error rates to their nominal values.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchmark.records.measurements import Time

CONFIDENCE = 0.95
ALPHA = 0.05  # of each test

# Of a normal distribution: standard error of the median over that of the mean, for large samples,
# and interquartile range over standard deviation.
MEDIAN_ERROR = math.sqrt(math.pi / 2)
IQR = 2 * stats.norm.ppf(0.75)
# The deviation that the range tells has a relative variance of 1.36/n, that of n values 1/(2n).
IQR_EFFICIENCY = 0.37


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error and the degrees of freedom of the latter.

    Without an error (0, as of a count) every interval is the value itself; an error that is not
    known is infinite, and nothing follows.
    """

    value: float
    error: float
    df: float = math.inf

    def __sub__(self, other: "Estimate") -> "Estimate":
        """Return the difference of two independent estimates (Welch 1947)."""
        a, b = self.error**2, other.error**2
        if not 0 < a + b < math.inf:
            return Estimate(self.value - other.value, math.sqrt(a + b))
        inverse = a**2 / self.df + b**2 / other.df
        df = (a + b) ** 2 / inverse if inverse else math.inf
        return Estimate(self.value - other.value, math.sqrt(a + b), df)

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Return the central confidence interval."""
        if self.error == 0:
            return self.value, self.value
        if math.isinf(self.error):
            return -math.inf, math.inf
        half = self.error * stats.t.ppf((1 + confidence) / 2, self.df)
        return float(self.value - half), float(self.value + half)

    def p_different(self) -> float:
        """Return the two-sided p-value of the value being 0."""
        return 2 * min(self._p_below(0), self._p_above(0))

    def p_equivalent(self, margin: float) -> float:
        """Return the p-value of the value lying outside (-margin, margin): the larger of the two
        one-sided tests."""
        return max(self._p_above(-margin), self._p_below(margin))

    def _p_above(self, bound: float) -> float:
        """Return the p-value of the value being at most `bound`."""
        if self.error == 0:
            return float(self.value <= bound)
        return float(stats.t.sf((self.value - bound) / self.error, self.df))

    def _p_below(self, bound: float) -> float:
        return Estimate(-self.value, self.error, self.df)._p_above(-bound)


def mean_estimate(values: Sequence[float]) -> Estimate:
    """Return the mean of independent values; a single one, or equal ones, tell no error."""
    mean = float(np.mean(values))
    if len(set(values)) == 1:
        return Estimate(mean, math.inf)
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    return Estimate(mean, float(error), len(values) - 1)


def mean_of_estimates(values: Sequence[float], errors: Sequence[float], df: float) -> Estimate:
    """Return the mean of independent values, each with a standard error of so many degrees of
    freedom; their own scatter says nothing here (Satterthwaite 1946)."""
    squares = np.square(errors)
    total = squares.sum()
    df = df * total**2 / np.square(squares).sum() if total else math.inf
    return Estimate(float(np.mean(values)), float(np.sqrt(total) / len(values)), float(df))


def log_latency(time: Time) -> Estimate:
    """Return the logarithm of a median latency, from the quartiles of a timing record.

    As if the logarithms of single repetitions were normal. Equal quartiles tell no error. Quartiles
    of many values tell less of the deviation than the values would; those of three tell as much.
    """
    latency, freedom = time.latency_ms, time.repetitions - 1
    spread = math.log(latency.q75 / latency.q25) / IQR
    error = MEDIAN_ERROR * spread / math.sqrt(time.repetitions) if spread else math.inf
    return Estimate(math.log(latency.median), error, min(freedom, max(2, IQR_EFFICIENCY * freedom)))

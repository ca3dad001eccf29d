"""The Gaussian-mixture copula by its definition, in numpy and float64, and its conditionals.

Scores s follow sum_k w_k N(mu_k, Sigma_k), with margins G_q. Features h have the distribution
functions F_q and s_q = G_q^{-1}(F_q(h_q)), so that c = sum_k w_k N(s; mu_k, Sigma_k) / prod_q
g_q(s_q) (Tewari et al. 2011, doi 10.1109/ICDMW.2011.135). Normal distributions are SciPy's, every
inverse is a bracketed root; nothing is tabulated or clipped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy import ndarray
from scipy import stats
from scipy.optimize import elementwise
from scipy.special import logsumexp, ndtr, softmax

FARTHEST = 40.0  # standard deviations from every centre: beyond all that float64 tells apart


def inverse(cdf: Callable[[ndarray], ndarray], u: ndarray, low: float, high: float) -> ndarray:
    """The roots z in [low, high] of cdf(z) = u, (n,), to the last digits."""
    low, high = np.full_like(u, low), np.full_like(u, high)
    found = elementwise.find_root(lambda z, u: cdf(z) - u, (low, high), args=(u,))
    assert found.success.all()
    return found.x


@dataclass(frozen=True)
class Copula:
    """A mixture of k normals in d dimensions beside d piecewise linear densities.

    Attributes:
        weights: (k,); means: (k, d); covariances: (k, d, d).
        nodes: (m,); densities: (d, m), of the features at the nodes, linear between them.
    """

    weights: ndarray
    means: ndarray
    covariances: ndarray
    nodes: ndarray
    densities: ndarray

    @classmethod
    def of(cls, prior) -> "Copula":
        """The copula of a `kaem.copula.CopulaPrior`, from its numbers alone."""
        features = prior.feature_density()
        numbers = (prior.mixture.log_weights.exp(), prior.mixture.means, prior.mixture.factors)
        numbers = (*numbers, features.nodes, features.log_density.exp())
        weights, means, factors, nodes, densities = (
            number.detach().double().numpy() for number in numbers
        )
        return cls(weights, means, factors @ factors.transpose(0, 2, 1), nodes, densities)

    # --- one dimension: (n,) -> (n,) ---

    def feature_pdf(self, q: int, h: ndarray) -> ndarray:
        return np.interp(h, self.nodes, self.densities[q])

    def feature_cdf(self, q: int, h: ndarray) -> ndarray:
        """The area of the whole cells and of the trapezium up to h."""
        nodes, density = self.nodes, self.densities[q]
        before = np.append(0.0, np.cumsum(0.5 * np.diff(nodes) * (density[1:] + density[:-1])))
        cell = np.searchsorted(nodes, h, side="right").clip(1, len(nodes) - 1) - 1
        heights = 0.5 * (density[cell] + self.feature_pdf(q, h))
        return before[cell] + (h - nodes[cell]) * heights

    def _margin(self, q: int) -> tuple[ndarray, ndarray]:
        """Means and standard deviations, (k, 1) each."""
        return self.means[:, q, None], np.sqrt(self.covariances[:, q, q, None])

    def margin_pdf(self, q: int, s: ndarray) -> ndarray:
        return self.weights @ stats.norm.pdf(s, *self._margin(q))

    def margin_cdf(self, q: int, s: ndarray) -> ndarray:
        mean, spread = self._margin(q)
        return self.weights @ ndtr((s - mean) / spread)

    def margin_slope(self, q: int, s: ndarray) -> ndarray:
        """g_q'(s_q)."""
        mean, spread = self._margin(q)
        return self.weights @ ((mean - s) / spread**2 * stats.norm.pdf(s, mean, spread))

    # --- all dimensions ---

    def _columns(self, function: Callable[[int, ndarray], ndarray], x: ndarray) -> ndarray:
        return np.stack([function(q, column) for q, column in enumerate(x.T)], axis=1)

    def scores(self, h: ndarray) -> ndarray:
        """s_q = G_q^{-1}(F_q(h_q)), (n, d) -> (n, d)."""

        def score(q: int, h: ndarray) -> ndarray:
            mean, spread = self._margin(q)
            ends = (mean - FARTHEST * spread).min(), (mean + FARTHEST * spread).max()
            return inverse(partial(self.margin_cdf, q), self.feature_cdf(q, h), *ends)

        return self._columns(score, h)

    def features(self, s: ndarray) -> ndarray:
        """h_q = F_q^{-1}(G_q(s_q)), (n, d) -> (n, d)."""

        def feature(q: int, s: ndarray) -> ndarray:
            u, ends = self.margin_cdf(q, s), self.nodes[[0, -1]]
            return inverse(partial(self.feature_cdf, q), u, *ends)

        return self._columns(feature, s)

    def log_joint(self, s: ndarray, dimensions: Sequence[int] | None = None) -> ndarray:
        """log w_k + log N_k of some dimensions of s, all by default: (n, d) -> (n, k)."""
        which = list(range(s.shape[1]) if dimensions is None else dimensions)
        normals = zip(self.means, self.covariances, strict=True)
        return np.log(self.weights) + np.stack(
            [
                stats.multivariate_normal(mean[which], covariance[np.ix_(which, which)])
                .logpdf(s[:, which])
                .reshape(len(s))
                for mean, covariance in normals
            ],
            axis=1,
        )

    def log_copula(self, h: ndarray) -> ndarray:
        """log c(F_1(h_1), ..., F_d(h_d)), (n, d) -> (n,)."""
        s = self.scores(h)
        return logsumexp(self.log_joint(s), axis=1) - np.log(self._columns(self.margin_pdf, s)).sum(
            axis=1
        )

    def log_feature_density(self, h: ndarray) -> ndarray:
        """The log joint density of the features, (n, d) -> (n,)."""
        return self.log_copula(h) + np.log(self._columns(self.feature_pdf, h)).sum(axis=1)

    def copula_score(self, h: ndarray) -> ndarray:
        """The gradient of `log_copula` in h: (n, d) -> (n, d)."""
        s = self.scores(h)
        pulls = np.stack(
            [
                np.linalg.solve(covariance, (mean - s).T).T
                for mean, covariance in zip(self.means, self.covariances, strict=True)
            ],
            axis=1,
        )
        joint = np.einsum("nk,nkd->nd", softmax(self.log_joint(s), axis=1), pulls)
        g, slope = (self._columns(f, s) for f in (self.margin_pdf, self.margin_slope))
        return self._columns(self.feature_pdf, h) / g * (joint - slope / g)

    def responsibilities(self, h: ndarray) -> ndarray:
        """p(component | features), (n, d) -> (n, k)."""
        return softmax(self.log_joint(self.scores(h)), axis=1)

    def conditional_cdf(self, q: int, h: ndarray, given: Sequence[int]) -> ndarray:
        """P(H_q <= h_q | the features `given`), row by row: (n, d) -> (n,)."""
        s, given = self.scores(h), list(given)
        if not given:
            return self.margin_cdf(q, s[:, q])
        total = np.zeros(len(s))
        shares = softmax(self.log_joint(s, given), axis=1)
        for share, mean, covariance in zip(shares.T, self.means, self.covariances, strict=True):
            slope = np.linalg.solve(covariance[np.ix_(given, given)], covariance[given, q])
            centre = mean[q] + (s[:, given] - mean[given]) @ slope
            variance = covariance[q, q] - covariance[q, given] @ slope
            total += share * ndtr((s[:, q] - centre) / np.sqrt(variance))
        return total

    def rosenblatt(self, h: ndarray) -> ndarray:
        """Uniform and independent numbers, if h follows this density: (n, d) -> (n, d)."""
        return np.stack([self.conditional_cdf(q, h, range(q)) for q in range(h.shape[1])], axis=1)

    def draws(self, n: int, seed: int) -> ndarray:
        """Draw n times, (n, d)."""
        generator = np.random.default_rng(seed)
        counts = generator.multinomial(n, self.weights)
        normals = zip(self.means, self.covariances, counts, strict=True)
        s = [generator.multivariate_normal(*normal) for normal in normals]
        return self.features(generator.permutation(np.concatenate(s)))


def uniform_p_values(u: ndarray, cells: int) -> ndarray:
    """p-values, (d + 1,), of each column of u (n, d) being uniform, and of all being so and
    independent: Kolmogorov and Smirnov's, and the chi-squared test of cells^d boxes."""
    each = [stats.kstest(column, "uniform", method="asymp").pvalue for column in u.T]
    counts, _ = np.histogramdd(u, bins=cells, range=[(0, 1)] * u.shape[1])
    return np.array([*each, stats.chisquare(counts, axis=None).pvalue])

"""The Frechet distance against closed forms and independent ones, and its extrapolated limit."""

import math

import numpy as np
import pytest
import torch
from reference.faulty_metrics import frechet_infinity_of_nested_subsets
from reference.frechet import frechet, frechet_by_sqrtm, frechet_of_rotated_gaussians
from scipy.stats import ortho_group
from scipy.stats import t as student

from benchmark.evaluation.frechet import (
    FEWEST_PER_DIMENSION,
    SHARES,
    Gaussian,
    disjoint_subsets,
    extrapolate,
    fit_gaussian,
    frechet_distance,
    subset_distances,
)

DIMENSION = 8
COVARIANCES = {
    "unequal axes": (np.linspace(0.1, 3, DIMENSION), np.linspace(2, 0.5, DIMENSION)),
    "equal": (np.ones(DIMENSION), np.ones(DIMENSION)),
    "one of rank 4": (np.repeat([0.0, 2.0], 4), np.linspace(0.5, 1, DIMENSION)),
}


def gaussian(mean: np.ndarray, deviations: np.ndarray, axes: np.ndarray) -> Gaussian:
    return Gaussian(1000, mean, (axes * deviations**2) @ axes.T)


def features(n: int, seed: int, dimension: int = DIMENSION, offset: float = 0.0) -> torch.Tensor:
    """Correlated float32 features that are no Gaussians."""
    draws = np.random.default_rng(seed)
    mixing = draws.normal(size=(dimension, dimension))
    return torch.from_numpy(draws.exponential(size=(n, dimension)) @ mixing + offset).float()


@pytest.mark.parametrize("deviations", COVARIANCES.values(), ids=COVARIANCES)
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_on_gaussians_it_equals_the_closed_form(deviations, shift):
    axes = ortho_group.rvs(DIMENSION, random_state=0)
    mean = np.arange(DIMENSION, dtype=float)
    a, b = gaussian(mean, deviations[0], axes), gaussian(mean + shift, deviations[1], axes)
    expected = frechet_of_rotated_gaussians(np.full(DIMENSION, shift), *deviations)
    # A root of a singular product is known to about the root of the rounding error.
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("independent", [frechet, frechet_by_sqrtm])
@pytest.mark.parametrize(("n", "m"), [(300, 300), (100, 5000)])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_an_independent_distance_agrees(independent, n, m, offset):
    # The offset shows sums in single precision: the mean's square is a million variances.
    a, b = features(n, 0, offset=offset), features(m, 1, offset=offset)
    expected = independent(a.numpy(), b.numpy())
    assert frechet_distance(fit_gaussian(a), fit_gaussian(b)) == pytest.approx(expected, rel=1e-5)


def test_it_is_symmetric_and_zero_between_equals():
    a, b = fit_gaussian(features(200, 0)), fit_gaussian(features(300, 1))
    distance = frechet_distance(a, b)
    assert frechet_distance(b, a) == pytest.approx(distance, rel=1e-9)
    assert abs(frechet_distance(a, a)) < 1e-9 * distance


# --- moments -------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 100, 10_000])
def test_the_moments_do_not_depend_on_the_chunks(chunk):
    x = features(100, 0, offset=50.0)
    found = fit_gaussian(x, chunk)
    assert found.count == 100
    assert found.mean.dtype == found.covariance.dtype == np.float64
    np.testing.assert_allclose(found.mean, x.double().numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(
        found.covariance, np.cov(x.double().numpy(), rowvar=False), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("count", [0, 1])
def test_a_covariance_needs_two_rows(count):
    with pytest.raises(ValueError, match=f"two rows or more, got {count}"):
        fit_gaussian(features(count, 0))
    assert fit_gaussian(features(2, 0)).count == 2


# --- the limit of many samples -------------------------------------------------------------------


def test_points_on_a_line_are_continued_without_an_error():
    sizes = np.array([400.0, 200, 100, 100])
    limit, error = extrapolate(sizes, 3 + 70 / sizes)
    assert limit == pytest.approx(3, abs=1e-9)
    assert error == pytest.approx(0, abs=1e-9)


def test_the_fit_is_weighted_least_squares():
    sizes = np.array([400.0, 200, 150, 100, 90])
    distances = 3 + 70 / sizes + np.random.default_rng(0).normal(size=5)
    fit, covariance = np.polyfit(1 / sizes, distances, 1, w=np.sqrt(sizes), cov=True)
    expected = (fit[1], math.sqrt(covariance[1, 1]))
    assert extrapolate(sizes, distances) == pytest.approx(expected, rel=1e-9)


TRUTH = Gaussian(1, np.zeros(10), np.eye(10))
SHIFT, SPREAD = 0.3, 1.2
LIMIT = frechet_of_rotated_gaussians(np.full(10, SHIFT), np.full(10, SPREAD), np.ones(10))
REPLICATES = 300


@pytest.fixture(scope="module")
def replicates():
    draws = torch.Generator().manual_seed(0)
    return [SPREAD * torch.randn(4000, 10, generator=draws) + SHIFT for _ in range(REPLICATES)]


def normalised_errors(estimator, replicates) -> np.ndarray:
    """(estimate - truth) / stated error, of each replicate."""
    found = np.array([estimator(each, TRUTH) for each in replicates])
    return (found[:, 0] - LIMIT) / found[:, 1]


def limit(features: torch.Tensor, real: Gaussian) -> tuple[float, float]:
    return extrapolate(*np.array(subset_distances(features, real), float).T)


def covered_by(z: np.ndarray, freedom: int) -> float:
    """The share within the 95% interval of a fit with so many degrees of freedom."""
    return (np.abs(z) < student.ppf(0.975, freedom)).mean()


def test_the_limit_is_recovered_within_its_stated_error(replicates):
    z = normalised_errors(limit, replicates)
    # A share of 300 that should be 0.95 leaves [0.90, 0.99] with a probability below 1e-3.
    assert 0.90 <= covered_by(z, len(SHARES) - 2) <= 0.99


def test_the_limit_has_no_bias_that_the_distance_has(replicates):
    limits = np.array([limit(each, TRUTH)[0] for each in replicates])
    finite = np.array([frechet_distance(fit_gaussian(x[:400]), TRUTH) for x in replicates])
    assert_mean(limits, LIMIT)
    with pytest.raises(AssertionError):
        assert_mean(finite, LIMIT)


def assert_mean(values: np.ndarray, expected: float) -> None:
    # Four standard errors: wrong about once in 16,000 seeds.
    assert abs(values.mean() - expected) < 4 * values.std() / math.sqrt(len(values))


def test_nested_subsets_would_understate_the_error(replicates):
    z = normalised_errors(frechet_infinity_of_nested_subsets, replicates)
    assert covered_by(z, 15 - 2) < 0.6


def test_no_sample_is_in_two_subsets_and_each_subset_counts():
    x = torch.arange(1009.0)[:, None] + torch.rand(1009, 2)
    subsets = disjoint_subsets(x)
    sizes = [int(share * 1009) for share in SHARES]
    assert torch.equal(torch.cat(subsets), x[: sum(sizes)])
    assert [len(subset) for subset in subsets] == sizes
    assert len(torch.cat(subsets).unique(dim=0)) == sum(sizes)
    real = Gaussian(1, np.zeros(2), np.eye(2))
    distances = [frechet_distance(fit_gaussian(subset), real) for subset in subsets]
    assert subset_distances(x, real) == list(zip(sizes, distances, strict=True))


def test_too_few_samples_have_no_limit():
    enough = round(FEWEST_PER_DIMENSION * 10 / min(SHARES))
    x = torch.randn(enough, 10, generator=torch.Generator().manual_seed(0))
    assert len(subset_distances(x, TRUTH)) == len(SHARES)
    assert subset_distances(x[:-1], TRUTH) == []

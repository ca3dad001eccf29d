"""The metrics of two sets of features against their definitions, and what they are called."""

import numpy as np
import pytest
import torch
from reference.frechet import frechet
from reference.precision_recall import covered
from torch import Tensor

from benchmark.evaluation.efficientnet import EfficientNetFeatures
from benchmark.evaluation.features import ClassifierFeatures, RealFeatures
from benchmark.evaluation.frechet import fit_gaussian
from benchmark.evaluation.inception import OFFICIAL_SHA256, inception_names
from benchmark.evaluation.metrics import (
    KID_SUBSET_SIZE,
    class_coverage,
    feature_metrics,
    named,
)

DIMENSION = 6


def features(n: int, seed: int, shift: float = 0.0, dimension: int = DIMENSION) -> Tensor:
    return torch.randn(n, dimension, generator=torch.Generator().manual_seed(seed)) + shift


def reference_of(real: Tensor) -> RealFeatures:
    return RealFeatures(real, fit_gaussian(real))


def unbiased_mmd(a: np.ndarray, b: np.ndarray) -> float:
    """The squared maximum mean discrepancy with the kernel (x.y/d + 1)^3, in float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    def without_diagonal(k):
        return (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))

    same = without_diagonal(kernel(a, a)) + without_diagonal(kernel(b, b))
    return same - 2 * kernel(a, b).mean()


@pytest.fixture(scope="module")
def measured():
    """1,000 a side: every one of KID's subsets is then all of them."""
    samples, real = features(KID_SUBSET_SIZE, 0, shift=0.4), features(KID_SUBSET_SIZE, 1)
    found = feature_metrics(samples, reference_of(real), kid_subsets=3)
    return samples.numpy(), real.numpy(), found


def test_every_metric_is_its_definition(measured):
    samples, real, found = measured
    assert found["frechet"] == pytest.approx(frechet(samples, real), rel=1e-5)
    assert found["kid"] == pytest.approx(unbiased_mmd(samples, real), rel=1e-5)
    assert found["precision"] == pytest.approx(covered(samples, real), abs=1e-6)
    assert found["recall"] == pytest.approx(covered(real, samples), abs=1e-6)
    assert 0 < found["recall"] != found["precision"] < 1


def test_the_statistics_of_all_real_images_count_and_not_the_kept_ones():
    samples, real = features(50, 0), features(80, 1)
    kept = RealFeatures(real[:30], fit_gaussian(real))
    expected = frechet(samples.numpy(), real.numpy())
    assert feature_metrics(samples, kept)["frechet"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("ours", "theirs"), [(-1, 0), (0, -1)])
def test_without_images_enough_there_is_no_kid(measured, ours, theirs):
    samples, real = measured[:2]
    samples, real = samples[: KID_SUBSET_SIZE + ours], real[: KID_SUBSET_SIZE + theirs]
    found = feature_metrics(torch.from_numpy(samples), reference_of(torch.from_numpy(real)))
    assert "kid" in measured[2]
    assert "kid" not in found


def test_the_limit_is_given_where_there_are_samples_enough():
    reference = reference_of(features(150, 1))
    few, enough = (feature_metrics(features(n, 0), reference) for n in (119, 120))
    assert {"frechet_infinity", "frechet_infinity_se"} <= enough.keys()
    assert few.keys() == {"frechet", "precision", "recall"}
    assert enough["frechet_infinity"] < enough["frechet"]
    assert enough["frechet_infinity_se"] > 0


def test_precision_and_recall_take_the_first_images_of_each_side():
    samples, real = features(90, 0, shift=0.5), features(120, 1)
    found = feature_metrics(samples, reference_of(real), prc_images=50)
    a, b = samples[:50].numpy(), real[:50].numpy()
    assert found["precision"] == pytest.approx(covered(a, b), abs=1e-6)
    assert found["recall"] == pytest.approx(covered(b, a), abs=1e-6)
    assert found["recall"] != pytest.approx(covered(real.numpy(), samples.numpy()), abs=1e-6)


@pytest.mark.parametrize("distances", [1, 7, 1000])
def test_how_many_distances_are_in_memory_is_no_matter(distances):
    samples, reference = features(40, 0, shift=0.5), reference_of(features(50, 1))
    expected = feature_metrics(samples, reference)
    assert feature_metrics(samples, reference, distances=distances) == expected


def test_one_image_alone_is_precise_and_recalls_itself():
    real = features(100, 0)
    found = feature_metrics(real[:1].expand(50, -1), reference_of(real))
    assert found["precision"] == 1
    assert found["recall"] == pytest.approx(0.01)


# --- class coverage ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([0, 0, 1, 2], 1.0),  # as the reference
        ([0, 0, 0, 1, 1, 2, 2, 2], (3 / 8) / (1 / 2)),  # the first is the rarest
        ([1, 2, 1, 2], 0.0),
        ([0, 0, 0, 0], 0.0),
    ],
)
def test_class_coverage_by_hand(samples, expected):
    reference = torch.tensor([0, 0, 1, 2])
    assert class_coverage(torch.tensor(samples), reference, 3) == pytest.approx(expected)


def test_a_class_that_the_reference_lacks_is_no_matter():
    reference = torch.tensor([0, 1])
    assert class_coverage(torch.tensor([0, 1]), reference, 3) == 1
    assert class_coverage(torch.tensor([0, 1, 2]), reference, 3) == pytest.approx(2 / 3)


# --- names ---------------------------------------------------------------------------------------

EVERY = ("frechet", "frechet_infinity", "frechet_infinity_se", "kid", "precision", "recall")
VALUES = {key: float(i) for i, key in enumerate(EVERY)}
SPACES = {
    "classifier": named(VALUES, ClassifierFeatures.names),
    "efficientnet": named(VALUES, EfficientNetFeatures.names),
    "inception": named(VALUES, inception_names(OFFICIAL_SHA256)),
    "other weights": named(VALUES, inception_names("0123abcd" * 8)),
}
EXPECTED = {
    "classifier": [
        "fd_classifier",
        "fd_classifier_infinity",
        "fd_classifier_infinity_se",
        "kid_classifier",
        "precision_classifier",
        "recall_classifier",
    ],
    "efficientnet": [
        "fd_efficientnet",
        "fd_efficientnet_infinity",
        "fd_efficientnet_infinity_se",
        "kid_efficientnet",
        "precision_efficientnet",
        "recall_efficientnet",
    ],
    "inception": ["fid", "fid_infinity", "fid_infinity_se", "kid", "precision", "recall"],
    "other weights": [
        "frechet_0123abcd",
        "frechet_0123abcd_infinity",
        "frechet_0123abcd_infinity_se",
        "kid_0123abcd",
        "precision_0123abcd",
        "recall_0123abcd",
    ],
}


@pytest.mark.parametrize("space", EXPECTED)
def test_every_value_gets_the_name_of_its_space(space):
    assert SPACES[space] == dict(zip(EXPECTED[space], VALUES.values(), strict=True))


def test_what_feature_metrics_gives_has_a_name_of_its_own(measured):
    # The keys above are the ones that are measured.
    assert measured[2].keys() - {"frechet_subsets"} == VALUES.keys()
    names = [name for names in SPACES.values() for name in names]
    assert len(set(names)) == len(names)

"""The metrics of two sets of features against their definitions, and what they are called."""

import numpy as np
import pytest
import torch
from reference.frechet import frechet
from reference.precision_recall import covered
from torch import Tensor

import benchmark.evaluation.metrics
from benchmark.evaluation.features import RealFeatures
from benchmark.evaluation.frechet import fit_gaussian
from benchmark.evaluation.inception import OFFICIAL_SHA256
from benchmark.evaluation.metrics import (
    KID_SUBSET_SIZE,
    class_coverage,
    classifier_names,
    feature_metrics,
    inception_names,
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark.evaluation.metrics, "KID_SUBSETS", 3)
        return samples.numpy(), real.numpy(), feature_metrics(samples, reference_of(real))


def test_the_frechet_distance_is_an_independent_ones(measured):
    samples, real, found = measured
    assert found["frechet"] == pytest.approx(frechet(samples, real), rel=1e-5)


def test_kid_is_the_unbiased_discrepancy(measured):
    samples, real, found = measured
    assert found["kid"] == pytest.approx(unbiased_mmd(samples, real), rel=1e-5)


def test_precision_and_recall_are_their_definitions(measured):
    samples, real, found = measured
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


def test_precision_and_recall_take_the_first_images_of_each_side(monkeypatch):
    samples, real = features(90, 0, shift=0.5), features(120, 1)
    monkeypatch.setattr(benchmark.evaluation.metrics, "PRC_IMAGES", 50)
    found = feature_metrics(samples, reference_of(real))
    a, b = samples[:50].numpy(), real[:50].numpy()
    assert found["precision"] == pytest.approx(covered(a, b), abs=1e-6)
    assert found["recall"] == pytest.approx(covered(b, a), abs=1e-6)
    assert found["recall"] != pytest.approx(covered(real.numpy(), samples.numpy()), abs=1e-6)


@pytest.mark.parametrize("distances", [1, 7, 1000])
def test_how_many_distances_are_in_memory_is_no_matter(distances, monkeypatch):
    samples, reference = features(40, 0, shift=0.5), reference_of(features(50, 1))
    expected = feature_metrics(samples, reference)
    monkeypatch.setattr(benchmark.evaluation.metrics, "DISTANCES", distances)
    found = feature_metrics(samples, reference)
    assert found["precision"] == expected["precision"]
    assert found["recall"] == expected["recall"]


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
OTHER = "0123abcd" * 8
EXPECTED = {
    "classifier": [
        "fd_classifier",
        "fd_classifier_infinity",
        "fd_classifier_infinity_se",
        "kid_classifier",
        "precision_classifier",
        "recall_classifier",
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


def named(space: str) -> dict[str, float]:
    if space == "classifier":
        return classifier_names(VALUES)
    return inception_names(VALUES, OFFICIAL_SHA256 if space == "inception" else OTHER)


@pytest.mark.parametrize("space", EXPECTED)
def test_every_value_gets_the_name_of_its_space(space):
    assert named(space) == dict(zip(EXPECTED[space], VALUES.values(), strict=True))


def test_only_the_standard_weights_give_what_is_called_fid():
    assert sum("fid" in name for name in named("inception")) == 3
    others = named("classifier") | named("other weights")
    assert not [name for name in others if "fid" in name]


def test_no_two_spaces_share_a_name():
    names = [name for space in EXPECTED for name in named(space)]
    assert len(set(names)) == len(names)


def test_what_feature_metrics_gives_has_a_name_of_its_own(measured):
    # The keys above are the ones that are measured.
    assert measured[2].keys() == VALUES.keys()

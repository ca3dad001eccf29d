"""The tolerances of values that were measured on other images: their error rates are as stated."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from benchmark.evaluation.frechet import fit_gaussian, frechet_distance
from benchmark.evaluation.metrics import precision_recall
from benchmark.verification.redraw import (
    CLUSTERING,
    FALSE_ALARMS,
    Redrawn,
    Value,
    frechet_error,
    share_error,
)

PAIRS, COUNT, DIMENSION = 200, 300, 4
REAL = torch.randn(2000, DIMENSION, generator=torch.Generator().manual_seed(1))
LEVEL = 0.05


def drawn(seed: int, count: int = COUNT) -> torch.Tensor:
    features = torch.randn(count, DIMENSION, generator=torch.Generator().manual_seed(seed))
    return features * torch.tensor([1.5, 0.7, 1.0, 1.0]) + 0.3


def values(seed: int) -> list[tuple[float, float]]:
    """Distance and recall of a sample of one model, with their errors."""
    features, real = drawn(seed), fit_gaussian(REAL)
    distance = frechet_distance(fit_gaussian(features), real)
    recall = precision_recall(features, REAL[:COUNT])[1]
    error = CLUSTERING * share_error(recall, COUNT)
    return [(distance, frechet_error(features, real)), (recall, error)]


def test_two_samples_of_a_model_differ_as_often_as_is_said():
    """Of 200 pairs 5% are to differ at the level of 5%: 1% to 11%, by the binomial distribution,
    with a probability of 99.9%; recall's error is an upper bound."""
    pairs = [(values(2 * k + 10), values(2 * k + 11)) for k in range(PAIRS)]
    z = stats.norm.isf(LEVEL / 2)
    rates = [
        np.mean([abs(a[i][0] - b[i][0]) > z * math.hypot(a[i][1], b[i][1]) for a, b in pairs])
        for i in range(2)
    ]
    assert 0.01 <= rates[0] <= 0.11
    assert rates[1] <= 0.11


def redrawn(here: float, published: float, error: float, same: bool) -> Redrawn:
    value = Value("fd_classifier_test_10k", published, here, error)
    shown = np.zeros((1, 1, 8, 8), np.uint8)
    return Redrawn("mnist", "vae", 10, 10, same, 1.0, [value], "", shown)


@pytest.mark.parametrize(
    ("here", "same", "differs"),
    [(86.0, True, False), (87.0, True, True), (87.0, False, False), (92.5, False, True)],
)
def test_the_same_images_may_differ_by_rounding_and_others_by_chance(here, same, differs):
    # Of 60 tests: 4.3 standard errors of a difference, 6.1 of one value, which is 1 here.
    drawn = redrawn(here, 85.5, 1.0, same)
    found = [value for value in drawn.values if drawn.differs(value, 60)]
    assert bool(found) == differs
    z = stats.norm.isf(FALSE_ALARMS / 60 / 2) * math.sqrt(2)
    assert z == pytest.approx(6.09, abs=0.02)


def test_a_share_of_none_has_an_error_too():
    assert share_error(0.0, 100) == pytest.approx(math.sqrt(2 / 104 * 102 / 104 / 100))

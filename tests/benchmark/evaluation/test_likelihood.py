"""benchmark/evaluation/likelihood.py against a model whose evidence is known."""

import math

import pytest
import torch
from torch import nn

from benchmark.evaluation.likelihood import BATCH_SIZE, likelihood_metrics
from kaem.likelihood import Evidence


class OneLevel(nn.Module):
    """Says that log p(x) is minus the number of lit pixels, to one nat; one weight decides it."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def log_evidence(self, x, passes, generator):
        assert passes == 7
        assert isinstance(generator, torch.Generator)
        self.sizes.append(len(x))
        assert x.max() <= 1
        lit = x.flatten(1).sum(1)
        return Evidence(-lit, torch.ones(len(x)), torch.where(lit > 0, 1.0, 2.0))


def measured(images, model=None):
    device = torch.device("cpu")
    return likelihood_metrics(model or OneLevel(), images, "test", 7, torch.Generator(), device)


def test_means_errors_and_names():
    images = torch.zeros(4, 1, 2, 3, dtype=torch.uint8)
    images[0] = 255
    found = measured(images)
    assert found == {
        "nats_test_4": -1.5,
        "nats_error_test_4": pytest.approx(0.5),  # four errors of one nat, averaged
        "nats_low_ess_share_test_4": 0.25,
        "bits_per_dimension_test_4": pytest.approx(1.5 / (6 * math.log(2)) + math.log2(255)),
        "bits_per_dimension_error_test_4": pytest.approx(0.5 / (6 * math.log(2))),
    }


def test_every_image_counts_once_whatever_the_batches():
    model = OneLevel()
    images = torch.zeros(BATCH_SIZE + 3, 1, 1, 1, dtype=torch.uint8)
    images[-1] = 255
    found = measured(images, model)
    assert found[f"nats_test_{len(images)}"] == pytest.approx(-1 / len(images))
    assert found[f"nats_low_ess_share_test_{len(images)}"] == pytest.approx(1 / len(images))
    assert model.sizes == [BATCH_SIZE, 3]


class Nowhere(OneLevel):
    """Finds nothing of the first image."""

    def log_evidence(self, x, passes, generator):
        values, errors, ess = super().log_evidence(x, passes, generator)
        values[0], errors[0], ess[0] = -math.inf, math.inf, 0.0
        return Evidence(values, errors, ess)


def test_without_an_estimate_for_every_image_there_is_no_mean():
    images = torch.zeros(4, 1, 2, 3, dtype=torch.uint8)
    assert measured(images, Nowhere()) == {"nats_low_ess_share_test_4": 0.25}

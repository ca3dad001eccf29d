"""The classifier behind FD-classifier."""

import pytest
import torch
from support.configs import bars_dataset, tiny_config
from support.trainings import weights
from torch import nn

from benchmark.config.facts import Facts, known_datasets
from benchmark.config.jobs import job_of
from benchmark.data.dataset import load_dataset
from benchmark.training.classifier import accuracy, build_classifier, train_classifier

CPU = torch.device("cpu")


def job(**changes):
    config = tiny_config({f"classifier.{key}": value for key, value in changes.items()})
    return job_of(config, "classifier", "digits")


def test_it_learns_the_digits(tmp_path):
    digits = load_dataset(Facts.parse("digits", known_datasets()["digits"]), tmp_path, tmp_path)
    model, _ = train_classifier(job(updates=200), digits, CPU, "none")
    assert accuracy(model, digits.images["test"], digits.labels["test"]) > 0.9


def test_it_is_the_same_in_every_run():
    states = []
    for updates in (5, 5, 6):
        torch.rand(1)  # the state of the global generator is no matter
        states.append(
            weights(train_classifier(job(updates=updates), bars_dataset(), CPU, "none")[0])
        )
    assert states[0] == states[1] != states[2]


@pytest.mark.parametrize("image_shape", [(1, 8, 8), (3, 16, 12)])
def test_shapes(image_shape):
    model = build_classifier(job(features=6), image_shape)
    x = torch.rand(5, *image_shape)
    assert model.features(x).shape == (5, 6)
    assert model.features(x).min() >= 0
    assert model(x).shape == (5, 10)
    # The features feed the last layer, which is linear, and nothing else.
    assert (type(model.head), model.head.in_features) == (nn.Linear, 6)
    torch.testing.assert_close(model.head(model.features(x)), model(x))


class LitHalf(nn.Module):
    """A classifier that labels an image by the half that is lit."""

    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        left = (x[:, 0, 0, 0] > 0).float()
        return torch.stack([1 - left, left], dim=1)


@pytest.mark.parametrize("batch_size", [1, 7, 30, 500])
def test_accuracy_is_the_fraction_that_is_right(batch_size):
    data = bars_dataset(30)
    labels = data.labels["test"].clone()
    labels[:6] = 1 - labels[:6]
    share = accuracy(LitHalf(), data.images["test"], labels, batch_size)
    assert share == pytest.approx(24 / 30)

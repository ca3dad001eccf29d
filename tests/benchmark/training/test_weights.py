"""Weights files: what was saved comes back, or a message says why it does not."""

import pytest
import torch
from support.configs import MODEL_SETTINGS, tiny_config
from support.tensor_files import DAMAGES
from support.trainings import weights
from torch import nn

from benchmark.base.errors import RecordError
from benchmark.config.jobs import job_of
from benchmark.training.weights import load_weights, save_weights

CPU = torch.device("cpu")
REFUSED = r"seed0\.safetensors: (cannot be read as weights|does not match its digest)"


def make(seed: int, width: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))


@pytest.fixture
def job():
    return job_of(tiny_config(), "training", "digits", "vae")


@pytest.fixture
def saved(tmp_path, job):
    path = tmp_path / "weights" / "seed0.safetensors"
    save_weights(path, make(0), job)
    return path


def test_round_trip(saved, job):
    loaded = load_weights(saved, make(1), job, CPU)
    assert weights(loaded) == weights(make(0))
    assert not loaded.training
    assert [path.name for path in saved.parent.iterdir()] == ["seed0.safetensors"]


def test_the_same_weights_give_the_same_file(saved, job):
    # The classifier's record names its weights by their file's digest.
    before = saved.read_bytes()
    for _ in range(5):
        save_weights(saved, make(0), job)
        assert saved.read_bytes() == before


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_refused(saved, job, damage):
    saved.write_bytes(damage(saved.read_bytes()))
    with pytest.raises(RecordError, match=REFUSED) as error:
        load_weights(saved, make(1), job, CPU)
    again = "benchmark train --config FILE --dataset digits --model vae --seed 0"
    assert again in str(error.value)


def test_a_missing_file_is_refused(tmp_path, job):
    with pytest.raises(RecordError, match=r"absent\.safetensors: cannot be read as weights"):
        load_weights(tmp_path / "absent.safetensors", make(1), job, CPU)


@pytest.mark.parametrize(
    ("changes", "entry"),
    [
        ({"models.vae.training.learning_rate": 0.1}, "vae"),
        ({"models.vae.sigma": 0.9}, "vae"),
        ({}, "kaem_is"),
        ({"models.twin": MODEL_SETTINGS["vae"] | {"model": "vae"}}, "twin"),
    ],
    ids=["learning rate", "sigma", "model", "entry of the same settings"],
)
def test_weights_of_another_job_are_refused(saved, changes, entry):
    other = job_of(tiny_config(changes), "training", "digits", entry)
    with pytest.raises(RecordError, match="was trained with other settings") as error:
        load_weights(saved, make(1), other, CPU)
    assert other.config_hash in str(error.value)
    again = f"benchmark train --config FILE --dataset digits --model {entry} --seed 0"
    assert again in str(error.value)


def test_weights_of_a_network_that_has_changed_since_are_refused(saved, job):
    # The same settings, but the code builds another network now.
    with pytest.raises(RecordError, match=r"seed0\.safetensors: does not fit the network"):
        load_weights(saved, make(1, width=5), job, CPU)

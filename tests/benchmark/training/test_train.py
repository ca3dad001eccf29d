"""Training: seeds, the order of the data, the history, and what is refused."""

import itertools
import math

import numpy as np
import pytest
import torch
from support.configs import MODEL_SETTINGS, bars_dataset, tiny_config, write_config
from torch import nn

import benchmark.config.registry
import benchmark.training.train
from benchmark import cli
from benchmark.base.errors import TrainingError
from benchmark.data.pixels import to_float
from benchmark.training.history import History
from benchmark.training.loop import SNAPSHOTS, Training
from benchmark.training.train import train_model
from kaem.errors import KAEMError

CPU = torch.device("cpu")
ENTRIES = ("kaem_is", "kaem_ula", "kaem_thermo", "vae")
# With a chain for every datum, unlike those of the other tests.
SETTINGS = {
    name: MODEL_SETTINGS[name] | {"sampler": MODEL_SETTINGS[name]["sampler"] | {"persistent": True}}
    for name in ("kaem_ula", "kaem_thermo")
}


def train(model: str = "vae", seed: int = 0, changes: dict | None = None):
    settings = {f"models.{name}": values for name, values in SETTINGS.items()}
    job = tiny_config(settings | (changes or {})).training_job("digits", model)
    return train_model(job, bars_dataset(), seed, CPU, "none")


def without_seconds(history: History) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows]


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# Seeds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ENTRIES)
def test_a_seed_decides_weights_and_history(model):
    first = train(model)
    torch.rand(1)  # the state of the global generator is no matter
    again = train(model)
    assert same_weights(first.model, again.model)
    assert without_seconds(first.history) == without_seconds(again.history)
    assert first.diagnostics.keys() == again.diagnostics.keys()
    for key, value in first.diagnostics.items():
        np.testing.assert_array_equal(value, again.diagnostics[key])
    other = train(model, seed=1)
    assert not same_weights(first.model, other.model)
    assert without_seconds(first.history) != without_seconds(other.history)


def test_diagnostics_are_taken_before_during_and_after():
    assert "temperatures_after" in train("kaem_thermo").diagnostics
    found = train("kaem_is").diagnostics
    stages = ("before", *(f"{percent}_percent" for percent in SNAPSHOTS), "after")
    assert found.keys() == {f"{k}_{s}" for k in ("nodes", "density") for s in stages}
    # Of five updates the first and the second; a constant learning rate knows no end of training.
    constant = {"training.schedule": "constant"}
    five = train("kaem_is", changes=constant).diagnostics
    for updates, percent in ((1, 1), (1, 10), (2, 30)):
        shorter = train("kaem_is", changes=constant | {"training.updates": updates}).diagnostics
        np.testing.assert_array_equal(five[f"density_{percent}_percent"], shorter["density_after"])
    assert not np.array_equal(found["density_before"], found["density_after"])
    assert train("vae").diagnostics == {}


def test_every_model_sees_the_same_batches_in_the_same_order(monkeypatch):
    seen = []

    def recording_build(*arguments):
        model = build(*arguments)
        loss = model.loss

        def recording_loss(x, generator=None):
            seen[-1].append(x.clone())
            return loss(x, generator)

        model.loss = recording_loss
        return model

    build = benchmark.training.train.build
    monkeypatch.setattr(benchmark.training.train, "build", recording_build)
    for model, seed in (("kaem_is", 0), ("vae", 0), ("vae", 1)):
        seen.append([])
        train(model, seed, {"training.updates": 12})
        assert len(seen[-1]) == 12
    assert all(torch.equal(a, b) for a, b in zip(seen[0], seen[1], strict=True))
    assert not torch.equal(seen[1][0], seen[2][0])
    assert not torch.equal(seen[0][0], seen[0][1])
    training = to_float(bars_dataset().images["train"])
    assert all((training == image).flatten(1).all(1).any() for image in seen[0][0])


# What is refused ---------------------------------------------------------------------------------


def test_a_batch_larger_than_the_dataset_is_refused():
    with pytest.raises(TrainingError, match="digits: batch_size 101 exceeds its 100 training im"):
        train(changes={"training.batch_size": 101})
    train(changes={"training.batch_size": 100, "training.updates": 2})


# Losses that are no number ----------------------------------------------------------------------


def assert_nothing_but_prepared_data(folder) -> None:
    assert {path.name for path in folder.iterdir()} == {"tiny.yaml", "data", "results"}
    assert list((folder / "results").iterdir()) == []
    assert {path.name for path in (folder / "data").iterdir()} == {"cache"}


class Diverging(nn.Module):
    """Its loss is fine until an update, then `value`."""

    def __init__(self, at: int, value: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.at, self.value, self.update = at, value, 0

    def loss(self, _x, _generator=None):
        self.update += 1
        return self.weight * (self.value if self.update == self.at else 1.0), {}


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A configuration's file, alone in the working directory."""
    for root in ("KAEM_DATA_ROOT", "KAEM_CACHE_ROOT"):
        monkeypatch.delenv(root, raising=False)
    monkeypatch.chdir(tmp_path)
    return write_config(tmp_path / "tiny.yaml")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_ends_training_and_writes_nothing(
    value, config, monkeypatch, capsys
):
    monkeypatch.setattr(benchmark.training.train, "build", lambda *_: Diverging(3, value))
    words = ["train", "--dataset", "digits", "--model", "vae", "--config", str(config)]
    assert cli.main(words) == 1
    captured = capsys.readouterr()
    assert f"digits · vae · seed 0: the loss is {value} at update 3 of 5" in captured.err
    assert "Nothing was written" in captured.err
    assert captured.out == ""
    assert_nothing_but_prepared_data(config.parent)


def test_a_model_that_cannot_compute_its_loss_ends_training(config, monkeypatch, capsys):
    def build(*arguments):
        model = benchmark.config.registry.build(*arguments)
        after_update = model.after_update

        def spoil(update, updates):
            after_update(update, updates)
            if update == 2:
                model.decoder.linear.bias.data[0] = math.nan

        model.after_update = spoil
        return model

    monkeypatch.setattr(benchmark.training.train, "build", build)
    words = ["train", "--dataset", "digits", "--model", "kaem_is", "--config", str(config)]
    assert cli.main(words) == 1
    captured = capsys.readouterr()
    assert "digits · kaem_is · seed 0: update 3: parameters are no longer finite" in captured.err
    assert "decoder.linear.bias" in captured.err
    assert "Nothing was written" in captured.err
    assert captured.out == ""
    assert_nothing_but_prepared_data(config.parent)
    with pytest.raises(TrainingError, match="seed 0: update 3") as error:
        train("kaem_is")
    assert isinstance(error.value.__cause__, KAEMError)


# What a model is told ----------------------------------------------------------------------------


class Recording(nn.Module):
    """Remembers what it was given; a constant to learn."""

    def __init__(self, needs_index: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.needs_index = needs_index
        self.batches, self.updates = [], []

    def loss(self, x, generator=None, **which):  # noqa: ARG002
        self.batches.append((x, which))
        return self.weight.square(), {}

    def after_update(self, update, updates):
        assert self.weight.grad is not None
        self.updates.append((update, updates, self.weight.item()))


@pytest.fixture
def recorded(monkeypatch):
    """Train a `Recording` model for 12 updates of 20 of 100 images."""

    def run(needs_index: bool) -> Recording:
        model = Recording(needs_index)
        monkeypatch.setattr(benchmark.training.train, "build", lambda *_: model)
        train("vae", changes={"training.updates": 12})
        return model

    return run


def test_the_index_says_which_images_a_batch_holds(recorded):
    images = to_float(bars_dataset().images["train"])
    batches = recorded(needs_index=True).batches
    assert len(batches) == 12
    for x, which in batches:
        assert which.keys() == {"index"}
        assert torch.equal(x, images[which["index"]])
    epoch = torch.cat([which["index"] for _, which in batches[:5]])
    assert epoch.sort().values.tolist() == list(range(100))
    assert all(which == {} for _, which in recorded(needs_index=False).batches)


def test_after_update_follows_every_step(recorded):
    updates = recorded(needs_index=True).updates
    assert [(update, of) for update, of, _ in updates] == [(k, 12) for k in range(1, 13)]
    weights = [1.0, *(weight for _, _, weight in updates)]
    assert all(b < a for a, b in itertools.pairwise(weights))  # the optimiser's step comes first


@pytest.mark.parametrize("model", SETTINGS)
def test_only_the_chains_of_the_batch_move(model, monkeypatch):
    def recording_build(*arguments):
        built = build(*arguments)
        loss, store = built.loss, built.chains.store

        def recording_loss(x, generator=None, index=None):
            before = store.table
            old = None if before is None else before.clone()
            result = loss(x, generator, index)
            if old is not None:
                moved = (store.table[: len(old)] != old).flatten(1).any(1).nonzero().flatten()
                assert moved.tolist() == sorted(i for i in index.tolist() if i < len(old))
                checked.append(len(moved))
            return result

        built.loss = recording_loss
        return built

    build, checked = benchmark.training.train.build, []
    monkeypatch.setattr(benchmark.training.train, "build", recording_build)
    train(model, changes={"training.updates": 12})
    assert len(checked) == 11
    assert checked[-1] == 20


# Settings ----------------------------------------------------------------------------------------


def test_training_uses_its_settings(monkeypatch):
    given = {}

    class Recorded(Training):
        def __init__(self, *arguments, **options):
            given.update(options)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(benchmark.training.train, "Training", Recorded)
    settings = {"learning_rate": 0.25, "betas": [0.5, 0.6], "schedule": "constant", "updates": 3}
    train(changes={f"training.{key}": value for key, value in settings.items()})
    assert settings.items() <= given.items()

"""Training: seeds, the order of the data, the history, and what is refused."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.configs import (
    COPULA,
    ENTRY_SETTINGS,
    MODEL_SETTINGS,
    bars_dataset,
    tiny_config,
    write_config,
)
from support.trainings import outcome, watched
from torch import nn

from benchmark import cli
from benchmark.base.errors import TrainingError
from benchmark.config.jobs import job_of
from benchmark.data.pixels import to_float
from benchmark.training.loop import SNAPSHOTS
from benchmark.training.train import train_model, update_call
from kaem.errors import KAEMError

CPU = torch.device("cpu")
# With a chain for every datum, unlike those of the other tests.
SETTINGS = {
    name: MODEL_SETTINGS[name] | {"sampler": MODEL_SETTINGS[name]["sampler"] | {"persistent": True}}
    for name in ("kaem_ula", "kaem_thermo")
}


def train(model: str = "vae", seed: int = 0, changes: dict | None = None, **options):
    settings = {f"models.{name}": values for name, values in SETTINGS.items()}
    config = tiny_config(settings | (changes or {}))
    job = job_of(config, "training", "digits", model, seed)
    return train_model(job, bars_dataset(), CPU, "none", **options)


def watch(model: str, seed: int = 0) -> list[SimpleNamespace]:
    """Train for 12 updates; return what each loss was given: x, index, and the chains before."""
    views = []

    def look(model, x, index):
        table = model.chains.store.table if index is not None else None
        table = None if table is None else table.clone()
        views.append(SimpleNamespace(x=x.clone(), index=index, table=table))

    train(model, seed, {"training.updates": 12}, build=watched(look))
    assert len(views) == 12
    return views


# Seeds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["kaem_is", "kaem_ula", "kaem_thermo", "vae"])
def test_a_seed_decides_weights_and_history(model):
    first = outcome(train(model))
    torch.rand(1)  # the state of the global generator is no matter
    assert outcome(train(model)) == first
    weights, _, rows = outcome(train(model, seed=1))
    assert weights != first[0]
    assert rows != first[2]


def test_diagnostics_are_taken_before_during_and_after():
    assert "temperatures_after" in train("kaem_thermo").diagnostics
    diagnostics = train("kaem_is").diagnostics
    stages = ("before", *(f"{percent}_percent" for percent in SNAPSHOTS), "after")
    names = {name for name in diagnostics if not name.startswith("samples")}
    assert names == {f"{k}_{s}" for k in ("nodes", "density") for s in stages}
    # Of five updates the first and the second; a constant learning rate knows no end of training.
    constant = {"training.schedule": "constant"}
    five = train("kaem_is", changes=constant).diagnostics
    for updates, percent in ((1, 1), (1, 10), (2, 30)):
        shorter = train("kaem_is", changes=constant | {"training.updates": updates}).diagnostics
        np.testing.assert_array_equal(five[f"density_{percent}_percent"], shorter["density_after"])
    assert not np.array_equal(diagnostics["density_before"], diagnostics["density_after"])


@pytest.mark.parametrize("model", ENTRY_SETTINGS)
def test_samples_are_kept_on_the_way_and_change_nothing(model, monkeypatch):
    """They are those of the finished model in the end, and of the same noise at every moment."""
    settings = {f"models.{model}": ENTRY_SETTINGS[model], "training.updates": 6}
    training = train(model, changes=settings)
    weights, diagnostics, rows = outcome(training)
    kept = {name: diagnostics.pop(name) for name in list(diagnostics) if "samples" in name}
    assert list(kept) == [f"samples_{update}" for update in range(7)]
    assert kept["samples_6"] == training.draw().numpy().tobytes()
    assert kept["samples_6"] == training.draw().numpy().tobytes()
    assert training.diagnostics["samples_0"].shape == (8, 1, 8, 8)
    assert kept["samples_0"] != kept["samples_6"]
    monkeypatch.setattr("benchmark.training.train.MOST_PASSES", 0)
    assert outcome(train(model, changes=settings)) == (weights, diagnostics, rows)


# What a model is given --------------------------------------------------------------------------


def test_every_model_sees_the_same_batches_in_the_same_order():
    kaem, vae, other = (
        torch.stack([view.x for view in watch(*entry)])
        for entry in (("kaem_is",), ("vae",), ("vae", 1))
    )
    assert torch.equal(kaem, vae)
    assert not torch.equal(vae[0], other[0])
    assert not torch.equal(vae[0], vae[1])


def test_the_index_says_which_images_a_batch_holds():
    images, views = to_float(bars_dataset().images["train"]), watch("kaem_ula")
    assert all(torch.equal(view.x, images[view.index]) for view in views)
    epoch = torch.cat([view.index for view in views[:5]])
    assert epoch.sort().values.tolist() == list(range(100))
    assert all(view.index is None for view in watch("vae"))


@pytest.mark.parametrize("model", SETTINGS)
def test_only_the_chains_of_the_batch_move(model):
    views = watch(model)
    assert views[0].table is None  # before the first batch
    for before, after in itertools.pairwise(views[1:]):
        old = before.table
        moved = (after.table[: len(old)] != old).flatten(1).any(1).nonzero().flatten()
        assert moved.tolist() == sorted(i for i in before.index.tolist() if i < len(old))
    assert len(moved) == 20


def test_updates_are_timed_with_the_copula_that_most_have():
    entry = ENTRY_SETTINGS["kaem_copula"] | {"copula": COPULA | {"first": 60}}
    config = tiny_config({"models.kaem_copula": entry, "training.updates": 100})
    update = update_call(job_of(config, "training", "digits", "kaem_copula"), bars_dataset(), CPU)
    assert update.__self__.model.prior.dependent


def test_training_uses_its_settings():
    settings = {"learning_rate": 0.25, "betas": [0.5, 0.6], "schedule": "constant", "updates": 3}
    training = train(changes={f"training.{key}": value for key, value in settings.items()})
    (group,) = training.optimiser.param_groups
    assert (group["lr"], group["betas"], training.update) == (0.25, (0.5, 0.6), 3)


# What is refused ---------------------------------------------------------------------------------


def test_a_batch_larger_than_the_dataset_is_refused():
    with pytest.raises(TrainingError, match="digits: batch_size 101 exceeds its 100 training im"):
        train(changes={"training.batch_size": 101})
    train(changes={"training.batch_size": 100, "training.updates": 2})


class Diverging(nn.Module):
    """A model whose loss is fine until an update, then `value`; its gradient is 1."""

    def __init__(self, at: int, value: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.at, self.value, self.update, self.nfe = at, value, 0, 1000

    def loss(self, _x, _generator=None):
        self.update += 1
        return self.weight + (self.value if self.update == self.at else 0.0), {}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_ends_training(value):
    message = rf"digits · vae · seed 0: the loss is {value} at update 3 of 5\n"
    with pytest.raises(TrainingError, match=message):
        train(build=lambda *_: Diverging(3, value))


def test_a_training_that_fails_writes_nothing(tmp_path, monkeypatch, capsys):
    for root in ("KAEM_DATA_ROOT", "KAEM_CACHE_ROOT"):
        monkeypatch.delenv(root, raising=False)
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path / "tiny.yaml", {"models.vae.sigma": 1e-25})
    words = ["train", "--dataset", "digits", "--model", "vae", "--config", str(config)]
    assert cli.main(words) == 1
    captured = capsys.readouterr()
    assert "digits · vae · seed 0: the loss is inf at update 1 of 5" in captured.err
    assert "Nothing was written." in captured.err
    assert captured.out == ""
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.yaml", "data", "results"}
    assert list((tmp_path / "results").iterdir()) == []
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["cache"]


def test_a_model_that_cannot_compute_its_loss_ends_training():
    numbers, spoilt = itertools.count(1), []

    def look(model, _x, _index):
        if next(numbers) == 3:
            name, parameter = list(model.named_parameters())[-1]
            parameter.data.fill_(math.nan)
            spoilt.append(name)

    message = "digits · kaem_is · seed 0: update 3: parameters are no longer finite"
    with pytest.raises(TrainingError, match=message) as error:
        train("kaem_is", build=watched(look))
    assert spoilt[0] in str(error.value)
    assert "It was batch 3 of epoch 1, training images " in str(error.value)
    assert isinstance(error.value.__cause__, KAEMError)

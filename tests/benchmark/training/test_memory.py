"""A training goes on with less memory: batches in parts."""

from types import SimpleNamespace

import pytest
import torch
from support.configs import ENTRY_SETTINGS, bars_dataset, tiny_config
from support.images import bars
from support.models import IMAGE_SHAPE, batch, make
from torch import nn

from benchmark.base.errors import TrainingError
from benchmark.config.jobs import job_of
from benchmark.config.registry import build
from benchmark.training.memory import split_rows, with_less_memory
from benchmark.training.train import train_model

CPU = torch.device("cpu")

# Batches in parts --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENTRY_SETTINGS)
def test_the_gradients_do_not_depend_on_the_parts(name, seeded):
    x, outcomes, used = bars(7, IMAGE_SHAPE, seeded(1)).double(), [], set()
    for parts in (1, 3):
        model = make(name).double()
        if parts == 1:
            for child in model.row_wise:
                getattr(model, child).register_forward_hook(lambda *_, child=child: used.add(child))
        else:
            split_rows(model, parts)
        loss, _ = model.loss(x, seeded())
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        outcomes.append([loss.detach(), *gradients])
    assert used == set(model.row_wise)  # each such network is one that training uses
    for whole, in_parts in zip(*outcomes, strict=True):
        torch.testing.assert_close(in_parts, whole, rtol=1e-9, atol=1e-11)


def test_no_part_is_larger_than_its_share():
    sizes = []

    def forward(x, scale):
        sizes.append((len(x), len(scale)))
        return x * scale

    model, x = SimpleNamespace(row_wise=["network"], network=nn.Identity()), torch.arange(10.0)
    model.network.forward = forward
    split_rows(model, 4)
    with torch.no_grad():
        assert torch.equal(model.network(x, 2 * x), 2 * x * x)
    assert sizes == [(3, 3), (3, 3), (3, 3), (1, 1)]


def test_parts_take_less_memory():
    def saved(model: nn.Module) -> int:
        """The bytes that autograd keeps for the backward pass."""
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda _: None):
            model.loss(batch(64), torch.Generator())
        return sum(each.nbytes for each in kept)

    whole, split = make("vae"), make("vae")
    split_rows(split, 4)
    assert saved(split) < saved(whole) / 2


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried 9 GiB"),
        MemoryError("no more"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_a_lack_of_memory_is_told_from_other_errors(error):
    def run(parts):
        if parts < 2:
            raise error
        return "done"

    assert with_less_memory(run, 20, "title") == "done"


def test_a_batch_that_does_not_fit_is_halved_until_it_does(capsys):
    sizes = []

    def run(parts, enough=4):
        sizes.append(parts)
        if parts < enough:
            raise MemoryError("no more")
        return "done"

    assert with_less_memory(run, 20, "digits · vae · seed 0") == "done"
    assert sizes == [1, 2, 4]
    message = capsys.readouterr().err
    assert "digits · vae · seed 0: memory does not suffice" in message
    assert "going on with each batch in 4 parts: the same gradients" in message
    sizes.clear()
    with pytest.raises(TrainingError, match="not suffice for one image at a time: no more"):
        with_less_memory(lambda parts: run(parts, enough=4), 3, "title")
    assert sizes == [1, 2, 3]


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def run(_parts):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        with_less_memory(run, 5, "title")


def test_a_training_that_runs_out_of_memory_ends_as_one_that_does_not(capsys):
    job = job_of(tiny_config(), "training", "digits", "vae")
    whole = train_model(job, bars_dataset(), CPU, "none")

    def small_build(*arguments):
        model = build(*arguments)
        forward = model.decoder.forward

        def limited(z):
            if len(z) > 10:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return forward(z)

        model.decoder.forward = limited
        return model

    less = train_model(job, bars_dataset(), CPU, "none", build=small_build)
    assert "in 2 parts" in capsys.readouterr().err
    state = less.model.state_dict()
    torch.testing.assert_close(state, whole.model.state_dict(), rtol=1e-4, atol=1e-6)

"""Batches in parts: the same loss and gradients, and less memory."""

import pytest
import torch
from support.configs import bars_dataset, tiny_config
from support.images import bars
from support.models import IMAGE_SHAPE, make

import benchmark.training.train
from benchmark.base.errors import TrainingError
from benchmark.config.registry import MODELS, build
from benchmark.training.microbatches import split_rows, with_less_memory
from benchmark.training.train import train_model

CPU = torch.device("cpu")
WORDS = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"


@pytest.mark.parametrize("name", MODELS)
def test_the_gradients_do_not_depend_on_the_parts(name, seeded):
    x = bars(7, IMAGE_SHAPE, seeded(1))
    found = []
    for parts in (1, 3):
        model = make(name).double()
        if parts > 1:
            split_rows(model, parts)
        loss, _ = model.loss(x.double(), seeded())
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    for whole, in_parts in zip(*found, strict=True):
        torch.testing.assert_close(in_parts, whole, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", MODELS)
def test_training_uses_every_network_that_a_model_calls_row_wise(name, seeded):
    model, used = make(name), set()
    for child in model.row_wise:
        getattr(model, child).register_forward_hook(lambda *_, child=child: used.add(child))
    model.loss(bars(8, IMAGE_SHAPE, seeded()))
    assert used == set(model.row_wise)


def test_no_part_is_larger_than_its_share():
    sizes = []

    class Network(torch.nn.Module):
        def forward(self, x, scale, bias):
            sizes.append((len(x), len(scale), bias.dim()))
            return x * scale + bias

    class Model(torch.nn.Module):
        row_wise = ("network",)

        def __init__(self):
            super().__init__()
            self.network = Network()

    model, x = Model(), torch.arange(10.0)
    split_rows(model, 4)
    with torch.no_grad():
        assert torch.equal(model.network(x, 2 * x, torch.tensor(1.0)), 2 * x * x + 1)
    assert sizes == [(3, 3, 0), (3, 3, 0), (3, 3, 0), (1, 1, 0)]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried 9 GiB"),
        MemoryError("no more"),
        RuntimeError(WORDS),
    ],
)
def test_a_batch_that_does_not_fit_is_halved_until_it_does(error, capsys):
    tried = []

    def run(parts):
        tried.append(parts)
        if parts < 4:
            raise error
        return "done"

    assert with_less_memory(run, 20, "digits · vae · seed 0") == "done"
    assert tried == [1, 2, 4]
    said = capsys.readouterr().err
    assert "digits · vae · seed 0: memory does not suffice" in said
    assert "going on with each batch in 4 parts: the same gradients" in said


def test_what_fits_in_no_part_is_refused():
    tried = []

    def run(parts):
        tried.append(parts)
        raise MemoryError("no more")

    with pytest.raises(TrainingError, match="not suffice for one image at a time: no more"):
        with_less_memory(run, 5, "title")
    assert tried == [1, 2, 4, 5]


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def run(_parts):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        with_less_memory(run, 5, "title")


def test_a_training_that_runs_out_of_memory_ends_as_one_that_does_not(monkeypatch, capsys):
    job = tiny_config().training_job("digits", "vae")
    whole = train_model(job, bars_dataset(), 0, CPU, "none")

    def small_build(*arguments):
        model = build(*arguments)
        forward = model.decoder.forward

        def limited(z):
            if len(z) > 10:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return forward(z)

        model.decoder.forward = limited
        return model

    monkeypatch.setattr(benchmark.training.train, "build", small_build)
    less = train_model(job, bars_dataset(), 0, CPU, "none")
    assert "in 2 parts" in capsys.readouterr().err
    for key, value in whole.model.state_dict().items():
        torch.testing.assert_close(less.model.state_dict()[key], value, rtol=1e-4, atol=1e-6)


def test_parts_take_less_memory():
    held = []
    for parts in (1, 4):
        model = make("vae")
        if parts > 1:
            split_rows(model, parts)
        kept = [0]

        def count(tensor, kept=kept):
            kept[0] += tensor.numel()
            return tensor

        x = torch.rand(64, *IMAGE_SHAPE)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
            model.loss(x)
        held.append(kept[0])
    assert held[1] < held[0] / 2

"""The memory of a training: its estimate against counts by hand, and going on with less."""

from types import SimpleNamespace

import pytest
import torch
from support.configs import ENTRY_SETTINGS, bars_dataset, tiny_config
from support.images import bars
from support.models import IMAGE_SHAPE, make
from torch import nn

from benchmark.base.errors import TrainingError
from benchmark.config.jobs import job_of
from benchmark.config.registry import build
from benchmark.training.memory import saved_bytes, split_rows, training_bytes, with_less_memory
from benchmark.training.train import train_model

SHAPE = (1, 4, 4)
PIXELS, HIDDEN, FLOAT = 16, 32, 4
CPU = torch.device("cpu")

# The estimate ------------------------------------------------------------------------------------


class Perceptron(nn.Module):
    """A linear layer, ReLU and a squared loss; remembers the sizes of its batches."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(PIXELS, HIDDEN)
        self.register_buffer("average", torch.zeros(7))
        self.sizes = []

    def loss(self, x, generator=None):  # noqa: ARG002
        self.sizes.append(len(x))
        return self.linear(x.flatten(1)).relu().square().sum(), {}


class Chain(Perceptron):
    """A loss at the end of a Markov chain, each step of which has a graph of its own."""

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def loss(self, x, generator=None):
        for _ in range(self.steps):
            x = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(super().loss(x)[0], x)
            x = x - 0.1 * slope
        return super().loss(x.detach(), generator)


class Unrolled(Perceptron):
    """A loss whose graph goes through five steps."""

    def loss(self, x, generator=None):
        return sum(super(Unrolled, self).loss(x + step, generator)[0] for step in range(5)), {}


class Indexed(Perceptron):
    needs_index = True

    def loss(self, x, generator=None, *, index):
        assert index.tolist() == list(range(len(x)))
        return super().loss(x, generator)


def by_hand(count: int) -> int:
    """The linear layer keeps its input, the square and ReLU the hidden layer after ReLU."""
    return FLOAT * count * (PIXELS + HIDDEN)


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize(
    ("model", "copies"),
    [(Perceptron(), 1), (Indexed(), 1), (Chain(1), 1), (Chain(50), 1), (Unrolled(), 5)],
)
def test_a_graph_keeps_inputs_and_activations_and_no_parameter(model, copies, count):
    assert saved_bytes(model, SHAPE, count) == copies * by_hand(count)


def test_a_training_holds_state_gradients_two_moments_and_activations():
    model = Perceptron()
    parameters = (PIXELS + 1) * HIDDEN
    expected = FLOAT * (4 * parameters + 7) + by_hand(100)
    assert training_bytes(model, SHAPE, 100) == expected
    assert max(model.sizes) < 10  # a handful of images tells


def test_frozen_parameters_have_no_gradients_and_no_moments():
    whole, model = Perceptron(), Perceptron()
    model.linear.weight.requires_grad_(False)
    spared = saved_bytes(whole, SHAPE, 100) - saved_bytes(model, SHAPE, 100)
    difference = training_bytes(whole, SHAPE, 100) - training_bytes(model, SHAPE, 100)
    assert difference == 3 * FLOAT * PIXELS * HIDDEN + spared


# Images of a population share their survivors, so that the line errs on the safe side.
@pytest.mark.parametrize(
    ("name", "shares"),
    [
        *((name, (0.95, 1.05)) for name in ("kaem_ula", "vae", "two_stage_vae", "latent_ebm")),
        ("pixel_ebm", (0.95, 1.05)),
        ("kaem_is", (0, 1)),
    ],
)
def test_the_activations_of_a_model_grow_as_a_line_at_most(name, shares):
    few, more, many = (saved_bytes(make(name), IMAGE_SHAPE, count) for count in (2, 4, 32))
    line = few + 15 * (more - few)
    assert 0 < few < more < many
    assert shares[0] * line < many < shares[1] * line


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
    whole, split = make("vae"), make("vae")
    split_rows(split, 4)
    assert saved_bytes(split, IMAGE_SHAPE, 64) < saved_bytes(whole, IMAGE_SHAPE, 64) / 2


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

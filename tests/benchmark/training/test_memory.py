"""The estimate of a training's memory against counts by hand."""

import pytest
import torch
from support.configs import MODEL_SETTINGS, tiny_config
from torch import nn

from benchmark.config.registry import build
from benchmark.training.memory import saved_bytes, training_bytes

SHAPE = (1, 4, 4)
PIXELS, HIDDEN, FLOAT = 16, 32, 4


class Perceptron(nn.Module):
    """A linear layer, ReLU and a squared loss; remembers what it was asked."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(PIXELS, HIDDEN)
        self.register_buffer("average", torch.zeros(7))
        self.asked = []

    def loss(self, x, generator=None):  # noqa: ARG002
        self.asked.append(len(x))
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


class Indexed(Perceptron):
    needs_index = True

    def loss(self, x, generator=None, *, index):
        assert index.tolist() == list(range(len(x)))
        return super().loss(x, generator)


def by_hand(count: int) -> int:
    """The linear layer keeps its input, the square and ReLU the hidden layer after ReLU."""
    return FLOAT * count * (PIXELS + HIDDEN)


@pytest.mark.parametrize("model", [Perceptron, Indexed])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_a_layer_keeps_its_input_and_its_activation_and_no_parameter(model, count):
    assert saved_bytes(model(), SHAPE, count) == by_hand(count)


@pytest.mark.parametrize("steps", [1, 5, 50])
def test_a_chain_keeps_one_step_at_a_time(steps):
    assert saved_bytes(Chain(steps), SHAPE, 3) == by_hand(3)


def test_a_graph_through_all_steps_is_kept_whole():
    class Unrolled(Perceptron):
        def loss(self, x, generator=None):
            return sum(super(Unrolled, self).loss(x + step, generator)[0] for step in range(5)), {}

    assert saved_bytes(Unrolled(), SHAPE, 3) == 5 * by_hand(3)


def test_a_training_holds_state_gradients_two_moments_and_activations():
    model = Perceptron()
    parameters = (PIXELS + 1) * HIDDEN
    expected = FLOAT * (4 * parameters + 7) + by_hand(100)
    assert training_bytes(model, SHAPE, 100) == expected
    assert max(model.asked) < 10  # a handful of images tells


def test_frozen_parameters_have_no_gradients_and_no_moments():
    model = Perceptron()
    model.linear.weight.requires_grad_(False)
    assert training_bytes(model, SHAPE, 100) < training_bytes(Perceptron(), SHAPE, 100)
    frozen = FLOAT * PIXELS * HIDDEN
    spared = saved_bytes(Perceptron(), SHAPE, 100) - saved_bytes(model, SHAPE, 100)
    both = training_bytes(Perceptron(), SHAPE, 100) - training_bytes(model, SHAPE, 100)
    assert both == 3 * frozen + spared


def activations(name: str, count: int) -> int:
    config = tiny_config({f"models.{name}": MODEL_SETTINGS[name]})
    settings = config.training_job("digits", name).settings["model"]
    torch.manual_seed(0)
    return saved_bytes(build(name, settings, (1, 8, 8)), (1, 8, 8), count)


@pytest.mark.parametrize("name", ["kaem_ula", "vae", "two_stage_vae", "latent_ebm", "pixel_ebm"])
def test_the_activations_of_a_model_grow_as_a_line(name):
    few, more, many = (activations(name, count) for count in (2, 4, 32))
    assert 0 < few < more
    assert many == pytest.approx(few + 15 * (more - few), rel=0.05)


def test_a_population_grows_less_than_a_line():
    # Images share their survivors, so that the line errs on the safe side.
    few, more, many = (activations("kaem_is", count) for count in (2, 4, 32))
    assert more < many < few + 15 * (more - few)


def test_the_estimate_is_what_autograd_holds_at_once():
    # An independent count: tensors that are reachable from the graph of a finished loss.
    settings = tiny_config().training_job("digits", "vae").settings["model"]
    model = build("vae", settings, (1, 8, 8))
    own = {p.data_ptr() for p in model.parameters()}
    loss, _ = model.loss(torch.rand(4, 1, 8, 8), torch.Generator().manual_seed(0))
    storages, seen, nodes = {}, set(), [loss.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        nodes += [following for following, _ in node.next_functions]
        for attribute in dir(node):
            kept = getattr(node, attribute) if attribute.startswith("_saved_") else None
            for value in kept if isinstance(kept, tuple) else (kept,):
                if isinstance(value, torch.Tensor) and value.data_ptr() not in own:
                    storage = value.untyped_storage()
                    storages[storage.data_ptr()] = storage.nbytes()
    # Plain numbers in the formulas become tensors of 8 bytes when the graph is read.
    numbers = [size for size in storages.values() if size <= 8]
    expected = sum(storages.values()) - sum(numbers)
    assert saved_bytes(model, (1, 8, 8), 4) == pytest.approx(expected, abs=8 * len(numbers))

"""Trainings that a test looks into or interrupts, and all that they computed."""

import copy
from collections.abc import Callable

from torch import nn

from benchmark.config.registry import build
from benchmark.training.loop import Training


class Interrupted(Exception):
    pass


class MemoryCheckpoints:
    """The state of a training in memory; interrupts it after one update."""

    def __init__(self, at: int | None = None, state=None):
        self.at, self.state, self.updates = at, state, 0

    def latest(self):
        return self.state

    def after_update(self, update, _updates, _loss, snapshot):
        self.updates += 1
        if update == self.at:
            self.state = copy.deepcopy(snapshot())
            raise Interrupted


def watched(look: Callable) -> Callable[..., nn.Module]:
    """Return a `build` whose models call look(model, x, index) ahead of each loss."""

    def build_watched(*arguments):
        model = build(*arguments)
        loss = model.loss

        def watched_loss(x, generator=None, **which):
            look(model, x, which.get("index"))
            return loss(x, generator, **which)

        model.loss = watched_loss
        return model

    return build_watched


def weights(model: nn.Module) -> dict[str, bytes]:
    """Return the state as bytes, so that equal is bit for bit."""
    return {key: value.numpy().tobytes() for key, value in model.state_dict().items()}


def outcome(training: Training) -> tuple:
    """Return all that a training computed but for its seconds: what two of them can be equal in."""
    rows = [row | {"seconds": 0} for row in training.history.rows]
    diagnostics = {key: value.tobytes() for key, value in training.diagnostics.items()}
    return weights(training.model), diagnostics, rows

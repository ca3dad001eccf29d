"""The loop that trains every model, and the state from which it goes on."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.base.errors import TrainingError
from benchmark.base.progress import show_progress
from benchmark.training.history import History
from kaem.errors import KAEMError

HISTORY_ROWS = 200
SNAPSHOTS = (1, 10, 30)  # per cent of the updates, after which diagnostics are taken


class Stream(Protocol):
    """Something whose coming values follow from a state, as `torch.Generator` is."""

    def get_state(self) -> Tensor: ...
    def set_state(self, state: Tensor) -> None: ...


@dataclass(frozen=True)
class State:
    """All that the updates to come depend on, beside the data and the settings.

    Attributes:
        update: how many were made.
        tensors: by name.
        values: the plain rest, fit for JSON.
    """

    update: int
    tensors: dict[str, Tensor]
    values: dict


class Keeper(Protocol):
    """Keeps states for a training that is interrupted (`benchmark.training.checkpoint`)."""

    def latest(self) -> State | None: ...
    def after_update(self, training: "Training") -> None: ...


class Training:
    """Adam on one model; the learning rate is constant or falls to 0 along a cosine.

    A model may have `after_update(update, updates)`, called after each step of the optimiser, and
    `diagnostics()`, whose tensors are kept from before, during (`SNAPSHOTS`) and after training;
    and with `training_state()` and `load_training_state(state)` what belongs to its training and
    is not in the state_dict.

    Args:
        loss: () -> a scalar of the next batch, and floats to log.
        title: for progress and messages.
        streams: the sources of randomness that `loss` uses, by name; a message about a bad update
            quotes the one called "order" for its batch.

    Attributes:
        update: updates made; seconds: what they took, in this process and those before it.
        history, diagnostics: as far as it has come.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[], tuple[Tensor, dict]],
        *,
        updates: int,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        schedule: str = "cosine",
        title: str,
        streams: Mapping[str, Stream] | None = None,
    ):
        self.model, self.loss, self.title = model, loss, title
        self.updates, self.schedule = updates, schedule
        self.streams = dict(streams or {}) | {"global": _GlobalStream(torch)}
        if next(model.parameters()).is_cuda:
            self.streams["global_cuda"] = _GlobalStream(torch.cuda)
        self.optimiser = torch.optim.Adam(_groups(model, learning_rate), betas=tuple(betas))
        self._rates = [group["lr"] for group in self.optimiser.param_groups]
        self.update, self.seconds = 0, 0.0
        self.history = History()
        self.diagnostics: dict[str, np.ndarray] = {}

    def run(self, progress: str = "auto", keeper: Keeper | None = None) -> None:
        """Make the updates that are left; the keeper's latest state is where it begins.

        Raises:
            TrainingError: the loss or a gradient is no longer finite, the model could not compute
                its loss, or the GPU failed.
        """
        state = keeper.latest() if keeper else None
        if state is None:
            self._take_diagnostics("before")
        else:
            self.load(state)
        started = time.perf_counter() - self.seconds
        self.model.train()
        with show_progress(self.title, self.updates, progress, self.update) as report:
            while self.update < self.updates:
                try:
                    self.make_update()
                except torch.AcceleratorError as error:
                    reason = str(error).partition("\n")[0]
                    raise TrainingError(
                        f"{self.title}: the GPU failed in update {self.update + 1}: {reason}\n"
                        "  See whether `nvidia-smi` still lists it, and run it again."
                    ) from error
                self.seconds = time.perf_counter() - started
                if self._ends_stretch():
                    report(self.update, self.history.close_stretch(self.update, self.seconds))
                if keeper:
                    keeper.after_update(self)
        self._take_diagnostics("after")

    def make_update(self) -> None:
        """One update, checked and noted, as `run` makes them all."""
        number = self.update + 1
        try:
            value, info = self.loss()
        except KAEMError as error:
            raise TrainingError(f"{self.title}: {error}\n  {self._batch()}") from error
        self.optimiser.zero_grad(set_to_none=True)
        value.backward()
        self._check(number, value.detach())
        self.history.stretch.append({"loss": value.item(), **info})
        self._set_rates()
        self.optimiser.step()
        self.update = number
        if hasattr(self.model, "after_update"):
            self.model.after_update(number, self.updates)
        for percent in SNAPSHOTS:
            if number == -(-percent * self.updates // 100):
                self._take_diagnostics(f"{percent}_percent")

    def _set_rates(self) -> None:
        done = self.update / self.updates
        factor = 1.0 if self.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * done))
        for group, rate in zip(self.optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def _ends_stretch(self) -> bool:
        now, before = (k * HISTORY_ROWS // self.updates for k in (self.update, self.update - 1))
        return now > before

    @torch.no_grad()
    def _check(self, number: int, value: Tensor) -> None:
        """Refuse an update before it is made: parameters that are no numbers are beyond repair."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if (norm * 0 + value).isfinite():  # one wait for the GPU
            return
        ill = self._ill_tensor()
        if ill is None and value.isfinite():  # the norm alone overflowed
            return
        which = (
            f"the loss is {value.item()}" if not value.isfinite() else "a gradient is not finite"
        )
        first = f"\n  The first that is not finite: {ill}." if ill else ""
        raise TrainingError(
            f"{self.title}: {which} at update {number} of {self.updates}\n  {self._batch()}{first}"
            "\n  Lower learning_rate or raise sigma and run it again."
        )

    def _ill_tensor(self) -> str | None:
        for name, parameter in self.model.named_parameters():
            if not parameter.isfinite().all():
                return f"parameter {name}"
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None and not parameter.grad.isfinite().all():
                return f"the gradient of {name}"
        return None

    def _batch(self) -> str:
        return f"It was {self.streams['order']}." if "order" in self.streams else ""

    def _take_diagnostics(self, stage: str) -> None:
        if hasattr(self.model, "diagnostics"):
            for key, value in self.model.diagnostics().items():
                # A copy: what the model gives may change with it.
                self.diagnostics[f"{key}_{stage}"] = value.cpu().numpy().copy()

    def state(self) -> State:
        """All that the coming updates depend on. The tensors are the training's own, not copies."""
        model, adam = self.model, self.optimiser.state_dict()["state"]
        parts = {
            "model": model.state_dict(),
            "training": model.training_state() if hasattr(model, "training_state") else {},
            "adam": {f"{i}.{key}": v for i, each in adam.items() for key, v in each.items()},
            "stream": {name: stream.get_state() for name, stream in self.streams.items()},
            "diagnostic": {name: torch.from_numpy(a) for name, a in self.diagnostics.items()},
        }
        tensors = {
            f"{part}.{name}": v for part, named in parts.items() for name, v in named.items()
        }
        history = {"rows": self.history.rows, "stretch": self.history.stretch}
        return State(self.update, tensors, {"seconds": self.seconds, "history": history})

    def load(self, state: State) -> None:
        """Go on where `state` was called, in a training that was made alike."""
        parts: dict[str, dict[str, Tensor]] = {"training": {}, "adam": {}, "diagnostic": {}}
        for name, tensor in state.tensors.items():
            part, _, name = name.partition(".")
            parts.setdefault(part, {})[name] = tensor
        self.model.load_state_dict(parts["model"])
        if hasattr(self.model, "load_training_state"):
            self.model.load_training_state(parts["training"])
        adam: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["adam"].items():
            index, _, key = name.partition(".")
            adam.setdefault(int(index), {})[key] = tensor
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": adam})
        for name, stream in self.streams.items():
            stream.set_state(parts["stream"][name])
        self.diagnostics = {name: tensor.numpy() for name, tensor in parts["diagnostic"].items()}
        self.update, self.seconds = state.update, state.values["seconds"]
        self.history = History(**state.values["history"])


class _GlobalStream:
    """A global generator, torch's or torch.cuda's. Nothing here should draw from it; a library
    may."""

    def __init__(self, owner):
        self._owner = owner

    def get_state(self) -> Tensor:
        return self._owner.get_rng_state()

    def set_state(self, state: Tensor) -> None:
        self._owner.set_rng_state(state)


def _groups(model: nn.Module, learning_rate: float) -> list[dict]:
    """The trained parameters; those of a child that asks for it at a rate of its own."""
    factors = getattr(model, "learning_rate_factors", {})
    groups: dict[float, list] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(factors.get(name.split(".")[0], 1.0), []).append(parameter)
    return [{"params": group, "lr": learning_rate * f} for f, group in groups.items()]

"""The loop that trains every model: its loss, step, schedule and history, and how it goes on."""

import csv
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.base.errors import TrainingError
from benchmark.base.files import atomic
from benchmark.base.progress import show_progress
from benchmark.training.batches import Batches
from benchmark.training.checkpoint import Checkpoints, State
from kaem.errors import KAEMError

HISTORY_ROWS = 200
FINAL_FRACTION = 0.05  # of the updates, over which the record's final values are averaged
SNAPSHOTS = (1, 10, 30)  # per cent of the updates, after which diagnostics are taken
MOMENTS = 19  # of a training, after which samples are kept; the first ones lie closest together


@dataclass
class History:
    """Logged values, averaged over stretches of updates.

    Attributes:
        rows: {"update", "seconds", "loss", ...}, one per stretch.
        stretch: {"loss", ...} of each update since the last row.
    """

    rows: list[dict] = field(default_factory=list)
    stretch: list[dict] = field(default_factory=list)

    def close_stretch(self, update: int, seconds: float) -> dict[str, float]:
        """End the stretch with a row of its own; return the means."""
        means = _means(self.stretch, list(self.stretch[0]))
        self.rows.append({"update": update, "seconds": round(seconds, 3), **means})
        self.stretch.clear()
        return means

    def final(self) -> dict[str, float]:
        """Return the values averaged over the last 5% of the updates."""
        first = self.rows[-1]["update"] * (1 - FINAL_FRACTION)
        tail = [row for row in self.rows if row["update"] > first]
        return _means(tail, [key for key in tail[0] if key not in ("update", "seconds")])

    def write(self, path: str | Path) -> None:
        """Write the rows as CSV, atomically."""
        with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(handle, fieldnames=list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)


def _means(rows: list[dict], keys: list[str]) -> dict[str, float]:
    return {key: float(np.mean([row[key] for row in rows])) for key in keys}


class Training:
    """The training of one model, by Adam or Nesterov's momentum.

    The learning rate is constant, falls to 0 along a cosine, or falls by `factor` after each of
    the updates `milestones`.

    A model may have `after_update(update, updates)`, called after each step of the optimiser, and
    `diagnostics()`, whose tensors are kept from before, during (`SNAPSHOTS`) and after training;
    and with `training_state()` and `load_training_state(state)` what belongs to its training and
    is not in the state_dict.

    Args:
        loss: () -> a scalar of the next batch, and floats to log.
        title: for progress and messages.
        streams: the sources of randomness that `loss` uses, by name; "order" for its batches.
        draw: () -> samples of the model as it is, uint8 (n, C, H, W). They are kept among the
            diagnostics as "samples_<update>", from before training and after each of `MOMENTS`.

    Attributes:
        update: number of updates made.
        seconds: that they took, in this process and those before it.
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
        optimiser: str = "adam",
        momentum: float = 0.9,
        schedule: str = "cosine",
        milestones: Sequence[int] = (),
        factor: float = 0.1,
        title: str,
        streams: Mapping[str, torch.Generator | Batches] | None = None,
        draw: Callable[[], Tensor] | None = None,
    ):
        self.model, self.loss, self.title = model.train(), loss, title
        self.updates, self.schedule, self.draw = updates, schedule, draw
        self.milestones, self.factor = milestones, factor
        self.moments = {-(-updates * k**2 // MOMENTS**2) for k in range(MOMENTS + 1)}
        # Nothing here should draw from the global generators; a library may.
        self.streams = {**(streams or {}), "global": torch.default_generator}
        device = next(model.parameters()).device
        if device.type == "cuda":
            self.streams["global_cuda"] = torch.cuda.default_generators[device.index]
        groups = _groups(model, learning_rate)
        self.optimiser = (
            torch.optim.SGD(groups, momentum=momentum, nesterov=True)
            if optimiser == "nesterov"
            else torch.optim.Adam(groups, betas=tuple(betas))
        )
        self._rates = [group["lr"] for group in self.optimiser.param_groups]
        self.update, self.seconds = 0, 0.0
        self.history = History()
        self.diagnostics: dict[str, np.ndarray] = {}

    def run(self, progress: str = "auto", checkpoints: Checkpoints | None = None) -> None:
        """Make the updates that are left after the latest checkpoint.

        Raises:
            TrainingError: the loss or a gradient is no longer finite, the model could not compute
                its loss, or the GPU failed.
        """
        state = checkpoints.latest() if checkpoints else None
        if state is None:
            self._take_diagnostics("before")
            self._keep_samples()
        else:
            self.load(state)
        started = time.perf_counter() - self.seconds
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
                self._keep_samples()
                if checkpoints:
                    loss = (self.history.stretch or self.history.rows)[-1]["loss"]
                    checkpoints.after_update(self.update, self.updates, loss, self.state)
                # Neither samples nor checkpoints are part of the training's time.
                started = time.perf_counter() - self.seconds
        self._take_diagnostics("after")

    def make_update(self) -> None:
        """Make one update, checked and logged."""
        # The loss and its gradient, refused before they do harm.
        try:
            loss, info = self.loss()
        except KAEMError as error:
            raise TrainingError(f"{self.title}: {error}\n  {self._batch()}") from error
        self.optimiser.zero_grad()
        loss.backward()
        self._check(loss.detach())
        self.history.stretch.append({"loss": loss.item(), **info})
        # The step, at the schedule's rate.
        share = self._share_of_rate()
        for group, rate in zip(self.optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * share
        self.optimiser.step()
        self.update += 1
        # What a model does after it, and shows of itself.
        if hasattr(self.model, "after_update"):
            self.model.after_update(self.update, self.updates)
        for percent in SNAPSHOTS:
            if self.update == -(-percent * self.updates // 100):
                self._take_diagnostics(f"{percent}_percent")

    def _share_of_rate(self) -> float:
        """Return the share of the learning rate with which the coming update is made."""
        if self.schedule == "milestones":
            return self.factor ** sum(self.update >= milestone for milestone in self.milestones)
        if self.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * self.update / self.updates))

    @torch.no_grad()
    def _check(self, loss: Tensor) -> None:
        """Refuse an update before it is made: parameters that are no numbers are beyond repair."""
        named = dict(self.model.named_parameters())
        gradients = {name: p.grad for name, p in named.items() if p.grad is not None}
        norm = nn.utils.get_total_norm(list(gradients.values()))
        if (norm * 0 + loss).isfinite():  # one wait for the GPU
            return
        tensors = {f"parameter {name}": p for name, p in named.items()}
        tensors |= {f"the gradient of {name}": gradient for name, gradient in gradients.items()}
        bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
        if not bad and loss.isfinite():  # the norm alone overflowed
            return
        what = "a gradient is not finite" if loss.isfinite() else f"the loss is {loss.item()}"
        first = f"\n  The first that is not finite: {bad[0]}." if bad else ""
        raise TrainingError(
            f"{self.title}: {what} at update {self.update + 1} of {self.updates}\n"
            f"  {self._batch()}{first}\n  Lower learning_rate or raise sigma and run it again."
        )

    def _batch(self) -> str:
        return f"It was {self.streams['order']}." if "order" in self.streams else ""

    def _ends_stretch(self) -> bool:
        now, before = (k * HISTORY_ROWS // self.updates for k in (self.update, self.update - 1))
        return now > before

    def _take_diagnostics(self, stage: str) -> None:
        if hasattr(self.model, "diagnostics"):
            for key, value in self.model.diagnostics().items():
                # A copy: what the model gives may change with it.
                self.diagnostics[f"{key}_{stage}"] = value.cpu().numpy().copy()

    def _keep_samples(self) -> None:
        if self.draw and self.update in self.moments:
            self.diagnostics[f"samples_{self.update}"] = self.draw().cpu().numpy()

    def state(self) -> State:
        """Return all that the coming updates depend on. Its tensors are no copies."""
        model, moments = self.model, self.optimiser.state_dict()["state"]
        parts = {
            "model": model.state_dict(),
            "training": model.training_state() if hasattr(model, "training_state") else {},
            "adam": {f"{i}.{key}": v for i, of in moments.items() for key, v in of.items()},
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
        parts = _by_first_name(state.tensors)
        self.model.load_state_dict(parts["model"])
        if hasattr(self.model, "load_training_state"):
            self.model.load_training_state(parts["training"])
        moments = {int(i): of for i, of in _by_first_name(parts["adam"]).items()}
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": moments})
        for name, stream in self.streams.items():
            stream.set_state(parts["stream"][name])
        self.diagnostics = {name: tensor.numpy() for name, tensor in parts["diagnostic"].items()}
        self.update, self.seconds = state.update, state.values["seconds"]
        self.history = History(**state.values["history"])


def _by_first_name(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return {"adam.0.step": value} as {"adam": {"0.step": value}}."""
    parts = defaultdict(dict)
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    return parts


def _groups(model: nn.Module, learning_rate: float) -> list[dict]:
    """Return the trained parameters; those of a child that asks for it at a rate of its own."""
    factors = getattr(model, "learning_rate_factors", {})
    groups = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[factors.get(name.split(".")[0], 1.0)].append(parameter)
    return [{"params": group, "lr": learning_rate * f} for f, group in groups.items()]

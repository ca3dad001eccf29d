"""Training: one model on one dataset with one seed."""

import csv
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from benchmark.config import Job
from benchmark.data import Dataset
from benchmark.errors import TrainingError
from benchmark.files import atomic
from benchmark.pixels import to_float
from benchmark.progress import training_progress
from benchmark.registry import build
from benchmark.seeding import derive_seed, generator
from kaem.errors import KAEMError

HISTORY_ROWS = 200
SNAPSHOTS = (1, 10, 30)  # per cent of the updates, after which diagnostics are taken
FINAL_FRACTION = 0.05  # of the updates, over which the record's final values are averaged


@dataclass
class History:
    """Logged values, averaged over stretches of updates.

    Attributes:
        rows: {"update", "seconds", "loss", ...}, one per stretch.
    """

    rows: list[dict] = field(default_factory=list)

    def final(self) -> dict[str, float]:
        """The values averaged over the last 5% of the updates."""
        first = self.rows[-1]["update"] * (1 - FINAL_FRACTION)
        tail = [row for row in self.rows if row["update"] > first]
        keys = [key for key in tail[0] if key not in ("update", "seconds")]
        return {key: float(np.mean([row[key] for row in tail])) for key in keys}

    def write(self, path) -> None:
        """Write the rows as CSV, atomically."""
        with atomic(path) as temporary, temporary.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, fieldnames=list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)


@dataclass(frozen=True)
class TrainingRun:
    """A finished training: the model, its history, its diagnostics and its time."""

    model: torch.nn.Module
    history: History
    diagnostics: dict[str, np.ndarray]
    seconds: float


def train_model(
    job: Job, dataset: Dataset, seed: int, device: torch.device, progress: str = "auto"
) -> TrainingRun:
    """Train the job's model with Adam.

    The initial weights, the order of the data and the model's own noise have a stream each. The
    order depends on dataset and seed alone, so every model sees the same batches.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    settings = job.settings["training"]
    torch.manual_seed(derive_seed("weights", job.dataset, job.model, seed))
    model = build(job.settings["architecture"], job.settings["model"], dataset.image_shape)
    model.to(device)
    diagnostics = _diagnostics(model, "before")
    noise = generator("noise", job.dataset, job.model, seed, device=device)
    batches = batch_stream(dataset.images["train"], settings["batch_size"], job.dataset, seed)
    title = f"{job.dataset} · {job.model} · seed {seed}"

    def loss() -> tuple[Tensor, dict]:
        images, _, rows = next(batches)
        # Models with a Markov chain for every datum ask which data these are.
        which = {"index": rows} if getattr(model, "needs_index", False) else {}
        return model.loss(to_float(images.to(device)), noise, **which)

    def after_update(update: int, updates: int) -> None:
        if hasattr(model, "after_update"):
            model.after_update(update, updates)
        for percent in SNAPSHOTS:
            if update == -(-percent * updates // 100):
                diagnostics.update(_diagnostics(model, f"{percent}_percent"))

    started = time.perf_counter()
    history = optimise(
        model,
        loss,
        updates=settings["updates"],
        learning_rate=settings["learning_rate"],
        betas=settings["betas"],
        schedule=settings["schedule"],
        title=title,
        progress=progress,
        after_update=after_update,
    )
    seconds = time.perf_counter() - started
    return TrainingRun(model, history, diagnostics | _diagnostics(model, "after"), seconds)


def optimise(
    model: torch.nn.Module,
    loss: Callable[[], tuple[Tensor, dict]],
    *,
    updates: int,
    learning_rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    schedule: str = "cosine",
    title: str,
    progress: str = "auto",
    after_update: Callable[[int, int], None] | None = None,
) -> History:
    """Minimise `loss()` with Adam; the learning rate is constant or falls to 0 along a cosine.

    Args:
        after_update: called as (update, updates) after each step of the optimiser.

    Raises:
        TrainingError: the loss is no longer finite, or the model could not compute it.
    """
    optimiser = torch.optim.Adam(_groups(model, learning_rate), betas=tuple(betas))
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda k: 1.0 if schedule == "constant" else 0.5 * (1 + math.cos(math.pi * k / updates)),
    )
    history, stretch = History(), []
    started = time.perf_counter()
    model.train()
    with training_progress(title, updates, progress) as report:
        for update in range(1, updates + 1):
            try:
                value, info = loss()
            except KAEMError as error:
                raise TrainingError(f"{title}: {error}\n  Nothing was written.") from error
            stretch.append({"loss": value.item(), **info})
            if not math.isfinite(stretch[-1]["loss"]):
                raise TrainingError(
                    f"{title}: the loss is {stretch[-1]['loss']} at update {update} of {updates}\n"
                    "  Nothing was written. Lower learning_rate or raise sigma and run it again."
                )
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            optimiser.step()
            rate.step()
            if after_update:
                after_update(update, updates)
            if update * HISTORY_ROWS // updates > (update - 1) * HISTORY_ROWS // updates:
                means = {key: float(np.mean([s[key] for s in stretch])) for key in stretch[0]}
                seconds = round(time.perf_counter() - started, 3)
                history.rows.append({"update": update, "seconds": seconds, **means})
                stretch.clear()
                report(update, means)
    return history


def _groups(model: torch.nn.Module, learning_rate: float) -> list[dict]:
    """The trained parameters; those of a child that asks for it at a rate of its own."""
    factors = getattr(model, "learning_rate_factors", {})
    groups: dict[float, list] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(factors.get(name.split(".")[0], 1.0), []).append(parameter)
    return [{"params": group, "lr": learning_rate * f} for f, group in groups.items()]


def batch_stream(
    images: Tensor, batch_size: int, dataset: str, seed: int, labels: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor | None, Tensor]]:
    """Endless batches (images, labels, their rows in `images`).

    Each epoch is a new permutation, its remainder dropped.
    """
    if len(images) < batch_size:
        raise TrainingError(
            f"{dataset}: batch_size {batch_size} exceeds its {len(images)} training images"
        )
    order = generator("order", dataset, seed)
    while True:
        permutation = torch.randperm(len(images), generator=order)
        for rows in permutation.split(batch_size):
            if len(rows) == batch_size:
                yield images[rows], None if labels is None else labels[rows], rows


def _diagnostics(model: torch.nn.Module, stage: str) -> dict[str, np.ndarray]:
    if not hasattr(model, "diagnostics"):
        return {}
    return {f"{key}_{stage}": value.cpu().numpy() for key, value in model.diagnostics().items()}


def parameter_count(model: torch.nn.Module) -> int:
    """The trained ones: a moving average of them is no parameter."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)

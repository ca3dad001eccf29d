"""Training: one model on one dataset with one seed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmark.base.seeding import derive_seed, generator
from benchmark.config.jobs import Job
from benchmark.config.registry import build
from benchmark.data.dataset import Dataset
from benchmark.data.pixels import to_float
from benchmark.training.batches import Batches
from benchmark.training.history import History
from benchmark.training.loop import Keeper, Training
from benchmark.training.microbatches import split_rows, with_less_memory


@dataclass(frozen=True)
class TrainingRun:
    """A finished training: the model, its history, its diagnostics and its time."""

    model: torch.nn.Module
    history: History
    diagnostics: dict[str, np.ndarray]
    seconds: float


def train_model(
    job: Job,
    dataset: Dataset,
    seed: int,
    device: torch.device,
    progress: str = "auto",
    keeper: Keeper | None = None,
) -> TrainingRun:
    """Train the job's model with Adam.

    The initial weights, the order of the data and the model's own noise have a stream each.

    Args:
        keeper: who keeps the state of a training that may be interrupted.

    Raises:
        TrainingError: the loss is no longer finite, or one image at a time needs too much memory.
    """

    def run(parts: int) -> TrainingRun:
        training = _training(job, dataset, seed, device, parts)
        training.run(progress, keeper)
        return TrainingRun(training.model, training.history, training.diagnostics, training.seconds)

    return with_less_memory(run, job.settings["training"]["batch_size"], job.title(seed))


def update_call(job: Job, dataset: Dataset, seed: int, device: torch.device) -> Callable[[], None]:
    """What makes one update of a training, from the first on: those of `train_model`."""
    training = _training(job, dataset, seed, device, parts=1)
    training.model.train()
    return training.make_update


def _training(job: Job, dataset: Dataset, seed: int, device: torch.device, parts: int) -> Training:
    settings = dict(job.settings["training"])
    torch.manual_seed(derive_seed("weights", job.dataset, job.model, seed))
    model = build(job.settings["architecture"], job.settings["model"], dataset.image_shape)
    if parts > 1:
        split_rows(model, parts)
    model.to(device)
    noise = generator("noise", job.dataset, job.model, seed, device=device)
    images = dataset.images["train"]
    batches = Batches(images, settings.pop("batch_size"), job.dataset, seed)

    def loss() -> tuple[Tensor, dict]:
        images, _, rows = next(batches)
        # Models with a Markov chain for every datum ask which data these are.
        which = {"index": rows} if getattr(model, "needs_index", False) else {}
        return model.loss(to_float(images.to(device)), noise, **which)

    return Training(
        model,
        loss,
        title=job.title(seed),
        streams={"noise": noise, "order": batches},
        **settings,
    )


def parameter_count(model: torch.nn.Module) -> int:
    """The trained ones: a moving average of them is no parameter."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)

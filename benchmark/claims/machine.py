"""How fast this machine is beside the one of some records, and what trainings without one would
take on it, each measured in less than a minute.

Every recorded model, untrained, makes some updates on random images, and their time is set beside
the recorded time of an update; sampling is timed as such. The cost of neither depends on what a
model has learned, but for an update by importance sampling: of fewer and fewer proposals, so that
it is compared with none, and a training is said to take longer than it does. What a training does
once in a while, as moving a prior's domain, is left out.
"""

import random
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import torch

from benchmark.base.devices import use_device
from benchmark.config.config import Config
from benchmark.config.jobs import Job, job_of
from benchmark.config.registry import build_entry
from benchmark.records.record import Record, Subject
from benchmark.timing.series import image_call, seconds_of, step_call

SECONDS = 40.0  # of measuring, all models together
MOST_UPDATES, MOST_DRAWS = 20, 3
IMAGES = 32  # drawn to time sampling
MOST_PASSES = 100  # of a sampler that is timed: a thousand take minutes


@dataclass
class Machine:
    """This machine beside the one of the records.

    Attributes:
        slower: (dataset, entry) -> time of an update here over the recorded one.
        image: (dataset, entry) -> seconds to draw an image here.
    """

    slower: dict[tuple[str, str], float] = field(default_factory=dict)
    image: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.slower.values()) if self.slower else 1.0

    def text(self) -> str:
        """Say in a sentence what was measured."""
        if not self.slower:
            return "No training is recorded to compare this machine with: costs are as recorded."
        low, high = min(self.slower.values()), max(self.slower.values())
        return (
            f"An update takes {self.median:.2g} times as long here as in the records (median of "
            f"{len(self.slower)} models, {low:.2g} to {high:.2g})."
        )


def measure(
    config: Config, records: dict[Subject, list[Record]], seconds: float = SECONDS
) -> Machine:
    """Compare this machine with the records' by updates of their models, and time their sampling.

    Args:
        records: as `benchmark.records.folder.by_subject` groups them.
        seconds: for all models together; those that come too late are not measured.
    """
    device, machine = use_device(config.device, config.threads), Machine()
    pairs = [(d, m) for d in config.datasets for m in config.evaluated_models]
    pairs = [(d, m) for d, m in pairs if Subject("metrics", d, m) in records]
    end = time.perf_counter() + seconds
    for dataset, entry in pairs:
        if time.perf_counter() > end:
            break
        job = job_of(config, "training", dataset, entry)
        shape = job.settings.data.image_shape
        model = build_entry(config, dataset, entry).to(device)
        if model.nfe <= MOST_PASSES:
            call = image_call(model, IMAGES, device)
            drawn = _mean_seconds(call, device, seconds / len(pairs) / 4, MOST_DRAWS)
            machine.image[dataset, entry] = drawn / IMAGES
        trained = records.get(Subject("training", dataset, entry))
        sampler = getattr(config.entry(config.trained_entry(entry), dataset), "sampler", None)
        if trained and not hasattr(sampler, "proposals"):
            images = torch.rand(job.settings.training.batch_size, *shape, device=device)
            call = step_call(model, images)
            here = _mean_seconds(call, device, seconds / len(pairs) / 2, MOST_UPDATES)
            recorded = statistics.mean(r.metrics.seconds_per_update for r in trained)
            machine.slower[dataset, entry] = here / recorded
    return machine


def measure_trainings(
    config: Config, trainings: list[Job], seconds: float = SECONDS
) -> dict[tuple[str, str], float]:
    """Return (dataset, entry) -> seconds that one training takes here, by some of its updates.

    In a random order: those that were measured when the time is over stand for the others.

    Args:
        seconds: for all together; at least one is measured, where memory suffices.
    """
    device, found = use_device(config.device, config.threads), {}
    each = list({(job.dataset, job.model): job for job in trainings}.values())
    end = time.perf_counter() + seconds
    for job in random.Random(0).sample(each, len(each)):
        if found and time.perf_counter() > end:
            break
        model = build_entry(config, job.dataset, job.model).to(device)
        with suppress(torch.OutOfMemoryError):  # which goes on in parts of a batch
            update = _update_seconds(model, job, device, seconds / len(each) / 2)
            found[job.dataset, job.model] = update * job.settings.training.updates
    return found


def whole_time(trainings: list[Job], measured: dict[tuple[str, str], float]) -> float | None:
    """Return the seconds of all trainings, one after the other; those that were not measured take
    what the others do on average. None where none was measured."""
    return statistics.mean(measured.values()) * len(trainings) if measured else None


def _update_seconds(
    model: torch.nn.Module, job: Job, device: torch.device, seconds: float
) -> float:
    """Return an update's seconds. A CPU times small batches, each twice as large as the one before
    until one takes `seconds`; the whole batch then lies on the line through the last two."""
    batch, shape = job.settings.training.batch_size, job.settings.data.image_shape

    def timed(size: int) -> float:
        return seconds_of(step_call(model, torch.rand(size, *shape, device=device)), device)

    size = batch if device.type == "cuda" else 1
    smaller, less, took = 0, 0.0, timed(size)
    if took < seconds:  # the first call warms up
        took = timed(size)
    while size < batch and (size == 1 or took < seconds):
        smaller, less, size = size, took, min(2 * size, batch)
        took = timed(size)
    return took + max(0.0, (took - less) / (size - smaller)) * (batch - size)


def _mean_seconds(
    call: Callable[[], None], device: torch.device, seconds: float, most: int
) -> float:
    """Return the mean time of a call after the first, of as many as fit into `seconds`."""
    seconds_of(call, device)
    times = [seconds_of(call, device)]
    while len(times) < most and sum(times) < seconds:
        times.append(seconds_of(call, device))
    return statistics.mean(times)

"""Measures all that timing records say of models: their times in every mode, and their sizes."""

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from benchmark.base.errors import TimingError
from benchmark.base.progress import show_progress
from benchmark.config.settings import Timing
from benchmark.timing.alone import Watch, is_disturbed, reserved
from benchmark.timing.gpu import gpu_state
from benchmark.timing.sampling import PARTS, flops_per_image, set_mode, time_sampling, time_updates
from benchmark.timing.series import Call, Limits
from benchmark.training.train import parameter_count

Updates = dict[str, tuple[int, Callable[[], Call] | None]]
"""Entry -> the batch of its training, and what builds the call that makes an update; None where
the dataset cannot be read."""


@dataclass
class Speed:
    """What is measured of one model.

    Attributes:
        size: {"nfe", "parameters", "flops_per_image"}; empty until it is known.
        rows: `sampling` of its timing record.
        update: `update` of its timing record; None for an entry without a training of its own.
        seconds: that measuring it took, loading included.
    """

    size: dict = field(default_factory=dict)
    rows: list[dict] = field(default_factory=list)
    update: dict | None = None
    seconds: float = 0.0

    def metrics(self) -> dict:
        """Return its part of the metrics of its timing record."""
        update = {"update": self.update} if self.update else {}
        return self.size | {"sampling": self.rows} | update


def measure_speed(
    load: Callable[[str], torch.nn.Module],
    entries: list[str],
    settings: Timing,
    device: torch.device,
    title: str,
    updates: Updates | None = None,
) -> dict[str, tuple[dict, float]]:
    """Time the sampling of several entries, and the updates of their trainings, in turns.

    Compiled models are timed one after the other: a graph keeps its memory, and the compiler knows
    only a few variants of a function, which several models share.

    Args:
        load: builds an entry's model on the device, anew for each mode.
        updates: of the entries whose training is to be timed as well.

    Returns:
        Entry -> the metrics of its timing record, but for "trained", and the seconds it took.

    Raises:
        TimingError: the device has none of the modes; or other work went on meanwhile, and
            `disturbed` is "refuse".
    """
    groups = list(_groups(settings.modes, entries, device))
    if not groups:
        modes = ", ".join(settings.modes)
        raise TimingError(f"none of the modes {modes} runs on a {device.type}")
    limits = Limits(settings.warmup, settings.repetitions, settings.seconds)
    sizes, longest = settings.batch_sizes, settings.longest_call
    total, done = len(groups) * len(PARTS) * len(sizes) + 1, 0
    # Plain lines, printed between timed calls: a live bar would be drawn during them.
    with reserved(device), show_progress(title, total, "lines") as report:
        speeds = {entry: Speed() for entry in entries}
        watch = Watch(device, refuse=settings.disturbed == "refuse")
        for mode, group in groups:
            if mode != "eager":  # imports the compiler, for seconds
                torch.compiler.reset()
            models = {entry: _loaded(load, entry, mode, speeds[entry], device) for entry in group}
            for rows in time_sampling(
                models, device, mode=mode, batch_sizes=sizes, longest_call=longest, limits=limits
            ):
                for entry, (row, seconds) in rows.items():
                    speeds[entry].rows.append(row)
                    speeds[entry].seconds += seconds
                watch.look()
                done += 1
                report(done, {})
            del models
        _time_updates(updates or {}, speeds, device, limits, watch)
        report(total, {})
        watch.look(after=1.0)
        shared = conditions(watch, device)
    return {entry: (shared | speed.metrics(), speed.seconds) for entry, speed in speeds.items()}


def conditions(watch: Watch, device: torch.device) -> dict:
    """Return under what conditions times were taken, as their records have it."""
    return {
        "session": secrets.token_hex(8),
        "others": watch.worst,
        "disturbed": is_disturbed(watch.worst),
        "gpu_state": gpu_state(device),
    }


def _time_updates(
    updates: Updates, speeds: dict[str, Speed], device: torch.device, limits: Limits, watch: Watch
) -> None:
    """Time an update of each training and add it to the speeds."""
    for entry, (batch, build) in updates.items():
        speeds[entry].update = {"batch_size": batch}
        if build is None:
            speeds[entry].update["left_out"] = "the dataset cannot be read"
    builds = {entry: build for entry, (_, build) in updates.items() if build is not None}
    for entry, (row, seconds) in time_updates(builds, device, limits, watch.look).items():
        speeds[entry].update |= row
        speeds[entry].seconds += seconds


def _groups(
    modes: list[str], entries: list[str], device: torch.device
) -> Iterator[tuple[str, list[str]]]:
    """Yield the modes that the device has, and which entries take turns in each."""
    for mode in modes:
        if mode == "eager":
            yield mode, entries
        elif mode == "compiled" or device.type == "cuda":
            yield from ((mode, [entry]) for entry in entries)


def _loaded(
    load: Callable, entry: str, mode: str, speed: Speed, device: torch.device
) -> torch.nn.Module:
    """Load an entry's model in a mode; note its size the first time, which no mode changes."""
    start = time.perf_counter()
    model = load(entry)
    speed.size = speed.size or {
        "nfe": model.nfe,
        "parameters": parameter_count(model),
        "flops_per_image": flops_per_image(model, device),
    }
    set_mode(model, mode)
    speed.seconds += time.perf_counter() - start
    return model

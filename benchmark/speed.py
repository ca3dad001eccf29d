"""All that timing records say of models: their times in every mode, and what they depend on."""

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from benchmark.alone import Watch, is_disturbed, refuse_disturbed, reserved
from benchmark.gpu import gpu_state
from benchmark.progress import training_progress
from benchmark.timing import PARTS, flops_per_image, set_mode, time_sampling
from benchmark.train import parameter_count


@dataclass
class Speed:
    """Of one model.

    Attributes:
        rows: `sampling` of its timing record.
        seconds: that measuring it took, loading included.
    """

    rows: list[dict] = field(default_factory=list)
    seconds: float = 0.0


def measure_speed(
    load: Callable[[str], torch.nn.Module],
    entries: list[str],
    settings: dict,
    device: torch.device,
    title: str,
) -> dict[str, tuple[dict, float]]:
    """Time the sampling of several entries, in turns.

    Compiled models are timed one after the other, since a graph keeps its memory.

    Args:
        load: builds an entry's model on the device, anew for each mode.
        settings: `timing` of the configuration.
        title: of the progress that is shown.

    Returns:
        Entry -> the metrics of its timing record, but for "trained", and the seconds it took.

    Raises:
        TimingError: other work went on meanwhile, and `disturbed` is "refuse".
    """
    names = ("batch_sizes", "warmup", "repetitions", "seconds", "longest_call")
    limits = {name: settings[name] for name in names}
    speeds = {entry: Speed() for entry in entries}
    groups = list(_groups(settings["modes"], entries, device))
    total = len(groups) * len(PARTS) * len(settings["batch_sizes"])
    with reserved(device), training_progress(title, total) as report:
        watch, done = Watch(device), 0
        for mode, group in groups:
            if mode != "eager":  # imports the compiler, for seconds
                torch.compiler.reset()
            models = {entry: _loaded(load, entry, mode, speeds[entry]) for entry in group}
            for rows in time_sampling(models, device, mode=mode, **limits):
                for entry, (row, seconds) in rows.items():
                    speeds[entry].rows.append(row)
                    speeds[entry].seconds += seconds
                done += 1
                report(done, {})
        others, state = watch.others(), gpu_state(device)
    if settings["disturbed"] == "refuse":
        refuse_disturbed(others)
    shared = {
        "session": secrets.token_hex(8),
        "others": others,
        "disturbed": is_disturbed(others),
        "gpu_state": state,
    }
    return {
        entry: (shared | _size(load(entry), device) | {"sampling": speed.rows}, speed.seconds)
        for entry, speed in speeds.items()
    }


def _groups(
    modes: list[str], entries: list[str], device: torch.device
) -> Iterator[tuple[str, list[str]]]:
    """The modes that the device has, and which entries take turns in each."""
    for mode in modes:
        if mode == "eager":
            yield mode, entries
        elif mode == "compiled" or device.type == "cuda":
            yield from ((mode, [entry]) for entry in entries)


def _loaded(load: Callable, entry: str, mode: str, speed: Speed) -> torch.nn.Module:
    start = time.perf_counter()
    model = load(entry)
    set_mode(model, mode)
    speed.seconds += time.perf_counter() - start
    return model


def _size(model: torch.nn.Module, device: torch.device) -> dict:
    return {
        "nfe": model.nfe,
        "parameters": parameter_count(model),
        "flops_per_image": flops_per_image(model, device),
    }

"""What sampling costs (operations, latency, throughput), and what an update of training takes."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import pairwise

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmark.data.pixels import to_uint8
from benchmark.timing.series import Call, Limits, Series, draw_call, generator_on, run_in_turns

EARLY = 300  # updates: what importance sampling costs changes over the first one or two hundred
EARLY_SHARE = 4  # of `Limits.seconds`, the time that these may take

# Options of torch.compile; None leaves the code as it is.
MODES = {
    "eager": None,
    "compiled": {"dynamic": False},
    "graphed": {"dynamic": False, "mode": "reduce-overhead"},  # CUDA graphs
}

PARTS = {"images": "sample", "latents": "sample_features"}


def set_mode(model: torch.nn.Module, mode: str) -> None:
    """Run what sampling calls in this mode from now on."""
    options = MODES[mode]
    if options is not None:
        model.compile(**options)


class FlopCounter(TorchDispatchMode):
    """A counter of operations by torch's formulas, without the hooks of its own `FlopCounterMode`:
    they cannot be in a module while `torch.autograd.grad` differentiates by its input."""

    total = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = operation(*args, **kwargs)
        count = flop_registry.get(operation._overloadpacket)
        if count is not None:
            self.total += count(*args, **kwargs, out_val=result)
        return result


def flops_per_image(model: torch.nn.Module, device: torch.device) -> int:
    """Count the operations of one sample: matrix products and convolutions, two operations for each
    multiply-add."""
    draws = generator_on(device)
    with torch.no_grad():
        model.sample(1, draws)  # what is built at the first sample is no part of the second
    with FlopCounter() as counter, torch.no_grad():
        model.sample(1, draws)
    return counter.total


def time_sampling(
    models: dict[str, torch.nn.Module],
    device: torch.device,
    *,
    mode: str,
    batch_sizes: list[int],
    longest_call: float,
    limits: Limits,
) -> Iterator[dict[str, tuple[dict, float]]]:
    """Time both parts of sampling at each batch size, in a mode that the models are set to.

    Args:
        models: by entry; they take turns at each batch size.
        longest_call: seconds; batch sizes of which a call would take longer are left out, as are
            those that the device's memory does not hold.

    Yields:
        Of each part and batch size, entry -> a row and the seconds that it took, for the entries
        that have the part. A row is `Series.summary` with {"mode", "part", "batch_size",
        "images_per_second"}, the rate being the batch size over the median latency; or {"mode",
        "part", "batch_size", "left_out": why}.
    """
    for part, method in PARTS.items():
        samplers = {entry: getattr(model, method, None) for entry, model in models.items()}
        samplers = {entry: sampler for entry, sampler in samplers.items() if sampler is not None}
        if part == "images":
            samplers = {entry: in_8_bits(sampler) for entry, sampler in samplers.items()}
        left_out: dict[str, str] = {}
        medians: dict[str, list[tuple[int, float]]] = {entry: [] for entry in samplers}
        for size, larger in pairwise([*sorted(batch_sizes), max(batch_sizes)]):
            series = {
                entry: Series(draw_call(sampler, size, device), device)
                for entry, sampler in samplers.items()
                if entry not in left_out
            }
            run_in_turns(list(series.values()), limits, weigh=part == "images")
            left_out |= {entry: one.failed for entry, one in series.items() if one.failed}
            rows = {}
            for entry in samplers:
                if entry in left_out:
                    row = {"mode": mode, "part": part, "batch_size": size}
                    row["left_out"] = left_out[entry]
                else:
                    row = sampling_row(series[entry], mode, part, size)
                    medians[entry].append((size, row["latency_ms"]["median"] / 1e3))
                    expected = expected_seconds(medians[entry], larger, device)
                    if expected > longest_call:
                        left_out[entry] = f"a call would take {expected:,.0f} s or more"
                rows[entry] = row, series[entry].seconds if entry in series else 0.0
            yield rows


def in_8_bits(sample: Callable) -> Callable:
    """Return a sampler of images in 8 bits, as they are stored."""
    return lambda size, draws: to_uint8(sample(size, draws))


def sampling_row(series: Series, mode: str, part: str, size: int) -> dict:
    """Return a row of a timing record, see `time_sampling`."""
    row = {"mode": mode, "part": part, "batch_size": size} | series.summary()
    return row | {"images_per_second": 1e3 * size / row["latency_ms"]["median"]}


def expected_seconds(medians: list[tuple[int, float]], larger: int, device: torch.device) -> float:
    """Extrapolate the seconds of a call to a larger batch, from those of (batch size, seconds).

    On a CPU they grow with the batch. A GPU takes as long for one image as for as many as keep it
    busy, so there they grow as they last did.
    """
    *before, (size, seconds) = medians
    growth = 1.0
    if device.type == "cuda":
        growth = 0.0
        if before:
            fewer, earlier = before[-1]
            growth = max(math.log(seconds / earlier) / math.log(size / fewer), 0.0)
    return seconds * (larger / size) ** growth


def time_updates(
    updates: dict[str, Callable[[], Call]],
    device: torch.device,
    limits: Limits,
    after_turn: Call = lambda: None,
) -> dict[str, tuple[dict, float]]:
    """Time updates of several trainings, in turns.

    The first `EARLY` are not timed, or as many as fit into `EARLY_SHARE` times `limits.seconds`.

    Args:
        updates: entry -> what builds the call that makes an update.
        after_turn: called after each turn.

    Returns:
        Entry -> `Series.summary`, or {"left_out": why}, and the seconds that it took.
    """
    limits = replace(limits, warmup=EARLY, warmup_seconds=EARLY_SHARE * limits.seconds)
    series = {entry: Series(_built_late(build), device) for entry, build in updates.items()}
    run_in_turns(list(series.values()), limits, weigh=False, after_turn=after_turn)
    return {
        entry: ({"left_out": one.failed} if one.failed else one.summary(), one.seconds)
        for entry, one in series.items()
    }


def _built_late(build: Callable[[], Call]) -> Call:
    """Return what `build` builds, built at the first call: a failure is then one of that call."""
    late = cache(build)
    return lambda: late()()

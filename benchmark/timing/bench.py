"""`make bench`: what is obtained of each promise, as a ratio from one run on one machine.

The two sides of a ratio take turns, so that what else the machine does hits both alike, and the
ratio is that of the medians. A target that is missed is shown as missed: this is a measurement,
not a test.
"""

import itertools
import os
import sys
import time
from collections.abc import Iterable

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmark.timing.operations import operations
from benchmark.timing.promises import Promise
from benchmark.timing.series import Call, seconds_of

FEWEST, MOST = 3, 200  # turns
os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # torch's profiler would talk amid the rows


def measure_promises(
    promises: Iterable[Promise], device: torch.device, seconds: float
) -> list[dict]:
    """Measure every promise on one device, each for so many seconds.

    Returns:
        A row of each: {"what", "target", "at_least", "promised", "ratio", "met"}, the last two only
        where it can be measured, with what `compare_times` or its like gives; of operations in
        place of the ratio "operations", how many more the first side has.
    """
    rows = []
    for promise in promises:
        row = {name: getattr(promise, name) for name in ("what", "target", "at_least")}
        row["promised"] = device.type in promise.devices
        if device.type in promise.only:
            torch.manual_seed(0)
            first, second = promise.sides(device)
            if promise.cost == "operations":
                row["operations"] = value = operations(first).total() - operations(second).total()
            elif promise.cost == "memory":
                row |= compare_memory(first, second, device)
                value = row["ratio"]
            else:
                row |= compare_times(first, second, device, seconds)
                value = row["ratio"]
            row["met"] = value >= promise.target if promise.at_least else value <= promise.target
            print(f"{promise.what}: {value:.3g}", file=sys.stderr, flush=True)
        rows.append(row)
    return rows


def compare_times(first: Call, second: Call, device: torch.device, seconds: float) -> dict:
    """Time two calls in turns, each after a warm-up of one call; return `ratio_of_times`."""
    for call in (first, second):
        seconds_of(call, device)  # the clock starts when the device is done with it
    pairs, end = [], time.perf_counter() + seconds
    while len(pairs) < FEWEST or (len(pairs) < MOST and time.perf_counter() <= end):
        pairs.append((seconds_of(first, device), seconds_of(second, device)))
    return ratio_of_times(pairs)


def ratio_of_times(pairs: list[tuple[float, float]]) -> dict:
    """Summarise the seconds of both sides, turn by turn.

    Returns:
        {"ratio": of the median times, "quartiles": of the single turns' ratios, "turns",
        "seconds": the first side's median}.
    """
    first, second = np.array(pairs).T
    return {
        "ratio": float(np.median(first) / np.median(second)),
        "quartiles": [float(q) for q in np.percentile(first / second, [25, 75])],
        "turns": len(pairs),
        "seconds": float(np.median(first)),
    }


def compare_memory(first: Call, second: Call, device: torch.device) -> dict:
    """Return {"ratio": of the peak memory of two calls, "bytes": the first one's}."""
    sizes = [peak_memory(call, device) for call in (first, second)]
    return {"ratio": sizes[0] / sizes[1], "bytes": sizes[0]}


def peak_memory(call: Call, device: torch.device) -> int:
    """Return the bytes that a call allocates beyond what was there before, at their peak."""
    call()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    events = profiled.profiler.kineto_results.events()
    sizes = (event.nbytes() for event in events if event.name() == "[memory]")
    return max(itertools.accumulate(sizes, initial=0))

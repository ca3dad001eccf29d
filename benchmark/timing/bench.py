"""`make bench`: the speeds that this suite promises, each a ratio from one run on one machine.

Writes results/bench/<device>.json; `paper_figures.tables.bench` makes tables of it.
The two sides of a ratio take turns, so that what else the machine does hits both alike, and the
ratio is that of the medians. A target that is missed is shown as missed: this is a measurement,
not a test.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmark.base import paths
from benchmark.base.devices import add_device_argument, chosen_devices
from benchmark.base.errors import BenchmarkError
from benchmark.base.files import write_json
from benchmark.base.process import exit_code
from benchmark.records.provenance import provenance
from benchmark.timing.gains import gains
from benchmark.timing.promises import Row, promises
from benchmark.timing.series import Call, seconds_of

SECONDS = 12.0  # for the turns of one row
FEWEST, MOST = 3, 200  # turns


@dataclass
class Turns:
    """Seconds of the two sides of a row, turn by turn."""

    first: list[float] = field(default_factory=list)
    second: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return float(np.median(self.first) / np.median(self.second))

    @property
    def quartiles(self) -> tuple[float, float]:
        """Of the ratios of single turns."""
        each = np.array(self.first) / np.array(self.second)
        return tuple(float(q) for q in np.percentile(each, [25, 75]))


def take_turns(first: Call, second: Call, device: torch.device, seconds: float) -> Turns:
    """Time two calls in turns, each after a warm-up of one call."""
    for call in (first, second):
        seconds_of(call, device)  # the clock starts when the device is done with it
    turns, end = Turns(), time.perf_counter() + seconds
    while len(turns.first) < MOST:
        if len(turns.first) >= FEWEST and time.perf_counter() > end:
            break
        for call, times in ((first, turns.first), (second, turns.second)):
            times.append(seconds_of(call, device))
    return turns


def peak_memory(call: Call, device: torch.device) -> int:
    """Bytes that a call allocates beyond what was there before, at their peak."""
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


def measure(device: torch.device, seconds: float, rows: Iterable[Row]) -> list[dict]:
    """Every row on one device: what, target, obtained, quartiles, turns, and whether it is met."""
    found = []
    for row in rows:
        result = {"what": row.what, "target": row.target, "at_least": row.at_least}
        result["promised"] = device.type in row.devices
        if device.type in row.only:
            torch.manual_seed(0)
            result |= _weigh(row, device) if row.memory else _race(row, device, seconds)
            ratio = result["ratio"]
            result["met"] = ratio >= row.target if row.at_least else ratio <= row.target
            print(f"{row.what}: {ratio:.3g}", file=sys.stderr, flush=True)
        found.append(result)
    return found


def _race(row: Row, device: torch.device, seconds: float) -> dict:
    turns = take_turns(*row.sides(device), device, seconds)
    found = {"ratio": turns.ratio, "quartiles": turns.quartiles}
    return found | {"turns": len(turns.first), "seconds": float(np.median(turns.first))}


def _weigh(row: Row, device: torch.device) -> dict:
    first, second = (peak_memory(call, device) for call in row.sides(device))
    return {"ratio": first / second, "bytes": first}


def _asked(rows: dict[str, Iterable[Row]], without: list[str]) -> dict[str, list[Row]]:
    """The rows, by kind, that say none of these texts."""
    listed = {kind: list(each) for kind, each in rows.items()}
    known = [row.what for each in listed.values() for row in each]
    for text in without:
        if not any(text in what for what in known):
            raise BenchmarkError(
                f"--without {text}: no row says so; the rows:\n  " + "\n  ".join(known)
            )
    return {
        kind: [row for row in each if not any(text in row.what for text in without)]
        for kind, each in listed.items()
    }


def main() -> int:
    """Measure and write results/bench/; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.timing.bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each row")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="TEXT",
        help="leave out the rows that say so, e.g. DDPM-1000; may be given again",
    )
    add_device_argument(parser)
    options = parser.parse_args()

    def run() -> None:
        asked = _asked({"promises": promises(), "gains": gains()}, options.without)
        for device in chosen_devices(options):
            found = {kind: measure(device, options.seconds, rows) for kind, rows in asked.items()}
            path = paths.fill(paths.BENCH, "bench", name=f"{device.type}.json")
            write_json(path, found | {"provenance": provenance(device)})

    return exit_code(run)


if __name__ == "__main__":
    sys.exit(main())

"""`make bench`: the speeds that this suite promises, each a ratio from one run on one machine.

The two sides of a ratio take turns, so that what else the machine does hits both alike, and the
ratio is that of the medians. A target that is missed is printed as missed: this is a measurement,
not a test. Rows that need a GPU stay empty without one.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

from benchmark import paths
from benchmark.errors import exit_code
from benchmark.files import atomic, write_json
from benchmark.gains import gains
from benchmark.promises import Row, promises
from benchmark.provenance import available_cores, provenance
from benchmark.timing import Call, seconds_of

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
    first(), second()
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


def promise_table(results: dict[str, list[dict]]) -> str:
    """What was promised and obtained, by device, as Markdown."""
    return _table(results, "Target", _target, _judged)


def gain_table(results: dict[str, list[dict]]) -> str:
    """What each change was predicted to gain and gained, by device, as Markdown."""
    return _table(
        results, "Predicted", lambda row: f"{row['target']:g}", lambda row: f"{row['ratio']:.3g}"
    )


def _table(results: dict[str, list[dict]], head: str, target, cell) -> str:
    lines = []
    for index, row in enumerate(results["cpu"]):
        line = {"What": row["what"], head: target(row)}
        for device, label in (("cpu", "CPU"), ("cuda", "GPU")):
            found = results[device][index] if device in results else None
            line[label] = "no GPU" if found is None else cell(found) if "ratio" in found else ""
        lines.append(line)
    return pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True) + "\n"


def _target(row: dict) -> str:
    return f"{'>=' if row['at_least'] else '<='} {row['target']:g}"


def _judged(row: dict) -> str:
    judged = ("met" if row["met"] else "MISSED") if row["promised"] else "no target here"
    spread = " ({:.3g} to {:.3g})".format(*row["quartiles"]) if "quartiles" in row else ""
    return f"{row['ratio']:.3g}{spread}, {judged}"


def _write(kind: str, results: dict[str, list[dict]], text: str) -> None:
    """<device>_<kind>.json for each device, and the table."""
    for name, found in results.items():
        path = paths.fill(paths.BENCH, "bench", name=f"{name}_{kind}.json")
        write_json(path, {"rows": found, "provenance": provenance(torch.device(name))})
    with atomic(paths.fill(paths.BENCH, "bench", name=f"{kind}.md")) as temporary:
        Path(temporary).write_text(text)
    print(text)


def main() -> int:
    """Measure on every device and write results/bench/; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each row")
    seconds = parser.parse_args().seconds

    def run() -> None:
        torch.set_num_threads(available_cores())
        names = ["cpu", *itertools.repeat("cuda", torch.cuda.is_available())]
        for kind, rows, table in (
            ("bench", promises, promise_table),
            ("gains", gains, gain_table),
        ):
            results = {name: measure(torch.device(name), seconds, rows()) for name in names}
            _write(kind, results, table(results))

    return exit_code(run)


if __name__ == "__main__":
    sys.exit(main())

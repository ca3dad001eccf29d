"""`make bench`: the speeds that this suite promises, each a ratio from one run on one machine.

The two sides of a ratio take turns, so that what else the machine does hits both alike, and the
ratio is that of the medians. A target that is missed is printed as missed: this is a measurement,
not a test. Rows that need a GPU stay empty without one.
"""

import argparse
import itertools
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

from benchmark import paths
from benchmark.errors import exit_code
from benchmark.files import atomic, write_json
from benchmark.promises import Call, Row, rows
from benchmark.provenance import available_cores, provenance
from benchmark.timing import synchronise

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
            synchronise(device)
            start = time.perf_counter()
            call()
            synchronise(device)
            times.append(time.perf_counter() - start)
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


def measure(device: torch.device, seconds: float) -> list[dict]:
    """Every row on one device: what, target, obtained, quartiles, turns, and whether it is met."""
    found = []
    for row in rows():
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


def table(results: dict[str, list[dict]]) -> str:
    """The rows of all devices as Markdown."""
    lines = []
    for index, row in enumerate(rows()):
        line = {"What": row.what, "Target": f"{'>=' if row.at_least else '<='} {row.target:g}"}
        for device in ("cpu", "cuda"):
            line[{"cpu": "CPU", "cuda": "GPU"}[device]] = _cell(results.get(device), index, device)
        lines.append(line)
    return pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True) + "\n"


def _cell(found: list[dict] | None, index: int, device: str) -> str:
    if found is None:
        return {"cpu": "", "cuda": "no GPU"}[device]
    result = found[index]
    if "ratio" not in result:
        return ""
    judged = ("met" if result["met"] else "MISSED") if result["promised"] else "no target here"
    spread = " ({:.3g} to {:.3g})".format(*result["quartiles"]) if "quartiles" in result else ""
    return f"{result['ratio']:.3g}{spread}, {judged}"


def main() -> int:
    """Measure on every device and write results/bench/; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each row")
    seconds = parser.parse_args().seconds

    def run() -> None:
        torch.set_num_threads(available_cores())
        names = ["cpu", *itertools.repeat("cuda", torch.cuda.is_available())]
        results = {name: measure(torch.device(name), seconds) for name in names}
        for name, found in results.items():
            origin = provenance(torch.device(name))
            write_json(
                paths.fill(paths.BENCH, "bench", name=f"{name}.json"),
                {"rows": found, "provenance": origin},
            )
        text = table(results)
        with atomic(paths.fill(paths.BENCH, "bench", name="bench.md")) as temporary:
            Path(temporary).write_text(text)
        print(text)

    return exit_code(run)


if __name__ == "__main__":
    sys.exit(main())

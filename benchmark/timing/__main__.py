"""What a device can do, whatever the configuration: `python -m benchmark.timing bench`, the speeds
that this suite promises, and `scaling`, how cost grows with each size.

Writes results/<bench or scaling>/<device>.json, of which paper_figures makes tables and a figure.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence

import torch

from benchmark.base import paths
from benchmark.base.devices import DEVICE_LABELS, available_cores, use_device
from benchmark.base.errors import BenchmarkError
from benchmark.base.files import write_json
from benchmark.base.process import exit_code
from benchmark.records.provenance import provenance
from benchmark.timing.bench import measure_promises
from benchmark.timing.promises import Promise, promises
from benchmark.timing.scaling import Sweep, measure_sweeps, sweeps

# Run -> the key of its rows in the record, all that can be measured, what measures it, and for how
# many seconds: each promise, or each point of a sweep.
RUNS = {
    "bench": ("promises", promises(), measure_promises, 12.0),
    "scaling": ("sweeps", sweeps(), measure_sweeps, 1.0),
}


def main(words: Sequence[str] | None = None, runs: dict = RUNS) -> int:
    """Measure what the command line names and write the records; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.timing", description=__doc__)
    parser.add_argument("run", choices=runs)
    parser.add_argument("--seconds", type=float, help="for each row, or each point of a sweep")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="TEXT",
        help="leave out the rows that say so, e.g. DDPM-1000; may be given again",
    )
    parser.add_argument(
        "--device",
        action="append",
        choices=list(DEVICE_LABELS),
        help="may be given again (default: the CPU, and the GPU where there is one)",
    )
    options = parser.parse_args(words)
    key, plans, measure, usual = runs[options.run]
    seconds = usual if options.seconds is None else options.seconds

    def measure_devices() -> None:
        chosen = without(plans, options.without)
        there = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
        for device in [use_device(name, available_cores()) for name in options.device or there]:
            record = {key: measure(chosen, device, seconds), "provenance": provenance(device)}
            write_json(paths.fill(paths.BENCH, options.run, name=f"{device.type}.json"), record)

    return exit_code(measure_devices)


def without(plans: Sequence[Promise | Sweep], texts: Iterable[str]) -> list[Promise | Sweep]:
    """Leave out what says one of these texts.

    Raises:
        BenchmarkError: nothing says one of them.
    """
    for text in texts:
        if not any(text in plan.what for plan in plans):
            rows = "\n  ".join(plan.what for plan in plans)
            raise BenchmarkError(f"--without {text}: no row says so; the rows:\n  {rows}")
    return [plan for plan in plans if not any(text in plan.what for text in texts)]


if __name__ == "__main__":
    sys.exit(main())

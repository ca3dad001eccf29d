"""`make side_by_side`: how many trainings at once give the most updates per second.

Each has a process of its own, as in the workflow; they start together. `--device cuda` measures a
GPU, with one thread each.
"""

import argparse
import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from typing import Any

import pandas as pd
import torch

from benchmark.base.devices import available_cores, cpu_name
from benchmark.timing.promises import BATCH, kaem_model, noise
from benchmark.timing.series import seconds_of, step_call
from studies.pages import write_page

AT_ONCE, THREADS = (1, 2, 3, 4), (1, 2)
WARMUP, SECONDS = 20, 8.0
LONGEST = 300  # seconds that a process may take to be ready


def measure(trainings: int, threads: int, device: torch.device, seconds: float = SECONDS) -> float:
    """Return the updates per second of so many trainings at once, added up."""
    context = multiprocessing.get_context("spawn")
    together, rates = context.Barrier(trainings), context.Queue()
    processes = [
        context.Process(target=_train, args=(threads, device, seconds, together, rates))
        for _ in range(trainings)
    ]
    for process in processes:
        process.start()
    total = sum(rates.get(timeout=LONGEST + 2 * seconds) for _ in processes)
    for process in processes:
        process.join()
    return total


def _train(
    threads: int, device: torch.device, seconds: float, together: Barrier, rates: Any
) -> None:
    """Make updates of the benchmark's promised model for some seconds; put their rate."""
    torch.set_num_threads(threads)
    step = step_call(kaem_model("kaem_ula", device), noise(device))
    for _ in range(WARMUP):
        seconds_of(step, device)
    together.wait(LONGEST)
    updates, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        seconds_of(step, device)
        updates += 1
    rates.put(updates / passed)


def main(words: Sequence[str] | None = None) -> None:
    """Measure every number of trainings and threads; write the page."""
    parser = argparse.ArgumentParser(prog="python -m studies.side_by_side", description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    device = torch.device(parser.parse_args(words).device)
    rows = [
        {
            "trainings": trainings,
            "threads": threads,
            "updates_per_second": measure(trainings, threads, device),
        }
        for threads in (THREADS if device.type == "cpu" else THREADS[:1])
        for trainings in AT_ONCE
    ]
    table = pd.DataFrame(rows).pivot(
        index="trainings", columns="threads", values="updates_per_second"
    )
    table.columns = [f"Updates per second, {n} thread{'s' * (n > 1)} each" for n in table.columns]
    table = table.round(1).reset_index(names="Trainings at once")
    name = torch.cuda.get_device_name() if device.type == "cuda" else cpu_name()
    note = f"Batches of {BATCH}, 5 Langevin steps. {name}, {available_cores()} cores."
    study = "side_by_side" if device.type == "cpu" else "side_by_side_gpu"
    write_page(study, table, note, rows)


if __name__ == "__main__":
    main()

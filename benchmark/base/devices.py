"""The devices of this machine: cores and GPUs, what they are called, how one is chosen."""

import os
import platform
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.base.errors import BenchmarkError

if TYPE_CHECKING:  # importing it takes seconds, which who only reads records need not wait
    import torch

DEVICE_LABELS = {"cpu": "CPU", "cuda": "GPU"}  # what a device is called in tables and figures


def available_cores() -> int:
    """Count the CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def cpu_name() -> str:
    """Return the processor's name as the system gives it."""
    try:
        name = processor_name(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        name = None
    return name or platform.processor() or platform.machine()


def processor_name(cpuinfo: str) -> str | None:
    """Return the name in the text of Linux's /proc/cpuinfo.

    A name without a number, such as "AMD EPYC" or "Intel(R) Xeon(R) CPU @ 2.20GHz", may be any of
    several processors on a virtual machine: it gets the processor's family and model.
    """
    first = cpuinfo.partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    facts = {key.strip(): value.strip() for key, _, value in pairs}
    name = facts.get("model name")
    if (
        not name
        or any(map(str.isdigit, name.partition("@")[0]))
        or not {"cpu family", "model"} <= facts.keys()
    ):
        return name
    return f"{name} (family {facts['cpu family']}, model {facts['model']})"


def fix_threads(count: int) -> None:
    """Have linear algebra use so many threads in this process, whatever the environment says:
    results depend on it in the last digits, and Snakemake's --cores must not. To be called before
    numpy is imported; torch is told by `use_device`."""
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = str(count)


def use_device(name: str, threads: int) -> "torch.device":
    """Return the device `name` ("auto": the GPU if there is one), with this many CPU threads."""
    import torch

    torch.set_num_threads(threads)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise BenchmarkError("device cuda: no GPU is visible here; set `device: cpu` or `auto`")
    return torch.device(name)

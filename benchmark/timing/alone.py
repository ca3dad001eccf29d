"""Makes sure that a timing has the machine to itself, or says that it had not."""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from filelock import FileLock, Timeout

from benchmark.base.devices import available_cores
from benchmark.base.errors import TimingError
from benchmark.timing.gpu import gpu_state

SECONDS = 5.0  # between two looks: in less, the system's own work counts for too much
ALLOWED = 0.1  # of this process's cores, for what the system itself does

# On Linux the guests' time is also in `user`, and `steal` is other machines'.
NOT_OURS = ("guest", "guest_nice", "steal")


@contextmanager
def reserved(device: torch.device) -> Iterator[None]:
    """Hold the device's lock: one timing at a time, of all checkouts of this suite on a machine."""
    name = gpu_state(device)["uuid"] or device.type
    lock = FileLock(Path(tempfile.gettempdir()) / f"kaem-timing-{name}.lock", mode=0o666)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        message = "another timing is running on this device; waiting for it to end"
        print(message, file=sys.stderr, flush=True)
        lock.acquire()
    with lock:
        yield


class Watch:
    """A look, every few seconds, at how busy other processes keep the machine.

    Args:
        refuse: whether a disturbance ends it, with a TimingError.

    Attributes:
        worst: {"cpu_cores", "gpu_processes"}: the most cores that others used on average between
            two looks, and the most other processes with work on the GPU (None on a CPU).
    """

    def __init__(self, device: torch.device, *, refuse: bool):
        self._device, self._refuse = device, refuse
        self.worst: dict = {"cpu_cores": 0.0, "gpu_processes": None}
        self._begin()

    def look(self, after: float = SECONDS) -> None:
        """Look, if the last look is so many seconds past.

        Raises:
            TimingError: `is_disturbed`, where that is refused.
        """
        if time.perf_counter() - self._start < after:
            return
        others = self._others()
        if self._refuse and is_disturbed(others):
            gpu = f", and {others['gpu_processes']} the GPU" if others["gpu_processes"] else ""
            raise TimingError(
                f"other processes kept {others['cpu_cores']:.2g} cores busy meanwhile{gpu}: these "
                "times would not be the model's, and were not kept\n"
                "  Run it again when the machine is idle, or set `timing.disturbed: mark` to keep "
                "such times, marked in the tables."
            )
        for name, value in others.items():
            if value is not None:
                self.worst[name] = max(value, self.worst[name] or 0)
        self._begin()

    def _begin(self) -> None:
        self._start, self._before = time.perf_counter(), _busy_seconds()

    def _others(self) -> dict:
        """Return what others did since the last look, as `worst` has it."""
        passed = time.perf_counter() - self._start
        cores = (_busy_seconds() - self._before) / max(passed, 1e-9)
        processes = gpu_state(self._device)["processes"]
        other_processes = None if processes is None else max(processes - 1, 0)
        return {"cpu_cores": max(cores, 0.0), "gpu_processes": other_processes}


def is_disturbed(others: dict) -> bool:
    """Return whether so much else went on that a time is not the model's alone."""
    return others["cpu_cores"] > ALLOWED * available_cores() or bool(others["gpu_processes"])


def _busy_seconds() -> float:
    """Return the CPU seconds that all processes but this one and its children have used so far."""
    machine, this = psutil.cpu_times(), psutil.Process()
    idle = machine.idle + getattr(machine, "iowait", 0.0)
    counted = sum(machine) - idle - sum(getattr(machine, name, 0.0) for name in NOT_OURS)
    return counted - sum(map(_used_seconds, (this, *this.children(recursive=True))))


def _used_seconds(process: psutil.Process) -> float:
    try:
        return sum(process.cpu_times()[:4])  # user and system, its children's too; no waiting
    except psutil.NoSuchProcess:
        return 0.0

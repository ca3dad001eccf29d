"""The state of an NVIDIA GPU, its energy, and who else uses it, as its driver tells them."""

import time
from collections.abc import Callable
from contextlib import suppress

import torch

SHORTEST = 1.0  # seconds; the energy counter moves in steps of up to a tenth of it


def gpu_state(device: torch.device) -> dict:
    """Return {"uuid", "driver", "sm_clock_mhz", "memory_clock_mhz", "power_limit_w", "processes"}.

    What the driver does not tell is None, and all of it where there is no such GPU.
    """
    queries = {
        "uuid": lambda nvml, gpu: nvml.nvmlDeviceGetUUID(gpu),
        "driver": lambda nvml, _: nvml.nvmlSystemGetDriverVersion(),
        "sm_clock_mhz": lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM),
        "memory_clock_mhz": lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM),
        "power_limit_w": lambda nvml, gpu: nvml.nvmlDeviceGetPowerManagementLimit(gpu) / 1e3,
        "processes": lambda nvml, gpu: len(nvml.nvmlDeviceGetComputeRunningProcesses(gpu)),
    }
    return {name: _answer(device, query) for name, query in queries.items()}


class EnergyMeter:
    """A device's counter of energy, from this object's creation on."""

    def __init__(self, device: torch.device):
        self._device = device
        self._start, self._before = time.perf_counter(), self._read()

    @property
    def counts(self) -> bool:
        """Whether the device has a counter."""
        return self._before is not None

    def joules(self) -> float | None:
        """Return the energy so far; None without a counter, or before it can be told apart from the
        counter's steps."""
        if self._before is None or time.perf_counter() - self._start < SHORTEST:
            return None
        return self._read() - self._before

    def _read(self) -> float | None:
        return _answer(
            self._device, lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1e3
        )


def _answer(device: torch.device, query: Callable):
    """Return what NVIDIA's management library answers; None where it has no answer."""
    if device.type != "cuda":
        return None
    import pynvml  # only where there is a GPU

    # The library counts all GPUs, torch those that are visible: the UUID is the same in both.
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        return query(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid.encode()))
    return None

"""What the driver says of an NVIDIA GPU: its state, its energy, and who else uses it."""

import time
from contextlib import suppress

import torch

SHORTEST = 1.0  # seconds; the energy counter moves in steps of up to a tenth of it


def gpu_state(device: torch.device) -> dict:
    """{"uuid", "driver", "sm_clock_mhz", "memory_clock_mhz", "power_limit_w", "processes"}.

    What the driver does not tell is None, and all of it where there is no such GPU.
    """
    questions = {
        "uuid": lambda nvml, handle: _text(nvml.nvmlDeviceGetUUID(handle)),
        "driver": lambda nvml, _: _text(nvml.nvmlSystemGetDriverVersion()),
        "sm_clock_mhz": lambda nvml, handle: nvml.nvmlDeviceGetClockInfo(
            handle, nvml.NVML_CLOCK_SM
        ),
        "memory_clock_mhz": lambda nvml, handle: nvml.nvmlDeviceGetClockInfo(
            handle, nvml.NVML_CLOCK_MEM
        ),
        "power_limit_w": lambda nvml, handle: nvml.nvmlDeviceGetPowerManagementLimit(handle) / 1e3,
        "processes": lambda nvml, handle: len(nvml.nvmlDeviceGetComputeRunningProcesses(handle)),
    }
    return {name: _ask(device, question) for name, question in questions.items()}


class EnergyMeter:
    """Counts from its creation."""

    def __init__(self, device: torch.device):
        self._device = device
        self._start, self._before = time.perf_counter(), self._read()

    @property
    def counts(self) -> bool:
        """Whether the device has a counter."""
        return self._before is not None

    def joules(self) -> float | None:
        """So far; None without a counter, or before it can be told apart from its steps."""
        if self._before is None or time.perf_counter() - self._start < SHORTEST:
            return None
        return self._read() - self._before

    def _read(self) -> float | None:
        return _ask(
            self._device,
            lambda nvml, handle: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3,
        )


def _ask(device: torch.device, question):
    """The answer of NVIDIA's management library; None where it has none."""
    if device.type != "cuda":
        return None
    import pynvml  # only where there is a GPU

    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        handle = _handle(pynvml, device)
        return question(pynvml, handle)
    return None


def _handle(nvml, device: torch.device):
    """The library counts all GPUs of the machine, torch those that are visible: the UUID is the
    same in both."""
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    return nvml.nvmlDeviceGetHandleByUUID(uuid.encode())


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value

"""What is asked of NVIDIA's management library, with a library that gives made-up answers."""

import sys
import types

import pytest
import torch

from benchmark.timing import gpu
from benchmark.timing.gpu import EnergyMeter, gpu_state

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def _library(monkeypatch):
    class NVMLError(Exception):
        pass

    def refuse(*_arguments):
        raise NVMLError

    energies = iter([5000, 9000])  # millijoules
    nvml = types.SimpleNamespace(
        NVMLError=NVMLError,
        NVML_CLOCK_SM="sm",
        NVML_CLOCK_MEM="memory",
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: {b"GPU-ab": "handle"}[uuid],
        nvmlDeviceGetUUID=lambda _handle: "GPU-ab",
        nvmlSystemGetDriverVersion=lambda: "570.1",
        nvmlDeviceGetClockInfo=lambda _handle, kind: {"sm": 1980, "memory": 2619}[kind],
        nvmlDeviceGetPowerManagementLimit=refuse,
        nvmlDeviceGetComputeRunningProcesses=lambda _handle: ["this one", "another"],
        nvmlDeviceGetTotalEnergyConsumption=lambda _handle: next(energies),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    properties = types.SimpleNamespace(uuid="ab")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: properties)


def test_the_state_of_a_gpu():
    assert gpu_state(CUDA) == {
        "uuid": "GPU-ab",
        "driver": "570.1",
        "sm_clock_mhz": 1980,
        "memory_clock_mhz": 2619,
        "power_limit_w": None,  # the driver did not tell
        "processes": 2,
    }


def test_a_cpu_has_none():
    assert set(gpu_state(CPU).values()) == {None}
    assert EnergyMeter(CPU).joules() is None


@pytest.mark.parametrize(("passed", "expected"), [(0.5, None), (2.0, 4.0)])
def test_energy(monkeypatch, passed, expected):
    now = iter([0.0, passed])
    monkeypatch.setattr(gpu.time, "perf_counter", lambda: next(now))
    assert EnergyMeter(CUDA).joules() == expected

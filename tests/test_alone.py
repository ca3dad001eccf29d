"""Whether a timing has the machine to itself."""

import threading
import time
import types
from collections import namedtuple

import pytest
import torch

from benchmark import alone, speed
from benchmark.alone import Watch, is_disturbed, refuse_disturbed, reserved
from benchmark.errors import TimingError

CPU = torch.device("cpu")
QUIET = {"cpu_cores": 0.0, "gpu_processes": None}


def test_work_of_others_is_counted_and_own_work_is_not(monkeypatch):
    Machine = namedtuple("Machine", "user system idle iowait steal guest")
    machine = [Machine(90, 10, 500, 7, 3, 50), Machine(93, 11, 600, 8, 9, 52)]
    own = iter([(8.0, 1.0), (8.5, 1.0)])  # user and system
    child = iter([(2.0, 0.0), (2.0, 0.5)])

    def process(times):
        return types.SimpleNamespace(cpu_times=lambda: next(times), children=lambda **_: children)

    children = [process(child)]
    fake = types.SimpleNamespace(
        cpu_times=lambda: machine.pop(0), Process=lambda: process(own), NoSuchProcess=OSError
    )
    monkeypatch.setattr(alone, "psutil", fake)
    clock = iter([0.0, 2.0])
    monkeypatch.setattr(alone.time, "perf_counter", lambda: next(clock))
    # The machine worked 4 seconds in 2, of which this process and its child had 1.
    assert Watch(CPU).others() == {"cpu_cores": 1.5, "gpu_processes": None}


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        (QUIET, False),
        ({"cpu_cores": 0.19, "gpu_processes": 0}, False),
        ({"cpu_cores": 0.21, "gpu_processes": None}, True),
        ({"cpu_cores": 0.0, "gpu_processes": 1}, True),
    ],
)
def test_what_is_too_much(monkeypatch, others, expected):
    monkeypatch.setattr(alone, "available_cores", lambda: 2)
    assert is_disturbed(others) is expected
    if expected:
        with pytest.raises(TimingError, match="cores busy"):
            refuse_disturbed(others)
    else:
        refuse_disturbed(others)


def test_one_timing_at_a_time(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(alone.tempfile, "gettempdir", lambda: str(tmp_path))
    order, entered = [], threading.Event()

    def second():
        entered.wait(10)
        with reserved(CPU):
            order.append("second")

    other = threading.Thread(target=second)
    other.start()
    with reserved(CPU):
        entered.set()
        time.sleep(0.2)
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]
    assert "another timing is running" in capsys.readouterr().err


@pytest.mark.parametrize("disturbed", ["refuse", "mark"])
def test_disturbed_times_are_refused_or_marked(monkeypatch, capsys, disturbed):
    class Model(torch.nn.Module):
        nfe = 1

        def sample(self, n, generator):
            return torch.rand(n, 1, 2, 2, generator=generator)

    monkeypatch.setattr(Watch, "others", lambda _self: QUIET | {"cpu_cores": 64.0})
    settings = {
        "batch_sizes": [1],
        "warmup": 0,
        "repetitions": 3,
        "seconds": 1,
        "longest_call": 60,
        "modes": ["eager", "graphed"],  # the latter needs a GPU
        "disturbed": disturbed,
    }
    if disturbed == "refuse":
        with pytest.raises(TimingError, match=r"64 cores busy"):
            speed.measure_speed(lambda _entry: Model(), ["it"], settings, CPU, "title")
    else:
        found = speed.measure_speed(lambda _entry: Model(), ["it"], settings, CPU, "title")
        metrics, seconds = found["it"]
        assert metrics["disturbed"]
        assert [row["mode"] for row in metrics["sampling"]] == ["eager"]
        assert seconds > 0
        assert "100%" in capsys.readouterr().err

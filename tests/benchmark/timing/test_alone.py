"""Whether a timing has the machine to itself."""

import threading
import time
import types
from collections import namedtuple

import pytest
import torch
from support.configs import tiny_config

from benchmark.base.errors import TimingError
from benchmark.timing import alone, speed
from benchmark.timing.alone import Watch, is_disturbed, reserved

CPU = torch.device("cpu")
QUIET = {"cpu_cores": 0.0, "gpu_processes": None}


def test_work_of_others_is_counted_and_own_work_is_not(monkeypatch):
    Machine = namedtuple("Machine", "user system idle iowait steal guest")
    machine = [Machine(90, 10, 500, 7, 3, 50), *[Machine(93, 11, 600, 8, 9, 52)] * 2]
    own = iter([(8.0, 1.0), *[(8.5, 1.0)] * 2])  # user and system
    child = iter([(2.0, 0.0), *[(2.0, 0.5)] * 2])

    def process(times):
        return types.SimpleNamespace(cpu_times=lambda: next(times), children=lambda **_: children)

    children = [process(child)]
    fake = types.SimpleNamespace(
        cpu_times=lambda: machine.pop(0), Process=lambda: process(own), NoSuchProcess=OSError
    )
    monkeypatch.setattr(alone, "psutil", fake)
    monkeypatch.setattr(alone, "gpu_state", lambda _device: {"processes": 3})
    clock = iter([0.0, 1.9, 2.0, 2.0, 2.0])
    monkeypatch.setattr(alone.time, "perf_counter", lambda: next(clock))
    watch = Watch(CPU, refuse=False)
    watch.look(after=2.0)  # too early
    assert watch.worst == QUIET
    watch.look(after=2.0)
    # The machine worked 4 seconds in 2, of which this process and its child had 1.
    assert watch.worst == {"cpu_cores": 1.5, "gpu_processes": 2}


def test_the_worst_of_all_looks_is_kept_or_refused(monkeypatch):
    looks = [(0.01, 0), (0.9, 2), (0.02, 1)]
    others = iter([{"cpu_cores": cores, "gpu_processes": gpu} for cores, gpu in looks * 2])
    monkeypatch.setattr(Watch, "_others", lambda _self: next(others))
    watch = Watch(CPU, refuse=False)
    for _ in range(3):
        watch.look(after=0)
    assert watch.worst == {"cpu_cores": 0.9, "gpu_processes": 2}
    watch = Watch(CPU, refuse=True)
    watch.look(after=0)
    with pytest.raises(TimingError, match=r"0\.9 cores busy meanwhile, and 2 the GPU"):  # at once
        watch.look(after=0)


@pytest.mark.parametrize(
    ("cpu_cores", "gpu_processes", "expected"),
    [(0.0, None, False), (0.19, 0, False), (0.21, None, True), (0.0, 1, True)],
)
def test_what_is_too_much(monkeypatch, cpu_cores, gpu_processes, expected):
    monkeypatch.setattr(alone, "available_cores", lambda: 2)
    assert is_disturbed({"cpu_cores": cpu_cores, "gpu_processes": gpu_processes}) is expected


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


class Model(torch.nn.Module):
    nfe = 1

    def sample(self, n, generator):
        return torch.rand(n, 1, 2, 2, generator=generator)


def speeds(entries=("it",), modes=("eager", "graphed"), disturbed="mark"):  # graphed needs a GPU
    settings = tiny_config(
        {
            "timing.batch_sizes": [1],
            "timing.repetitions": 3,
            "timing.modes": list(modes),
            "timing.disturbed": disturbed,
        }
    ).timing
    return speed.measure_speed(lambda _entry: Model(), list(entries), settings, CPU, "title")


@pytest.mark.parametrize("disturbed", ["refuse", "mark"])
def test_disturbed_times_are_refused_or_marked(monkeypatch, capsys, disturbed):
    monkeypatch.setattr(Watch, "_others", lambda _self: QUIET | {"cpu_cores": 64.0})
    monkeypatch.setattr(Watch.look, "__defaults__", (0,))
    if disturbed == "refuse":
        with pytest.raises(TimingError, match=r"64 cores busy"):
            speeds(disturbed=disturbed)
    else:
        metrics, _ = speeds(disturbed=disturbed)["it"]
        assert metrics["disturbed"]
        assert [row["mode"] for row in metrics["sampling"]] == ["eager"]
        assert "100%" in capsys.readouterr().err


def test_what_is_timed_together_has_one_session():
    together, again = speeds(entries=["a", "b"]), speeds(entries=["a"])
    sessions = {entry: metrics["session"] for entry, (metrics, _) in together.items()}
    assert sessions["a"] == sessions["b"] != again["a"][0]["session"]
    for metrics, seconds in together.values():
        assert len(metrics["sampling"]) == 1
        assert seconds > 0


def test_eager_models_take_turns_and_compiled_ones_do_not():
    modes, entries = ["eager", "compiled", "graphed"], ["a", "b"]
    expected = [("eager", ["a", "b"]), ("compiled", ["a"]), ("compiled", ["b"])]
    assert list(speed._groups(modes, entries, CPU)) == expected
    expected += [("graphed", ["a"]), ("graphed", ["b"])]
    assert list(speed._groups(modes, entries, torch.device("cuda"))) == expected
    with pytest.raises(TimingError, match="none of the modes graphed runs on a cpu"):
        speeds(modes=["graphed"])

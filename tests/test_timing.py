"""Timing, with a clock that only the model moves: no test depends on real speed."""

import types

import numpy as np
import pytest
import torch

from benchmark import timing
from benchmark.timing import time_sampling

CPU = torch.device("cpu")


class Timed(torch.nn.Module):
    """Takes the given seconds per call, one after the other and then again from the first."""

    def __init__(self, clock, seconds):
        super().__init__()
        self.clock, self.seconds, self.calls = clock, seconds, []

    def sample(self, n, generator):
        assert not torch.is_grad_enabled()
        self.clock.now += self.seconds[len(self.calls) % len(self.seconds)]
        self.calls.append((n, generator.device.type))
        return torch.rand(n, 1, 2, 2, generator=generator)


@pytest.fixture
def clock(monkeypatch):
    state = types.SimpleNamespace(now=100.0, synchronised=0)

    def synchronise(_device):
        state.synchronised += 1

    monkeypatch.setattr(timing, "time", types.SimpleNamespace(perf_counter=lambda: state.now))
    monkeypatch.setattr(timing, "synchronise", synchronise)
    return state


def run(model, *, warmup=3, repetitions=20, seconds=1e9):
    return time_sampling(model, 4, CPU, warmup=warmup, repetitions=repetitions, seconds=seconds)


def test_counts(clock):
    model = Timed(clock, [1.0])
    found = run(model)
    assert (found["batch_size"], found["warmup"], found["repetitions"]) == (4, 3, 20)
    assert model.calls == [(4, "cpu")] * 23
    assert clock.synchronised == 2 * 20  # both ends of each


@pytest.mark.parametrize("warmup", [0, 3])
def test_quantiles_are_of_the_timed_calls_in_milliseconds(clock, warmup):
    # The untimed calls are the slow ones.
    seconds = [*[50.0] * warmup, *np.arange(1, 22) / 1000]
    found = run(Timed(clock, seconds), warmup=warmup, repetitions=21)
    expected = {"median": 11.0, "q25": 6.0, "q75": 16.0, "p95": 20.0}
    assert found["latency_ms"] == pytest.approx(expected)
    assert found["images_per_second"] == pytest.approx(4 / 0.011)


def test_a_timing_of_the_last_call_without_spread_is_told_apart(clock, monkeypatch):
    # A fault of earlier implementations, and the check above that it does not pass.
    monkeypatch.setattr(timing.np, "percentile", lambda times, levels: [times[-1]] * len(levels))
    found = run(Timed(clock, [*np.arange(1, 22) / 1000]), warmup=0, repetitions=21)
    assert [*found["latency_ms"].values()] == pytest.approx([21.0] * 4)


@pytest.mark.parametrize(
    ("seconds", "warmed", "expected"),
    [(1e-9, 1, 3), (1.5, 2, 3), (5.0, 3, 5), (12.5, 3, 13), (99.0, 3, 20), (1e9, 3, 20)],
)
def test_the_budget_ends_it_but_not_before_three(clock, seconds, warmed, expected):
    model = Timed(clock, [1.0])
    found = run(model, seconds=seconds)
    assert (found["warmup"], found["repetitions"]) == (warmed, expected)
    assert len(model.calls) == warmed + expected


def test_real_time_is_positive_and_ordered():
    class Model(torch.nn.Module):
        def sample(self, n, generator):
            return torch.rand(n, 1, 8, 8, generator=generator)

    found = run(Model(), seconds=1e-9)
    latency = found["latency_ms"]
    assert found["repetitions"] >= 3
    assert 0 < latency["q25"] <= latency["median"] <= latency["q75"] <= latency["p95"]
    assert found["images_per_second"] == pytest.approx(4000 / latency["median"])


def test_the_random_numbers_are_the_same_in_every_timing(clock):
    drawn = []

    class Model(Timed):
        def sample(self, n, generator):
            drawn.append(super().sample(n, generator))
            return drawn[-1]

    for _ in range(2):
        run(Model(clock, [1.0]), warmup=1, repetitions=10)
    assert all(torch.equal(a, b) for a, b in zip(drawn[:11], drawn[11:], strict=True))

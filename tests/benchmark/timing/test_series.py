"""Timing, with a clock that only the model moves: no test depends on real speed."""

import itertools
import types

import numpy as np
import pytest
import torch
from support.configs import MODEL_SETTINGS, tiny_config

from benchmark import steps
from benchmark.base.errors import DataError, TrainingError
from benchmark.timing import sampling, series
from benchmark.timing.sampling import MODES, flops_per_image, set_mode, time_sampling, time_updates
from benchmark.timing.series import TURNS, Limits, Series, run_in_turns, time_calls

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

    monkeypatch.setattr(series, "time", types.SimpleNamespace(perf_counter=lambda: state.now))
    monkeypatch.setattr(series, "synchronise", synchronise)
    return state


def run(model, *, warmup=3, repetitions=20, seconds=1e9):
    draws = torch.Generator().manual_seed(0)

    def call():
        with torch.no_grad():
            model.sample(4, draws)

    return time_calls(call, CPU, Limits(warmup, repetitions, seconds))


def run_models(models, sizes, longest_call=1e9):
    options = {"batch_sizes": sizes, "longest_call": longest_call, "limits": Limits(1, 3, 1e9)}
    return list(time_sampling(models, CPU, mode="eager", **options))


def run_sizes(model, sizes, longest_call=1e9):
    timed = run_models({"it": model}, sizes, longest_call)
    return [rows["it"][0] for rows in timed if rows]


def test_counts(clock):
    model = Timed(clock, [1.0])
    found = run(model)
    assert (found["warmup"], found["repetitions"]) == (3, 20)
    assert model.calls == [(4, "cpu")] * 23
    assert clock.synchronised == 2 * 23  # both ends of each


@pytest.mark.parametrize("warmup", [0, 3])
def test_quantiles_are_of_the_timed_calls_in_milliseconds(clock, warmup):
    # The untimed calls are the slow ones.
    seconds = [*[50.0] * warmup, *np.arange(1, 22) / 1000]
    found = run(Timed(clock, seconds), warmup=warmup, repetitions=21)
    expected = {"median": 11.0, "q25": 6.0, "q75": 16.0, "p95": 20.0}
    assert found["latency_ms"] == pytest.approx(expected)
    assert found["joules"] is None  # a CPU does not count them


def test_a_timing_of_the_last_call_without_spread_is_told_apart(clock, monkeypatch):
    # A fault of earlier implementations, and the check above that it does not pass.
    monkeypatch.setattr(series.np, "percentile", lambda times, levels: [times[-1]] * len(levels))
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


def test_models_take_turns(clock):
    """A hundred quick calls in ten turns; the three that fit of a slow one in three of these, far
    from each other. A quick one makes an untimed call after those of the other."""
    order = []

    def takes(name, seconds):
        def call():
            clock.now += seconds
            order.append(name)

        return Series(call, CPU)

    quick, slow = takes("quick", 0.001), takes("slow", 10.0)
    run_in_turns([quick, slow], Limits(warmup=2, repetitions=100, seconds=5.0))
    assert order[:3] == ["quick", "quick", "slow"]
    runs = [(name, len(list(calls))) for name, calls in itertools.groupby(order[3:])]
    assert [count for name, count in runs if name == "slow"] == [1, 1, 1]
    burst = 100 // TURNS + 1
    between = [count // burst for name, count in runs if name == "quick"]
    # Either may come first in a turn.
    assert between[0] in (3, 4)
    assert set(between[1:-1]) <= {2, 3, 4}
    assert sum(between) == TURNS
    assert [each.found()["repetitions"] for each in (quick, slow)] == [100, 3]
    assert [each.seconds for each in (quick, slow)] == pytest.approx([0.112, 40.0])


def test_who_comes_first_in_a_turn_varies(clock):
    order = []

    def takes(name):
        def call():
            clock.now += 1.0
            order.append(name)

        return Series(call, CPU)

    run_in_turns([takes("a"), takes("b")], Limits(warmup=0, repetitions=TURNS, seconds=1e9))
    first = order[:: len(order) // TURNS]
    assert {first.count(name) for name in "ab"} <= set(range(2, 9))


def test_energy_is_counted_over_calls_that_are_not_timed(clock, monkeypatch):
    """A counter that needs a second, of a device that takes 50 watts."""

    class Meter:
        counts = True

        def __init__(self, _device):
            self.start = clock.now

        def joules(self):
            return 50 * (clock.now - self.start) if clock.now - self.start >= 1 else None

    monkeypatch.setattr(series, "EnergyMeter", Meter)

    def call():
        clock.now += 0.25

    timed = Series(call, CPU)
    run_in_turns([timed], Limits(warmup=0, repetitions=3, seconds=1e9))
    assert timed.found()["joules"] == pytest.approx(50 * 0.25)
    assert timed.seconds == pytest.approx((3 + 4) * 0.25)
    timed = Series(call, CPU)
    run_in_turns([timed], Limits(warmup=0, repetitions=3, seconds=1e9), weigh=False)
    assert timed.found()["joules"] is None
    assert timed.seconds == pytest.approx(3 * 0.25)


@pytest.mark.parametrize("in_turns", [True, False])
def test_a_machine_that_slows_down_slows_all_that_take_turns(clock, in_turns):
    """Ten hours in which everything comes to take twice as long."""
    begin = clock.now

    def call():
        clock.now += 30.0 * (1 + (clock.now - begin) / 36_000)

    first, second = Series(call, CPU), Series(call, CPU)
    for group in [[first, second]] if in_turns else [[first], [second]]:
        run_in_turns(group, Limits(warmup=0, repetitions=400, seconds=1e9))
    medians = [each.found()["latency_ms"]["median"] for each in (first, second)]
    ratio = medians[1] / medians[0]
    assert ratio < 1.05 if in_turns else ratio > 1.3


def test_one_model_that_fails_leaves_the_others_their_turns(clock):
    models = {"large": Linear(clock, largest=2), "small": Linear(clock)}
    found = run_models(models, [1, 4])
    images = [
        {entry: row.get("left_out") for entry, (row, _) in rows.items()} for rows in found[:2]
    ]
    assert images == [
        {"large": None, "small": None},
        {"large": "out of memory", "small": None},
    ]
    assert [rows["small"][1] for rows in found] == pytest.approx([7, 28, 3.5, 14])
    assert found[1]["large"][1] == 0


def test_real_time_is_positive_and_ordered():
    class Model(torch.nn.Module):
        def sample(self, n, generator):
            return torch.rand(n, 1, 8, 8, generator=generator)

    found = run(Model(), seconds=1e-9)
    latency = found["latency_ms"]
    assert found["repetitions"] >= 3
    assert 0 < latency["q25"] <= latency["median"] <= latency["q75"] <= latency["p95"]


def test_the_random_numbers_are_the_same_in_every_timing(clock):
    drawn = []

    class Model(Timed):
        def sample(self, n, generator):
            drawn.append(super().sample(n, generator))
            return drawn[-1]

    for _ in range(2):
        run(Model(clock, [1.0]), warmup=1, repetitions=10)
    assert all(torch.equal(a, b) for a, b in zip(drawn[:11], drawn[11:], strict=True))


class Linear(torch.nn.Module):
    """Takes a second per image, half of it for the latents."""

    def __init__(self, clock, largest=10**9):
        super().__init__()
        self.clock, self.largest, self.sizes = clock, largest, []

    def sample(self, n, generator):
        if n > self.largest:
            raise torch.OutOfMemoryError
        self.sizes.append(n)
        self.clock.now += 0.5 * n
        return torch.rand(len(self.sample_latents(n, generator)), 1, 2, 2)

    def sample_latents(self, n, generator):
        self.clock.now += 0.5 * n
        return torch.rand(n, 3, generator=generator)


def test_both_parts_are_timed_at_every_size(clock):
    rows = run_sizes(Linear(clock), [4, 1])
    found = [(row["part"], row["batch_size"], row["latency_ms"]["median"]) for row in rows]
    expected = [("images", 1, 1e3), ("images", 4, 4e3), ("latents", 1, 500), ("latents", 4, 2e3)]
    assert found == expected
    assert [row["images_per_second"] for row in rows] == pytest.approx([1, 1, 2, 2])


def test_what_would_take_too_long_is_left_out(clock):
    model = Linear(clock)
    rows = run_sizes(model, [1, 8, 64, 512], longest_call=10)
    images = [row for row in rows if row["part"] == "images"]
    assert [row.get("left_out") for row in images] == [
        None,
        None,
        "a call would take 64 s or more",
        "a call would take 64 s or more",
    ]
    assert set(model.sizes) == {1, 8}


def test_updates_take_turns_after_some_that_are_not_timed(clock):
    made = []

    def update(entry, seconds, fewer):
        def call():
            made.append(entry)
            if entry == "large":
                raise torch.OutOfMemoryError
            if entry == "ill":
                raise TrainingError("mnist · ill: the loss is nan\n  Lower the learning rate.")
            clock.now += fewer if made.count(entry) > sampling.EARLY else seconds

        return lambda: call

    updates = {
        "is": update("is", 0.01, 0.002),
        "slow": update("slow", 2.0, 2.0),
        "large": update("large", 1.0, 1.0),
        "ill": update("ill", 1.0, 1.0),
    }
    turns = []
    limits = Limits(warmup=1, repetitions=20, seconds=10.0)
    found = time_updates(updates, CPU, limits, lambda: turns.append(clock.now))
    (fast, fast_seconds), (slow, slow_seconds) = found["is"], found["slow"]
    assert (fast["warmup"], fast["repetitions"]) == (sampling.EARLY, 20)
    assert fast["latency_ms"]["median"] == pytest.approx(2.0)
    assert (slow["warmup"], slow["repetitions"], slow["latency_ms"]["median"]) == (20, 5, 2000)
    assert slow_seconds == 50
    assert fast_seconds == pytest.approx(sampling.EARLY * 0.01 + 0.002 * (made.count("is") - 300))
    assert found["large"] == ({"left_out": "out of memory"}, 0.0)
    assert found["ill"] == ({"left_out": "mnist · ill: the loss is nan"}, 0.0)
    assert len(turns) == len(updates) + series.TURNS  # what else goes on is looked at after each
    # After the warming up neither is done before the other begins.
    timed = made[sampling.EARLY + 20 + 2 :]
    slow_ones = [place for place, entry in enumerate(timed) if entry == "slow"]
    assert "is" in timed[slow_ones[0] : slow_ones[-1]]


def test_a_gpu_is_not_expected_to_take_longer_for_more_images_until_it_does():
    cuda = torch.device("cuda")
    expected = sampling._expected
    assert expected([(1, 2.0)], 8, CPU) == expected([(1, 9.0), (4, 2.0)], 32, CPU) == 16
    assert expected([(1, 2.0)], 8, cuda) == 2
    assert expected([(1, 2.0), (8, 1.9)], 64, cuda) == 1.9
    assert expected([(1, 1.0), (8, 2.0), (64, 16.0)], 512, cuda) == pytest.approx(128)


def test_what_the_memory_does_not_hold_is_left_out(clock):
    rows = run_sizes(Linear(clock, largest=10), [1, 16, 64])
    images = [row for row in rows if row["part"] == "images"]
    assert [row.get("left_out") for row in images] == [None, "out of memory", "out of memory"]


def test_a_mode_compiles_what_sampling_runs():
    compiled = []
    model = types.SimpleNamespace(compile=lambda **options: compiled.append(options))
    set_mode(model, "eager")
    assert compiled == []
    set_mode(model, "graphed")
    assert compiled == [MODES["graphed"]]


def test_flops():
    """By hand: a convolution, and the gradient of a linear layer by its input."""
    convolution, linear = torch.nn.Conv2d(2, 3, 3, padding=1), torch.nn.Linear(4, 1)

    class Model(torch.nn.Module):
        def sample(self, n, generator):
            convolution(torch.rand(n, 2, 5, 5, generator=generator))
            with torch.enable_grad():
                z = torch.rand(n, 4, generator=generator).requires_grad_()
                return torch.autograd.grad(linear(z).sum(), z)[0]

    assert flops_per_image(Model(), CPU) == 2 * (25 * 3 * 2 * 9) + 2 * 4 + 2 * 4


def test_which_updates_there_are_to_time(monkeypatch):
    models = {name: MODEL_SETTINGS[name] for name in ("vae", "latent_ebm")}
    models["gaussian"] = {"weights_of": "latent_ebm", "prior_steps": 0}
    config = tiny_config({"models": models, "models.vae.training": {"batch_size": 7}})
    batch = config.training_job("digits", "latent_ebm").settings["training"]["batch_size"]
    found = steps._updates(config, "digits", list(models), 0, CPU)
    assert {model: size for model, (size, _) in found.items()} == {"vae": 7, "latent_ebm": batch}
    training = found["vae"][1]()
    training()
    assert training.__self__.update == 1
    assert training.__self__.model.training

    def missing(*_):
        raise DataError("digits: not there")

    monkeypatch.setattr(steps, "load_data", missing)
    found = steps._updates(config, "digits", list(models), 0, CPU)
    assert found == {"vae": (7, None), "latent_ebm": (batch, None)}

"""Timing, with a clock that only the model moves: no test depends on real speed."""

import itertools
import types

import numpy as np
import pytest
import torch
from support.configs import MODEL_SETTINGS, tiny_config

from benchmark import steps
from benchmark.base.errors import DataError, TrainingError
from benchmark.config.jobs import job_of
from benchmark.timing import sampling, series
from benchmark.timing.sampling import (
    MODES,
    expected_seconds,
    flops_per_image,
    set_mode,
    time_sampling,
    time_updates,
)
from benchmark.timing.series import TURNS, Limits, Series, draw_call, run_in_turns, time_calls

CPU = torch.device("cpu")
PLENTY = 1e9  # seconds


class Linear(torch.nn.Module):
    """A model that takes a second per image, half of it for the latents."""

    def __init__(self, clock, largest=10**9):
        super().__init__()
        self.clock, self.largest, self.sizes = clock, largest, []

    def sample(self, n, generator):
        assert not torch.is_grad_enabled()
        if n > self.largest:
            raise torch.OutOfMemoryError
        self.sizes.append(n)
        self.clock.now += 0.5 * n
        return torch.rand(len(self.sample_features(n, generator)), 1, 2, 2)

    def sample_features(self, n, generator):
        self.clock.now += 0.5 * n
        return torch.rand(n, 3, generator=generator)


@pytest.fixture
def clock(monkeypatch):
    state = types.SimpleNamespace(now=100.0, synchronised=0)

    def synchronise(_device):
        state.synchronised += 1

    monkeypatch.setattr(series, "time", types.SimpleNamespace(perf_counter=lambda: state.now))
    monkeypatch.setattr(series, "synchronise", synchronise)
    return state


@pytest.fixture
def takes(clock):
    """Makes calls that take these seconds in turn, listed by name in `takes.order`."""

    def make(name: str, *seconds: float):
        durations = itertools.cycle(seconds)

        def call():
            clock.now += next(durations)
            make.order.append(name)

        return call

    make.order = []
    return make


def time_models(models, sizes, longest_call=PLENTY):
    options = {"batch_sizes": sizes, "longest_call": longest_call, "limits": Limits(1, 3, PLENTY)}
    return list(time_sampling(models, CPU, mode="eager", **options))


def time_sizes(model, sizes, longest_call=PLENTY):
    return [rows["it"][0] for rows in time_models({"it": model}, sizes, longest_call)]


def left_out(rows):
    return [row.get("left_out") for row in rows if row["part"] == "images"]


# One call -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "warmed", "timed"),
    [(1e-9, 1, 3), (1.5, 2, 3), (5.0, 3, 5), (12.5, 3, 13), (99.0, 3, 20), (PLENTY, 3, 20)],
)
def test_the_budget_ends_it_but_not_before_three(clock, takes, seconds, warmed, timed):
    row = time_calls(takes("it", 1.0), CPU, Limits(3, 20, seconds))
    assert (row["warmup"], row["repetitions"]) == (warmed, timed)
    assert len(takes.order) == warmed + timed
    assert clock.synchronised == 2 * (warmed + timed)  # both ends of each


@pytest.mark.parametrize("warmup", [0, 3])
def test_quantiles_are_of_the_timed_calls_in_milliseconds(takes, warmup):
    # The untimed calls are the slow ones.
    call = takes("it", *[50.0] * warmup, *np.arange(1, 22) / 1000)
    row = time_calls(call, CPU, Limits(warmup, 21, PLENTY))
    expected = {"median": 11.0, "q25": 6.0, "q75": 16.0, "p95": 20.0}
    assert row["latency_ms"] == pytest.approx(expected)
    assert row["joules"] is None  # a CPU does not count them


def test_real_time_is_positive_and_ordered():
    row = time_calls(lambda: torch.rand(9).sum(), CPU, Limits(1, 20, 1e-9))
    latency = row["latency_ms"]
    assert row["repetitions"] >= 3
    assert 0 < latency["q25"] <= latency["median"] <= latency["q75"] <= latency["p95"]


def test_the_random_numbers_are_the_same_in_every_timing():
    calls = [draw_call(lambda n, draws: torch.rand(n, generator=draws), 4, CPU) for _ in range(2)]
    one, other = ([call() for _ in range(3)] for call in calls)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one[0], one[1])


# Turns --------------------------------------------------------------------------------------------


def test_models_take_turns(takes):
    """A hundred quick calls in ten turns; the three that fit of a slow one in three of these, far
    from each other. A quick one makes an untimed call after those of the other."""
    quick, slow = Series(takes("quick", 0.001), CPU), Series(takes("slow", 10.0), CPU)
    run_in_turns([quick, slow], Limits(warmup=2, repetitions=100, seconds=5.0))
    assert takes.order[:3] == ["quick", "quick", "slow"]
    runs = [(name, len(list(calls))) for name, calls in itertools.groupby(takes.order[3:])]
    assert [count for name, count in runs if name == "slow"] == [1, 1, 1]
    burst = 100 // TURNS + 1
    between = [count // burst for name, count in runs if name == "quick"]
    # Either may come first in a turn.
    assert between[0] in (3, 4)
    assert set(between[1:-1]) <= {2, 3, 4}
    assert sum(between) == TURNS
    assert [one.summary()["repetitions"] for one in (quick, slow)] == [100, 3]
    assert [one.seconds for one in (quick, slow)] == pytest.approx([0.112, 40.0])


def test_who_comes_first_in_a_turn_varies(takes):
    run_in_turns([Series(takes(name, 1.0), CPU) for name in "ab"], Limits(0, TURNS, PLENTY))
    first = takes.order[:: len(takes.order) // TURNS]
    assert {first.count(name) for name in "ab"} <= set(range(2, 9))


@pytest.mark.parametrize(("weigh", "joules", "calls"), [(True, 50 * 0.25, 3 + 4), (False, None, 3)])
def test_energy_is_counted_over_calls_that_are_not_timed(
    clock, takes, monkeypatch, weigh, joules, calls
):
    """A counter that needs a second, of a device that takes 50 watts."""

    class Meter:
        counts = True

        def __init__(self, _device):
            self.start = clock.now

        def joules(self):
            return 50 * (clock.now - self.start) if clock.now - self.start >= 1 else None

    monkeypatch.setattr(series, "EnergyMeter", Meter)
    timed = Series(takes("it", 0.25), CPU)
    run_in_turns([timed], Limits(warmup=0, repetitions=3, seconds=PLENTY), weigh=weigh)
    assert timed.summary()["joules"] == (joules and pytest.approx(joules))
    assert timed.seconds == pytest.approx(calls * 0.25)


@pytest.mark.parametrize("in_turns", [True, False])
def test_a_machine_that_slows_down_slows_all_that_take_turns(clock, in_turns):
    """Ten hours in which everything comes to take twice as long."""
    begin = clock.now

    def call():
        clock.now += 30.0 * (1 + (clock.now - begin) / 36_000)

    first, second = Series(call, CPU), Series(call, CPU)
    for group in [[first, second]] if in_turns else [[first], [second]]:
        run_in_turns(group, Limits(warmup=0, repetitions=400, seconds=PLENTY))
    medians = [one.summary()["latency_ms"]["median"] for one in (first, second)]
    ratio = medians[1] / medians[0]
    assert ratio < 1.05 if in_turns else ratio > 1.3


# Sampling -----------------------------------------------------------------------------------------


def test_both_parts_are_timed_at_every_size(clock):
    rows = time_sizes(Linear(clock), [4, 1])
    cells = [(row["part"], row["batch_size"], row["latency_ms"]["median"]) for row in rows]
    expected = [("images", 1, 1e3), ("images", 4, 4e3), ("latents", 1, 500), ("latents", 4, 2e3)]
    assert cells == expected
    assert [row["images_per_second"] for row in rows] == pytest.approx([1, 1, 2, 2])


def test_one_model_that_fails_leaves_the_others_their_turns(clock):
    models = {"large": Linear(clock, largest=2), "small": Linear(clock)}
    timed = time_models(models, [1, 4])
    images = [{entry: row.get("left_out") for entry, (row, _) in t.items()} for t in timed[:2]]
    assert images == [{"large": None, "small": None}, {"large": "out of memory", "small": None}]
    assert [rows["small"][1] for rows in timed] == pytest.approx([7, 28, 3.5, 14])
    assert timed[1]["large"][1] == 0


def test_what_would_take_too_long_is_left_out(clock):
    model = Linear(clock)
    why = "a call would take 64 s or more"
    assert left_out(time_sizes(model, [1, 8, 64, 512], longest_call=10)) == [None, None, why, why]
    assert set(model.sizes) == {1, 8}


def test_what_the_memory_does_not_hold_is_left_out(clock):
    why = "out of memory"
    assert left_out(time_sizes(Linear(clock, largest=10), [1, 16, 64])) == [None, why, why]


def test_a_gpu_is_not_expected_to_take_longer_for_more_images_until_it_does():
    cuda = torch.device("cuda")
    assert expected_seconds([(1, 2.0)], 8, CPU) == 16
    assert expected_seconds([(1, 9.0), (4, 2.0)], 32, CPU) == 16
    assert expected_seconds([(1, 2.0)], 8, cuda) == 2
    assert expected_seconds([(1, 2.0), (8, 1.9)], 64, cuda) == 1.9
    assert expected_seconds([(1, 1.0), (8, 2.0), (64, 16.0)], 512, cuda) == pytest.approx(128)


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


# Updates ------------------------------------------------------------------------------------------


def test_updates_take_turns_after_some_that_are_not_timed(clock):
    made = []

    def update(entry, seconds, later):
        def call():
            made.append(entry)
            if isinstance(seconds, Exception):
                raise seconds
            clock.now += later if made.count(entry) > sampling.EARLY else seconds

        return lambda: call

    ill = TrainingError("mnist · ill: the loss is nan\n  Lower the learning rate.")
    updates = {
        "is": update("is", 0.01, 0.002),
        "slow": update("slow", 2.0, 2.0),
        "large": update("large", torch.OutOfMemoryError(), 1.0),
        "ill": update("ill", ill, 1.0),
    }
    turns = []
    limits = Limits(warmup=1, repetitions=20, seconds=10.0)
    timed = time_updates(updates, CPU, limits, lambda: turns.append(clock.now))
    (fast, fast_seconds), (slow, slow_seconds) = timed["is"], timed["slow"]
    assert (fast["warmup"], fast["repetitions"]) == (sampling.EARLY, 20)
    assert fast["latency_ms"]["median"] == pytest.approx(2.0)
    assert (slow["warmup"], slow["repetitions"], slow["latency_ms"]["median"]) == (20, 5, 2000)
    assert slow_seconds == 50
    assert fast_seconds == pytest.approx(sampling.EARLY * 0.01 + 0.002 * (made.count("is") - 300))
    assert timed["large"] == ({"left_out": "out of memory"}, 0.0)
    assert timed["ill"] == ({"left_out": "mnist · ill: the loss is nan"}, 0.0)
    assert len(turns) == len(updates) + TURNS  # what else goes on is looked at after each
    # After the warming up neither is done before the other begins.
    order = made[sampling.EARLY + 20 + 2 :]
    slow_ones = [place for place, entry in enumerate(order) if entry == "slow"]
    assert "is" in order[slow_ones[0] : slow_ones[-1]]


def test_which_updates_there_are_to_time(monkeypatch):
    models = {name: MODEL_SETTINGS[name] for name in ("vae", "latent_ebm")}
    models["gaussian"] = {"weights_of": "latent_ebm", "prior_steps": 0}
    config = tiny_config({"models": models, "models.vae.training": {"batch_size": 7}})
    batch = job_of(config, "training", "digits", "latent_ebm").settings.training.batch_size
    updates = steps._updates(config, "digits", list(models), 0, CPU)
    assert {model: size for model, (size, _) in updates.items()} == {"vae": 7, "latent_ebm": batch}
    training = updates["vae"][1]()
    training()
    assert training.__self__.update == 1
    assert training.__self__.model.training

    def missing(*_):
        raise DataError("digits: not there")

    monkeypatch.setattr(steps, "load_data", missing)
    updates = steps._updates(config, "digits", list(models), 0, CPU)
    assert updates == {"vae": (7, None), "latent_ebm": (batch, None)}


@pytest.mark.parametrize(("first", "fitted"), [(4, True), (5, False)])  # of five updates
def test_an_update_is_timed_with_the_copula_that_chains_feel(first, fitted):
    copula = {"model": "kaem_ula", "copula": {"components": 2, "first": first}}
    config = tiny_config({"models.kaem_copula": MODEL_SETTINGS["kaem_ula"] | copula})
    (_, build), *_ = steps._updates(config, "digits", ["kaem_copula"], 0, CPU).values()
    assert build().__self__.model.prior.dependent == fitted

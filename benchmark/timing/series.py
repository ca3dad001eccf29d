"""Latency and throughput of sampling, and what an update of training takes.

Each repetition is one call, from random numbers to uint8 images on the device (or, for "latents",
to what the decoder is given), with the device synchronised at both ends. Models that are to be
compared take turns, so that whatever else slows the machine slows them alike. Weights may be
untrained: the cost does not depend on them.
"""

import itertools
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from benchmark.base.errors import TrainingError
from benchmark.timing.gpu import EnergyMeter

Call = Callable[[], object]

FEWEST = 3  # timed calls, for samplers of a thousand steps that take minutes each
TURNS = 10  # in which a model's repetitions are made; fewer where each is longer than its turn


@dataclass(frozen=True)
class Limits:
    """How often a call is timed.

    Attributes:
        warmup: untimed calls before; fewer when `seconds` pass first, but one if any.
        repetitions: timed calls; fewer when they take `seconds`, but then at least `FEWEST`.
        warmup_seconds: for the untimed calls; `seconds` by default.
    """

    warmup: int
    repetitions: int
    seconds: float
    warmup_seconds: float | None = None


class Series:
    """The timed calls of one kind, made in several bursts.

    Attributes:
        failed: why there are none, as when memory does not hold them.
        seconds: that all calls took, untimed ones included.
    """

    def __init__(self, call: Call, device: torch.device):
        self._call, self._device = call, device
        self._warmed, self._times = 0, []
        self._last, self._joules, self._peak = 0.0, None, None
        self.failed: str | None = None
        self.seconds = 0.0

    def warm(self, limits: Limits) -> None:
        """Make the untimed calls before all others."""
        allowed = limits.seconds if limits.warmup_seconds is None else limits.warmup_seconds
        end = time.perf_counter() + allowed
        while self._warmed < limits.warmup and not (self._warmed and time.perf_counter() >= end):
            self._once()
            self._warmed += 1

    def has_turn(self, turn: int, limits: Limits) -> bool:
        """Return whether some of its calls are due in this turn: as many turns as calls that are
        long, far from each other."""
        fitting = limits.seconds / self._last if self._last else limits.repetitions
        calls = min(max(FEWEST, round(fitting)), limits.repetitions, TURNS)
        return turn >= TURNS or (turn + 1) * calls // TURNS > turn * calls // TURNS

    def refresh(self, limits: Limits) -> None:
        """Make an untimed call after those of others, whose data are in the caches now; not of long
        calls, which hardly notice."""
        if self._last < limits.seconds / TURNS / 10:
            self._once()

    def burst(self, limits: Limits) -> bool:
        """Make the timed calls of a turn, one at least; return whether more are due."""
        already = len(self._times)
        most = min(already + math.ceil(limits.repetitions / TURNS), limits.repetitions)
        left = limits.seconds - sum(self._times)
        end = time.perf_counter() + min(limits.seconds / TURNS, left)
        while len(self._times) < most:
            if len(self._times) > already and time.perf_counter() >= end:
                break
            self._times.append(self._once())
        late = sum(self._times) >= limits.seconds and len(self._times) >= FEWEST
        return len(self._times) < limits.repetitions and not late

    def weigh(self) -> None:
        """Make calls for as long as the device's counter of energy needs, if it has one."""
        meter, calls = EnergyMeter(self._device), 0
        while meter.counts and self._joules is None:
            self._once()
            calls += 1
            joules = meter.joules()
            self._joules = None if joules is None else joules / calls

    def summary(self) -> dict:
        """Return what records hold of the timed calls.

        Returns:
            {"warmup", "repetitions", "latency_ms": {"median", "q25", "q75", "p95"}, "joules",
            "peak_memory_bytes"}. The energy is that of a call, None where it was not measured or
            the device has no counter; the memory is the GPU's at its peak, beyond what was taken
            before (the weights of all models among it), None on a CPU.
        """
        milliseconds = 1e3 * np.array(self._times)
        q25, median, q75, p95 = (float(q) for q in np.percentile(milliseconds, [25, 50, 75, 95]))
        return {
            "warmup": self._warmed,
            "repetitions": len(self._times),
            "latency_ms": {"median": median, "q25": q25, "q75": q75, "p95": p95},
            "joules": self._joules,
            "peak_memory_bytes": self._peak,
        }

    @contextmanager
    def failure_noted(self) -> Iterator[None]:
        """Note that the device's memory or the compiler refuses a call, or that training fails."""
        try:
            yield
        except torch.OutOfMemoryError:
            self.failed = "out of memory"
        except _compile_error() as error:
            self.failed = f"torch.compile: {str(error).strip().splitlines()[0]}"
        except TrainingError as error:
            self.failed = str(error).splitlines()[0]

    def _once(self) -> float:
        """Return the seconds of one call."""
        on_gpu = self._device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self._device)
            before = torch.cuda.memory_allocated(self._device)
        self._last = seconds_of(self._call, self._device)
        if on_gpu:
            peak = torch.cuda.max_memory_allocated(self._device) - before
            self._peak = max(self._peak or 0, peak)
        self.seconds += self._last
        return self._last


def _compile_error() -> type[Exception]:
    """Return what torch.compile raises. Importing it takes seconds: only once something failed."""
    from torch._dynamo.exc import TorchDynamoException

    return TorchDynamoException


def run_in_turns(
    series: list[Series], limits: Limits, *, weigh: bool = True, after_turn: Call = lambda: None
) -> None:
    """Warm every series up, then make the timed calls of all of them in turns.

    The order is drawn anew for each turn, so that none always follows the same one. A series that
    fails notes why, and the others go on.

    Args:
        weigh: whether to measure the energy of a call as well.
        after_turn: called after the warming up of each series, and after each turn.
    """
    for one in series:
        with one.failure_noted():
            one.warm(limits)
        after_turn()
    due, order = [one for one in series if not one.failed], random.Random(0)
    for turn in itertools.count():
        if not due:
            break
        now = [one for one in due if one.has_turn(turn, limits)]
        order.shuffle(now)
        for one in now:
            more = False
            with one.failure_noted():
                if len(series) > 1:
                    one.refresh(limits)
                more = one.burst(limits)
            if not more:
                due.remove(one)
        after_turn()
    for one in series:
        if weigh and not one.failed:
            with one.failure_noted():
                one.weigh()


def time_calls(call: Call, device: torch.device, limits: Limits) -> dict:
    """Time one call alone; return `Series.summary`."""
    series = Series(call, device)
    series.warm(limits)
    while series.burst(limits):
        pass
    return series.summary()


def seconds_of(call: Call, device: torch.device) -> float:
    """Return the seconds of one call, with the device synchronised at both ends."""
    if device.type == "cuda":
        torch.compiler.cudagraph_mark_step_begin()
    synchronise(device)
    start = time.perf_counter()
    call()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    """Wait for the device to have done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def image_call(model: torch.nn.Module, size: int, device: torch.device) -> Call:
    """Return a call that draws so many images."""
    model.eval()
    return draw_call(model.sample, size, device)


def draw_call(sample: Callable, size: int, device: torch.device) -> Call:
    """Return a call of `sample(size, generator)`, without gradients."""
    draws = generator_on(device)

    def call() -> object:
        with torch.no_grad():  # not inference_mode: in it Langevin samplers could take no gradient
            return sample(size, draws)

    return call


def step_call(model: torch.nn.Module, images: torch.Tensor) -> Call:
    """Return a call that makes one update of Adam on these images, as the training loop does."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    draws = generator_on(images.device)
    which = {"index": torch.arange(len(images))} if getattr(model, "needs_index", False) else {}
    model.train()

    def call() -> None:
        loss, _ = model.loss(images, draws, **which)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return call


def generator_on(device: torch.device) -> torch.Generator:
    """Return a seeded source of random numbers on the device."""
    return torch.Generator(device=device).manual_seed(0)

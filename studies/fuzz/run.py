"""Runs readers on spoilt files within a time and a memory, and counts what happened."""

import contextlib
import resource
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from benchmark.base.errors import BenchmarkError

LONGEST = 10  # seconds of the processor for one input
PATIENCE = 20  # times as long by the clock
MEMORY = 2**30  # bytes beyond what the process has


@dataclass(frozen=True)
class Reader:
    """One reader and its inputs.

    Attributes:
        name: of what it reads.
        inputs: contents of the file.
        read: reads the file at a path as the project does, as far as the values are used.
        errors: what it may raise.
        suffix: of the file's name.
    """

    name: str
    inputs: st.SearchStrategy[bytes]
    read: Callable[[Path], object]
    errors: tuple[type[Exception], ...] = (BenchmarkError,)
    suffix: str = ""


class TooLongError(BaseException):
    """An input took too long; no reader catches this by accident."""


@dataclass
class Count:
    """How often a reader did what with its inputs.

    Attributes:
        slowest: seconds of the processor, of the slowest input.
    """

    reader: str
    inputs: int = 0
    refused: int = 0
    accepted: int = 0
    slowest: float = 0.0


def fuzz(reader: Reader, inputs: int, place: Path) -> Count:
    """Give a reader at least so many spoilt files; what it may not raise is raised here, with the
    smallest input that hypothesis finds left at `place`."""
    count = Count(reader.name)

    def one(content: bytes) -> None:
        path = place / f"input{reader.suffix}"
        path.write_bytes(content)
        count.inputs += 1
        started = time.process_time()
        try:
            with _time_limit(LONGEST):
                reader.read(path)
            count.accepted += 1
        except reader.errors:
            count.refused += 1
        count.slowest = max(count.slowest, time.process_time() - started)

    number = 0
    with memory_limit(MEMORY):
        while count.inputs < inputs:  # hypothesis ends early where it has seen everything
            seed(number)(_test(one, inputs - count.inputs, reader))()
            number += 1
    return count


def _test(one, inputs: int, reader: Reader):
    options = settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    return options(given(reader.inputs)(lambda content: one(content)))


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Limit the time: of the processor, so that a busy machine is no fault, and of the clock, for
    what waits."""

    def stop(_signal, _frame):
        raise TooLongError(f"more than {seconds} s")

    timers = {
        signal.SIGPROF: (signal.ITIMER_PROF, seconds),
        signal.SIGALRM: (signal.ITIMER_REAL, PATIENCE * seconds),
    }
    before = {number: signal.signal(number, stop) for number in timers}
    for timer, limit in timers.values():
        signal.setitimer(timer, limit, 1.0)  # again and again: a callback may swallow the error
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


@contextlib.contextmanager
def memory_limit(more: int) -> Iterator[None]:
    """Let the process have this many bytes beyond what it has mapped: an allocation that would
    take more fails."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)

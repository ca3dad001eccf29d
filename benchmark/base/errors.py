"""Errors that end a command with one clear message instead of a traceback."""

from pathlib import Path


class BenchmarkError(Exception):
    """Something the user can mend; the message says what, where and what to do."""


class ConfigError(BenchmarkError):
    """All that is wrong with a configuration, in one message."""

    def __init__(self, source: str, problems: list[str]):
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{source}: {count}\n" + "\n".join(f"  - {p}" for p in problems))


class DataError(BenchmarkError):
    """A dataset is missing, damaged or not the one it should be."""


class TrainingError(BenchmarkError):
    """Training cannot go on."""


class TimingError(BenchmarkError):
    """A time was measured while other work went on."""


class Stopped(BenchmarkError):
    """The process was told to end, and did so where the work can go on later.

    Attributes:
        signal: the number of the signal that told it.
    """

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal


class RecordError(BenchmarkError):
    """A record, a weights file or a samples file is not what it should be."""


class MissingError(RecordError):
    """What a figure shows was not measured yet."""


def unreadable(path: str | Path, what: str, error: Exception) -> RecordError:
    """Return the error that says why a file cannot be read as what it should hold."""
    why = "it is not there" if isinstance(error, FileNotFoundError) else error
    return RecordError(f"{path}: cannot be read as {what}: {why}")

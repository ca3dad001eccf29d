"""Errors that end a command with one clear message instead of a traceback."""

import sys
from collections.abc import Callable


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


class RecordError(BenchmarkError):
    """A record, a weights file or a samples file is not what it should be."""


def exit_code(command: Callable[[], None]) -> int:
    """Run a command; 0 when it is done, 1 with its message when it is refused or fails, 130 when
    it is interrupted."""
    try:
        command()
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing half-written was left", file=sys.stderr)
        return 130
    return 0

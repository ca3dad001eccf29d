"""Errors that end a command with one clear message instead of a traceback."""


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


class RecordError(BenchmarkError):
    """A record, a weights file or a samples file is not what it should be."""

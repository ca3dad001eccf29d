"""What a training says of itself while it runs, in `progress.json` beside its checkpoints.

Written by the training and read by `python -m benchmark status`; this module imports no torch.
"""

import math
import os
import platform
import time
from pathlib import Path

from filelock import FileLock, Timeout

from benchmark.base.files import write_json
from benchmark.base.foreign import parse_json, read_text
from benchmark.base.typed import Count, Natural, NotNegative, Number, Strict

PROGRESS, LOCK = "progress.json", "lock"
DEAD_AFTER = 60.0  # seconds without a word, which mean death where the lock tells nothing
LARGEST = 1 << 16  # bytes; what is larger is not what `write_progress` wrote


class Checkpoint(Strict):
    """A checkpoint on disk.

    Attributes:
        update: after which it was taken.
        written: Unix time in seconds.
    """

    update: Natural
    written: Number


class Progress(Strict):
    """How far a training is.

    Attributes:
        update, updates: done, and to be done in all.
        rate: updates per second since this process began; None before there is one.
        pid, host: the process that wrote it.
        written: Unix time in seconds.
        checkpoint: the last one; None before there is one.
        values: the latest loss.
    """

    update: Natural
    updates: Count
    rate: NotNegative | None
    pid: Count
    host: str
    written: Number
    checkpoint: Checkpoint | None
    values: dict[str, Number]

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None where there is none."""
        return (self.updates - self.update) / self.rate if self.rate else None


def write_progress(
    folder: str | Path,
    *,
    update: int,
    updates: int,
    rate: float | None,
    values: dict[str, float],
    checkpoint: Checkpoint | None = None,
) -> None:
    """Write `folder`/progress.json, atomically, in the name of this process and at this time.

    What is not finite is left out: JSON has no such numbers.

    Raises:
        OSError: the folder cannot be written.
    """
    write_json(
        Path(folder) / PROGRESS,
        {
            "update": update,
            "updates": updates,
            "rate": rate if rate is not None and math.isfinite(rate) else None,
            "pid": os.getpid(),
            "host": platform.node(),
            "written": time.time(),
            "checkpoint": checkpoint and checkpoint.model_dump(),
            "values": {name: value for name, value in values.items() if math.isfinite(value)},
        },
    )


def read_progress(folder: str | Path) -> Progress | None:
    """Read what `write_progress` wrote there; None where nothing did, and for a damaged file."""
    try:
        content = parse_json(read_text(Path(folder) / PROGRESS, LARGEST))
        progress = Progress.model_validate(content)
    except (OSError, ValueError):  # pydantic's errors are ValueErrors
        return None
    return progress if progress.update <= progress.updates else None


def is_alive(folder: str | Path, progress: Progress | None, now: float) -> bool:
    """Tell whether a process trains there: it holds the lock or, where that cannot be told from
    here, has written within the last minute.

    A free lock is taken for an instant: a training that begins should try for a second before it
    believes that another one holds it.

    Args:
        progress: what `read_progress` returned.
        now: Unix time in seconds.
    """
    if progress is None or progress.host == platform.node():  # locks may not reach other machines
        locked = _is_locked(Path(folder) / LOCK)
        if locked is not None:
            return locked
    return progress is not None and abs(now - progress.written) < DEAD_AFTER


def _is_locked(path: Path) -> bool | None:
    """Tell whether another process holds the lock; None where this user may not lock it."""
    if not path.is_file():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return None

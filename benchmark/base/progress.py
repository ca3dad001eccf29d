"""Progress of long work: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 5.0
BAR_CELLS = 20


@contextmanager
def show_progress(title: str, total: int, style: str = "auto", begin: int = 0) -> Iterator:
    """Yield a function `report(done, values)` that shows how far the work is, and its values.

    Args:
        total: parts of the work, such as updates.
        style: "bar" for a live bar, "lines" for plain lines (also right where several runs
            write to one terminal), "auto" for whichever suits standard error, "none".
        begin: parts that were done before.
    """
    if style == "auto":
        style = "bar" if sys.stderr.isatty() else "lines"
    if style == "none":
        yield lambda _done, _values: None
    elif style == "lines":
        yield _line_reporter(title, total, begin)
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[values]} · ETA"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(title, total=total, completed=begin, values="")
            yield lambda done, values: progress.update(
                task, completed=done, values=format_values(values)
            )


def format_values(values: dict[str, float]) -> str:
    """Write the values that a person follows, in a fixed order: "loss -512.3 · ess 1.4"."""
    shown = [key for key in ("loss", "ess", "kl", "accuracy") if key in values]
    return " · ".join(f"{key} {values[key]:.4g}" for key in shown)


def duration(seconds: float) -> str:
    """Write seconds as "48 s", "12 min", "3.4 h" or "2.1 d"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 36 else f"{hours / 24:.1f} d"


def _line_reporter(title: str, total: int, begin: int):
    started = last = time.monotonic()

    def report(done: int, values: dict[str, float]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < SECONDS_BETWEEN_LINES and done < total:
            return
        last = now
        left = (now - started) / (done - begin) * (total - done)
        filled = BAR_CELLS * done // total
        bar = "█" * filled + "░" * (BAR_CELLS - filled)
        end = f"took {now - started:.0f}s" if done == total else f"ETA {left:.0f}s"
        line = f"{title:<34} {bar} {100 * done // total:>3}%"
        # Slurm's SIGTERM also ends whatever reads these lines; the checkpoint is still to come.
        with suppress(BrokenPipeError):
            print(
                " · ".join(filter(None, [line, format_values(values), end])),
                file=sys.stderr,
                flush=True,
            )

    return report

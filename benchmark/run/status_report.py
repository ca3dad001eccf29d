"""`python -m benchmark status`: how far each run is, as tables that suit 80 columns."""

import json
import os
import re
import shlex
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchmark.base import paths
from benchmark.base.errors import ConfigError
from benchmark.base.process import say
from benchmark.base.progress import duration, format_values
from benchmark.config.config import CLASSIFIER, Config, load_config
from benchmark.run.status import (
    DONE,
    FAILED,
    OUTDATED,
    RUNNING,
    STARTS,
    STATES,
    STOPPED,
    WAITING,
    Status,
    TrainingStatus,
    status,
)

STYLES = {
    DONE: "green",
    RUNNING: "cyan",
    STARTS: "cyan",
    OUTDATED: "yellow",
    STOPPED: "yellow",
    FAILED: "bold red",
    WAITING: "dim",
}
WIDE = 110  # columns, from which on the logged values are shown too
SILENT = 30.0  # seconds without a word, of a training that says something every other second
PAUSE = 2.0  # seconds between two looks


def show(config: Config | None, source: str | None, *, watch: bool = False) -> None:
    """Print how far the run of a configuration is, or all runs that there are.

    Args:
        config, source: the configuration and its file; None for all runs.
        watch: look again every other second, until interrupted.
    """
    console = Console(highlight=False)
    asked = [(config, source)] if config else list(_configurations())

    def look() -> RenderableType:
        there = [(each, file) for each, file in asked if config or _folder(each.run).is_dir()]
        pages = [page(status(each), _words(each, file), console.width) for each, file in there]
        return Group(*pages, *([] if config else _remarks([each.run for each, _ in there])))

    if not watch:
        console.print(look(), soft_wrap=True)
        return
    with suppress(KeyboardInterrupt):
        while True:
            latest = look()  # first: the screen is not to be empty meanwhile
            console.clear()
            console.print(latest, soft_wrap=True)
            time.sleep(PAUSE)


def _configurations() -> Iterator[tuple[Config, str]]:
    """Yield the valid ones of config/; the facts and claims that lie there too name no run."""
    for path in sorted((paths.ROOT / "config").glob("*.yaml")):
        if re.search(r"^run:", path.read_text(encoding="utf-8"), re.MULTILINE):
            try:
                yield load_config(path), os.path.relpath(path)
            except ConfigError as error:
                say(f"left out: {error}")


def _words(config: Config, source: str) -> str:
    """Return the configuration as the workflow is told it."""
    changes = [f"{key}={json.dumps(value)}" for key, value in config.overrides.items()]
    return shlex.join([source, *(["--config", *changes] if changes else [])])


def _remarks(shown: list[str]) -> Iterator[Text]:
    """Say what else is there, or that nothing is."""
    folders = {path.parent for path in Path(paths.RESULTS).glob("*/logs")}
    others = folders - {_folder(run) for run in shown} - {Path(paths.PUBLISHED)}
    for folder in sorted(others):
        yield Text(f"{folder}: no configuration in config/ has this run; use --config FILE")
    if not shown and not others:
        yield Text(f"{paths.RESULTS}/ holds no run yet. To begin: make demo")


def _folder(run: str) -> Path:
    return paths.fill(paths.RUN, run)


# One run ----------------------------------------------------------------------------------------


def page(found: Status, source: str, width: int) -> Group:
    """Return everything about one run.

    Args:
        source: the configuration's file, and what changes it.
        width: of the terminal, in columns.
    """
    counts = Counter(training.state for training in found.trainings)
    trainings = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    steps = ", ".join(f"{kind} {done}/{total}" for kind, (done, total) in found.steps.items())
    parts: list[RenderableType] = [
        Text(f"{found.run} ({source})", style="bold"),
        _table(found, width),
        Text(f"Trainings: {trainings}"),
        Text(f"Other steps: {steps}"),
    ]
    if counts[STOPPED]:
        again = f"snakemake --cores all --configfile {source}"
        parts.append(Text(f"Stopped: goes on from its last checkpoint with\n  {again}"))
    if counts[OUTDATED]:
        parts.append(Text("Outdated: of other settings or images; the next run does it again"))
    for failure in found.failures:
        lines = [f"Failed: {failure.path}", *failure.lines]
        parts.append(Text("\n  ".join(lines), style="red"))
    return Group(*parts, Text())


def _table(found: Status, width: int) -> Table:
    wide = width >= WIDE
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for head in ("Training", "Seed", "State", "Updates", "Rate", "Time", "Checkpoint"):
        right = head in ("Seed", "Updates", "Rate")
        table.add_column(head, justify="right" if right else "left", no_wrap=True)
    if wide:
        table.add_column("Values", no_wrap=True)
    dataset = None
    for training in found.trainings:
        if training.dataset != dataset:
            dataset = training.dataset
            table.add_row(Text(dataset, style="italic"))
        cells = _cells(training, found.now)
        table.add_row(*cells if wide else cells[:-1])
    return table


def _cells(training: TrainingStatus, now: float) -> list[Text]:
    seed = "" if training.model == CLASSIFIER else str(training.seed)
    state = Text(training.state, style=STYLES[training.state])
    cells, said = [Text(training.model), Text(seed), state], training.progress
    if said is None:
        took = "" if training.seconds is None else f"took {duration(training.seconds)}"
        return [*cells, *map(Text, ("", "", took, "", ""))]
    running = training.state == RUNNING
    checkpoint = age(now - said.checkpoint.written) if said.checkpoint else "none"
    return [
        *cells,
        Text(f"{said.update}/{said.updates}"),
        Text(f"{said.rate:.3g}/s" if running and said.rate else ""),
        Text(_time(training, now)),
        Text(checkpoint),
        Text(format_values(said.values)),
    ]


def _time(training: TrainingStatus, now: float) -> str:
    """Return what is left of a training that runs; when another one was heard of last."""
    said = training.progress
    since = now - said.written
    if training.state != RUNNING:
        return age(since)
    if abs(since) > SILENT:
        return "clock moved" if since < 0 else f"silent {duration(since)}"
    return "" if said.seconds_left is None else f"ETA {duration(said.seconds_left)}"


def age(seconds: float) -> str:
    """Return "3 min ago"; what lies in the future tells that a clock was set."""
    return "clock moved" if seconds < -1 else f"{duration(max(seconds, 0))} ago"

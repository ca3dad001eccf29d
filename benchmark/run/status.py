"""How far a run is: each training, the steps around it, and what failed, told from its files.

Nothing of the workflow needs to run, and nothing is changed. This module imports no torch.
"""

import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from benchmark.base import paths
from benchmark.base.errors import RecordError
from benchmark.config.config import Config
from benchmark.config.jobs import KINDS, Job, jobs
from benchmark.records.record import read_record
from benchmark.run.outdated import images_changed, is_done, written_hash
from benchmark.training.progress_file import PROGRESS, Progress, is_alive, read_progress

TAIL = 5  # lines of a log that are shown
END = 1 << 14  # bytes of a log that are read, at its end
STARTING = 60.0  # seconds that a step may take before it says anything
LATER = 5.0  # seconds by which a training's last words may precede its last progress
ERROR = re.compile(r"(python -m [\w ]+: )?error: ")  # argparse puts the command first

DONE, OUTDATED, RUNNING, STARTS = "done", "outdated", "running", "starting"
STOPPED, FAILED, WAITING = "stopped", "failed", "waiting"
STATES = (DONE, OUTDATED, RUNNING, STARTS, STOPPED, FAILED, WAITING)


@dataclass(frozen=True)
class Failure:
    """A log or a record that tells of a failure, and the lines that say what it was."""

    path: Path
    lines: list[str]


@dataclass(frozen=True)
class TrainingStatus:
    """One training and how far it is.

    Attributes:
        model: its entry, or the classifier.
        state: DONE, OUTDATED (done, but with other settings), RUNNING, STARTS, STOPPED (something
            ended it and left no message), FAILED or WAITING.
        progress: what it said last; None before that, and once it is done.
        seconds: that it took; None before it is done.
        failure: None unless FAILED.
    """

    dataset: str
    model: str
    seed: int
    state: str
    progress: Progress | None = None
    seconds: float | None = None
    failure: Failure | None = None


@dataclass(frozen=True)
class Status:
    """How far a run is.

    Attributes:
        now: Unix time in seconds, at which it was looked at.
        trainings: all of the configuration, in its order.
        steps: name -> (done, total), of the other steps that compute.
        failures: of whichever step.
    """

    run: str
    now: float
    trainings: list[TrainingStatus]
    steps: dict[str, tuple[int, int]]
    failures: list[Failure]


def status(config: Config) -> Status:
    """Tell how far the run of a configuration is at this moment."""
    now, logs = time.time(), _logs(config.run)
    gpu = shutil.which("nvidia-smi") is not None
    changed = [dataset for dataset in config.datasets if images_changed(config, dataset)]
    trainings = [
        _training(job, logs, now, outdated=dataset in changed)
        for dataset in config.datasets
        for kind in ("classifier", "training")
        for job in jobs(config, kind, dataset=dataset)
    ]
    failures = [training.failure for training in trainings if training.failure]
    steps, known = {}, {"train", "classifier"}
    for kind in ("data", "sampling", "metrics", "inspection", "timing"):
        by_log: dict[str, list[Job]] = {}
        for job in jobs(config, kind, gpu=gpu):
            by_log.setdefault(job.log, []).append(job)
        undone = {
            log: [job for job in same if job.dataset in changed or not is_done(config, job)]
            for log, same in by_log.items()
        }
        undone = {log: missing for log, missing in undone.items() if missing}
        step = KINDS[kind].log.partition("/")[0]
        steps[step] = len(by_log) - len(undone), len(by_log)
        failures += filter(None, (_failure(logs.get(log)) for log in undone))
        failures += filter(None, (_damage(job) for missing in undone.values() for job in missing))
        known.add(step)
    rendering = [log for name, log in logs.items() if name.partition("/")[0] not in known]
    failures += filter(None, map(_failure, rendering))
    return Status(config.run, now, trainings, steps, failures)


def _damage(job: Job) -> Failure | None:
    """Return the failure that the job's file is there, but not readable."""
    path = job.paths[0]
    if job.kind == "data" or not path.is_file() or written_hash(job) is not None:
        return None
    return Failure(path, ["it is damaged: remove it, and the next run makes it again"])


def _training(job: Job, logs: dict[str, Path], now: float, *, outdated: bool) -> TrainingStatus:
    names = {"dataset": job.dataset, "model": job.model, "seed": job.seed}
    progress = read_progress(job.checkpoints)
    if is_alive(job.checkpoints, progress, now):
        return TrainingStatus(**names, state=RUNNING, progress=progress)

    path = job.path()
    try:
        record = read_record(path) if path.is_file() else None
    except RecordError as error:
        failure = Failure(path, str(error).splitlines())
        return TrainingStatus(**names, state=FAILED, failure=failure)
    if record and record.config_hash == job.config_hash and not outdated:
        return TrainingStatus(**names, state=DONE, seconds=record.wall_time_s)

    log = logs.get(job.log)
    failure = _failure(log)
    # A training that was begun by hand after one of the workflow failed leaves that one's log.
    spoke = _changed(job.checkpoints / PROGRESS)
    if failure and (progress is None or _changed(log) > spoke - LATER):
        return TrainingStatus(**names, state=FAILED, progress=progress, failure=failure)
    if log is not None and not _lines(log) and abs(now - _changed(log)) < STARTING:
        return TrainingStatus(**names, state=STARTS, progress=progress)
    if progress is None and record:
        return TrainingStatus(**names, state=OUTDATED, seconds=record.wall_time_s)
    state = WAITING if log is None and progress is None else STOPPED
    return TrainingStatus(**names, state=state, progress=progress)


# Logs -------------------------------------------------------------------------------------------


def _logs(run: str) -> dict[str, Path]:
    """Return step -> its log, of all that there are."""
    folder = paths.fill(paths.LOG, run, step="_").parent
    found = sorted(path for path in folder.rglob("*.log") if path.is_file())
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in found}


def _failure(log: Path | None) -> Failure | None:
    """Return what a log ends with, if that is an error."""
    lines = _lines(log) if log else []
    starts = [number for number, line in enumerate(lines) if ERROR.match(line)]
    if starts:
        return Failure(log, lines[starts[-1] :][:TAIL])
    if any(line.startswith("Traceback (most recent call last)") for line in lines):
        return Failure(log, lines[-TAIL:])
    return None


def _lines(log: Path) -> list[str]:
    """Return the last lines of a log, without what would move a terminal's cursor or colour it."""
    try:
        with log.open("rb") as handle:
            handle.seek(max(0, log.stat().st_size - END))
            text = handle.read(END).decode(errors="replace")
    except OSError:
        return []
    plain = (Text.from_ansi(line).plain for line in text.splitlines())
    lines = ("".join(c for c in line if c.isprintable()).rstrip() for line in plain)
    return [line for line in lines if line]


def _changed(path: Path) -> float:
    """Return the Unix time of the last change; 0 where it is gone meanwhile."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0

"""How far a run is: each training, the steps around it, and what failed, told from its files.

Nothing of the workflow needs to run, and nothing is changed. This module imports no torch.
"""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.text import Text

from benchmark.base import paths
from benchmark.base.arrays import UNREADABLE
from benchmark.base.errors import RecordError
from benchmark.config.config import CLASSIFIER, REAL, Config
from benchmark.config.jobs import Job
from benchmark.records.record import read_record
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
class Training:
    """One training and how far it is.

    Attributes:
        dataset, model, seed: its names; the classifier is a model too.
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
        run: its name.
        now: Unix time in seconds, at which it was looked at.
        trainings: all of the configuration, in its order.
        steps: name -> (done, total), of the other steps that compute.
        failures: of whichever step.
    """

    run: str
    now: float
    trainings: list[Training]
    steps: dict[str, tuple[int, int]]
    failures: list[Failure]


def status(config: Config) -> Status:
    """How far the run of a configuration is at this moment."""
    now, logs = time.time(), _logs(config.run)
    trainings = [_training(config, *names, logs, now) for names in _trainings(config)]
    failures = [training.failure for training in trainings if training.failure]
    steps, known = {}, {"train", CLASSIFIER}
    for kind, jobs in _other_steps(config).items():
        undone = [step for step, is_done in jobs.items() if not is_done()]
        steps[kind] = len(jobs) - len(undone), len(jobs)
        failures += filter(None, (_failure(logs.get(step)) for step in undone))
        known.add(kind)
    rendering = [log for step, log in logs.items() if step.split("/")[0] not in known]
    failures += filter(None, map(_failure, rendering))
    return Status(config.run, now, trainings, steps, failures)


# Trainings --------------------------------------------------------------------------------------


def _trainings(config: Config) -> Iterator[tuple[str, str, int]]:
    for dataset in config.datasets:
        if config.has_classifier(dataset):
            yield dataset, CLASSIFIER, 0
        for model in config.trained_models:
            for seed in config.seeds:
                yield dataset, model, seed


def _training(
    config: Config, dataset: str, model: str, seed: int, logs: dict[str, Path], now: float
) -> Training:
    names = {"dataset": dataset, "model": model, "seed": seed}
    job = config.training_job(dataset, model)
    folder = paths.fill(paths.CHECKPOINTS, config.run, **names, config_hash=job.config_hash)
    progress = read_progress(folder)
    if is_alive(folder, progress, now):
        return Training(**names, state=RUNNING, progress=progress)

    classifier = model == CLASSIFIER
    step = f"{CLASSIFIER}/{dataset}" if classifier else f"train/{dataset}/{model}/{seed}"
    pattern = paths.CLASSIFIER_RECORD if classifier else paths.TRAINING_RECORD
    path = paths.fill(pattern, config.run, **names)
    try:
        record = read_record(path) if path.is_file() else None
    except RecordError as error:
        failure = Failure(path, str(error).splitlines())
        return Training(**names, state=FAILED, failure=failure)
    if record and record.config_hash == job.config_hash:
        return Training(**names, state=DONE, seconds=record.wall_time_s)

    log = logs.get(step)
    failure = _failure(log)
    # A training that was begun by hand after one of the workflow failed leaves that one's log.
    if failure and (progress is None or _changed(log) > _changed(folder / PROGRESS) - LATER):
        return Training(**names, state=FAILED, progress=progress, failure=failure)
    if log is not None and not _lines(log) and abs(now - _changed(log)) < STARTING:
        return Training(**names, state=STARTS, progress=progress)
    if progress is None and record:
        return Training(**names, state=OUTDATED, seconds=record.wall_time_s)
    state = WAITING if log is None and progress is None else STOPPED
    return Training(**names, state=state, progress=progress)


# The other steps --------------------------------------------------------------------------------


def _other_steps(config: Config) -> dict[str, dict[str, Callable[[], bool]]]:
    """Kind -> {the name of its log: whether it is done}."""
    steps: dict[str, dict] = {
        kind: {} for kind in ("data", "sample", "evaluate", "inspect", "time")
    }
    first = config.seeds[0]

    def add(kind: str, names: tuple, pattern: str, *jobs: Job, **named) -> None:
        files = [
            (paths.fill(pattern, config.run, dataset=job.dataset, model=job.model, **named), job)
            for job in jobs
        ]
        steps[kind]["/".join(map(str, (kind, *names)))] = lambda: all(
            _has_settings(path, job) for path, job in files
        )

    for dataset in config.datasets:
        checked = paths.fill(paths.DATA, config.run, dataset=dataset)
        steps["data"][f"data/{dataset}"] = checked.is_file
        for model in (REAL, *config.evaluated_models):
            drawing = config.sampling_job(dataset, model)
            measuring = config.evaluation_job(dataset, model)
            for seed in config.seeds_of(model):
                names = dataset, model, seed
                add("sample", names, paths.SAMPLES, drawing, seed=seed)
                add("evaluate", names, paths.METRICS_RECORD, measuring, seed=seed)
        for model in config.inspected_models:
            job = config.inspection_job(dataset, model)
            add("inspect", (dataset, model, first), paths.INSPECTION_RECORD, job, seed=first)
        for device in config.timing_devices(shutil.which("nvidia-smi") is not None):
            jobs = [config.timing_job(dataset, model) for model in config.models]
            add("time", (device, dataset), paths.TIMING_RECORD, *jobs, device=device)
    return steps


def _has_settings(path: Path, job: Job) -> bool:
    """Whether a file is there, is whole as far as a glance tells, and was made by this job."""
    if path.suffix == ".json":
        try:
            return path.is_file() and read_record(path).config_hash == job.config_hash
        except RecordError:
            return False
    try:
        with np.load(path, allow_pickle=False) as samples:
            return str(samples["config_hash"]) == job.config_hash
    except UNREADABLE:
        return False


# Logs -------------------------------------------------------------------------------------------


def _logs(run: str) -> dict[str, Path]:
    """Step -> its log, of all that there are."""
    folder = paths.fill(paths.LOG, run, step="_").parent
    found = sorted(path for path in folder.rglob("*.log") if path.is_file())
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in found}


def _failure(log: Path | None) -> Failure | None:
    """What a log ends with, if that is an error."""
    lines = _lines(log) if log else []
    starts = [number for number, line in enumerate(lines) if ERROR.match(line)]
    if starts:
        return Failure(log, lines[starts[-1] :][:TAIL])
    if any(line.startswith("Traceback (most recent call last)") for line in lines):
        return Failure(log, lines[-TAIL:])
    return None


def _lines(log: Path) -> list[str]:
    """The last lines of a log, without what would move a terminal's cursor or colour it."""
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
    """Unix time of the last change; 0 where it is gone meanwhile."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0

"""The records of a folder of results, read in one way: for verdicts, comparisons and tables."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmark.base import paths
from benchmark.base.devices import DEVICE_LABELS
from benchmark.base.errors import RecordError
from benchmark.config.config import CLASSIFIER, REAL, Config
from benchmark.config.facts import reference_splits
from benchmark.config.jobs import Job
from benchmark.records.checks import check_together, contradiction
from benchmark.records.record import Record, Subject, read_record

PLACES = {
    "training": paths.TRAINING_RECORD,
    "metrics": paths.METRICS_RECORD,
    "timing": paths.TIMING_RECORD,
    "classifier": paths.CLASSIFIER_RECORD,
    "inspection": paths.INSPECTION_RECORD,
    "power": paths.POWER_RECORD,
}
COMPARABLE = ("training", "metrics", "timing", "classifier")


def read_folder(folder: str | Path) -> list[Record]:
    """Read the comparable records of a folder such as results/demo, in the order of their paths.

    Raises:
        RecordError: one is damaged, edited or misplaced, contradicts itself or another, or there
            are none.
    """
    folder = Path(folder)
    records = [
        _read(folder, kind, path)
        for kind in COMPARABLE
        for path in sorted((folder / kind).rglob("*.json"))
    ]
    if not records:
        raise nothing_there(folder)
    check_together(records, folder)
    return records


def nothing_there(folder: str | Path) -> RecordError:
    """Return the error of a folder without records."""
    return RecordError(f"{folder}: no records are there: run the workflow, or name another folder")


def own_records(config: Config, *kinds: str, folder: str | Path | None = None) -> list[Record]:
    """Read the records of a configuration's jobs, as far as they are there, as `read_folder` does.

    Args:
        folder: results/<run> by default.

    Raises:
        RecordError: one is not what it should be; or it is of another run or of other settings, or
            was measured against other images than the split it names.
    """
    folder = Path(folder or paths.fill(paths.RUN, config.run))
    found = (
        own_record(job, kind, folder, **names)
        for kind in kinds
        for job, names in _jobs(config, kind)
    )
    records = sorted(filter(None, found), key=lambda record: record.path)
    for record in records:
        if record.kind == "metrics":
            _check_references(config, record)
    check_together(records, folder)
    return records


def own_record(
    job: Job, kind: str, folder: Path | None = None, **names: str | int
) -> Record | None:
    """Read the record of one job; None where it is not there.

    Args:
        folder: results/<run> by default.
        names: the seed or the device, where the job has one.

    Raises:
        RecordError: it is not what it should be, or of another job.
    """
    path = record_path(job, kind, folder, **names)
    if not path.exists():
        return None
    record = _read(folder or paths.fill(paths.RUN, job.run), kind, path)
    pairs = {"run": (record.run, job.run), "config_hash": (record.config_hash, job.config_hash)}
    if kind == "classifier":  # one that another run trained with the same settings will do
        del pairs["run"]
    differing = [f"{name} {its} (now {now})" for name, (its, now) in pairs.items() if its != now]
    if differing:
        raise RecordError(
            f"{path}: belongs to another job: {', '.join(differing)}\n"
            "  Run the workflow again to replace it."
        )
    return record


def record_path(job: Job, kind: str, folder: Path | None = None, **names: str | int) -> Path:
    """Return where the record of a job belongs; arguments as of `own_record`."""
    folder = folder or paths.fill(paths.RUN, job.run)
    return _place(folder, kind, dataset=job.dataset, model=job.model, **names)


def _place(folder: Path, kind: str, **names: str | int) -> Path:
    return folder / PLACES[kind].removeprefix(paths.RUN + "/").format(**names)


def by_subject(records: Iterable[Record]) -> dict[Subject, list[Record]]:
    """Group records: those of each subject, one per seed."""
    grouped: dict[Subject, list[Record]] = {}
    for record in records:
        grouped.setdefault(record.subject, []).append(record)
    return grouped


def _read(folder: Path, kind: str, path: Path) -> Record:
    record = read_record(path)
    names = {"dataset": record.dataset, "model": record.model, "seed": record.seed}
    belongs = _place(folder, record.kind, **names, device=record.provenance.device)
    if belongs != path or record.kind != kind:
        raise RecordError(f"{path}: holds the record that belongs at {belongs}")
    problem = contradiction(record)
    if problem:
        raise RecordError(f"{path}: contradicts itself: {problem}")
    return record


def _jobs(config: Config, kind: str) -> Iterator[tuple[Job, dict]]:
    """Each job with a record of this kind, and the seed or device in its path."""
    for dataset in config.datasets:
        if kind == "classifier" and config.has_classifier(dataset):
            yield config.training_job(dataset, CLASSIFIER), {}
        if kind == "training":
            for model in config.trained_models:
                job = config.training_job(dataset, model)
                yield from ((job, {"seed": seed}) for seed in config.seeds)
        if kind == "metrics":
            for model in (REAL, *config.evaluated_models):
                job = config.evaluation_job(dataset, model)
                yield from ((job, {"seed": seed}) for seed in config.seeds_of(model))
        if kind == "timing":
            for model in config.models:
                job = config.timing_job(dataset, model)
                yield from ((job, {"device": device}) for device in DEVICE_LABELS)


def _check_references(config: Config, record: Record) -> None:
    splits = config.facts(record.dataset).splits
    for split in config.resolved(record.dataset)["evaluation"]["references"]:
        expected = sum(splits[part]["count"] for part in reference_splits(splits, split))
        count = record.metrics.reference_count(split)
        if count != expected:
            raise RecordError(
                f"{record.path}: compares with {count} images as the {split} split of "
                f"{record.dataset}, which has {expected}: measured against another split"
            )

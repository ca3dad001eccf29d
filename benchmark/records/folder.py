"""The records of a folder of results, read in one way: for verdicts, comparisons and tables."""

from collections.abc import Iterable
from pathlib import Path

from benchmark.base import paths
from benchmark.base.devices import DEVICE_LABELS
from benchmark.base.errors import RecordError
from benchmark.config.config import Config
from benchmark.config.facts import reference_count
from benchmark.config.jobs import KINDS, Job, jobs
from benchmark.records.checks import check_together, contradiction
from benchmark.records.record import Record, Subject, read_record

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
    check_together(records)
    return records


def nothing_there(folder: str | Path) -> RecordError:
    """Return the error of a folder without records."""
    return RecordError(
        f"{folder}: no records are there\n"
        "  Run the workflow first: snakemake --cores all --configfile FILE\n"
        f"  Published records are in {paths.PUBLISHED}."
    )


def own_records(config: Config, *kinds: str, folder: str | Path | None = None) -> list[Record]:
    """Read the records of a configuration's jobs, as far as they are there, as `read_folder` does.

    Args:
        folder: results/<run> by default.

    Raises:
        RecordError: one is not what it should be; or it is of another run or of other settings, or
            was measured against other images than the split it names.
    """
    folder = Path(folder or config.folder)
    if folder != config.folder:
        config = config.of_folder(folder)
    read = (own_record(job, folder) for job in recorded_jobs(config, *kinds))
    records = sorted(filter(None, read), key=lambda record: record.path)
    for record in records:
        if record.kind == "metrics":
            _check_references(config, record)
    check_together(records)
    return records


def recorded_jobs(config: Config, *kinds: str) -> list[Job]:
    """Return the jobs of these kinds that records may be of: timings are of any device."""
    return [
        job
        for kind in kinds
        for device in (DEVICE_LABELS if kind == "timing" else [None])
        for job in jobs(config, kind, device=device)
    ]


def own_record(job: Job, folder: Path | None = None) -> Record | None:
    """Read the record of one job; None where it is not there.

    Args:
        folder: results/<run> by default.

    Raises:
        RecordError: it is not what it should be, or of another job.
    """
    path = job.path(folder=folder)
    if not path.exists():
        return None
    record = _read(folder or paths.fill(paths.RUN, job.run), job.kind, path)
    pairs = {"run": (record.run, job.run), "config_hash": (record.config_hash, job.config_hash)}
    if job.kind == "classifier":  # one that another run trained with the same settings will do
        del pairs["run"]
    differing = [f"{name} {its} (now {now})" for name, (its, now) in pairs.items() if its != now]
    if differing:
        raise RecordError(
            f"{path}: belongs to another job: {', '.join(differing)}\n"
            "  Run the workflow again to replace it."
        )
    return record


def by_subject(records: Iterable[Record]) -> dict[Subject, list[Record]]:
    """Group records: those of each subject, one per seed."""
    grouped: dict[Subject, list[Record]] = {}
    for record in records:
        grouped.setdefault(record.subject, []).append(record)
    return grouped


def _read(folder: Path, kind: str, path: Path) -> Record:
    record = read_record(path)
    names = {"dataset": record.dataset, "model": record.model, "seed": record.seed}
    pattern = KINDS[record.kind].files["record"].removeprefix(paths.RUN + "/")
    belongs = folder / pattern.format(**names, device=record.provenance.device)
    if belongs != path or record.kind != kind:
        raise RecordError(f"{path}: holds the record that belongs at {belongs}")
    problem = contradiction(record)
    if problem:
        raise RecordError(f"{path}: contradicts itself: {problem}")
    return record


def _check_references(config: Config, record: Record) -> None:
    splits = config.facts(record.dataset).splits
    for split in config.evaluation(record.dataset).references:
        expected = reference_count(splits, split)
        count = record.metrics.reference_count(split)
        if count != expected:
            raise RecordError(
                f"{record.path}: compares with {count} images as the {split} split of "
                f"{record.dataset}, which has {expected}: measured against another split"
                f"{paths.made_again(record.path)}"
            )

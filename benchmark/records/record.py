"""Records: one JSON file per measurement, with its settings, its origin and a digest."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import PrivateAttr, ValidationError

from benchmark.base.errors import RecordError
from benchmark.base.files import write_json
from benchmark.base.foreign import parse_json, read_text
from benchmark.base.typed import Count, Natural, NotNegative, Strict, problems
from benchmark.config.jobs import Job
from benchmark.records.measurements import (
    ClassifierMetrics,
    Hash,
    InspectionMetrics,
    PowerMetrics,
    QualityMetrics,
    Sha256,
    TimingMetrics,
    TrainingMetrics,
)
from benchmark.records.provenance import Provenance, provenance

if TYPE_CHECKING:
    import torch


class Subject(NamedTuple):
    """What was measured, and what seeds are repetitions of; `device` is that of a timing."""

    kind: str
    dataset: str
    model: str
    device: str | None = None


class Record(Strict):
    """One measurement and its origin.

    Attributes:
        model: the entry's name in the configuration.
        settings: all that the result depends on; `config_hash` is theirs.
        sample_count: how many images the measurement rests on.
        digest: of the rest, see `record_digest`.
    """

    kind: Literal["training", "classifier", "metrics", "inspection", "power", "timing"]
    run: str
    dataset: str
    model: str
    seed: Natural
    config_hash: Hash
    settings: dict[str, Any]
    metrics: Any
    sample_count: Count
    wall_time_s: NotNegative
    provenance: Provenance
    digest: Sha256
    _path: Path = PrivateAttr()

    @property
    def path(self) -> Path:
        """The file that it was read from."""
        return self._path

    @property
    def subject(self) -> Subject:
        """What was measured."""
        device = self.provenance.device if self.kind == "timing" else None
        return Subject(self.kind, self.dataset, self.model, device)


class TrainingRecord(Record):
    """The training of a model."""

    kind: Literal["training"]
    metrics: TrainingMetrics


class ClassifierRecord(Record):
    """The training of a dataset's classifier."""

    kind: Literal["classifier"]
    metrics: ClassifierMetrics


class QualityRecord(Record):
    """The quality of drawn images."""

    kind: Literal["metrics"]
    metrics: QualityMetrics


class InspectionRecord(Record):
    """What a KAEM learned."""

    kind: Literal["inspection"]
    metrics: InspectionMetrics


class PowerRecord(Record):
    """The comparison of two samplers on two modes."""

    kind: Literal["power"]
    metrics: PowerMetrics


class TimingRecord(Record):
    """The times of a model on a device."""

    kind: Literal["timing"]
    metrics: TimingMetrics


CLASSES: dict[str, type[Record]] = {
    "training": TrainingRecord,
    "classifier": ClassifierRecord,
    "metrics": QualityRecord,
    "inspection": InspectionRecord,
    "power": PowerRecord,
    "timing": TimingRecord,
}


def write_record(
    path: str | Path,
    kind: str,
    job: Job,
    metrics: dict,
    *,
    seed: int,
    device: "torch.device",
    wall_time_s: float,
    sample_count: int,
) -> Record:
    """Write a measurement with its origin; returns the record.

    Args:
        kind: a key of `CLASSES`.
        job: what was computed; its settings and their hash are stored.
        metrics: the measurements, as the class of their kind has them.
        sample_count: how many images the measurement rests on.
    """
    content = {
        "kind": kind,
        "run": job.run,
        "dataset": job.dataset,
        "model": job.model,
        "seed": seed,
        "config_hash": job.config_hash,
        "settings": job.settings,
        "metrics": metrics,
        "sample_count": sample_count,
        "wall_time_s": round(wall_time_s, 3),
        "provenance": provenance(device),
    }
    content["digest"] = record_digest(content)
    record = _parse(content, path)
    write_json(path, content)
    return record


def read_record(path: str | Path) -> Record:
    """Read a record; RecordError when it is damaged, edited or not a record."""
    try:
        content = parse_json(read_text(path))
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RecordError(f"{path}: is not valid JSON: {error}") from error
    record = _parse(content, path)
    if record.digest != record_digest(content):
        raise RecordError(
            f"{path}: its contents do not match its digest: it was edited or damaged\n"
            "  Delete it and run the workflow again."
        )
    return record


def record_digest(content: dict) -> str:
    """Return the sha256 of a record's content without its digest, in a canonical form."""
    content = {key: value for key, value in content.items() if key != "digest"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _parse(content: Any, path: str | Path) -> Record:
    kind = content.get("kind") if isinstance(content, dict) else None
    kind = CLASSES.get(kind, Record) if isinstance(kind, str) else Record
    try:
        record = kind.model_validate(content)
    except ValidationError as error:
        lines = "; ".join(problems(error, content, "the whole"))
        raise RecordError(f"{path}: not a valid record: {lines}") from error
    record._path = Path(path)
    return record

"""Records: one JSON file per measurement, with its settings, its origin and a digest."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

from pydantic import PrivateAttr, ValidationError

from benchmark.base.errors import RecordError
from benchmark.base.files import write_json
from benchmark.base.foreign import parse_json, read_text
from benchmark.base.paths import made_again
from benchmark.base.typed import Count, Natural, NotNegative, Strict, problems
from benchmark.config.jobs import Job
from benchmark.records.inspections import InspectionMetrics, PowerMetrics
from benchmark.records.measurements import (
    ClassifierMetrics,
    Hash,
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


METRICS: dict[str, type[Strict]] = {
    "training": TrainingMetrics,
    "classifier": ClassifierMetrics,
    "metrics": QualityMetrics,
    "inspection": InspectionMetrics,
    "power": PowerMetrics,
    "timing": TimingMetrics,
}
Metrics = TypeVar("Metrics")


class Record(Strict, Generic[Metrics]):
    """One measurement and its origin.

    Attributes:
        kind: a key of `METRICS`, which has the class of its metrics.
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
    metrics: Metrics
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


def write_record(
    job: Job,
    metrics: dict,
    *,
    device: "torch.device",
    wall_time_s: float,
    sample_count: int,
    path: Path | None = None,
) -> Record:
    """Write a measurement with its origin; returns the record.

    Args:
        metrics: as the class of their kind has them.
        sample_count: how many images the measurement rests on.
        path: of the file; the job's by default.
    """
    content = {
        "kind": job.kind,
        "run": job.run,
        "dataset": job.dataset,
        "model": job.model,
        "seed": job.seed,
        "config_hash": job.config_hash,
        "settings": job.settings.plain(),
        "metrics": metrics,
        "sample_count": sample_count,
        "wall_time_s": round(wall_time_s, 3),
        "provenance": provenance(device),
    }
    content["digest"] = record_digest(content)
    content = json.loads(json.dumps(content))  # as it will be read
    record = _parse(content, path or job.path())
    write_json(record.path, content)
    return record


def read_record(path: str | Path) -> Record:
    """Read a record; RecordError when it is damaged, edited or not a record."""
    try:
        content = parse_json(read_text(path))
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RecordError(f"{path}: is not valid JSON: {error}{made_again(path)}") from error
    record = _parse(content, path, made_again(path))
    if record.digest != record_digest(content):
        raise RecordError(
            f"{path}: its contents do not match its digest: it was edited or damaged"
            f"{made_again(path)}"
        )
    return record


def record_digest(content: dict) -> str:
    """Return the sha256 of a record's content without its digest, in a canonical form."""
    content = {key: value for key, value in content.items() if key != "digest"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _parse(content: Any, path: str | Path, advice: str = "") -> Record:
    kind = content.get("kind") if isinstance(content, dict) else None
    metrics = METRICS.get(kind) if isinstance(kind, str) else None
    try:
        record = Record[metrics or dict].model_validate(content)
    except ValidationError as error:
        lines = "; ".join(problems(error, content, "the whole"))
        raise RecordError(f"{path}: not a valid record: {lines}{advice}") from error
    record._path = Path(path)
    return record

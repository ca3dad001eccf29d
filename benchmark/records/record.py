"""Records: one JSON file per measurement, checked against `config/schema/record.schema.json`."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema

from benchmark.base.errors import RecordError
from benchmark.base.files import write_json
from benchmark.base.foreign import parse_json, read_text
from benchmark.base.schema import load_schema, strict_validator
from benchmark.config.jobs import Job
from benchmark.records.provenance import provenance

if TYPE_CHECKING:
    import torch


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
) -> dict:
    """Write a measurement with its origin; returns the record.

    Args:
        kind: "training", "classifier", "metrics", "inspection", "power" or "timing".
        job: what was computed; its settings and their hash are stored.
        metrics: the measurements, as the schema describes them for `kind`.
        sample_count: how many images the measurement rests on.
    """
    record = {
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
    record["digest"] = record_digest(record)
    _check(record, path)
    write_json(path, record)
    return record


def read_record(path: str | Path) -> dict:
    """Read a record; RecordError when it is damaged, edited or not a record."""
    try:
        record = parse_json(read_text(path))
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RecordError(f"{path}: is not valid JSON: {error}") from error
    _check(record, path)
    if record["digest"] != record_digest(record):
        raise RecordError(
            f"{path}: its contents do not match its digest: it was edited or damaged\n"
            "  Delete it and run the workflow again."
        )
    return record


def record_digest(record: dict) -> str:
    """sha256 of the record without its digest, in a canonical form."""
    content = {key: value for key, value in record.items() if key != "digest"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _validator() -> jsonschema.protocols.Validator:
    return strict_validator(load_schema("record"))


def _check(record, path: str | Path) -> None:
    error = jsonschema.exceptions.best_match(_validator().iter_errors(record))
    if error is not None:
        raise RecordError(f"{path}: not a valid record: {error.json_path}: {error.message}")

"""What a digest cannot find: records that contradict themselves, or each other.

A record's own digest says that it was not edited since it was written. Here are the rest: values
that cannot be true together, one measurement under two seeds, seeds of different settings.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path

from benchmark.base.errors import RecordError
from benchmark.records.measurements import QualityMetrics, SamplingTime
from benchmark.records.record import Record, Subject

LEVELS = 256  # that a pixel takes, in bits per dimension
BITS = re.compile("bits_per_dimension(_fitted|_constant)?")


def contradiction(record: Record) -> str | None:
    """Return what cannot be true of a record's values, taken together; None for a sound one."""
    checks = {"training": _in_training, "metrics": _in_metrics, "timing": _in_timing}
    try:
        return next(checks.get(record.kind, lambda _record: iter(()))(record), None)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        return f"its settings do not say what was done: {error!r}"


def _in_training(record: Record) -> Iterator[str]:
    metrics, settings = record.metrics, record.settings["training"]
    seconds = metrics.updates * metrics.seconds_per_update
    if metrics.updates != settings["updates"]:
        yield f"{metrics.updates} updates, {settings['updates']} in its settings"
    if not math.isclose(seconds, record.wall_time_s, rel_tol=1e-6, abs_tol=1e-3):
        yield "seconds_per_update times updates is not wall_time_s"


def _in_metrics(record: Record) -> Iterator[str]:
    metrics, settings = record.metrics, record.settings["evaluation"]
    likelihood = settings.get("likelihood", {"split": None, "images": 0})
    for measured in metrics.values:
        key, split = measured.key, measured.split
        if measured.name.startswith(("nats", "bits_per_dimension")):
            if split != likelihood["split"] or measured.count > likelihood["images"]:
                yield f"{key}: its settings ask for the likelihood of {likelihood}"
            if BITS.fullmatch(measured.name) and not _follows(key, metrics):
                yield f"{key} does not follow from the nats beside it"
        elif measured.name.startswith("sigma_"):
            if not likelihood["images"]:
                yield f"{key}: its settings ask for no likelihood"
        elif settings["references"].get(split) != measured.count:
            yield f"{key}: its settings compare with {settings['references']}"
        elif metrics.reference_count(split) is None:
            yield f"{key}: reference_count_{split} is missing"


def _follows(key: str, metrics: QualityMetrics) -> bool:
    """Say whether the bits are the nats; the ratio of their errors tells the dimensions."""
    names = (key.replace("bits_per_dimension", part) for part in ("nats", "nats_error"))
    nats, error = map(metrics.get, names)
    bits = metrics.get(key)
    error_in_bits = metrics.get(key.replace("dimension", "dimension_error"))
    if None in (nats, error, error_in_bits):
        return False
    if error_in_bits <= 0:
        return error == error_in_bits
    dimension = max(1, round(error / (error_in_bits * math.log(2))))
    expected = -nats / (dimension * math.log(2)) + math.log2(LEVELS - 1)
    return math.isclose(bits, expected, rel_tol=1e-6)


def _in_timing(record: Record) -> Iterator[str]:
    sizes = record.settings["timing"]["batch_sizes"]
    for row in record.metrics.sampling:
        if not isinstance(row, SamplingTime):
            continue
        size = row.batch_size
        if size not in sizes:
            yield f"batch size {size}: its settings have {sizes}"
        if not row.latency_ms.in_order:
            yield f"batch size {size}: the quantiles of the latency are out of order"
        rate = 1e3 * size / row.latency_ms.median
        if not math.isclose(row.images_per_second, rate, rel_tol=1e-6):
            yield f"batch size {size}: images_per_second is not the batch over the median latency"
    update = record.metrics.update_time()
    if update and not update.latency_ms.in_order:
        yield "update: the quantiles of the latency are out of order"


def check_together(records: list[Record]) -> None:
    """Refuse records of one folder that contradict each other.

    Raises:
        RecordError: two of them do.
    """
    _check_settings(records)
    _check_repetitions(records)
    _check_classifiers(records)


def _check_settings(records: list[Record]) -> None:
    """Refuse seeds of other settings, and measurements of another training than the one there."""
    firsts: dict[Subject, Record] = {}
    for record in records:
        first = firsts.setdefault(record.subject, record)
        if first.config_hash != record.config_hash:
            raise RecordError(
                f"{record.path}: has other settings than {first.path} (hash "
                f"{record.config_hash}, there {first.config_hash})"
            )
    for record in records:
        trained = firsts.get(Subject("training", record.dataset, record.model))
        sampled = record.settings.get("sampling", record.settings)
        used = sampled.get("training") if isinstance(sampled, dict) else None
        if trained and isinstance(used, str) and used != trained.config_hash:
            raise RecordError(
                f"{record.path}: measures a training with other settings (hash {used}) than "
                f"{trained.path} ({trained.config_hash})"
            )


def _check_repetitions(records: list[Record]) -> None:
    """Refuse two records of a dataset with the same values: one measurement, shown twice."""
    seen: dict[tuple, Path] = {}
    for record in records:
        if record.kind not in ("training", "metrics"):
            continue
        training = record.kind == "training"
        values = record.metrics.final if training else record.metrics.model_extra
        key = (record.kind, record.dataset, *sorted(values.items()))
        if values and key in seen:
            raise RecordError(
                f"{record.path}: has the same values as {seen[key]}: one measurement, shown twice"
            )
        seen[key] = record.path


def _check_classifiers(records: list[Record]) -> None:
    """Refuse distances in the features of two classifiers; older records do not say of which."""
    seen: dict[str, tuple[str, Path]] = {}
    keys = {"classifier": "weights_sha256", "metrics": "classifier_sha256"}
    for record in records:
        digest = getattr(record.metrics, keys.get(record.kind, ""), None)
        if digest is None:
            continue
        first, path = seen.setdefault(record.dataset, (digest, record.path))
        if digest != first:
            raise RecordError(
                f"{record.path}: another classifier than that of {path}: distances in the features "
                "of two classifiers are not comparable\n  Run `evaluate` again with one of them."
            )

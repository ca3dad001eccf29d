"""The records of a folder of results, read as a whole and checked against each other.

A record's own digest says that it was not edited since it was written. The checks here find what a
digest cannot: records in the wrong place, one measurement under two seeds, seeds of different
settings, and values that contradict each other.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.base import paths
from benchmark.base.errors import RecordError
from benchmark.base.files import file_digest
from benchmark.records.names import METRIC, count_of
from benchmark.records.record import read_record
from kaem.likelihood import bits_per_dimension

PLACES = {
    "training": paths.TRAINING_RECORD,
    "metrics": paths.METRICS_RECORD,
    "timing": paths.TIMING_RECORD,
    "classifier": paths.CLASSIFIER_RECORD,
}
NO_RESULT = (
    "reference_count",
    "classifier_sha256",
    "inception_missing",
)  # beside the results of a metrics record


@dataclass(frozen=True)
class Result:
    """A record and the file that it was read from."""

    path: Path
    record: dict

    @property
    def job(self) -> tuple[str, str, str, str | None]:
        """(kind, dataset, model, device): what the seeds are repetitions of; the device is that of
        a timing."""
        names = (self.record[key] for key in ("kind", "dataset", "model"))
        device = self.record["provenance"]["device"]
        return (*names, device if self.record["kind"] == "timing" else None)

    @property
    def seed(self) -> int:
        return self.record["seed"]

    @property
    def seconds(self) -> float:
        return self.record["wall_time_s"]

    @property
    def metrics(self) -> dict:
        return self.record["metrics"]

    def latencies(self) -> dict[int, dict]:
        """Batch size -> its row in a timing: of whole images, eagerly."""
        return {
            row["batch_size"]: row
            for row in self.metrics["sampling"]
            if (row["mode"], row["part"]) == ("eager", "images") and "left_out" not in row
        }

    def update(self) -> dict | None:
        """The row of an update of training in a timing; None where it was not timed."""
        row = self.metrics.get("update")
        return row if row and "left_out" not in row else None

    @property
    def machine(self) -> tuple:
        """What a time depends on beside the model: hardware, threads, version of torch."""
        origin = self.record["provenance"]
        keys = ("platform", "cpu", "cpu_cores", "threads", "gpu", "cuda")
        return (*(origin[key] for key in keys), origin["packages"].get("torch"))


def read_results(folder: str | Path, wanted: set[Path] | None = None) -> list[Result]:
    """The records below a folder such as results/demo, in the order of their paths.

    Args:
        wanted: the files to read of those that are there; all by default.

    Raises:
        RecordError: one is damaged, edited or misplaced, contradicts itself or another, or there
            are none.
    """
    folder = Path(folder)
    found = []
    for kind in PLACES:
        for path in sorted((folder / kind).rglob("*.json")):
            if wanted is None or path in wanted:
                found.append(_read(folder, kind, path))
    if not found:
        raise RecordError(
            f"{folder}: no records are there: run the workflow, or name another folder"
        )
    _check_settings(found)
    _check_repetitions([r for r in found if r.record["kind"] in ("training", "metrics")])
    _check_weights(folder, found)
    _check_classifiers(found)
    return found


def place(folder: Path, kind: str, **names: str | int) -> Path:
    """Where the record of a job belongs; names as in `benchmark.base.paths`."""
    return folder / PLACES[kind].removeprefix(paths.RUN + "/").format(**names)


def by_job(results: Iterable[Result]) -> dict[tuple, list[Result]]:
    """The results of each job, one per seed."""
    grouped: dict[tuple, list[Result]] = {}
    for result in results:
        grouped.setdefault(result.job, []).append(result)
    return grouped


def _read(folder: Path, kind: str, path: Path) -> Result:
    record = read_record(path)
    names = {key: record[key] for key in ("dataset", "model", "seed")}
    belongs = place(folder, record["kind"], **names, device=record["provenance"]["device"])
    if belongs != path or record["kind"] != kind:
        raise RecordError(f"{path}: holds the record that belongs at {belongs}")
    problem = _contradiction(record)
    if problem:
        raise RecordError(f"{path}: contradicts itself: {problem}")
    return Result(path, record)


def _contradiction(record: dict) -> str | None:
    """What cannot be true of a record's values, taken together; None where nothing is wrong."""
    checks = {"training": _in_training, "metrics": _in_metrics, "timing": _in_timing}
    try:
        return next(checks.get(record["kind"], lambda _record: iter(()))(record), None)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        return f"its settings do not say what was done: {error!r}"


def _in_training(record: dict) -> Iterator[str]:
    metrics, settings = record["metrics"], record["settings"]["training"]
    seconds = metrics["updates"] * metrics["seconds_per_update"]
    if metrics["updates"] != settings["updates"]:
        yield f"{metrics['updates']} updates, {settings['updates']} in its settings"
    if not math.isclose(seconds, record["wall_time_s"], rel_tol=1e-6, abs_tol=1e-3):
        yield "seconds_per_update times updates is not wall_time_s"


def _in_metrics(record: dict) -> Iterator[str]:
    metrics, settings = record["metrics"], record["settings"]["evaluation"]
    asked = settings.get("likelihood", {"split": None, "images": 0})
    for name, value in metrics.items():
        found = METRIC.fullmatch(name)
        if found is None:
            continue
        split, count = found["split"], count_of(found["count"])
        if found["name"].startswith(("nats", "bits_per_dimension")):
            if split != asked["split"] or count > asked["images"]:
                yield f"{name}: its settings ask for the likelihood of {asked}"
            if found["name"] == "bits_per_dimension" and not _follows(value, name, metrics):
                yield f"{name} does not follow from the nats beside it"
        elif settings["references"].get(split) != count:
            yield f"{name}: its settings compare with {settings['references']}"
        elif f"reference_count_{split}" not in metrics:
            yield f"{name}: reference_count_{split} is missing"


def _follows(bits: float, name: str, metrics: dict) -> bool:
    """Bits and nats are one quantity; the ratio of their errors is the number of dimensions."""
    parts = ("nats", "nats_error", "bits_per_dimension_error")
    names = [name.replace("bits_per_dimension", part) for part in parts]
    if not set(names) <= set(metrics):
        return False
    nats, error, error_in_bits = (metrics[each] for each in names)
    if error_in_bits <= 0:
        return error == error_in_bits
    dimension = max(1, round(error / (error_in_bits * math.log(2))))
    return math.isclose(bits, bits_per_dimension(nats, dimension), rel_tol=1e-6)


def _in_timing(record: dict) -> Iterator[str]:
    asked = record["settings"]["timing"]["batch_sizes"]
    for row in record["metrics"]["sampling"]:
        if "left_out" in row:
            continue
        size, latency = row["batch_size"], row["latency_ms"]
        if size not in asked:
            yield f"batch size {size}: its settings have {asked}"
        if not _in_order(latency):
            yield f"batch size {size}: the quantiles of the latency are out of order"
        rate = 1e3 * size / latency["median"]
        if not math.isclose(row["images_per_second"], rate, rel_tol=1e-6):
            yield f"batch size {size}: images_per_second is not the batch over the median latency"
    update = record["metrics"].get("update", {})
    if "latency_ms" in update and not _in_order(update["latency_ms"]):
        yield "update: the quantiles of the latency are out of order"


def _in_order(latency: dict) -> bool:
    return 0 < latency["q25"] <= latency["median"] <= latency["q75"] <= latency["p95"]


def _check_settings(results: list[Result]) -> None:
    """Seeds of a job have the same settings, and were measured from the training beside them."""
    hashes = {}
    for result in results:
        first = hashes.setdefault(result.job, result)
        if first.record["config_hash"] != result.record["config_hash"]:
            raise RecordError(
                f"{result.path}: has other settings than {first.path} (hash "
                f"{result.record['config_hash']}, there {first.record['config_hash']})"
            )
    for result in results:
        trained = hashes.get(("training", *result.job[1:3], None))
        settings = result.record["settings"]
        sampled = settings.get("sampling", settings)
        used = sampled.get("training") if isinstance(sampled, dict) else None
        if trained and isinstance(used, str) and used != trained.record["config_hash"]:
            raise RecordError(
                f"{result.path}: measures a training with other settings (hash {used}) than "
                f"{trained.path} ({trained.record['config_hash']})"
            )


def _check_repetitions(results: list[Result]) -> None:
    """No two records of a dataset hold the same values: that is one measurement shown twice."""
    seen: dict[tuple, Path] = {}
    for result in results:
        values = result.metrics.get("final", result.metrics)
        shown = {k: v for k, v in values.items() if not k.startswith(NO_RESULT)}
        key = (result.record["kind"], result.record["dataset"], *sorted(shown.items()))
        if shown and key in seen:
            raise RecordError(
                f"{result.path}: has the same values as {seen[key]}: one measurement, shown twice"
            )
        seen[key] = result.path


def _check_classifiers(results: list[Result]) -> None:
    """The images of a dataset were compared in the features of one classifier; records of earlier
    versions of the code do not say of which."""
    seen: dict[str, tuple[str, Path]] = {}
    keys = {"classifier": "weights_sha256", "metrics": "classifier_sha256"}
    for result in results:
        digest = result.metrics.get(keys.get(result.job[0], ""))
        if digest is None:
            continue
        first, path = seen.setdefault(result.job[1], (digest, result.path))
        if digest != first:
            raise RecordError(
                f"{result.path}: another classifier than that of {path}: distances in the features "
                "of two classifiers are not comparable\n  Run `evaluate` again with one of them."
            )


def _check_weights(folder: Path, results: list[Result]) -> None:
    """Two trainings do not end in the same weights, where these are there."""
    seen: dict[str, Path] = {}
    for result in results:
        path = result.path.relative_to(folder / "training") if result.job[0] == "training" else None
        weights = path and (folder / "weights" / path).with_suffix(".safetensors")
        if weights and weights.is_file():
            digest = file_digest(weights)
            if digest in seen:
                raise RecordError(f"{weights}: is the same file as {seen[digest]}: one training")
            seen[digest] = weights

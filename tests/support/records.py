"""Small folders of records that hold together, for the tests of whatever reads them."""

import json
import math
from pathlib import Path

import torch
from support.configs import MODEL_SETTINGS, tiny_config

from benchmark.base import paths
from benchmark.config.config import Config
from benchmark.records.record import record_digest, write_record

CPU = torch.device("cpu")


def timing_row(batch_size=1, median=2.0, *, mode="eager", part="images", **changes) -> dict:
    """One time; the quartiles are half and twice the median."""
    latency = {"median": median, "q25": median / 2, "q75": median * 2, "p95": median * 3}
    return {
        "mode": mode,
        "part": part,
        "batch_size": batch_size,
        "warmup": 1,
        "repetitions": 10,
        "latency_ms": latency,
        "joules": None,
        "images_per_second": 1000 * batch_size / median,
        "peak_memory_bytes": None,
    } | changes


def update_row(batch_size=1, median=2.0, **changes) -> dict:
    """The time of an update of training, as `timing_row` has that of sampling."""
    row = timing_row(batch_size, median, **changes)
    for name in ("mode", "part", "images_per_second"):
        del row[name]
    return row


def timing_metrics(rows: list[dict], **changes) -> dict:
    """The metrics of a timing record."""
    names = ("uuid", "driver", "sm_clock_mhz", "memory_clock_mhz", "power_limit_w", "processes")
    return {
        "trained": True,
        "session": "0" * 16,
        "nfe": 1,
        "parameters": 1000,
        "flops_per_image": 2000,
        "others": {"cpu_cores": 0.0, "gpu_processes": None},
        "disturbed": False,
        "gpu_state": dict.fromkeys(names),
        "sampling": rows,
    } | changes


def mnist_config(**changes) -> Config:
    """Two models on MNIST with three seeds: its 10,000 test images are enough to compare with."""
    return tiny_config(
        {
            "datasets": ["mnist"],
            "seeds": [0, 1, 2],
            "evaluation.references": {"test": 10_000},
            "models": {name: MODEL_SETTINGS[name] for name in ("kaem_is", "kaem_ula", "vae")},
        }
        | changes
    )


def _path(pattern: str, config: Config, model: str, seed: int = 0, dataset: str = "mnist") -> Path:
    return paths.fill(pattern, config.run, dataset=dataset, model=model, seed=seed, device="cpu")


def write_training(
    config: Config, model: str, seed: int, seconds: float, dataset: str = "mnist", **final
) -> Path:
    """A training of so many seconds; its loss is another for each seed and time."""
    path = _path(paths.TRAINING_RECORD, config, model, seed, dataset)
    job = config.training_job(dataset, model)
    updates = job.settings["training"]["updates"]
    metrics = {
        "updates": updates,
        "seconds_per_update": seconds / updates,
        "parameters": 1000,
        "final": {"loss": seed + seconds / 7, **final},
    }
    write_record(
        path, "training", job, metrics, seed=seed, device=CPU, wall_time_s=seconds, sample_count=1
    )
    return path


def write_quality(
    config: Config, model: str, seed: int, dataset: str = "mnist", images: int = 10_000, **metrics
) -> Path:
    """Metrics by their plain names, against the whole test split."""
    path = _path(paths.METRICS_RECORD, config, model, seed, dataset)
    suffix = f"test_{images // 1000}k"
    values = {f"{name}_{suffix}": value for name, value in metrics.items()}
    counts = {"reference_count_test": config.facts(dataset).splits["test"]["count"]}
    write_record(
        path,
        "metrics",
        config.evaluation_job(dataset, model),
        values | counts,
        seed=seed,
        device=CPU,
        wall_time_s=2.0,
        sample_count=images,
    )
    return path


def _around(median: float, spread: float) -> dict[str, float]:
    quantiles = {"q25": median / spread, "q75": median * spread, "p95": median * spread**3}
    return {"median": median} | quantiles


def write_timing(
    config: Config,
    model: str,
    medians: dict[int, float],
    spread: float = 1.01,
    repetitions: int = 100,
    update: float | None = None,
    batch_size: int = 100,
    **changes,
) -> Path:
    """Latencies with quartiles a factor of `spread` away from the median.

    Args:
        update: median of an update of training of this batch size.
    """
    path = _path(paths.TIMING_RECORD, config, model)
    rows = []
    for size, median in medians.items():
        latency = _around(median, spread)
        rows.append(timing_row(size, median, repetitions=repetitions, latency_ms=latency))
    if update:
        latency = _around(update, spread)
        row = update_row(batch_size, update, repetitions=repetitions, latency_ms=latency)
        changes["update"] = row
    write_record(
        path,
        "timing",
        config.timing_job("mnist", model),
        timing_metrics(rows, **changes),
        seed=0,
        device=CPU,
        wall_time_s=3.0,
        sample_count=1,
    )
    return path


def bits_and_nats(nats: float, error: float, dimension: int = 784) -> dict[str, float]:
    """A likelihood as records hold it, by plain names."""
    scale = dimension * math.log(2)
    return {
        "nats": nats,
        "nats_error": error,
        "bits_per_dimension": -nats / scale + math.log2(255),
        "bits_per_dimension_error": error / scale,
    }


def forge(path: Path, change, to: Path | None = None) -> Path:
    """Change a record and give it the digest that it should then have, here or elsewhere."""
    record = json.loads(path.read_text())
    change(record)
    to = to or path
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(json.dumps(record | {"digest": record_digest(record)}))
    return to


def without_times(record: dict) -> dict:
    """A record less what differs between two runs of the same: times, origin, its digest."""
    left_out = ("wall_time_s", "provenance", "digest")
    record = {key: value for key, value in record.items() if key not in left_out}
    if "metrics" in record:
        metrics = record["metrics"]
        record["metrics"] = {k: v for k, v in metrics.items() if k != "seconds_per_update"}
    return record

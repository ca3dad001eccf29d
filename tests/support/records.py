"""Small folders of records that hold together, for the tests of whatever reads them."""

import json
import math
from dataclasses import replace
from pathlib import Path

import torch
from support.configs import MODEL_SETTINGS, tiny_config

from benchmark.config.config import Config
from benchmark.config.jobs import Job, job_of
from benchmark.records.names import metric_name
from benchmark.records.record import Record, record_digest, write_record

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


METRICS = {
    "training": {
        "updates": 5,
        "seconds_per_update": 0.1,
        "parameters": 100,
        "final": {"loss": -3.5, "kl": 1.0},
    },
    "classifier": {"accuracy_test": 0.97, "weights_sha256": "a" * 64},
    "metrics": {
        "fd_classifier_test_64": 12.5,
        "reference_count_test": 360,
        "nats_test_10": -20.5,
        "nats_error_test_10": 0.5,
        "nats_low_ess_share_test_10": 0.1,
    },
    "inspection": {
        "arrays_sha256": "a" * 64,
        "r_hat_median": 1.2,
        "r_hat_mixed_share": 0.5,
        "acceptance": 0.6,
        "ks_prior": [0.1],
        "ks_chains": [0.0],
        "sobol_total": [1.0],
        "sobol_error": [0.1],
        "formulas": [
            {
                "latent": [0],
                "form": "linear",
                "formula": "1 + 2 z",
                "error": 0.1,
                "relative_error": 0.2,
            }
        ],
    },
    "power": {
        "passes": 100,
        "arrays_sha256": "a" * 64,
        "swap_rates": [0.5],
        "mass_true": 0.7,
        "mass_prior_basin": 0.5,
        **{
            f"{name}_{sampler}{tail}": 0.5
            for sampler in ("ula", "population")
            for name, tail in (("mass", ""), ("mass", "_error"), ("autocorrelation", ""))
        },
    },
    "timing": timing_metrics([timing_row()]),
}
"""Measurements of each kind of record."""


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


def write_any(
    path: Path, kind: str = "metrics", metrics: dict | None = None, job: Job | None = None, **about
) -> Record:
    """A record; `METRICS` has measurements of each kind."""
    about = {"device": CPU, "wall_time_s": 1.23456, "sample_count": 64} | about
    job = job or job_of(tiny_config(), "metrics", "digits", "vae")
    job = replace(job, kind=kind, seed=about.pop("seed", job.seed))
    return write_record(job, metrics or METRICS[kind], path=path, **about)


def training_metrics(job: Job, seconds: float, **final) -> dict:
    """What a record says of a training; its loss is another for each seed, time and model."""
    updates = job.settings.training.updates
    return {
        "updates": updates,
        "seconds_per_update": seconds / updates,
        "parameters": 1000,
        "final": {"loss": job.seed + seconds / 7 + len(job.model), **final},
    }


def write_training(
    config: Config, model: str, seed: int, seconds: float, dataset: str = "mnist", **final
) -> Path:
    """A training of so many seconds; its loss is another for each seed, time and model."""
    job = job_of(config, "training", dataset, model, seed)
    metrics = training_metrics(job, seconds, **final)
    return write_any(job.path(), "training", metrics, job, wall_time_s=seconds).path


def write_quality(
    config: Config, model: str, seed: int, dataset: str = "mnist", images: int = 10_000, **metrics
) -> Path:
    """Metrics by their plain names, against the whole test split."""
    job = job_of(config, "metrics", dataset, model, seed)
    values = {metric_name(name, "test", images): value for name, value in metrics.items()}
    values["reference_count_test"] = config.facts(dataset).splits["test"].count
    about = {"wall_time_s": 2.0, "sample_count": images}
    return write_any(job.path(), "metrics", values, job, **about).path


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
    job = job_of(config, "timing", "mnist", model)
    rows = []
    for size, median in medians.items():
        latency = _around(median, spread)
        rows.append(timing_row(size, median, repetitions=repetitions, latency_ms=latency))
    if update:
        latency = _around(update, spread)
        row = update_row(batch_size, update, repetitions=repetitions, latency_ms=latency)
        changes["update"] = row
    metrics = timing_metrics(rows, **changes)
    return write_any(job.path(), "timing", metrics, job, wall_time_s=3.0).path


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


def without_times(record: Record | dict) -> dict:
    """A record less what differs between two runs of the same: times, origin, its digest."""
    content = record if isinstance(record, dict) else record.model_dump(exclude_unset=True)
    left_out = ("wall_time_s", "provenance", "digest")
    content = {key: value for key, value in content.items() if key not in left_out}
    if "metrics" in content:
        metrics = content["metrics"]
        content["metrics"] = {k: v for k, v in metrics.items() if k != "seconds_per_update"}
    return content

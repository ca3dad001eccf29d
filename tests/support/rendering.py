"""Made-up records of a run from which tables and figures are rendered, and the tables read back."""

import csv
import math
from pathlib import Path
from unittest import mock

import torch
from support.configs import FACES, tiny_config
from support.records import bits_and_nats, timing_metrics, timing_row, training_metrics

from benchmark.config.config import Config
from benchmark.config.jobs import job_of
from benchmark.records.names import metric_name
from benchmark.records.provenance import provenance
from benchmark.records.record import Record, write_record

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
COUNT = 2048  # images from which a distance is comparable
LIKELIHOOD = {"evaluation.likelihood": {"split": "test", "images": 20, "passes": 100}}


def shapes_config(changes: dict | None = None, real: int = COUNT) -> Config:
    """Two models with two seeds on a dataset with so many images in each split."""
    splits = {split: {"part": split, "count": real} for split in ("train", "test")}
    return tiny_config(
        {
            "datasets": ["shapes"],
            "own_datasets.shapes": FACES | {"title": "Shapes", "splits": splits},
            "seeds": [0, 1],
            "training.updates": 1500,
            "evaluation.references": {"test": COUNT},
            **(changes or {}),
        }
    )


def write_metrics(
    config: Config, model: str, metrics: dict, seed: int = 0, dataset: str = "shapes"
) -> Record:
    """Metrics by their full names, beside the counts of real images."""
    job = job_of(config, "metrics", dataset, model, seed)
    splits = config.facts(dataset).splits
    counts = {
        f"reference_count_{s}": splits[s].count for s in config.evaluation(dataset).references
    }
    return write_record(job, metrics | counts, device=CPU, wall_time_s=2.0, sample_count=COUNT)


def write_quality(
    config: Config, model: str, distance: float, seed: int = 0, dataset: str = "shapes", **others
) -> Record:
    """A distance by the classifier against the first reference, and metrics by full names."""
    split, count = next(iter(config.evaluation(dataset).references.items()))
    metrics = {metric_name("fd_classifier", split, count): distance, **others}
    return write_metrics(config, model, metrics, seed, dataset)


def likelihood(bits: float, split: str = "test") -> dict:
    """What a record says of 20 images of 64 pixels."""
    nats = (math.log2(255) - bits) * 64 * math.log(2)
    values = bits_and_nats(nats, 1.0, dimension=64)
    return {f"{name}_{split}_20": value for name, value in values.items()}


def write_training(
    config: Config, model: str, seconds: float, seed: int = 0, dataset: str = "shapes", **final
) -> Record:
    """A training; its loss is another for each seed, time and model."""
    job = job_of(config, "training", dataset, model, seed)
    metrics = training_metrics(job, seconds, **final)
    return write_record(job, metrics, device=CPU, wall_time_s=seconds, sample_count=1)


def write_timing(
    config: Config,
    model: str,
    medians: dict[int, float],
    device: torch.device = CPU,
    rows: tuple = (),
    dataset: str = "shapes",
    **changes,
) -> Record:
    """Latencies by batch size, further rows, and other metrics of a timing."""
    job = job_of(config, "timing", dataset, model, device=device.type)
    sampling = [*(timing_row(size, median) for size, median in medians.items()), *rows]
    metrics = timing_metrics(sampling, **changes)
    return write_record(job, metrics, device=device, wall_time_s=3.0, sample_count=1)


def pretended(**origin):
    """Records that are written inside have this origin, and one GPU."""
    known = provenance(CPU) | origin

    def pretend(device: torch.device) -> dict:
        return known | {"device": device.type, "gpu": None if device == CPU else "GPU X"}

    return mock.patch("benchmark.records.record.provenance", pretend)


def table_file(name: str, ending: str, run: str = "tiny") -> Path:
    """One file of a table."""
    return Path(f"results/{run}/tables/{name}.{ending}")


def read_csv(name: str, run: str = "tiny") -> list[dict]:
    """The rows of a table's numbers."""
    with table_file(name, "csv", run).open() as handle:
        return list(csv.DictReader(handle))


def read_md(name: str) -> tuple[list[dict], str]:
    """The rows of a table's text, and what stands below it."""
    text = table_file(name, "md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rows = [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]
    return rows, text.rpartition("|\n")[2]

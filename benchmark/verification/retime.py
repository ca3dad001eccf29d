"""Times the models of a published run in turns on this machine, in less than a minute.

Neither weights nor data are needed: sampling costs the same with fresh weights, and updates are
made on images that were drawn here. What two datasets have in common, networks alike and images of
one shape, is timed once.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmark.base.devices import available_cores, use_device
from benchmark.claims.claims import UPDATES, load_claims
from benchmark.config.config import Config
from benchmark.config.jobs import Job, job_of
from benchmark.data.dataset import Dataset
from benchmark.records.record import Record, Subject, write_record
from benchmark.timing.alone import Watch, reserved
from benchmark.timing.sampling import flops_per_image, in_8_bits, sampling_row, time_updates
from benchmark.timing.series import Call, Limits, Series, draw_call, run_in_turns
from benchmark.timing.speed import conditions
from benchmark.training.train import parameter_count, update_call
from benchmark.training.weights import load_model

LIMITS = Limits(warmup=2, repetitions=30, seconds=0.3)  # of the calls of one model and batch
LONGEST = 1.0  # seconds of a published call, from which on it is made here for a claim alone
LOOK = 1.0  # seconds, whether the machine is idle
LONG = 100  # passes of a network: a sampler of more needs no call to warm up

Timed = dict[str, dict]
"""Entry -> the metrics of its timing record."""


def time_again(
    config: Config,
    published: dict[Subject, list[Record]],
    images: dict[str, np.ndarray],
    target: Path,
) -> Iterator[Record]:
    """Time the models of the datasets that a run has times of, and write a record of each; nothing
    on a machine that other work keeps busy.

    Args:
        published: the run's records.
        images: uint8 (n, C, H, W) of each dataset, to make updates on.
        target: folder of the records.
    """
    device = use_device("cpu", available_cores())
    if _is_busy(device):
        return
    timed: dict[str, Timed] = {}
    for dataset in dict.fromkeys(s.dataset for s in published if s.device == "cpu"):
        alike = next((other for other in timed if _are_alike(config, dataset, other)), None)
        if alike is None and dataset not in images:
            continue
        timed[dataset] = timed.get(alike) or _time(config, dataset, published, images, device)
        for model, metrics in timed[dataset].items():
            calls = sum(row["repetitions"] * row["batch_size"] for row in metrics["sampling"])
            job = _short(job_of(config, "timing", dataset, model), metrics)
            about = {"device": device, "wall_time_s": 0.0, "sample_count": calls}
            yield write_record(job, metrics, path=job.path(folder=target), **about)


def _is_busy(device: torch.device) -> bool:
    """Look for a second whether others take half of the machine's cores, or more."""
    watch = Watch(device, refuse=False)
    time.sleep(LOOK)
    watch.look(after=LOOK)
    return watch.worst["cpu_cores"] > available_cores() / 2


def _short(job: Job, metrics: dict) -> Job:
    """Return the job with the settings of this timing, shorter than the published one's."""
    sizes = [row["batch_size"] for row in metrics["sampling"]]
    short = {"batch_sizes": sizes, "warmup": LIMITS.warmup, "repetitions": LIMITS.repetitions}
    short |= {"seconds": LIMITS.seconds, "longest_call": LONGEST, "modes": ["eager"]}
    timing = job.settings.timing.model_copy(update=short | {"disturbed": "mark"})
    return replace(job, settings=job.settings.model_copy(update={"timing": timing}))


def _time(
    config: Config,
    dataset: str,
    published: dict[Subject, list[Record]],
    images: dict[str, np.ndarray],
    device: torch.device,
) -> Timed:
    seed = config.seeds[0]
    models = {m: load_model(config, dataset, m, seed, device, trained=False) for m in config.models}
    records = {m: published.get(Subject("timing", dataset, m, "cpu"), [None])[0] for m in models}
    metrics: Timed = {m: _size(model, records[m], device) for m, model in models.items()}
    with reserved(device):
        watch = Watch(device, refuse=False)
        for size in _batch_sizes(config):
            chosen = {m: models[m] for m in models if _is_timed(config, m, size, records[m])}
            for model, row in _sampled(chosen, size, device, watch.look).items():
                metrics[model]["sampling"].append(row)
        updates = _updates(config, dataset, images[dataset], device)
        for model, (row, _) in time_updates(updates, device, LIMITS, watch.look).items():
            batch = job_of(config, "training", dataset, model).settings.training.batch_size
            metrics[model]["update"] = {"batch_size": batch} | row
        watch.look(after=1.0)
        shared = {"trained": False} | conditions(watch, device)
    return {model: shared | own for model, own in metrics.items() if own["sampling"]}


def _size(model: torch.nn.Module, record: Record | None, device: torch.device) -> dict:
    """Return what a record says of a model; operations are counted where nobody has."""
    counted = record.metrics.flops_per_image if record else flops_per_image(model, device)
    parameters = parameter_count(model)
    sizes = {"nfe": model.nfe, "parameters": parameters, "flops_per_image": counted}
    return sizes | {"sampling": []}


def _batch_sizes(config: Config) -> list[int]:
    """Return those of the run that claims are about; its first where none are."""
    judged = {claim.batch_size for claim in load_claims()} & set(config.timing.batch_sizes)
    return sorted(judged) or config.timing.batch_sizes[:1]


def _is_timed(config: Config, model: str, size: int, record: Record | None) -> bool:
    """Say whether a batch of a model is timed: what claims compare, and what does not take long."""
    if any(
        c.batch_size == size and model in c.entries and set(c.entries) <= set(config.models)
        for c in load_claims()
    ):
        return True
    was = record.metrics.latencies().get(size) if record else None
    return was is not None and was.latency_ms.median <= 1e3 * LONGEST


def _sampled(
    models: dict[str, torch.nn.Module], size: int, device: torch.device, look: Call
) -> dict[str, dict]:
    """Time drawing a batch of images with each of some models, in turns."""
    series = {
        entry: Series(draw_call(in_8_bits(model.sample), size, device), device)
        for entry, model in models.items()
    }
    for entry, one in series.items():
        if models[entry].nfe <= LONG:
            one.warm(LIMITS)
    run_in_turns(list(series.values()), replace(LIMITS, warmup=0), weigh=False, after_turn=look)
    return {model: sampling_row(one, "eager", "images", size) for model, one in series.items()}


def _updates(
    config: Config, dataset: str, images: np.ndarray, device: torch.device
) -> dict[str, Callable[[], Call]]:
    """Return what makes the updates that claims are about."""
    data = Dataset(dataset, {"train": torch.from_numpy(images)}, {}, {})
    judged = [c for c in load_claims() if c.metric in UPDATES]
    entries = {e for c in judged if set(c.entries) <= set(config.models) for e in c.entries}
    jobs = {m: job_of(config, "training", dataset, m) for m in config.models if m in entries}
    return {entry: partial(update_call, job, data, device) for entry, job in jobs.items()}


def _are_alike(config: Config, one: str, other: str) -> bool:
    """Say whether the models of two datasets cost the same."""

    def costs(dataset: str) -> list:
        jobs = [job_of(config, "training", dataset, model) for model in config.models]
        settings = [(job.settings.model, job.settings.training) for job in jobs]
        return [config.facts(dataset).image_shape, settings]

    return costs(one) == costs(other)

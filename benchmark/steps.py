"""The steps of the pipeline: each reads its inputs, computes, and writes its files and record.

Every step takes a configuration and the names of a job (timing, of several), and finds its files
through `benchmark.base.paths`. A step whose work failed has written nothing.
"""

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmark.base import paths
from benchmark.base.arrays import write_arrays
from benchmark.base.devices import available_cores, use_device
from benchmark.base.errors import DataError, RecordError
from benchmark.base.files import file_digest, remove_temporaries
from benchmark.base.process import StopRequests
from benchmark.base.seeding import generator
from benchmark.config.config import CLASSIFIER, REAL, Config
from benchmark.config.jobs import POWER_JOB, Job
from benchmark.data.dataset import Dataset, load_data
from benchmark.evaluation.samples import draw_images, open_samples, real_images, save_samples
from benchmark.records.names import rate_text
from benchmark.records.provenance import source_state
from benchmark.records.record import read_record, write_record
from benchmark.training.checkpoint import Checkpoints
from benchmark.training.classifier import accuracy, train_classifier
from benchmark.training.train import parameter_count, train_model
from benchmark.training.weights import load_model, save_weights
from kaem.model import KAEM

if TYPE_CHECKING:
    from benchmark.timing.speed import Updates

source_state()  # of the code that is loaded now


def train(config: Config, dataset: str, model: str, seed: int, progress: str = "auto") -> str:
    """Train a model (or the classifier) and write weights, history, diagnostics and record.

    Goes on where an earlier process was interrupted; where another one trains the same right now,
    waits for it and takes what it wrote.

    Raises:
        Stopped: this process was told to end; what it had done is kept.
    """
    device = use_device(config.device, config.threads)
    job = config.training_job(dataset, model)
    data = load_data(config, dataset)
    seed = 0 if model == CLASSIFIER else seed
    stop = StopRequests()
    keeper = Checkpoints(job, seed, device, config.checkpoint_seconds, stop)
    with keeper.held() as waited, stop.noted():
        for path in _training_files(job, seed):
            remove_temporaries(path)
        if waited and _is_trained(job, seed):
            said = f"{keeper.title}: was trained by the other process"
        elif model == CLASSIFIER:
            said = _train_classifier(config, job, data, device, progress, keeper)
        else:
            said = _train_model(config, job, data, seed, device, progress, keeper)
        keeper.discard()
    return said


def _training_files(job: Job, seed: int) -> list[Path]:
    """What a training writes, its record first."""
    files = (paths.TRAINING_RECORD, paths.WEIGHTS, paths.HISTORY, paths.DIAGNOSTICS)
    if job.model == CLASSIFIER:
        files = (paths.CLASSIFIER_RECORD, paths.CLASSIFIER)
    names = {"dataset": job.dataset, "model": job.model, "seed": seed}
    return [paths.fill(pattern, job.run, **names) for pattern in files]


def _is_trained(job: Job, seed: int) -> bool:
    """Whether all files of the training are there, and its record is of this job."""
    record, *others = _training_files(job, seed)
    try:
        written = read_record(record).config_hash == job.config_hash
    except RecordError:
        return False
    return written and all(path.is_file() for path in others)


def _train_model(
    config: Config,
    job: Job,
    data: Dataset,
    seed: int,
    device: torch.device,
    progress: str,
    keeper: Checkpoints,
) -> str:
    run = train_model(job, data, seed, device, progress, keeper)
    names = {"dataset": job.dataset, "model": job.model, "seed": seed}
    updates, batch_size = (job.settings["training"][key] for key in ("updates", "batch_size"))
    metrics = {
        "updates": updates,
        "seconds_per_update": run.seconds / updates,
        "parameters": parameter_count(run.model),
        "final": run.history.final(),
    }
    weights = paths.fill(paths.WEIGHTS, config.run, **names)
    save_weights(weights, run.model, job)
    run.history.write(paths.fill(paths.HISTORY, config.run, **names))
    write_arrays(paths.fill(paths.DIAGNOSTICS, config.run, **names), **run.diagnostics)
    write_record(
        paths.fill(paths.TRAINING_RECORD, config.run, **names),
        "training",
        job,
        metrics,
        seed=seed,
        device=device,
        wall_time_s=run.seconds,
        sample_count=updates * batch_size,
    )
    return f"wrote {weights}"


def _train_classifier(
    config: Config,
    job: Job,
    data: Dataset,
    device: torch.device,
    progress: str,
    keeper: Checkpoints,
) -> str:
    classifier, seconds = train_classifier(job, data, device, progress, keeper)
    right = accuracy(classifier, data.images["test"], data.labels["test"])
    path = paths.fill(paths.CLASSIFIER, config.run, dataset=job.dataset)
    save_weights(path, classifier, job)
    write_record(
        paths.fill(paths.CLASSIFIER_RECORD, config.run, dataset=job.dataset),
        "classifier",
        job,
        {"accuracy_test": right, "weights_sha256": file_digest(path)},
        seed=0,
        device=device,
        wall_time_s=seconds,
        sample_count=len(data.images["test"]),
    )
    return f"{job.dataset} · classifier: accuracy {right:.1%} on the test split"


def sample(config: Config, dataset: str, model: str, seed: int) -> str:
    """Draw the images that are evaluated; `model` may be "real" for the training images."""
    device = use_device(config.device, config.threads)
    job = config.sampling_job(dataset, model)
    if model == REAL:
        batches = real_images(load_data(config, dataset).images["train"], job, seed)
    else:
        batches = draw_images(load_model(config, dataset, model, seed, device), job, seed, device)
    path = paths.fill(paths.SAMPLES, config.run, dataset=dataset, model=model, seed=seed)
    shape = (job.settings["samples"], *config.facts(dataset).image_shape)
    save_samples(path, batches, shape, job)
    return f"wrote {path}: {shape[0]} images"


def evaluate(config: Config, dataset: str, model: str, seed: int) -> str:
    """Measure the images that `sample` drew and write the record."""
    from benchmark.evaluation.evaluate import (
        evaluate_samples,
    )  # torchvision and all: seconds to import

    device = use_device(config.device, config.threads)
    job = config.evaluation_job(dataset, model)
    names = {"dataset": dataset, "model": model, "seed": seed}
    samples = open_samples(
        paths.fill(paths.SAMPLES, config.run, **names),
        config.sampling_job(dataset, model),
        config.facts(dataset).image_shape,
    )
    started = time.perf_counter()
    metrics = evaluate_samples(config, dataset, model, seed, samples, device)
    write_record(
        paths.fill(paths.METRICS_RECORD, config.run, **names),
        "metrics",
        job,
        metrics,
        seed=seed,
        device=device,
        wall_time_s=time.perf_counter() - started,
        sample_count=len(samples),
    )
    found = {name: value for name, value in metrics.items() if name.startswith(("fid_", "fd_"))}
    shown = ", ".join(f"{k} {v:.2f}" for k, v in found.items() if "infinity" not in k)
    return f"{dataset} · {model} · seed {seed}: {shown or 'no features to compare in'}"


def inspect(config: Config, dataset: str, model: str, seed: int) -> str:
    """Look into a trained KAEM and write arrays and record."""
    from benchmark.inspection.inspect import inspect_model

    device = use_device(config.device, config.threads)
    job = config.inspection_job(dataset, model)
    trained = load_model(config, dataset, model, seed, device)
    started = time.perf_counter()
    data = load_data(config, dataset)
    arrays, metrics = inspect_model(trained, data, job, seed, device)
    if config.measures_independence(dataset):
        metrics["independence"] = _independence(config, trained, data, job, seed, device)
    names = {"dataset": dataset, "model": model, "seed": seed}
    path = paths.fill(paths.INSPECTION, config.run, **names)
    write_arrays(path, **arrays)
    write_record(
        paths.fill(paths.INSPECTION_RECORD, config.run, **names),
        "inspection",
        job,
        metrics | {"arrays_sha256": file_digest(path)},
        seed=seed,
        device=device,
        wall_time_s=time.perf_counter() - started,
        sample_count=arrays["posterior_draws"].shape[1],
    )
    return (
        f"{dataset} · {model} · seed {seed}: R-hat below 1.1 for "
        f"{metrics['r_hat_mixed_share']:.0%} of the latents of single images"
    )


def _independence(
    config: Config, trained: KAEM, data: Dataset, job: Job, seed: int, device: torch.device
) -> dict[str, float]:
    from benchmark.evaluation.evaluate import classifier_features, split_features
    from benchmark.inspection.independence import independence

    extractor = classifier_features(config, job.dataset, device)
    return independence(
        trained,
        data.images["train"][: job.settings["decoded"]],
        extractor,
        split_features(config, data, job.settings["reference"], extractor),
        {name: job.settings[name] for name in ("annealing", "burn_in")},
        generator("independence", job.dataset, job.model, seed, device=device),
    )


def power(config: Config) -> str:
    """Sample a posterior with two modes, with and without a population; write arrays and record."""
    from benchmark.inspection.two_modes import compare_samplers

    device = use_device("cpu", config.threads)
    job = Job(config.run, **POWER_JOB)
    started = time.perf_counter()
    arrays, metrics = compare_samplers(job.settings)
    path = paths.fill(paths.POWER, config.run)
    write_arrays(path, **arrays)
    write_record(
        paths.fill(paths.POWER_RECORD, config.run),
        "power",
        job,
        metrics | {"arrays_sha256": file_digest(path)},
        seed=0,
        device=device,
        wall_time_s=time.perf_counter() - started,
        sample_count=job.settings["chains"],
    )
    return (
        f"mass of the right mode: {metrics['mass_true']:.3f}; ULA {metrics['mass_ula']:.3f}, "
        f"population {metrics['mass_population']:.3f}, each after {metrics['passes']} passes"
    )


def time_models(
    config: Config,
    dataset: str,
    models: list[str],
    seed: int,
    device_name: str,
    *,
    trained: bool = True,
) -> list[str]:
    """Time the sampling of models on one device and the updates of their trainings, in turns, and
    write a record of each.

    Args:
        trained: False samples from fresh weights, as the records then say; the cost is the same.
    """
    from benchmark.timing.speed import measure_speed

    device = use_device(device_name, available_cores())

    def load(model: str) -> torch.nn.Module:
        return load_model(config, dataset, model, seed, device, trained=trained)

    said = []
    title = f"{dataset} · {device_name} · timing"
    updates = _updates(config, dataset, models, seed, device)
    found = measure_speed(load, models, config.timing, device, title, updates)
    for model, (metrics, seconds) in found.items():
        rows = metrics["sampling"]
        names = {"device": device_name, "dataset": dataset, "model": model}
        write_record(
            paths.fill(paths.TIMING_RECORD, config.run, **names),
            "timing",
            config.timing_job(dataset, model),
            {"trained": trained} | metrics,
            seed=seed,
            device=device,
            wall_time_s=seconds,
            sample_count=sum(row["batch_size"] * row.get("repetitions", 0) for row in rows),
        )
        fastest = max(row.get("images_per_second", 0) for row in rows if row["part"] == "images")
        said.append(f"{dataset} · {model} · {device_name}: up to {rate_text(fastest)} images/s")
    return said


def _updates(
    config: Config, dataset: str, models: list[str], seed: int, device: torch.device
) -> "Updates":
    """Of each model that has a training of its own. Sampling can be timed without the dataset."""
    from benchmark.training.train import update_call

    trained = [model for model in models if config.trained_entry(model) == model]
    jobs = {model: config.training_job(dataset, model) for model in trained}
    try:
        data = load_data(config, dataset)
    except DataError:
        data = None
    return {
        model: (
            job.settings["training"]["batch_size"],
            data and partial(update_call, job, data, seed, device),
        )
        for model, job in jobs.items()
    }

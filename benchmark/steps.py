"""The steps of the pipeline: each reads its inputs, computes, and writes its files and record.

Every step takes a configuration and the names of a job (timing, of several), and finds its files
through `benchmark.config.jobs`. A step whose work failed has written nothing.
"""

import time
from functools import partial
from typing import TYPE_CHECKING

import torch

from benchmark.base.arrays import write_arrays
from benchmark.base.devices import available_cores, use_device
from benchmark.base.errors import DataError, RecordError
from benchmark.base.files import file_digest, remove_temporaries
from benchmark.base.process import StopRequests
from benchmark.base.seeding import generator
from benchmark.config.config import CLASSIFIER, REAL, Config
from benchmark.config.jobs import Job, job_of
from benchmark.data.dataset import Dataset, load_data
from benchmark.evaluation.samples import draw_images, open_samples, real_images, save_samples
from benchmark.records.names import rate_text
from benchmark.records.provenance import source_state
from benchmark.records.record import read_record, write_record
from benchmark.training.checkpoint import Checkpoints
from benchmark.training.classifier import accuracy, train_classifier
from benchmark.training.train import parameter_count, train_model
from benchmark.training.weights import drawing_digest, load_model, save_weights
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
    data = load_data(config, dataset)
    is_classifier = model == CLASSIFIER
    if is_classifier:
        job = job_of(config, "classifier", dataset)
    else:
        job = job_of(config, "training", dataset, model, seed)
    stop = StopRequests()
    checkpoints = Checkpoints(job, device, config.checkpoint_seconds, stop)
    with checkpoints.held() as had_rival, stop.noted():
        for path in job.paths:
            remove_temporaries(path)
        if had_rival and _is_trained(job):
            message = f"{job.title}: was trained by the other process"
        elif is_classifier:
            message = _train_classifier(job, data, device, progress, checkpoints)
        else:
            message = _train_model(job, data, device, progress, checkpoints)
        checkpoints.discard()
    return message


def _is_trained(job: Job) -> bool:
    """Say whether all files of the training are there, and its record is of this job."""
    try:
        written = read_record(job.path()).config_hash == job.config_hash
    except RecordError:
        return False
    return written and all(path.is_file() for path in job.paths)


def _train_model(
    job: Job, data: Dataset, device: torch.device, progress: str, checkpoints: Checkpoints
) -> str:
    training = train_model(job, data, device, progress, checkpoints)
    settings = job.settings.training
    metrics = {
        "updates": settings.updates,
        "seconds_per_update": training.seconds / settings.updates,
        "parameters": parameter_count(training.model),
        "final": training.history.final(),
        "weights_sha256": drawing_digest(training.model.state_dict()),
    }
    save_weights(job.path("weights"), training.model, job)
    training.history.write(job.path("history"))
    write_arrays(job.path("diagnostics"), **training.diagnostics)
    images = settings.updates * settings.batch_size
    write_record(job, metrics, device=device, wall_time_s=training.seconds, sample_count=images)
    return f"wrote {job.path('weights')}"


def _train_classifier(
    job: Job, data: Dataset, device: torch.device, progress: str, checkpoints: Checkpoints
) -> str:
    classifier, seconds = train_classifier(job, data, device, progress, checkpoints)
    classifier.half().float()  # what its file, which is published, says in half as many bytes
    right = accuracy(classifier, data.images["test"], data.labels["test"])
    save_weights(job.path("weights"), classifier.half(), job)
    metrics = {"accuracy_test": right, "weights_sha256": file_digest(job.path("weights"))}
    images = len(data.images["test"])
    write_record(job, metrics, device=device, wall_time_s=seconds, sample_count=images)
    return f"{job.dataset} · classifier: accuracy {right:.1%} on the test split"


def sample(config: Config, dataset: str, model: str, seed: int) -> str:
    """Draw the images that are evaluated; `model` may be "real" for the training images."""
    device = use_device(config.device, config.threads)
    data = load_data(config, dataset) if model == REAL else None
    job = job_of(config, "sampling", dataset, model, seed)
    if data:
        batches = real_images(data.images["train"], job)
    else:
        batches = draw_images(load_model(config, dataset, model, seed, device), job, device)
    shape = (job.settings.samples, *config.facts(dataset).image_shape)
    save_samples(job.path("samples"), batches, shape, job)
    return f"wrote {job.path('samples')}: {shape[0]} images"


def evaluate(config: Config, dataset: str, model: str, seed: int) -> str:
    """Measure the images that `sample` drew and write the record."""
    # Imported here: torchvision and all take seconds.
    from benchmark.evaluation.evaluate import evaluate_samples

    device = use_device(config.device, config.threads)
    job = job_of(config, "metrics", dataset, model, seed)
    drawing = job_of(config, "sampling", dataset, model, seed)
    samples = open_samples(drawing.path("samples"), drawing, config.facts(dataset).image_shape)
    started = time.perf_counter()
    metrics = evaluate_samples(config, dataset, model, seed, samples, device)
    seconds = time.perf_counter() - started
    write_record(job, metrics, device=device, wall_time_s=seconds, sample_count=len(samples))
    distances = [
        f"{name} {value:.2f}"
        for name, value in metrics.items()
        if name.startswith(("fid_", "fd_")) and "infinity" not in name
    ]
    return f"{job.title}: {', '.join(distances) or 'no features to compare in'}"


def inspect(config: Config, dataset: str, model: str, seed: int) -> str:
    """Look into a trained KAEM and write arrays and record."""
    from benchmark.inspection.inspect import inspect_model

    device = use_device(config.device, config.threads)
    job = job_of(config, "inspection", dataset, model, seed)
    trained = load_model(config, dataset, model, seed, device)
    started = time.perf_counter()
    data = load_data(config, dataset)
    arrays, metrics = inspect_model(trained, data, job, device)
    if job.settings.reference:
        metrics["independence"] = _independence(config, trained, data, job, device)
    _write_arrays(job, arrays, metrics, device, started, arrays["posterior_draws"].shape[1])
    share = metrics["r_hat_mixed_share"]
    return f"{job.title}: R-hat below 1.1 for {share:.0%} of the latents of single images"


def _independence(
    config: Config, trained: KAEM, data: Dataset, job: Job, device: torch.device
) -> dict[str, float]:
    from benchmark.evaluation.evaluate import classifier_features, split_features
    from benchmark.inspection.independence import independence

    extractor = classifier_features(config, job.dataset, device)
    return independence(
        trained,
        data.images["train"][: job.settings.decoded],
        extractor,
        split_features(config, data, job.settings.reference, extractor),
        {"annealing": job.settings.annealing, "burn_in": job.settings.burn_in},
        generator("independence", job.dataset, job.model, job.seed, device=device),
    )


def power(config: Config) -> str:
    """Sample a posterior with two modes, with and without a population; write arrays and record."""
    from benchmark.inspection.two_modes import compare_samplers

    device = use_device("cpu", config.threads)
    job = job_of(config, "power")
    started = time.perf_counter()
    arrays, metrics = compare_samplers(job.settings)
    _write_arrays(job, arrays, metrics, device, started, job.settings.chains)
    return (
        f"mass of the right mode: {metrics['mass_true']:.3f}; ULA {metrics['mass_ula']:.3f}, "
        f"population {metrics['mass_population']:.3f}, each after {metrics['passes']} passes"
    )


def _write_arrays(
    job: Job, arrays: dict, metrics: dict, device: torch.device, started: float, count: int
) -> None:
    """Write a job's arrays, and its record with their digest."""
    write_arrays(job.path("arrays"), **arrays)
    metrics = metrics | {"arrays_sha256": file_digest(job.path("arrays"))}
    seconds = time.perf_counter() - started
    write_record(job, metrics, device=device, wall_time_s=seconds, sample_count=count)


def time_models(
    config: Config,
    dataset: str,
    models: list[str] | None,
    seed: int,
    device: str,
    untrained: bool = False,
) -> list[str]:
    """Time the sampling of models on one device and the updates of their trainings, in turns, and
    write a record of each.

    Args:
        models: all entries by default.
        untrained: sample from fresh weights, as the records then say; the cost is the same.
    """
    from benchmark.timing.speed import measure_speed

    place = use_device(device, available_cores())
    models = list(dict.fromkeys(models or config.models))

    def load(model: str) -> torch.nn.Module:
        return load_model(config, dataset, model, seed, place, trained=not untrained)

    for model in models:  # weights at fault are said before the machine is waited for
        load(model)
    lines = []
    title = f"{dataset} · {device} · timing"
    updates = _updates(config, dataset, models, seed, place)
    measured = measure_speed(load, models, config.timing, place, title, updates)
    for model, (metrics, seconds) in measured.items():
        rows = metrics["sampling"]
        write_record(
            job_of(config, "timing", dataset, model, seed, device),
            {"trained": not untrained} | metrics,
            device=place,
            wall_time_s=seconds,
            sample_count=sum(row["batch_size"] * row.get("repetitions", 0) for row in rows),
        )
        fastest = max(row.get("images_per_second", 0) for row in rows if row["part"] == "images")
        lines.append(f"{dataset} · {model} · {device}: up to {rate_text(fastest)} images/s")
    return lines


def _updates(
    config: Config, dataset: str, models: list[str], seed: int, device: torch.device
) -> "Updates":
    """Return what makes the updates of each model that has a training of its own. Sampling can be
    timed without the dataset."""
    from benchmark.training.train import update_call

    try:
        data = load_data(config, dataset)
    except DataError:
        data = None
    trained = [model for model in models if config.trained_entry(model) == model]
    jobs = {model: job_of(config, "training", dataset, model, seed) for model in trained}
    return {
        model: (
            job.settings.training.batch_size,
            data and partial(update_call, job, data, device),
        )
        for model, job in jobs.items()
    }

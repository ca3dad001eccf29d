"""The steps of the pipeline: each reads its inputs, computes, and writes its files and record.

Every step takes a configuration and the names of one job, and finds its files through
`benchmark.paths`. A step whose work failed has written nothing.
"""

import hashlib
import time
from pathlib import Path

import torch
from torch import Tensor

from benchmark import paths
from benchmark.classifier import accuracy, train_classifier
from benchmark.config import CLASSIFIER, REAL, Config, Job
from benchmark.data import Dataset, data_root, load_dataset
from benchmark.errors import BenchmarkError, DataError
from benchmark.evidence import likelihood_metrics
from benchmark.files import write_arrays, write_json
from benchmark.provenance import available_cores, source_state
from benchmark.records import write_record
from benchmark.registry import build
from benchmark.sample import draw_images, load_samples, real_images, save_samples
from benchmark.seeding import generator
from benchmark.timing import time_sampling
from benchmark.train import train_model
from benchmark.weights import load_weights, save_weights

source_state()  # of the code that is loaded now


def preflight(config: Config, datasets: list[str]) -> list[str]:
    """Fetch what is missing, check every dataset, and write a summary of each.

    Returns:
        One line per dataset that is ready.

    Raises:
        DataError: all that is wrong, in one message.
    """
    ready, problems = [], []
    for name in datasets:
        try:
            dataset = load_dataset(name, data_root(config.data_root), download=True)
        except DataError as error:
            problems.append(str(error))
            continue
        counts = {split: len(images) for split, images in dataset.images.items()}
        summary = {"dataset": name, "image_shape": dataset.image_shape, "counts": counts}
        write_json(
            paths.fill(paths.DATA, config.run, dataset=name), summary | {"digests": dataset.digests}
        )
        ready.append(f"{name}: ready, " + ", ".join(f"{n} {split}" for split, n in counts.items()))
    if problems:
        raise DataError("\n".join(problems))
    return ready


def train(config: Config, dataset: str, model: str, seed: int, progress: str = "auto") -> str:
    """Train a model (or the classifier) and write weights, history, diagnostics and record."""
    device = _use_device(config.device, config.threads)
    job = config.training_job(dataset, model)
    data = _load(config, dataset)
    if model == CLASSIFIER:
        return _train_classifier(config, job, data, device, progress)
    run = train_model(job, data, seed, device, progress)
    names = {"dataset": dataset, "model": model, "seed": seed}
    updates, batch_size = (job.settings["training"][key] for key in ("updates", "batch_size"))
    metrics = {
        "updates": updates,
        "seconds_per_update": run.seconds / updates,
        "parameters": _parameters(run.model),
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
    config: Config, job: Job, data: Dataset, device: torch.device, progress: str
) -> str:
    started = time.perf_counter()
    classifier = train_classifier(job, data, device, progress)
    seconds = time.perf_counter() - started
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
    device = _use_device(config.device, config.threads)
    job = config.sampling_job(dataset, model)
    if model == REAL:
        images = real_images(_load(config, dataset).images["train"], job, seed)
    else:
        images = draw_images(_trained(config, dataset, model, seed, device), job, seed, device)
    path = paths.fill(paths.SAMPLES, config.run, dataset=dataset, model=model, seed=seed)
    save_samples(path, images, job)
    return f"wrote {path}: {len(images)} images"


def evaluate(config: Config, dataset: str, model: str, seed: int) -> str:
    """Measure the images that `sample` drew and write the record."""
    from benchmark.evaluate import classifier_metrics  # torchvision and all: seconds to import

    device = _use_device(config.device, config.threads)
    job = config.evaluation_job(dataset, model)
    names = {"dataset": dataset, "model": model, "seed": seed}
    images = load_samples(
        paths.fill(paths.SAMPLES, config.run, **names), config.sampling_job(dataset, model)
    )
    settings = job.settings["evaluation"]
    split = settings["reference_split"]
    reference = _load(config, dataset).images[split]
    started = time.perf_counter()
    measured = classifier_metrics(
        images,
        reference,
        paths.fill(paths.CLASSIFIER, config.run, dataset=dataset),
        config.training_job(dataset, CLASSIFIER),
        batch_size=settings["batch_size"],
        device=device,
    )
    metrics = {f"{name}_{split}_{len(images)}": value for name, value in measured.items()}
    metrics["reference_count"] = len(reference)
    if model != REAL and "likelihood" in settings:
        metrics |= _likelihood(config, job, seed, reference, device)
    write_record(
        paths.fill(paths.METRICS_RECORD, config.run, **names),
        "metrics",
        job,
        metrics,
        seed=seed,
        device=device,
        wall_time_s=time.perf_counter() - started,
        sample_count=len(images),
    )
    return (
        f"{dataset} · {model} · seed {seed}: FD-classifier {measured['fd_classifier']:.2f} "
        f"({len(images)} samples against {len(reference)} {split} images)"
    )


def _likelihood(
    config: Config, job: Job, seed: int, images: Tensor, device: torch.device
) -> dict[str, float]:
    """The likelihood of the first images of the reference split; empty for models without one."""
    model = _trained(config, job.dataset, job.model, seed, device)
    if not hasattr(model, "log_evidence"):
        return {}
    settings = job.settings["evaluation"]
    wanted = settings["likelihood"]
    return likelihood_metrics(
        model,
        images[: wanted["images"]],
        settings["reference_split"],
        wanted["passes"],
        generator("likelihood", job.dataset, job.model, seed, device=device),
        device,
    )


def time_model(config: Config, dataset: str, model: str, seed: int, device_name: str) -> str:
    """Time the sampling of one trained model on one device and write the record."""
    device = _use_device(device_name, available_cores())
    trained = _trained(config, dataset, model, seed, device)
    settings = config.timing
    started = time.perf_counter()
    rows = [
        time_sampling(
            trained,
            batch_size,
            device,
            warmup=settings["warmup"],
            repetitions=settings["repetitions"],
            seconds=settings["seconds"],
        )
        for batch_size in settings["batch_sizes"]
    ]
    write_record(
        paths.fill(
            paths.TIMING_RECORD, config.run, device=device_name, dataset=dataset, model=model
        ),
        "timing",
        config.timing_job(dataset, model),
        {"nfe": trained.nfe, "parameters": _parameters(trained), "sampling": rows},
        seed=seed,
        device=device,
        wall_time_s=time.perf_counter() - started,
        sample_count=sum(row["batch_size"] * row["repetitions"] for row in rows),
    )
    fastest = max(row["images_per_second"] for row in rows)
    return f"{dataset} · {model} · {device_name}: up to {fastest:,.0f} images/s"


def file_digest(path: str | Path) -> str:
    """sha256 of a file's bytes."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _load(config: Config, dataset: str) -> Dataset:
    return load_dataset(dataset, data_root(config.data_root))


def _trained(
    config: Config, dataset: str, model: str, seed: int, device: torch.device
) -> torch.nn.Module:
    """The trained model of one seed, ready for inference."""
    job = config.training_job(dataset, model)
    shape = tuple(job.settings["data"]["image_shape"])
    fresh = build(job.settings["architecture"], config.model_settings(dataset, model), shape)
    path = paths.fill(paths.WEIGHTS, config.run, dataset=dataset, model=job.model, seed=seed)
    return load_weights(path, fresh, job, device)


def _use_device(name: str, threads: int) -> torch.device:
    """The device called `name` ("auto": the GPU if there is one), with this many CPU threads."""
    torch.set_num_threads(threads)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise BenchmarkError("device cuda: no GPU is visible here; set `device: cpu` or `auto`")
    return torch.device(name)


def _parameters(model: torch.nn.Module) -> int:
    """The trained ones: a moving average of them is no parameter."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)

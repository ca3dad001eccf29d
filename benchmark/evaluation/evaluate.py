"""Measuring drawn images: by which features, against which real images, under which names."""

import tempfile
from pathlib import Path

import torch

from benchmark.base import paths
from benchmark.base.files import file_digest
from benchmark.base.seeding import generator
from benchmark.config.config import REAL, Config
from benchmark.config.facts import reference_splits
from benchmark.config.jobs import job_of
from benchmark.data.dataset import Dataset, load_data
from benchmark.evaluation.efficientnet import EfficientNetFeatures
from benchmark.evaluation.features import (
    ClassifierFeatures,
    Extractor,
    RealFeatures,
    extract,
    real_features,
)
from benchmark.evaluation.inception import InceptionFeatures, find_weights
from benchmark.evaluation.likelihood import likelihood_metrics
from benchmark.evaluation.metrics import class_coverage, feature_metrics, named
from benchmark.evaluation.samples import Samples
from benchmark.evaluation.sigma import IMAGES, ConstantImage, held_back, with_best_sigma
from benchmark.records.names import metric_name
from benchmark.training.classifier import build_classifier
from benchmark.training.weights import load_model, load_weights


def evaluate_samples(
    config: Config, dataset: str, model: str, seed: int, samples: Samples, device: torch.device
) -> dict:
    """Return the metrics of one record, see `benchmark.records.measurements`."""
    data = load_data(config, dataset)
    settings = config.evaluation(dataset)
    extractors, metrics = _extractors(config, dataset, device)
    for split in settings.references:
        splits = reference_splits(config.facts(dataset).splits, split)
        metrics[f"reference_count_{split}"] = sum(len(data.images[name]) for name in splits)
    for extractor in extractors:
        metrics |= _compare(config, data, samples, extractor)
    found = {name: metrics.pop(name) for name in list(metrics) if "_subsets_" in name}
    if found:
        metrics["subsets"] = {
            name.replace("_subsets", ""): [{"images": n, "distance": d} for n, d in points]
            for name, points in found.items()
        }
    if settings.likelihood:
        metrics |= _likelihood(config, data, model, seed, device)
    return metrics


def _extractors(
    config: Config, dataset: str, device: torch.device
) -> tuple[list[Extractor], dict[str, str]]:
    """Return what extracts the features, and what a record tells about it.

    That is which classifier and EfficientNet it was, and that Inception is missing.
    """
    extractors: list[Extractor] = []
    origin = {}
    if config.has_classifier(dataset):
        extractors.append(classifier_features(config, dataset, device))
        origin["classifier_sha256"] = extractors[0].digest
    if config.evaluation(dataset).efficientnet:
        extractors.append(EfficientNetFeatures(device))
        origin["efficientnet_sha256"] = extractors[-1].digest
    sha256 = config.inception_sha256(dataset)
    if sha256 is not None:
        weights = find_weights(paths.data_root(config.data_root), sha256)
        if weights is None:
            origin["inception_missing"] = "no weights were there when this was measured"
        else:
            extractors.append(InceptionFeatures(weights, device))
    return extractors, origin


def classifier_features(
    config: Config, dataset: str, device: torch.device, folder: Path | None = None
) -> ClassifierFeatures:
    """Load the dataset's trained classifier, from the run's own folder by default."""
    job = job_of(config, "classifier", dataset)
    path = job.path("weights", folder)
    fresh = build_classifier(job, config.facts(dataset).image_shape)
    classifier = load_weights(path, fresh, job, device)
    return ClassifierFeatures(classifier, file_digest(path), device)


def split_features(config: Config, data: Dataset, split: str, extractor: Extractor) -> RealFeatures:
    """Return the features of a split's real images, "train" as `reference_splits` has it."""
    splits = reference_splits(config.facts(data.name).splits, split)
    batch_size = config.evaluation(data.name).batch_size
    return real_features(data, splits, extractor, batch_size, paths.cache_root(config.data_root))


def _compare(
    config: Config, data: Dataset, samples: Samples, extractor: Extractor
) -> dict[str, float]:
    """Compare the samples with the real images of every split that the configuration names."""
    settings = config.evaluation(data.name)
    metrics = {}
    with tempfile.TemporaryDirectory(prefix=".features-", dir=samples.path.parent) as scratch:
        batches = samples.batches(settings.batch_size)
        drawn = extract(batches, len(samples), extractor, Path(scratch) / "features")
        for split, count in settings.references.items():
            real = split_features(config, data, split, extractor)
            values = named(feature_metrics(drawn[:count], real), extractor.names)
            if isinstance(extractor, ClassifierFeatures):
                classes = [
                    extractor.classes(features) for features in (drawn[:count], real.features)
                ]
                values["class_coverage"] = class_coverage(
                    *classes, extractor.classifier.head.out_features
                )
            metrics |= {metric_name(name, split, count): v for name, v in values.items()}
    return metrics


def _likelihood(
    config: Config, data: Dataset, model: str, seed: int, device: torch.device
) -> dict[str, float]:
    """Measure the likelihood of some real images, at the sigma of the training and at the best one;
    of a constant image beside the real ones; empty for models without a likelihood."""
    settings = config.evaluation(data.name).likelihood
    images = data.images[settings.split][: settings.images]
    split, fitting = held_back(data.images)

    def measured(by: torch.nn.Module, label: str = "") -> dict[str, float]:
        draws = generator(f"likelihood{label}", data.name, model, seed, device=device)
        found = (images, settings.split, settings.passes, draws, device)
        return likelihood_metrics(by, *found, label)

    if model == REAL:
        constant = ConstantImage(data.images["train"], fitting)
        name = metric_name("sigma_constant", split, len(fitting))
        return {name: constant.sigma} | measured(constant, "_constant")
    trained = load_model(config, data.name, model, seed, device)
    if not hasattr(trained, "log_evidence"):
        return {}
    draws = generator("sigma", data.name, model, seed, device=device)
    best = with_best_sigma(trained, fitting, draws, device)
    name = metric_name("sigma_fitted", split, min(IMAGES, len(fitting)))
    return measured(trained) | {name: best.sigma} | measured(best, "_fitted")

"""Measuring drawn images: which spaces of features, which references, which names."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from benchmark.base import paths
from benchmark.base.files import file_digest
from benchmark.base.seeding import generator
from benchmark.config.config import CLASSIFIER, REAL, Config
from benchmark.config.facts import reference_splits
from benchmark.data.dataset import Dataset, load_data
from benchmark.evaluation.features import (
    ClassifierFeatures,
    Extractor,
    Reference,
    extract,
    reference_features,
)
from benchmark.evaluation.inception import InceptionFeatures, find_weights
from benchmark.evaluation.likelihood import likelihood_metrics
from benchmark.evaluation.metrics import (
    class_coverage,
    classifier_names,
    feature_metrics,
    inception_names,
)
from benchmark.evaluation.samples import Samples
from benchmark.records.names import metric_name
from benchmark.training.classifier import build_classifier
from benchmark.training.weights import load_model, load_weights


def measure(
    config: Config, dataset: str, model: str, seed: int, samples: Samples, device: torch.device
) -> dict:
    """The metrics of one record, as `benchmark.records.measurements` has them."""
    data = load_data(config, dataset)
    settings = config.resolved(dataset)["evaluation"]
    spaces, metrics = _feature_spaces(config, dataset, device)
    for split in settings["references"]:
        metrics[f"reference_count_{split}"] = sum(map(len, _reference_images(config, data, split)))
    for space in spaces:
        metrics |= _compare(config, data, samples, space)
    if model != REAL and "likelihood" in settings:
        metrics |= _likelihood(config, data, model, seed, device)
    return metrics


def _feature_spaces(
    config: Config, dataset: str, device: torch.device
) -> tuple[list[Extractor], dict[str, str]]:
    """The spaces that samples are compared in, and what a record says of them: which classifier
    it was, and that Inception is missing."""
    spaces: list[Extractor] = []
    said = {}
    if config.has_classifier(dataset):
        spaces.append(classifier_features(config, dataset, device))
        said["classifier_sha256"] = spaces[0].digest
    sha256 = config.inception_sha256(dataset)
    if sha256 is None:
        return spaces, said
    weights = find_weights(paths.data_root(config.data_root), sha256)
    if weights is None:
        said["inception_missing"] = "no weights were there when this was measured"
        return spaces, said
    return [*spaces, InceptionFeatures(weights, device)], said


def classifier_features(config: Config, dataset: str, device: torch.device) -> ClassifierFeatures:
    """The features of the dataset's trained classifier."""
    job = config.training_job(dataset, CLASSIFIER)
    path = paths.fill(paths.CLASSIFIER, config.run, dataset=dataset)
    fresh = build_classifier(job, config.facts(dataset).image_shape)
    classifier = load_weights(path, fresh, job, device)
    return ClassifierFeatures(classifier, file_digest(path), device)


def reference_of(config: Config, data: Dataset, split: str, space: Extractor) -> Reference:
    """A split's real images in a space of features."""
    splits = reference_splits(config.facts(data.name).splits, split)
    batch_size = config.resolved(data.name)["evaluation"]["batch_size"]
    cache = paths.cache_root(config.data_root)
    return reference_features(data, splits, space, batch_size, cache)


def _reference_images(config: Config, data: Dataset, split: str) -> list[Tensor]:
    splits = reference_splits(config.facts(data.name).splits, split)
    return [data.images[each] for each in splits]


def _compare(config: Config, data: Dataset, samples: Samples, space: Extractor) -> dict[str, float]:
    """The samples against every reference of the configuration, in one space of features."""
    settings = config.resolved(data.name)["evaluation"]
    batch_size = settings["batch_size"]
    metrics = {}
    with tempfile.TemporaryDirectory(prefix=".features-", dir=samples.path.parent) as scratch:
        batches = samples.batches(batch_size)
        drawn = extract(batches, len(samples), space, Path(scratch) / "features")
        for split, count in settings["references"].items():
            reference = reference_of(config, data, split, space)
            measured = _named(drawn[:count], reference, space)
            metrics |= {metric_name(name, split, count): v for name, v in measured.items()}
    return metrics


def _named(samples: Tensor, reference: Reference, space: Extractor) -> dict[str, float]:
    measured = feature_metrics(samples, reference)
    if not isinstance(space, ClassifierFeatures):
        return inception_names(measured, space.digest)
    classes = [space.classes(each) for each in (samples, reference.features)]
    coverage = class_coverage(*classes, space.classifier.head.out_features)
    return classifier_names(measured) | {"class_coverage": coverage}


def _likelihood(
    config: Config, data: Dataset, model: str, seed: int, device: torch.device
) -> dict[str, float]:
    """The likelihood of some real images; empty for models without one."""
    trained = load_model(config, data.name, model, seed, device)
    if not hasattr(trained, "log_evidence"):
        return {}
    wanted = config.resolved(data.name)["evaluation"]["likelihood"]
    return likelihood_metrics(
        trained,
        data.images[wanted["split"]][: wanted["images"]],
        wanted["split"],
        wanted["passes"],
        generator("likelihood", data.name, model, seed, device=device),
        device,
    )

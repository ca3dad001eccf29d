"""Draws a published model's images again, and measures them as its record says it was done.

The same images, up to rounding, have to give the same values. Another processor may draw others of
the same distribution: then the two values differ by no more than two samples of one model do, and
each comes with the standard error of one.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from benchmark.base import paths
from benchmark.base.devices import use_device
from benchmark.claims.gates import first_reference
from benchmark.config.config import Config
from benchmark.config.jobs import Job, job_of
from benchmark.evaluation.evaluate import classifier_features
from benchmark.evaluation.features import ClassifierFeatures, RealFeatures
from benchmark.evaluation.frechet import Gaussian, fit_gaussian, frechet_distance
from benchmark.evaluation.metrics import class_coverage, precision_recall
from benchmark.evaluation.reference import read_reference
from benchmark.evaluation.samples import draw_images, open_samples
from benchmark.records.names import metric_name
from benchmark.records.record import read_record
from benchmark.training.weights import load_model

CPU = torch.device("cpu")
SECONDS = 25.0  # of drawing; of a model that takes longer fewer images are drawn
KEPT = 1000  # drawn images on which updates are timed, in place of real ones
FEW_LEVELS = 1.0  # mean difference of pixels that are the same up to rounding
FALSE_ALARMS = 0.001  # probability that a verification of what is right finds a difference
ROUNDING = 0.01  # of a distance, and of a share: what the same images may differ by
# Of recall over that of as many independent images: one sample covers several real images, or none.
CLUSTERING = 2.0


class Value(NamedTuple):
    """One metric, as published and here.

    Attributes:
        error: standard error of either, from the sampling of images.
    """

    metric: str
    published: float
    here: float
    error: float


@dataclass(frozen=True)
class Redrawn:
    """A model's images, drawn and measured again.

    Attributes:
        images, of: how many were drawn here, and for the record.
        same: whether the first ones are those that were published.
        seconds: of the processor.
        timed_on: the first `KEPT`, uint8 (n, C, H, W).
    """

    dataset: str
    model: str
    images: int
    of: int
    same: bool
    seconds: float
    values: list[Value]
    classifier: str
    timed_on: np.ndarray

    def tolerance(self, value: Value, tests: int) -> float:
        """Return by how much a value may differ from the published one.

        Args:
            tests: that are made in all; together they give a false alarm with a probability of
                `FALSE_ALARMS`.
        """
        if self.same:
            return ROUNDING * max(1.0, abs(value.published))
        return float(stats.norm.isf(FALSE_ALARMS / tests / 2)) * math.sqrt(2) * value.error

    def differs(self, value: Value, tests: int) -> bool:
        """Say whether a value is not what was published."""
        return abs(value.here - value.published) > self.tolerance(value, tests)


def redraw(config: Config, folder: Path, dataset: str, model: str) -> Redrawn:
    """Draw the first seed's images of a published model, and measure them.

    Args:
        folder: of the published run.

    Raises:
        RecordError: a file that is needed is damaged, or not of this model.
    """
    started = time.process_time()
    device = use_device(config.device, config.threads)
    job = job_of(config, "sampling", dataset, model)
    extractor = classifier_features(config, dataset, device, folder)
    real = read_reference(folder / reference_file(dataset), extractor.digest)
    network = load_model(config, dataset, model, config.seeds[0], device, folder=folder)
    images = _draw(network, job, device)
    split = first_reference(config, dataset)
    count = config.evaluation(dataset).references[split]
    features = torch.cat([extractor(batch) for batch in images[:count].split(500)])
    record = read_record(job_of(config, "metrics", dataset, model).path(folder=folder))
    values = [
        Value(key, recorded, here, error)
        for name, (here, error) in _measure(features, real, extractor, count).items()
        for key in [metric_name(name, split, count)]
        for recorded in [record.metrics.get(key)]
        if recorded is not None
    ]
    return Redrawn(
        dataset,
        model,
        len(features),
        count,
        _are_same(images, job.path("samples", folder), job),
        time.process_time() - started,
        values,
        extractor.digest,
        images[:KEPT].numpy(),
    )


def reference_file(dataset: str) -> str:
    """Return where in a published run the features of its real images are."""
    return paths.REFERENCE.removeprefix(paths.RUN + "/").format(dataset=dataset)


def _draw(network: torch.nn.Module, job: Job, device: torch.device) -> Tensor:
    batches, end = [], time.process_time() + SECONDS
    for batch in draw_images(network, job, device):
        batches.append(batch)
        if time.process_time() > end:
            break
    return torch.cat(batches)


def _are_same(images: Tensor, path: Path, job: Job) -> bool:
    """Say whether images are the published ones, up to rounding; False where none were."""
    if not path.exists():
        return False
    first = open_samples(path, job, tuple(images.shape[1:])).first(len(images))
    return bool((images[: len(first)].float() - first.float()).abs().mean() <= FEW_LEVELS)


def _measure(
    features: Tensor, real: RealFeatures, extractor: ClassifierFeatures, wanted: int
) -> dict[str, tuple[float, float]]:
    """Return metric -> value and standard error; of fewer images than wanted, recall is left out,
    which grows with their number, and the distance is that of as many."""
    count = len(features)
    precision, recall = precision_recall(features, real.features)
    drawn, found = (extractor.classes(each) for each in (features, real.features))
    classes = extractor.classifier.head.out_features
    rarest, share = _rarest(drawn, found, classes)
    values = {
        "fd_classifier": _distance(features, real.gaussian, wanted),
        "precision_classifier": (precision, share_error(precision, count)),
        "recall_classifier": (recall, CLUSTERING * share_error(recall, count)),
        "class_coverage": (
            class_coverage(drawn, found, classes),
            share_error(rarest, count) / share,
        ),
    }
    if count < wanted:
        del values["recall_classifier"]
    return values


def _rarest(drawn: Tensor, real: Tensor, classes: int) -> tuple[float, float]:
    """Return both shares of the class that `class_coverage` is about."""
    ours, theirs = (torch.bincount(y, minlength=classes) / len(y) for y in (drawn, real))
    ratio = torch.where(theirs > 0, ours / theirs, torch.inf)
    return ours[ratio.argmin()].item(), theirs[ratio.argmin()].item()


def share_error(share: float, count: int) -> float:
    """Return the standard error of a share, by two more images of either kind (Agresti & Coull
    1998): that of none is not 0."""
    smoothed = (share * count + 2) / (count + 4)
    return math.sqrt(smoothed * (1 - smoothed) / count)


def _distance(features: Tensor, real: Gaussian, wanted: int) -> tuple[float, float]:
    """Return the Frechet distance and its error. It exceeds its limit by about c/N: of fewer images
    than wanted, c is what halves of them exceed it by."""
    distance, error = frechet_distance(fit_gaussian(features), real), frechet_error(features, real)
    if len(features) < wanted:
        halves = [frechet_distance(fit_gaussian(h), real) for h in features.chunk(2)]
        excess = len(features) * (np.mean(halves) - distance)
        distance += excess * (1 / wanted - 1 / len(features))
    return float(distance), error


def frechet_error(features: Tensor, real: Gaussian) -> float:
    """Return the standard error of the Frechet distance of independent features to a Gaussian.

    By its influence function (the delta method): its slope in the mean is 2 (m - m_r), in the
    covariance I - T, with the transport T = R (R C R)^(-1/2) R, R = C_r^(1/2).
    """
    fit = fit_gaussian(features)
    root = _power(real.covariance, 0.5)
    slope = np.eye(len(root)) - root @ _power(root @ fit.covariance @ root, -0.5) @ root
    centred = features.double().numpy() - fit.mean
    influence = 2 * centred @ (fit.mean - real.mean) + (centred @ slope * centred).sum(axis=1)
    return float(influence.std(ddof=1) / math.sqrt(len(features)))


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """Return a power of a covariance; directions without variance stay without."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > 1e-10 * values.max()
    return (vectors[:, kept] * values[kept] ** exponent) @ vectors[:, kept].T

"""What drawn images are compared with where the real ones are not: their features, published.

The Gaussian is as exact as it was fitted. The features, none of which is below 0, are rounded to
255 parts of the largest, by which precision and recall change by a few images in ten thousand.
"""

from pathlib import Path

import numpy as np
import torch

from benchmark.base.arrays import read_arrays, write_arrays
from benchmark.base.errors import RecordError
from benchmark.evaluation.features import RealFeatures
from benchmark.evaluation.frechet import Gaussian
from benchmark.evaluation.metrics import PRC_IMAGES

LEVELS = 255
SHAPES = {
    "parts": 2,
    "largest": 1,
    "mean": 1,
    "covariance": 2,
    "count": 0,
    "classifier": 0,
}  # dimensions


def save_reference(path: Path, real: RealFeatures, classifier: str) -> None:
    """Write the features of a split's real images.

    Args:
        classifier: digest of the classifier's weights.
    """
    features = real.features[:PRC_IMAGES].numpy()
    largest = np.maximum(features.max(axis=0), np.finfo(np.float32).tiny)
    write_arrays(
        path,
        parts=np.rint(LEVELS * (features / largest).T).astype(np.uint8),  # so it packs best
        largest=largest,
        mean=real.gaussian.mean,
        covariance=real.gaussian.covariance,
        count=real.gaussian.count,
        classifier=classifier,
    )


def read_reference(path: Path, classifier: str) -> RealFeatures:
    """Read what `save_reference` wrote.

    Raises:
        RecordError: it is damaged, or in the features of another classifier.
    """
    held = read_arrays(path, "features of real images")
    if {name: array.ndim for name, array in held.items()} != SHAPES:
        raise RecordError(f"{path}: holds no features of real images: {', '.join(held)}")
    if str(held["classifier"]) != classifier:
        raise RecordError(f"{path}: holds the features of another training of the classifier")
    gaussian = Gaussian(int(held["count"]), held["mean"], held["covariance"])
    features = held["parts"].T.astype(np.float32) * held["largest"] / LEVELS
    return RealFeatures(torch.from_numpy(features), gaussian)

"""Sample quality: distances between drawn and real images by their features.

The features are the dataset's own classifier's, EfficientNet's, or Inception's. torch-fidelity
computes the Frechet distance and KID. Only the Frechet distance of Inception's features, with the
standard weights, is called FID.
"""

import numpy as np
import torch
from torch import Tensor
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

from benchmark.evaluation.features import RealFeatures
from benchmark.evaluation.frechet import (
    extrapolate,
    fit_gaussian,
    frechet_distance,
    subset_distances,
)

KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000  # Binkowski et al. 2018 and torch-fidelity's defaults
PRC_IMAGES = 10_000  # of each side at most: all distances between them are computed
PRC_NEIGHBOURS = 3
DISTANCES = 1000  # images a side whose distances are in memory at once


def feature_metrics(
    samples: Tensor,
    real: RealFeatures,
    *,
    kid_subsets: int = KID_SUBSETS,
    prc_images: int = PRC_IMAGES,
    distances: int = DISTANCES,
) -> dict[str, float]:
    """Compare samples with real images by their features (n, d).

    Returns:
        "frechet", between Gaussians fitted to the features; "frechet_infinity" and its standard
        error "frechet_infinity_se", see `benchmark.evaluation.frechet`, where there are samples
        enough, and "frechet_subsets", the (samples, distance) that they rest on; "kid", the squared
        maximum mean discrepancy with the kernel (x.y/d + 1)^3, the mean over 100 subsets of 1,000
        (Binkowski et al. 2018, arXiv 1801.01401), where both sides have them; "precision" and
        "recall", the shares of samples near real images and of real images near samples
        (Kynkaanniemi et al. 2019, arXiv 1904.06991, 3 neighbours), of the first 10,000 of each
        side.
    """
    metrics = {"frechet": frechet_distance(fit_gaussian(samples), real.gaussian)}
    if points := subset_distances(samples, real.gaussian):
        limit, error = extrapolate(*np.array(points, float).T)
        metrics |= {"frechet_infinity": limit, "frechet_infinity_se": error}
        metrics["frechet_subsets"] = points
    if min(len(samples), len(real.features)) >= KID_SUBSET_SIZE:
        kid = kid_features_to_metric(
            samples,
            real.features,
            kid_subsets=kid_subsets,
            kid_subset_size=KID_SUBSET_SIZE,
            verbose=False,
        )
        metrics["kid"] = kid[KEY_METRIC_KID_MEAN]
    shares = precision_recall(samples[:prc_images], real.features[:prc_images], distances=distances)
    return metrics | dict(zip(("precision", "recall"), shares, strict=True))


def precision_recall(
    samples: Tensor, real: Tensor, distances: int = DISTANCES
) -> tuple[float, float]:
    """Return the shares of samples near real images, and of real images near samples.

    Near an image is what lies within the distance of its third neighbour on its own side.
    torch-fidelity counts the same, and sorts for it all distances, which takes four times as long.
    """
    radii, own_radii = neighbour_radii(real, distances), neighbour_radii(samples, distances)
    near_real, recalled = torch.zeros(len(samples), dtype=torch.bool), []
    for images, reach in zip(real.split(distances), radii.split(distances), strict=True):
        apart = torch.cdist(images, samples)
        near_real |= (apart <= reach[:, None]).any(dim=0)
        recalled.append((apart <= own_radii).any(dim=1))
    return near_real.double().mean().item(), torch.cat(recalled).double().mean().item()


def neighbour_radii(features: Tensor, distances: int = DISTANCES) -> Tensor:
    """Return the distance of each image's third neighbour, (n,)."""
    return torch.cat(
        [
            torch.cdist(rows, features).topk(PRC_NEIGHBOURS + 1, largest=False).values[:, -1]
            for rows in features.split(distances)
        ]
    )


def class_coverage(drawn: Tensor, real: Tensor, classes: int) -> float:
    """Return the smallest ratio of a class's share of the samples to its share of the real images.

    It is 0 where a class is never drawn, about 1 for real images, and never much more.

    Args:
        drawn, real: the classes of samples and real images, (n,), by the classifier.
    """
    drawn, real = (torch.bincount(y, minlength=classes) / len(y) for y in (drawn, real))
    seen = real > 0
    return (drawn[seen] / real[seen]).min().item()


def named(metrics: dict[str, float], names: tuple[str, str]) -> dict[str, float]:
    """Return the metrics under the names that an extractor gives them."""
    frechet, suffix = names

    def name(key: str) -> str:
        return key.replace("frechet", frechet) if key.startswith("frechet") else key + suffix

    return {name(key): value for key, value in metrics.items()}

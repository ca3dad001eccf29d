"""The Frechet distance between Gaussians fitted to features, and its limit of many samples."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

CHUNK = 4096  # rows that are turned to float64 at once

# Shares of the samples in the subsets of the extrapolation. They are disjoint: subsets that share
# images are not independent, and their scatter would understate the error.
SHARES = (0.4, 0.2, 0.1, 0.1, 0.1, 0.1)
FEWEST_PER_DIMENSION = 2  # samples of the smallest subset; with fewer the bias is not 1/N alone


@dataclass(frozen=True)
class Statistics:
    """Of n feature vectors: the mean (d,) and the covariance (d, d) with divisor n - 1, float64."""

    count: int
    mean: np.ndarray
    covariance: np.ndarray


def statistics(features: Tensor) -> Statistics:
    """Mean and covariance of features (n, d) that may be mapped from a file, chunk by chunk.

    Raises:
        ValueError: fewer than two rows.
    """
    count, dimension = features.shape
    if count < 2:
        raise ValueError(f"a covariance needs two rows or more, got {count}")
    mean = sum(chunk.double().sum(0).numpy() for chunk in features.split(CHUNK)) / count
    covariance = np.zeros((dimension, dimension))
    for chunk in features.split(CHUNK):
        centred = chunk.double().numpy() - mean
        covariance += centred.T @ centred
    return Statistics(count, mean, covariance / (count - 1))


def frechet_distance(ours: Statistics, theirs: Statistics) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), Heusel et al. 2017, eq. 6; by torch-fidelity."""
    pair = [{"mu": each.mean, "sigma": each.covariance} for each in (ours, theirs)]
    return float(fid_statistics_to_metric(*pair, verbose=False)[KEY_METRIC_FID])


def frechet_infinity(features: Tensor, reference: Statistics) -> tuple[float, float] | None:
    """The Frechet distance of infinitely many samples and its standard error.

    The distance of N samples exceeds its limit by about c/N. A line in 1/N is fitted, by weighted
    least squares with weights N, to the distances of disjoint subsets; Chong & Forsyth 2020, arXiv
    1911.07023, fit one to subsets that may overlap. The error is the fit's own, from the scatter of
    the subsets; what the finite number of real images adds to the distance stays.

    Returns:
        (limit, standard error); None with too few samples for the smallest subset.
    """
    sizes = [int(share * len(features)) for share in SHARES]
    if min(sizes) < FEWEST_PER_DIMENSION * features.shape[1]:
        return None
    subsets = features[: sum(sizes)].split(sizes)
    distances = [frechet_distance(statistics(subset), reference) for subset in subsets]
    return extrapolate(np.array(sizes, float), np.array(distances))


def extrapolate(sizes: np.ndarray, distances: np.ndarray) -> tuple[float, float]:
    """The value at 1/N = 0 of a line in 1/N, fitted with weights N, and its standard error."""
    design = np.stack([np.ones_like(sizes), 1 / sizes], axis=1)
    weighted = design * sizes[:, None]
    inverse = np.linalg.inv(design.T @ weighted)
    fit = inverse @ weighted.T @ distances
    residual = distances - design @ fit
    variance = (sizes * residual**2).sum() / (len(sizes) - 2)
    return float(fit[0]), float(np.sqrt(variance * inverse[0, 0]))

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
class Gaussian:
    """A normal distribution fitted to `count` vectors.

    Attributes:
        mean: (d,), float64.
        covariance: (d, d), float64, with divisor count - 1.
    """

    count: int
    mean: np.ndarray
    covariance: np.ndarray


def fit_gaussian(features: Tensor, chunk: int = CHUNK) -> Gaussian:
    """Fit mean and covariance to features (n, d) that may be mapped from a file, chunk by chunk.

    Raises:
        ValueError: fewer than two rows.
    """
    count, dimension = features.shape
    if count < 2:
        raise ValueError(f"a covariance needs two rows or more, got {count}")
    mean = sum(rows.double().sum(0).numpy() for rows in features.split(chunk)) / count
    covariance = np.zeros((dimension, dimension))
    for rows in features.split(chunk):
        centred = rows.double().numpy() - mean
        covariance += centred.T @ centred
    return Gaussian(count, mean, covariance / (count - 1))


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """Return |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), by torch-fidelity.

    Heusel et al. 2017, eq. 6.
    """
    pair = [{"mu": fit.mean, "sigma": fit.covariance} for fit in (one, other)]
    return float(fid_statistics_to_metric(*pair, verbose=False)[KEY_METRIC_FID])


def subset_distances(features: Tensor, real: Gaussian) -> list[tuple[int, float]]:
    """Return (samples, distance) of disjoint subsets of features, for `extrapolate`; none with too
    few samples for the smallest."""
    subsets = disjoint_subsets(features)
    if min(map(len, subsets)) < FEWEST_PER_DIMENSION * features.shape[1]:
        return []
    return [(len(subset), frechet_distance(fit_gaussian(subset), real)) for subset in subsets]


def disjoint_subsets(features: Tensor) -> tuple[Tensor, ...]:
    """Cut features (n, d) in order into subsets with `SHARES` of them."""
    sizes = [int(share * len(features)) for share in SHARES]
    return features[: sum(sizes)].split(sizes)


def extrapolate(sizes: np.ndarray, distances: np.ndarray) -> tuple[float, float]:
    """Estimate the Frechet distance of infinitely many samples, and its standard error.

    The distance of N samples exceeds its limit by about c/N. A line in 1/N is fitted, by weighted
    least squares with weights N, to the distances of disjoint subsets; Chong & Forsyth 2020, arXiv
    1911.07023, fit one to subsets that may overlap. The error is the fit's own, from the scatter of
    the subsets; what the finite number of real images adds to the distance stays.
    """
    design = np.stack([np.ones_like(sizes), 1 / sizes], axis=1)
    weighted = design * sizes[:, None]
    inverse = np.linalg.inv(design.T @ weighted)
    fit = inverse @ weighted.T @ distances
    residual = distances - design @ fit
    variance = (sizes * residual**2).sum() / (len(sizes) - 2)
    return float(fit[0]), float(np.sqrt(variance * inverse[0, 0]))

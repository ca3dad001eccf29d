"""Sample quality: distances between drawn and real images in a space of features.

Two spaces: the dataset's own classifier, and Inception. torch-fidelity computes the Frechet
distance, KID, precision and recall. Only Inception's Frechet distance, with the standard weights,
is called FID.
"""

import torch
from torch import Tensor
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric
from torch_fidelity.metric_prc import (
    KEY_METRIC_PRECISION,
    KEY_METRIC_RECALL,
    prc_features_to_metric,
)

from benchmark.config.config import OFFICIAL_SHA256
from benchmark.evaluation.features import Reference
from benchmark.evaluation.frechet import frechet_distance, frechet_infinity, statistics

KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000  # Binkowski et al. 2018 and torch-fidelity's defaults
PRC_IMAGES = 10_000  # of each side at most: all distances between them are computed
PRC_NEIGHBOURS = 3
DISTANCES = 1000  # images a side whose distances are in memory at once


def feature_metrics(samples: Tensor, reference: Reference) -> dict[str, float]:
    """Two sets of images compared by their features (n, d).

    Returns:
        "frechet", between Gaussians fitted to the features; "frechet_infinity" and its standard
        error "frechet_infinity_se", see `benchmark.evaluation.frechet`, where there are samples
        enough; "kid", the squared maximum mean discrepancy with the kernel (x.y/d + 1)^3, the mean
        over 100 subsets of 1,000 (Binkowski et al. 2018, arXiv 1801.01401), where both sides have
        them; "precision" and "recall", the shares of samples near real images and of real images
        near samples (Kynkaanniemi et al. 2019, arXiv 1904.06991, 3 neighbours), of the first
        10,000 of each side.
    """
    measured = {"frechet": frechet_distance(statistics(samples), reference.statistics)}
    limit = frechet_infinity(samples, reference.statistics)
    if limit is not None:
        measured |= dict(zip(("frechet_infinity", "frechet_infinity_se"), limit, strict=True))
    if min(len(samples), len(reference.features)) >= KID_SUBSET_SIZE:
        kid = kid_features_to_metric(
            samples,
            reference.features,
            kid_subsets=KID_SUBSETS,
            kid_subset_size=KID_SUBSET_SIZE,
            verbose=False,
        )
        measured["kid"] = kid[KEY_METRIC_KID_MEAN]
    near = prc_features_to_metric(
        samples[:PRC_IMAGES].double(),
        reference.features[:PRC_IMAGES].double(),
        prc_neighborhood=PRC_NEIGHBOURS,
        prc_batch_size=DISTANCES,
        save_cpu_ram=True,
        verbose=False,
    )
    return measured | {
        "precision": near[KEY_METRIC_PRECISION],
        "recall": near[KEY_METRIC_RECALL],
    }


def class_coverage(ours: Tensor, theirs: Tensor, classes: int) -> float:
    """How well the rarest class is covered: the smallest ratio of a class's share of the samples
    to its share of the reference.

    0 where a class is never drawn, about 1 for real images; never much more.

    Args:
        ours, theirs: the classes of samples and real images, (n,), by the classifier.
        classes: how many there are.
    """
    ours, theirs = (torch.bincount(y, minlength=classes) / len(y) for y in (ours, theirs))
    seen = theirs > 0
    return (ours[seen] / theirs[seen]).min().item()


def classifier_names(measured: dict[str, float]) -> dict[str, float]:
    """The metrics of the classifier's features under their names: fd_classifier, ..."""
    return {_name(key, "fd_classifier", "_classifier"): v for key, v in measured.items()}


def inception_names(measured: dict[str, float], sha256: str) -> dict[str, float]:
    """The metrics of Inception's features under their names: fid, kid, ... With other weights
    than the standard ones nothing is called FID: frechet_<digest>, kid_<digest>, ..."""
    if sha256 == OFFICIAL_SHA256:
        return {_name(key, "fid", ""): v for key, v in measured.items()}
    other = f"_{sha256[:8]}"
    return {_name(key, f"frechet{other}", other): v for key, v in measured.items()}


def _name(key: str, frechet: str, suffix: str) -> str:
    kind, _, rest = key.partition("_")
    return "_".join(filter(None, [frechet, rest])) if kind == "frechet" else key + suffix

"""Known ways to get a Frechet distance wrong, kept to show that the tests reject them."""

import numpy as np
import torch
from torch import Tensor

from benchmark.evaluation.frechet import Gaussian, fit_gaussian, frechet_distance


def to_uint8_truncating(images: Tensor) -> Tensor:
    """Darkens every image by half a level on average."""
    return (images * 255).clamp(0, 255).to(torch.uint8)


def frechet_infinity_of_nested_subsets(
    features: Tensor, reference: Gaussian, sizes: int = 15
) -> tuple[float, float]:
    """The line of arXiv 1911.07023 through subsets that hold one another, with the error that an
    ordinary fit would state if they were independent."""
    counts = np.linspace(len(features) // 10, len(features), sizes).astype(int)
    distances = [frechet_distance(fit_gaussian(features[:n]), reference) for n in counts]
    fit, covariance = np.polyfit(1 / counts, distances, 1, cov=True)
    return float(fit[1]), float(np.sqrt(covariance[1, 1]))


def training_split_alone(splits: dict[str, dict], name: str) -> list[str]:  # noqa: ARG001
    """Leaves out the images that were held back for validation."""
    return [name]


def always_the_test_split(splits: dict[str, dict], name: str) -> list[str]:  # noqa: ARG001
    """Compares with the test split whatever was asked for."""
    return ["test"]

"""The Frechet distance between two sets of features in float64, in three ways of its own."""

import numpy as np
import scipy.linalg


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """|mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a^1/2 S_b S_a^1/2)^1/2) of features (n, d)."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    mean = np.square(a.mean(0) - b.mean(0)).sum()
    cov_a, cov_b = (np.cov(x, rowvar=False, ddof=1) for x in (a, b))
    root = symmetric_root(cov_a)
    # The inner matrix is symmetric: the trace of its root is the sum of its eigenvalues' roots.
    eigenvalues = np.linalg.eigvalsh(root @ cov_b @ root)
    return float(mean + np.trace(cov_a + cov_b) - 2 * np.sqrt(eigenvalues.clip(0)).sum())


def frechet_by_sqrtm(a: np.ndarray, b: np.ndarray) -> float:
    """The same of features whose covariances have full rank, by scipy's root of the product."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    cov_a, cov_b = (np.cov(x, rowvar=False, ddof=1) for x in (a, b))
    root = scipy.linalg.sqrtm(cov_a @ cov_b)
    mean = np.square(a.mean(0) - b.mean(0)).sum()
    return float(mean + np.trace(cov_a + cov_b) - 2 * np.trace(root).real)


def frechet_of_rotated_gaussians(
    shift: np.ndarray, deviations_a: np.ndarray, deviations_b: np.ndarray
) -> float:
    """The closed form for two Gaussians with the same principal axes: |shift|^2 + |s_a - s_b|^2."""
    return float(np.square(shift).sum() + np.square(deviations_a - deviations_b).sum())


def symmetric_root(matrix: np.ndarray) -> np.ndarray:
    """The root of a positive semi-definite matrix, singular ones included."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def classifier_features(classifier, images: np.ndarray) -> np.ndarray:
    """The features of uint8 images (n, C, H, W), layer by layer in float64 numpy."""
    x = images.astype(np.float64) / 255
    weights = {key: value.double().numpy() for key, value in classifier.state_dict().items()}
    for layer in ("features.0", "features.2"):
        x = relu(convolution(x, weights[f"{layer}.weight"], weights[f"{layer}.bias"]))
    x = x.reshape(len(x), -1)
    return relu(x @ weights["features.5.weight"].T + weights["features.5.bias"])


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def convolution(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """4x4 convolution of stride 2 and padding 1: (n, c, h, w) -> (n, k, h / 2, w / 2)."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (4, 4), axis=(2, 3))[:, :, ::2, ::2]
    return np.einsum("nchwij,kcij->nkhw", windows, weight, optimize=True) + bias[:, None, None]

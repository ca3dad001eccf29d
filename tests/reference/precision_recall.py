"""Precision and recall of two sets of features, from the definition (arXiv 1904.06991)."""

import numpy as np


def covered(points: np.ndarray, manifold: np.ndarray, neighbours: int = 3) -> float:
    """The share of the points (n, k) within the ball that reaches the third nearest neighbour of
    some point of the manifold (m, k)."""

    def distances(a, b):
        return np.sqrt(np.square(a[:, None] - b[None]).sum(-1))

    radius = np.sort(distances(manifold, manifold), axis=1)[:, neighbours]  # the first is itself
    return float((distances(points, manifold) <= radius).any(axis=1).mean())

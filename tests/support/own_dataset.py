"""A small dataset of one's own, whose digests nobody knows beforehand."""

from pathlib import Path

import numpy as np
from support.configs import write_config

COUNTS = {"train": 40, "test": 20}
OWN = {
    "image_shape": [1, 8, 8],
    "classes": 3,
    "splits": {part: {"part": part, "count": count} for part, count in COUNTS.items()},
}


def write_own(folder: Path, seed: int = 0, shift: int = 0) -> None:
    """A dataset of one's own as npz, without digests; the size of the file is always the same."""
    draws = np.random.default_rng(seed)
    arrays = {}
    for part, count in COUNTS.items():
        arrays[f"{part}_images"] = draws.integers(0, 256, (count, 8, 8), np.uint8)
        arrays[f"{part}_labels"] = (np.arange(count) + shift) % 3
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "own.npz", **arrays)


def write_own_config(path: Path, changes: dict | None = None) -> Path:
    """The tiny configuration of it."""
    settings = {
        "own_datasets.own": OWN,
        "datasets": ["own"],
        "training.updates": 2,
        "training.batch_size": 8,
        "classifier.updates": 2,
        "classifier.batch_size": 8,
        "evaluation": {"references": {"test": 16}, "batch_size": 16},
    }
    return write_config(path, settings | (changes or {}))

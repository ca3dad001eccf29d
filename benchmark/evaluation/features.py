"""Features of images, extracted in batches into files, and kept for the real images.

No array of all images or all features lies in memory: the files are mapped.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from benchmark.base.arrays import UNREADABLE, load_arrays
from benchmark.base.errors import DataError
from benchmark.base.files import settings_digest
from benchmark.base.once import open_once
from benchmark.data.dataset import Dataset
from benchmark.data.pixels import to_float
from benchmark.evaluation.frechet import Gaussian, fit_gaussian
from benchmark.training.classifier import Classifier

KEPT = 50_000  # real images whose features are kept; their Gaussian is fitted to all of them
FORMAT = 1  # of the kept features


class Extractor(Protocol):
    """A function of uint8 images (n, C, H, W) to features (n, dimension), float32 on the CPU."""

    names: tuple[str, str]  # of its Frechet distance, and what the names of others end with
    digest: str
    dimension: int
    device: torch.device  # on which it computes

    def __call__(self, images: Tensor) -> Tensor: ...


class ClassifierFeatures:
    """The features of the dataset's own classifier.

    Attributes:
        digest: sha256 of its weights' file.
        classifier: the network, whose head turns features into classes.
    """

    names = ("fd_classifier", "_classifier")

    def __init__(self, classifier: Classifier, digest: str, device: torch.device):
        self.classifier, self.digest, self.device = classifier.to(device).eval(), digest, device
        self.dimension = classifier.head.in_features

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        return self.classifier.features(to_float(images.to(self.device))).cpu()

    @torch.no_grad()
    def classes(self, features: Tensor) -> Tensor:
        """Return the most probable class (n,) by features (n, d)."""
        batches = features.split(10_000)
        return torch.cat([self.classifier.head(b.to(self.device)).argmax(1).cpu() for b in batches])


def extract(batches: Iterable[Tensor], count: int, extractor: Extractor, path: Path) -> Tensor:
    """Write the features of `count` images to a file and map it: float32 (count, dimension)."""
    with path.open("wb") as handle:
        for images in batches:
            handle.write(extractor(images).float().numpy().tobytes())
    return _mapped(path, (count, extractor.dimension))


@dataclass(frozen=True)
class RealFeatures:
    """Real images as the metrics see them.

    Attributes:
        features: (min(count, KEPT), d), the first ones, mapped.
        gaussian: fitted to all of them.
    """

    features: Tensor
    gaussian: Gaussian


def real_features(
    dataset: Dataset,
    splits: list[str],
    extractor: Extractor,
    batch_size: int,
    cache: Path,
    kept: int = KEPT,
) -> RealFeatures:
    """Extract the features of real images once for all models and runs.

    They are kept under a name that carries a digest of the images, the splits, their number, the
    extractor's weights, the batch size, the version of torch-fidelity, and device and threads: what
    a run reads here must be what it would have computed, to the last digit.

    Raises:
        DataError: they cannot be written.
    """
    images = [dataset.images[split] for split in splits]
    count = sum(map(len, images))
    content = {
        "format": FORMAT,
        "images": dataset.digests,
        "shape": dataset.image_shape,
        "splits": [[split, len(dataset.images[split])] for split in splits],
        "extractor": extractor.digest,
        "batch_size": batch_size,
        "device": extractor.device.type,
        "threads": torch.get_num_threads(),
        "torch-fidelity": version("torch-fidelity"),
    }
    name = f"features-{dataset.name}-{splits[0]}-{count}-{settings_digest(content)}"
    shape = (min(count, kept), extractor.dimension)

    def build(folder: Path) -> None:
        batches = (batch for part in images for batch in part.split(batch_size))
        gaussian = fit_gaussian(extract(batches, count, extractor, folder / "features"))
        np.savez(folder / "statistics.npz", mean=gaussian.mean, covariance=gaussian.covariance)
        with (folder / "features").open("r+b") as handle:
            handle.truncate(shape[0] * shape[1] * 4)

    def open_built(folder: Path) -> RealFeatures | None:
        try:
            held = load_arrays(folder / "statistics.npz", ("mean", "covariance"))
            gaussian = Gaussian(count, held["mean"], held["covariance"])
            return RealFeatures(_mapped(folder / "features", shape), gaussian)
        except UNREADABLE:
            return None

    try:
        return open_once(cache / name, build, open_built)
    except OSError as error:
        raise DataError(
            f"{dataset.name}: cannot keep the features of the real images in {cache}: "
            f"{error.strerror or error}\n  Make room there, or name another folder in "
            "KAEM_CACHE_ROOT."
        ) from error


def _mapped(path: Path, shape: tuple[int, int]) -> Tensor:
    size = path.stat().st_size
    if size != 4 * shape[0] * shape[1]:
        raise ValueError(f"{path} has {size} bytes, expected {shape} floats")
    return torch.from_numpy(np.memmap(path, np.float32, "c", shape=shape))

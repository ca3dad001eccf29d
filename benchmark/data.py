"""Datasets: read, checked against their committed digests, and split.

Images are kept as uint8 tensors (n, C, H, W); `to_float` turns a batch into what models see.
Nothing is downloaded unless `download=True`, and a download takes its place only when whole.
"""

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from benchmark.config import dataset_facts
from benchmark.errors import DataError
from benchmark.seeding import derive_seed

# Bytes of the unpacked IDX files, the same for MNIST and Fashion-MNIST.
IDX_FILES = {
    "train-images-idx3-ubyte": 47040016,
    "train-labels-idx1-ubyte": 60008,
    "t10k-images-idx3-ubyte": 7840016,
    "t10k-labels-idx1-ubyte": 10008,
}


@dataclass(frozen=True)
class Dataset:
    """A dataset in memory.

    Attributes:
        name: its name in `config/datasets.yaml`.
        images: split name -> uint8 (n, C, H, W).
        labels: split name -> int64 (n,).
        digests: part name -> content digest, as found.
    """

    name: str
    images: dict[str, Tensor]
    labels: dict[str, Tensor]
    digests: dict[str, str]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return tuple(self.images["train"].shape[1:])


def data_root(configured: str) -> Path:
    """The folder of the datasets: the environment's KAEM_DATA_ROOT, else the configured one."""
    return Path(os.environ.get("KAEM_DATA_ROOT") or configured)


def to_float(images: Tensor) -> Tensor:
    """uint8 images to float32 in [0, 1]."""
    return images.float() / 255


def to_uint8(images: Tensor) -> Tensor:
    """Images in [0, 1] to uint8, rounded to nearest (truncating would darken every image)."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


def image_digests(images: np.ndarray) -> list[bytes]:
    """The sha256 digest of each image's bytes; uint8, (n, H, W) or (n, H, W, C)."""
    return [hashlib.sha256(image.tobytes()).digest() for image in images]


def content_digest(digests: list[bytes]) -> str:
    """sha256 over the concatenated, sorted digests of the images, so that order is no matter."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def load_dataset(name: str, root: Path, *, download: bool = False) -> Dataset:
    """Read, check and split a dataset.

    Args:
        name: a name in `config/datasets.yaml`.
        root: folder of the datasets, laid out as torchvision does.
        download: fetch what is missing.

    Raises:
        DataError: files are missing or damaged, or the images are not the ones they should be.
    """
    parts = _READERS[name](name, root, download)
    digests = {part: image_digests(images) for part, (images, _) in parts.items()}
    found = {part: content_digest(each) for part, each in digests.items()}
    for part, expected in dataset_facts(name)["digests"].items():
        if found[part] != expected:
            raise DataError(
                f"{name}: the {part} images in {_place(name, root)} are not the expected ones\n"
                f"  expected digest {expected}\n  found           {found[part]}\n"
                "  Delete those files and run "
                f"`{_preflight_command(name)}` to fetch them again."
            )
    images, labels = {}, {}
    for split, (part, rows) in split_rows(name, digests).items():
        part_images, part_labels = parts[part]
        images[split] = _prepare(name, part_images[rows])
        labels[split] = torch.from_numpy(part_labels[rows]).long()
    return Dataset(name, images, labels, found)


def split_rows(name: str, digests: dict[str, list[bytes]]) -> dict[str, tuple[str, np.ndarray]]:
    """Which rows of which source part make each split: split -> (part, row numbers).

    The rows of a part are sorted by their images' digests, so that the order of the files does
    not matter, then shuffled with a seed that only depends on the names, then cut in order.
    """
    splits = dataset_facts(name)["splits"]
    orders, starts = {}, dict.fromkeys(digests, 0)
    for part, each in digests.items():
        canonical = np.array(sorted(range(len(each)), key=each.__getitem__))
        shuffle = np.random.default_rng(derive_seed("split", name, part))
        orders[part] = canonical[shuffle.permutation(len(each))]
    rows = {}
    for split, cut in splits.items():
        part, start = cut["part"], starts[cut["part"]]
        rows[split] = (part, orders[part][start : start + cut["count"]])
        starts[part] += cut["count"]
    return rows


def _prepare(name: str, images: np.ndarray) -> Tensor:
    """Source images (n, H, W) as uint8 (n, C, H, W) at the dataset's size."""
    tensor = torch.from_numpy(images).unsqueeze(1)
    _, height, width = dataset_facts(name)["image_shape"]
    if tensor.shape[2:] == (height, width):
        return tensor
    # Only the 8x8 digits, whose grey levels run from 0 to 16.
    resized = interpolate(tensor.float() / 16, (height, width), mode="bilinear")
    return to_uint8(resized)


def _read_digits(name: str, root: Path, download: bool) -> dict[str, tuple[np.ndarray, ...]]:  # noqa: ARG001
    from sklearn.datasets import load_digits

    bundle = load_digits()
    return {"all": (bundle.images.astype(np.uint8), bundle.target)}


def _read_mnist_like(name: str, root: Path, download: bool) -> dict[str, tuple[np.ndarray, ...]]:
    import torchvision

    kind = {"mnist": torchvision.datasets.MNIST, "fashion_mnist": torchvision.datasets.FashionMNIST}
    kind = kind[name]
    folder = root / kind.__name__ / "raw"
    missing = [file for file in IDX_FILES if not (folder / file).is_file()]
    if missing and download:
        _download(name, kind, root)
    elif missing:
        raise DataError(
            f"{name}: {folder / missing[0]} is missing ({len(missing)} of {len(IDX_FILES)} files)\n"
            f"  Run `{_preflight_command(name)}` with network access to fetch "
            "them (12 to 30 MB),\n  or set KAEM_DATA_ROOT to a torchvision root that holds them."
        )
    for file, expected in IDX_FILES.items():
        size = (folder / file).stat().st_size
        if size != expected:
            raise DataError(
                f"{name}: {folder / file} is truncated or damaged: {size} bytes, "
                f"expected {expected}\n  Delete {folder.parent} and run "
                f"`{_preflight_command(name)}` to fetch it again."
            )
    try:
        train, test = (kind(root, train=flag, download=False) for flag in (True, False))
    except (RuntimeError, ValueError, OSError, AssertionError, KeyError) as error:
        raise DataError(f"{name}: the files in {folder} cannot be read: {error}") from error
    return {
        "train": (train.data.numpy(), train.targets.numpy()),
        "test": (test.data.numpy(), test.targets.numpy()),
    }


def _download(name: str, kind, root: Path) -> None:
    """Fetch into a folder beside the final one and move it there when it is whole."""
    target = root / kind.__name__
    try:
        root.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root))
    except OSError as error:
        raise DataError(f"{name}: cannot write to the data folder {root}: {error}") from error
    try:
        kind(staging, train=True, download=True)
        if target.exists():
            shutil.rmtree(target)
        (staging / kind.__name__).replace(target)
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"{name}: cannot be downloaded into {root}: {error}\n"
            f"  With no network, copy the four IDX files of {kind.__name__} to {target / 'raw'},\n"
            "  or set KAEM_DATA_ROOT to a torchvision root that holds them."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


_READERS = {
    "digits": _read_digits,
    "mnist": _read_mnist_like,
    "fashion_mnist": _read_mnist_like,
}


def _preflight_command(name: str) -> str:
    return f"python -m benchmark preflight --dataset {name} --config FILE"


def _place(name: str, root: Path) -> str:
    return "scikit-learn" if name == "digits" else str(root)

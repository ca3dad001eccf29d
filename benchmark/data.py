"""Datasets: checked against their committed digests, and split; `benchmark.sources` reads them.

Images are kept as uint8 tensors (n, C, H, W); `to_float` turns a batch into what models see.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from benchmark.config import dataset_facts
from benchmark.errors import DataError
from benchmark.seeding import derive_seed
from benchmark.sources import place, preflight_command, read_source


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
        root: folder of the datasets, laid out as torchvision does, or with `<name>.npz` in it.
        download: fetch what is missing.

    Raises:
        DataError: files are missing or damaged, or the images are not the ones they should be.
    """
    parts = read_source(name, root, download)
    digests = {part: image_digests(images) for part, (images, _) in parts.items()}
    found = {part: content_digest(each) for part, each in digests.items()}
    for part, expected in dataset_facts(name)["digests"].items():
        if found[part] != expected:
            raise DataError(
                f"{name}: the {part} images in {place(name, root)} are not the expected ones\n"
                f"  expected digest {expected}\n  found           {found[part]}\n"
                "  Delete those files and run "
                f"`{preflight_command(name)}` to fetch them again."
            )
    for part, needed in _needed(name).items():
        if len(parts[part][0]) < needed:
            raise DataError(
                f"{name}: {place(name, root)} holds {len(parts[part][0])} {part} images, its "
                f"splits in config/datasets.yaml need {needed}"
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


def _needed(name: str) -> dict[str, int]:
    """How many images of each source part the splits take."""
    needed: dict[str, int] = {}
    for cut in dataset_facts(name)["splits"].values():
        needed[cut["part"]] = needed.get(cut["part"], 0) + cut["count"]
    return needed


def _prepare(name: str, images: np.ndarray) -> Tensor:
    """Source images (n, H, W) or (n, H, W, C) as uint8 (n, C, H, W) of the dataset's size."""
    tensor = torch.from_numpy(images)
    tensor = tensor.unsqueeze(1) if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2).contiguous()
    wanted = tuple(dataset_facts(name)["image_shape"])
    if tensor.shape[1:] == wanted:
        return tensor
    if name != "digits":
        raise DataError(
            f"{name}: its images have shape {tuple(tensor.shape[1:])} (channels, height, width), "
            f"expected {wanted}"
        )
    # Only the 8x8 digits, whose grey levels run from 0 to 16.
    resized = interpolate(tensor.float() / 16, wanted[1:], mode="bilinear")
    return to_uint8(resized)

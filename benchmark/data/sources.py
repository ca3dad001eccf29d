"""Sources of images, and the two that any dataset may have: an npz file, and folders of files."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from benchmark.base.arrays import UNREADABLE, load_arrays
from benchmark.base.errors import DataError
from benchmark.config.facts import Facts
from benchmark.data.image_files import (
    SUFFIXES,
    folder_labels,
    image_files,
    list_images,
    listed,
    read_file,
)


@dataclass(frozen=True)
class Part:
    """A part of a source: `images[i]` is uint8 (H, W) or (H, W, C); labels (n,) or None."""

    images: Sequence
    labels: np.ndarray | None = None


Parts = dict[str, Part]


@dataclass(frozen=True)
class Source:
    """A dataset's files before they are read.

    Attributes:
        place: what to call them in messages.
        read: reads them; raises DataError where they are damaged.
        files: all that it reads.
        version: what else the images depend on.
        left_out: how many files of its folders or its archive are no images, by suffix; those of
            an archive are known when it is read.
    """

    place: str
    read: Callable[[], Parts]
    files: list[Path] = field(default_factory=list)
    version: str = ""
    left_out: Counter[str] = field(default_factory=Counter)

    def omissions(self) -> str:
        """Return a line that says how many files are left out and why; empty where none is."""
        kinds = [f"{count} {ascii(suffix)[1:-1]}" for suffix, count in self.left_out.most_common()]
        return f"\n  Left out: {listed(kinds)}; images are {', '.join(SUFFIXES)}" if kinds else ""

    def stamp(self) -> str:
        """Return a digest that changes when a file's name, size or time of change does."""
        try:
            stats = [(path, path.stat()) for path in self.files]
        except OSError as error:  # a link to nowhere, a file that was just removed
            raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error
        lines = [f"{path.absolute()} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats]
        # As the disk has them: names need not be UTF-8.
        return hashlib.sha256(os.fsencode("\n".join([self.version, *sorted(lines)]))).hexdigest()


def npz_source(facts: Facts, path: Path) -> Source:
    """Return the source of one npz file, whose arrays are checked when they are read."""
    return Source(str(path), partial(_read_npz, facts, path), [path])


def _read_npz(facts: Facts, path: Path) -> Parts:
    kinds = ("images",) if facts.classes is None else ("images", "labels")
    names = [f"{part}_{kind}" for part in facts.needed for kind in kinds]
    try:
        held = load_arrays(path, names, psutil.virtual_memory().available)
    except KeyError as error:
        wanted = "" if facts.classes is None else ", and <part>_labels"
        raise DataError(
            f"{facts.name}: {path} has no array {error.args[0].split(' ')[0]}\n"
            f"  It needs <part>_images, uint8 (N, H, W) or (N, H, W, C){wanted} for "
            f"the parts {', '.join(facts.needed)}."
        ) from error
    except UNREADABLE as error:
        raise DataError(f"{facts.name}: {path} cannot be read: {error}") from error
    parts = {}
    for part in facts.needed:
        images, labels = held[f"{part}_images"], held.get(f"{part}_labels")
        fits = images.dtype == np.uint8 and images.ndim in (3, 4)
        if not fits or not (labels is None or _are_labels(labels, len(images), facts.classes)):
            wanted = got = ""
            if labels is not None:
                wanted = f" with as many labels, each of 0 to {facts.classes - 1} among them"
                got = f" and labels {labels.dtype} {labels.shape}"
            raise DataError(
                f"{facts.name}: {path}: {part}_images must be uint8 (N, H, W) or (N, H, W, C)"
                f"{wanted}, got {images.dtype} {images.shape}{got}"
            )
        if images.max(initial=0) <= 1:
            raise DataError(f"{facts.name}: {path}: {part}_images has no value above 1 of 255")
        parts[part] = Part(images, labels)
    return parts


def _are_labels(labels: np.ndarray, count: int, classes: int) -> bool:
    whole = np.issubdtype(labels.dtype, np.integer) and labels.shape == (count,)
    return whole and np.array_equal(np.unique(labels), np.arange(classes))


def folder_source(facts: Facts, folder: Path) -> Source:
    """Return the source of a folder with a folder of images for each part.

    Labels are the names of the folders in there.
    """
    found = {part: list_images(folder / part) for part in facts.needed}
    names = {folder / part: images for part, (images, _) in found.items()}

    def read() -> Parts:
        labels = folder_labels(facts, names)
        return {
            place.name: Part(image_files(facts, files, read_file), labels[place])
            for place, files in names.items()
        }

    left_out = sum((others for _, others in found.values()), Counter())
    files = [Path(name) for images in names.values() for name in images]
    return Source(str(folder), read, files, left_out=left_out)

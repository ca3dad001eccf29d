"""What a source of images is, and the two forms that any dataset may have: an npz file, or a folder
of image files for each of its parts. `benchmark.data.distributions` knows the others.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from benchmark.base.arrays import UNREADABLE, load_arrays
from benchmark.base.errors import DataError
from benchmark.config.facts import Facts
from benchmark.data.image_files import folder_labels, folder_reader, image_files, list_images


@dataclass(frozen=True)
class Part:
    """A source part: `images[i]` is uint8 (H, W) or (H, W, C); labels (n,) or None."""

    images: Sequence
    labels: np.ndarray | None = None


Parts = dict[str, Part]


@dataclass(frozen=True)
class Source:
    """A dataset's files, found but not yet read.

    Attributes:
        place: what to call them in messages.
        read: reads them; raises DataError where they are damaged.
        files: all that it reads.
        version: what else the images depend on.
    """

    place: str
    read: Callable[[], Parts]
    files: list[Path] = field(default_factory=list)
    version: str = ""

    def stamp(self) -> str:
        """Changes when a file's name, size or time of change does."""
        try:
            stats = [(path, path.stat()) for path in self.files]
        except OSError as error:  # a link to nowhere, a file that was just removed
            raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error
        lines = [f"{path.absolute()} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats]
        return hashlib.sha256("\n".join([self.version, *sorted(lines)]).encode()).hexdigest()


def npz_source(facts: Facts, path: Path) -> Source:
    """One npz file; its arrays are checked when they are read."""
    return Source(str(path), partial(_read_npz, facts, path), [path])


def _read_npz(facts: Facts, path: Path) -> Parts:
    parts = {}
    try:
        kinds = ("images",) if facts.classes is None else ("images", "labels")
        names = [f"{part}_{kind}" for part in facts.needed for kind in kinds]
        held = load_arrays(path, names, psutil.virtual_memory().available)
        for part in facts.needed:
            parts[part] = Part(held[f"{part}_images"], held.get(f"{part}_labels"))
    except KeyError as error:
        wanted = "" if facts.classes is None else ", and <part>_labels"
        raise DataError(
            f"{facts.name}: {path} has no array {error.args[0].split(' ')[0]}\n"
            f"  It needs <part>_images, uint8 (N, H, W) or (N, H, W, C){wanted} for "
            f"the parts {', '.join(facts.needed)}."
        ) from error
    except UNREADABLE as error:
        raise DataError(f"{facts.name}: {path} cannot be read: {error}") from error
    for name, part in parts.items():
        images, labels = part.images, part.labels
        fits = images.dtype == np.uint8 and images.ndim in (3, 4)
        if not fits or not (labels is None or _are_labels(labels, len(images), facts.classes)):
            wanted = "" if labels is None else f" with as many labels from 0 to {facts.classes - 1}"
            found = "" if labels is None else f" and labels {labels.dtype} {labels.shape}"
            raise DataError(
                f"{facts.name}: {path}: {name}_images must be uint8 (N, H, W) or (N, H, W, C)"
                f"{wanted}, got {images.dtype} {images.shape}{found}"
            )
    return parts


def _are_labels(labels: np.ndarray, count: int, classes: int) -> bool:
    whole = np.issubdtype(labels.dtype, np.integer) and labels.shape == (count,)
    return whole and bool(((labels >= 0) & (labels < classes)).all())


def folder_source(facts: Facts, folder: Path) -> Source:
    """A folder with a folder of images for each part; labels are the names of folders in there."""
    names = {part: list_images(folder / part) for part in facts.needed}

    def read() -> Parts:
        labels = folder_labels(facts, {folder / part: each for part, each in names.items()})
        return {
            part: Part(
                image_files(facts, each, folder_reader(folder / part)), labels[folder / part]
            )
            for part, each in names.items()
        }

    files = [folder / part / name for part, each in names.items() for name in each]
    return Source(str(folder), read, files)

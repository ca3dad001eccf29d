"""Images from files: folders and zip archives of JPEG, PNG and other files.

One convention for all: the largest central square (for CelebA the central 140x140, which nearly
all of the field cuts out), resized to the dataset's size with Pillow's bilinear filter, which
averages over all source pixels (antialiasing), and rounded to uint8 by Pillow.
"""

import io
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from benchmark.base.arrays import UNREADABLE
from benchmark.base.errors import DataError
from benchmark.base.foreign import MIB, check_size
from benchmark.config.facts import Facts

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".pgm", ".ppm")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")  # by content: Pillow has others run by a program

# A bomb unpacks to far more than it seems; photographs stay far below either bound.
LARGEST_FILE = 64 * MIB
LARGEST_IMAGE = 64_000_000  # pixels


class BrokenImageError(Exception):
    """A file that cannot be decoded; the message names it and says why."""


@dataclass(frozen=True)
class ImageFiles(Sequence):
    """A sequence of prepared uint8 arrays (H, W) or (H, W, 3), decoded from files when indexed.

    Attributes:
        names: of the files, in a fixed order.
        read: the bytes of a file, by its name.
        size: (height, width) of the prepared images.
        mode: Pillow's "L" or "RGB".
        crop: side of the central square; None for the largest one.
    """

    names: list[str]
    read: Callable[[str], bytes]
    size: tuple[int, int]
    mode: str
    crop: int | None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> np.ndarray:
        name = self.names[index]
        try:
            with Image.open(io.BytesIO(self.read(name)), formats=FORMATS) as image:
                if image.width * image.height > LARGEST_IMAGE:
                    raise BrokenImageError(f"{name}: {image.width}x{image.height} pixels")
                if image.mode[0] in "IF":  # Pillow would cut them off at 255, to nearly all white
                    raise BrokenImageError(f"{name}: more than 8 bits for each channel")
                return np.asarray(self._prepare(image.convert(self.mode)))
        except (*UNREADABLE, SyntaxError, Image.DecompressionBombError) as error:
            # SyntaxError: Pillow's word for a broken PNG.
            kind = "not an image" if isinstance(error, UnidentifiedImageError) else error
            raise BrokenImageError(f"{name}: {kind}") from error

    def _prepare(self, image: Image.Image) -> Image.Image:
        side = self.crop or min(image.size)
        if side > min(image.size):
            raise ValueError(f"{image.width}x{image.height} pixels, {side}x{side} are cut out")
        left, top = (image.width - side) // 2, (image.height - side) // 2
        height, width = self.size
        if (image.width, image.height) == (width, height) and self.crop is None:
            return image
        square = image.crop((left, top, left + side, top + side))
        return square.resize((width, height), Image.Resampling.BILINEAR)


def image_files(facts: Facts, names: list[str], read: Callable[[str], bytes]) -> ImageFiles:
    """Return the named files, prepared as the dataset's facts say."""
    channels, height, width = facts.image_shape
    return ImageFiles(names, read, (height, width), "L" if channels == 1 else "RGB", facts.crop)


def folder_reader(folder: Path) -> Callable[[str], bytes]:
    """Return what reads a file of a folder by its relative name."""

    def read(name: str) -> bytes:
        check_size(folder / name, LARGEST_FILE)
        return (folder / name).read_bytes()

    return read


def zip_reader(archive: zipfile.ZipFile) -> Callable[[str], bytes]:
    """Return what reads a member of an archive by its name; nothing is unpacked to the disk."""

    def read(name: str) -> bytes:
        size = archive.getinfo(name).file_size
        if size > LARGEST_FILE:
            raise ValueError(f"{size} bytes unpacked")
        return archive.read(name)

    return read


def list_images(folder: Path) -> list[str]:
    """List the relative names of all images in and below a folder, sorted, but for hidden ones."""
    names = []
    for place, _, files in os.walk(folder):
        for path in (Path(place).relative_to(folder) / file for file in files):
            hidden = any(part.startswith(".") for part in path.parts)
            if path.suffix.lower() in SUFFIXES and not hidden:
                names.append(str(path))
    return sorted(names)


def folder_labels(facts: Facts, parts: dict[Path, list[str]]) -> dict[Path, np.ndarray | None]:
    """Number the images of each part's folder by the sorted names of the folders that hold them.

    Returns:
        Labels (n,) for each part's folder; None without classes.

    Raises:
        DataError: a part has not as many folders as classes, or others than another part.
    """
    if facts.classes is None:
        return dict.fromkeys(parts)
    classes = {folder: [_class_of(name) for name in names] for folder, names in parts.items()}
    known = set().union(*classes.values())
    for folder, names in classes.items():
        own = set(names)
        if len(own) != facts.classes or "" in own or own != known:
            raise DataError(
                f"{facts.name}: {folder} needs a folder of images for each of its {facts.classes} "
                f"classes, found {len(own - {''})}; all parts need the same ones\n"
                "  Leave `classes` out of the dataset's facts if its images have no labels."
            )
    numbers = {name: number for number, name in enumerate(sorted(known))}
    return {folder: np.array([numbers[n] for n in names]) for folder, names in classes.items()}


def _class_of(name: str) -> str:
    parts = Path(name).parts
    return parts[0] if len(parts) > 1 else ""

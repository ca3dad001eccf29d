"""Images from files: folders and zip archives of JPEG, PNG and other files.

One convention for all: the largest central square (for CelebA the central 140x140, which nearly
all of the field cuts out), resized to the dataset's size with Pillow's bilinear filter, which
averages over all source pixels (antialiasing), and rounded to uint8 by Pillow. Before that an image
is turned as its EXIF orientation says, and what is transparent is laid over white. Of an animation
it is the first image; colour profiles are not applied.
"""

import io
import os
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from benchmark.base.arrays import UNREADABLE
from benchmark.base.errors import DataError
from benchmark.base.foreign import MIB, check_size
from benchmark.config.facts import Facts

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".pgm", ".ppm")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")  # by content: Pillow has others run by a program

# EXIF's orientation -> what undoes it. (Pillow's own `exif_transpose` also writes the EXIF anew,
# which fails for the odd values that cameras write.)
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

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
                return np.asarray(self._prepare(_as_seen(image).convert(self.mode)))
        except (*UNREADABLE, Image.DecompressionBombError) as error:
            unknown = isinstance(error, UnidentifiedImageError)
            kind = f"no image of the kinds {', '.join(FORMATS)}" if unknown else error
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


def _as_seen(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF orientation says, and lay what is transparent over white."""
    turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    image = image if turn is None else image.transpose(turn)
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def image_files(facts: Facts, names: list[str], read: Callable[[str], bytes]) -> ImageFiles:
    """Return the named files, prepared as the dataset's facts say."""
    channels, height, width = facts.image_shape
    return ImageFiles(names, read, (height, width), "L" if channels == 1 else "RGB", facts.crop)


def read_file(name: str) -> bytes:
    """Read a file that is no larger than an image may be."""
    check_size(name, LARGEST_FILE)
    return Path(name).read_bytes()


def zip_reader(archive: zipfile.ZipFile) -> Callable[[str], bytes]:
    """Return what reads a member of an archive by its name; nothing is unpacked to the disk."""

    def read(name: str) -> bytes:
        size = archive.getinfo(name).file_size
        if size > LARGEST_FILE:
            raise ValueError(f"{size} bytes unpacked")
        return archive.read(name)

    return read


def list_images(folder: Path) -> tuple[list[str], Counter[str]]:
    """List the images in and below a folder, and what is left out, as `sort_out` does.

    Links are followed, but for those to a folder above, which would have no end.

    Raises:
        DataError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error

    found = []
    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        here = Path(place)
        above = [here, *here.absolute().parents]
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and not ((here / name).is_symlink() and any(map((here / name).samefile, above)))
        ]
        found += [str(here / name) for name in files]
    return sort_out(found)


def sort_out(names: Iterable[str]) -> tuple[list[str], Counter[str]]:
    """Return the names of images, sorted, and how many other files there are of each suffix.

    Hidden files are neither: those that macOS puts into archives have suffixes of images.
    """
    images, left_out = [], Counter()
    for name in names:
        path = Path(name)
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            images.append(name)
        elif not path.name.startswith("."):
            left_out[path.suffix.lower() or "without a suffix"] += 1
    return sorted(images), left_out


BESIDE = "images in no folder"  # where a class's name would be


def folder_labels(facts: Facts, parts: dict[Path, list[str]]) -> dict[Path, np.ndarray | None]:
    """Number the images of each part's folder by the sorted names of the folders that hold them.

    Returns:
        Labels (n,) for each part's folder; None without classes.

    Raises:
        DataError: a part has not as many folders as classes, or others than another part.
    """
    if facts.classes is None:
        return dict.fromkeys(parts)
    classes = {folder: [_class_of(folder, n) for n in names] for folder, names in parts.items()}
    own = {folder: set(names) for folder, names in classes.items()}
    known, common = set().union(*own.values()), set.intersection(*own.values())
    if known != common or len(known) != facts.classes or BESIDE in known:
        found = [
            f"\n  {folder} has {len(names)}: {listed(sorted(names))}"
            + (f"; not every part has {listed(sorted(names - common))}" if names - common else "")
            for folder, names in own.items()
        ]
        raise DataError(
            f"{facts.name}: each part needs a folder of images for each of the same "
            f"{facts.classes} classes{''.join(found)}\n"
            "  Leave `classes` out of the dataset's facts if its images have no labels."
        )
    numbers = {name: number for number, name in enumerate(sorted(known))}
    return {folder: np.array([numbers[n] for n in names]) for folder, names in classes.items()}


def _class_of(folder: Path, name: str) -> str:
    parts = Path(name).relative_to(folder).parts
    # macOS writes an accent as a letter of its own.
    return unicodedata.normalize("NFC", parts[0]) if len(parts) > 1 else BESIDE


def listed(names: Sequence[str], most: int = 10) -> str:
    """Write names after each other, the first `most` of them."""
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")

"""CelebA: its files lie in a folder or in an archive, and have their part by their number."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmark.base.arrays import UNREADABLE, open_archive
from benchmark.base.errors import DataError
from benchmark.base.files import file_digest
from benchmark.config.facts import Facts
from benchmark.data.downloads import fetch_missing, torchvision_dataset
from benchmark.data.image_files import image_files, list_images, read_file, sort_out, zip_reader
from benchmark.data.sources import Part, Parts, Source

FOLDER, ARCHIVE = "img_align_celeba", "img_align_celeba.zip"
# The last file of each part: the official partition follows the numbers.
LAST_NUMBERS = {"train": 162770, "validation": 182637, "test": 202599}


def celeba_source(facts: Facts, root: Path, download: bool) -> Source:
    """Find a folder of images, else the archive: in the root, or in torchvision's folder there."""
    source = _found(facts, root)
    if source is None:
        fetch_missing(facts, root, [root / ARCHIVE], [ARCHIVE], [ARCHIVE], _fetch, download)
        source = _found(facts, root)
    return source


def _found(facts: Facts, root: Path) -> Source | None:
    """Return the first folder with images in it, else the first archive, if there is one."""
    places = (root, root / "celeba")
    for folder in filter(Path.is_dir, (place / FOLDER for place in places)):
        names, left_out = list_images(folder)
        if names:
            read = partial(_by_part, facts, folder, names, read_file)
            return Source(str(folder), read, [*map(Path, names)], left_out=left_out)
    for archive in filter(Path.is_file, (place / ARCHIVE for place in places)):
        left_out = Counter()
        read = partial(_read_archive, facts, archive, left_out)
        return Source(str(archive), read, [archive], left_out=left_out)
    return None


def _fetch(place: Path) -> None:
    number, md5, name = torchvision_dataset("CelebA").file_list[0]  # the rest is not needed
    torchvision_dataset("utils").download_file_from_google_drive(number, place, name, md5)


def _read_archive(facts: Facts, archive: Path, left_out: Counter[str]) -> Parts:
    expected = facts.archive_md5
    if expected is not None and (md5 := file_digest(archive, "md5")) != expected:
        raise DataError(
            f"{facts.name}: {archive} is not the official archive, or it is damaged\n"
            f"  expected MD5 {expected}\n  found        {md5}\n"
            f"  Fetch it again; or unpack it to {archive.with_suffix('')} to use it as it is."
        )
    try:
        opened = open_archive(archive)
    except UNREADABLE as error:
        raise DataError(
            f"{facts.name}: {archive} cannot be read: {error}\n"
            "  It is truncated or no zip archive: fetch it again."
        ) from error
    names, others = sort_out(info.filename for info in opened.infolist() if not info.is_dir())
    left_out.update(others)
    return _by_part(facts, archive, names, zip_reader(opened))


def _by_part(facts: Facts, place: Path, names: list[str], read: Callable[[str], bytes]) -> Parts:
    try:
        parts = celeba_parts(names)
    except ValueError as error:
        raise DataError(f"{facts.name}: {place} has no parts by their numbers: {error}") from error
    return {part: Part(image_files(facts, files, read)) for part, files in parts.items()}


def celeba_parts(names: list[str]) -> dict[str, list[str]]:
    """Sort CelebA's files by part. Suffixes do not count: there are archives of `.png` files.

    Raises:
        ValueError: a file has no part, or the number of another.
    """
    parts: dict[str, list[str]] = {part: [] for part in LAST_NUMBERS}
    known: dict[str, str] = {}
    for path in names:
        stem = Path(path).stem
        if known.setdefault(stem, path) != path:
            raise ValueError(f"{known[stem]} and {path} have one number")
        parts[_part_by_number(path)].append(path)
    return parts


def _part_by_number(path: str) -> str:
    stem = Path(path).stem
    if not stem.isdecimal():
        raise ValueError(f"{path} has none")
    for part, last in LAST_NUMBERS.items():
        if int(stem) <= last:
            return part
    raise ValueError(f"{path} has a number beyond CelebA's 202599")

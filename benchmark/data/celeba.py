"""CelebA: its files lie in a folder or in an archive, and have their part by list or by number."""

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmark.base.arrays import UNREADABLE, open_archive
from benchmark.base.errors import DataError
from benchmark.base.files import file_digest
from benchmark.base.foreign import read_text
from benchmark.config.facts import Facts
from benchmark.data.downloads import fetch_missing, torchvision_dataset
from benchmark.data.image_files import image_files, list_images, read_file, sort_out, zip_reader
from benchmark.data.sources import Part, Parts, Source

FOLDER, ARCHIVE = "img_align_celeba", "img_align_celeba.zip"
PARTITIONS = ("list_eval_partition.txt", "list_eval_partition.csv")
# Of the official partition, which follows the numbers of the files: the last of each part.
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
    lists = (place / name for place in places for name in PARTITIONS)
    partition = next(filter(Path.is_file, lists), None)
    listing = [] if partition is None else [partition]
    for folder in filter(Path.is_dir, (place / FOLDER for place in places)):
        names, left_out = list_images(folder)
        if names:
            read = partial(_by_part, facts, folder, names, read_file, partition)
            return Source(str(folder), read, [*map(Path, names), *listing], left_out=left_out)
    for archive in filter(Path.is_file, (place / ARCHIVE for place in places)):
        left_out = Counter()
        read = partial(_read_archive, facts, archive, partition, left_out)
        return Source(str(archive), read, [archive, *listing], left_out=left_out)
    return None


def _fetch(place: Path) -> None:
    number, md5, name = torchvision_dataset("CelebA").file_list[0]  # the rest is not needed
    torchvision_dataset("utils").download_file_from_google_drive(number, place, name, md5)


def _read_archive(
    facts: Facts, archive: Path, partition: Path | None, left_out: Counter[str]
) -> Parts:
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
    return _by_part(facts, archive, names, zip_reader(opened), partition)


def _by_part(
    facts: Facts,
    place: Path,
    names: list[str],
    read: Callable[[str], bytes],
    partition: Path | None,
) -> Parts:
    try:
        parts = celeba_parts(names, read_text(partition) if partition else None)
    except (ValueError, OSError) as error:
        by = partition or "their numbers"
        raise DataError(f"{facts.name}: {place} has no parts by {by}: {error}") from error
    return {part: Part(image_files(facts, files, read)) for part, files in parts.items()}


def celeba_parts(names: list[str], partition: str | None) -> dict[str, list[str]]:
    """Sort CelebA's files by part: by the text of the official list if given, else by number.

    Suffixes do not count: the list is of `.jpg` files, and there are archives of `.png` files.

    Raises:
        ValueError: a file has no part, or one's name twice; a line of the list is none.
    """
    listed = None if partition is None else _parts_by_list(partition)
    parts: dict[str, list[str]] = {part: [] for part in LAST_NUMBERS}
    known: dict[str, str] = {}
    for path in names:
        stem = Path(path).stem
        if known.setdefault(stem, path) != path:
            raise ValueError(f"{known[stem]} and {path} have one number")
        if listed is None:
            parts[_part_by_number(path)].append(path)
        elif stem in listed:
            parts[listed[stem]].append(path)
        else:
            raise ValueError(f"{path} is not in it")
    return parts


def _parts_by_list(text: str) -> dict[str, str]:
    """Read lines of a file's name and 0, 1 or 2, or a CSV of these with a head: stem -> part."""
    parts: dict[str, str] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        fields = re.split(r"[\s,;]+", line.strip())
        is_head = number == 1 and not re.search(r"\d", line)
        if len(fields) == 2 and fields[1] in ("0", "1", "2"):
            stem, part = Path(fields[0]).stem, list(LAST_NUMBERS)[int(fields[1])]
            if parts.setdefault(stem, part) != part:
                raise ValueError(f"line {number} names {fields[0]} for another part than before")
        elif line.strip() and not is_head:
            raise ValueError(f"line {number} is {line!r}, no file's name and 0, 1 or 2")
    return parts


def _part_by_number(path: str) -> str:
    stem = Path(path).stem
    if not stem.isdecimal():
        raise ValueError(f"{path} has none")
    for part, last in LAST_NUMBERS.items():
        if int(stem) <= last:
            return part
    raise ValueError(f"{path} has a number beyond CelebA's 202599")

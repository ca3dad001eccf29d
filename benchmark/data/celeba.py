"""CelebA: its files lie in a folder or in an archive, and have their part by list or by number."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmark.base.arrays import UNREADABLE, open_archive
from benchmark.base.errors import DataError
from benchmark.base.files import file_digest
from benchmark.config.facts import Facts
from benchmark.data.downloads import fetch_missing, torchvision_dataset
from benchmark.data.image_files import folder_reader, image_files, list_images, zip_reader
from benchmark.data.sources import Part, Parts, Source

FOLDER, ARCHIVE = "img_align_celeba", "img_align_celeba.zip"
PARTITION = "list_eval_partition.txt"
# Of the official partition, which follows the numbers of the files: the last of each part.
LAST_NUMBERS = {"train": 162770, "validation": 182637, "test": 202599}


def celeba_source(facts: Facts, root: Path, download: bool) -> Source:
    """Find a folder of images, else the archive: in the root, or in torchvision's folder there."""
    places = (root, root / "celeba")
    folder, archive = _images(places)
    if folder is None and archive is None:
        fetch_missing(facts, root, [root / "celeba" / ARCHIVE], ["celeba"], _fetch, download)
        folder, archive = _images(places)  # torchvision unpacks it: as a later run finds it
    lists = (place / PARTITION for place in places)
    partition = next(filter(Path.is_file, lists), None)
    listing = [] if partition is None else [partition]
    if folder is None:
        read = partial(_read_archive, facts, archive, partition)
        return Source(str(archive), read, [archive, *listing])
    names = list_images(folder)
    read = partial(_by_part, facts, folder, names, folder_reader(folder), partition)
    return Source(str(folder), read, [folder / name for name in names] + listing)


def _images(places: tuple[Path, ...]) -> tuple[Path | None, Path | None]:
    """Return the folder of images and the archive, where there are any."""
    folders, archives = ([place / name for place in places] for name in (FOLDER, ARCHIVE))
    return next(filter(Path.is_dir, folders), None), next(filter(Path.is_file, archives), None)


def _fetch(place: Path) -> None:
    torchvision_dataset("CelebA")(place, split="all", download=True)


def _read_archive(facts: Facts, archive: Path, partition: Path | None) -> Parts:
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
    names = sorted(name for name in opened.namelist() if name.lower().endswith(".jpg"))
    return _by_part(facts, archive, names, zip_reader(opened), partition)


def _by_part(
    facts: Facts,
    place: Path,
    names: list[str],
    read: Callable[[str], bytes],
    partition: Path | None,
) -> Parts:
    try:
        parts = celeba_parts(names, partition.read_text(encoding="utf-8") if partition else None)
    except (ValueError, IndexError, OSError) as error:
        raise DataError(f"{facts.name}: the files of {place} have no part: {error}") from error
    return {part: Part(image_files(facts, files, read)) for part, files in parts.items()}


def celeba_parts(names: list[str], partition: str | None) -> dict[str, list[str]]:
    """Sort CelebA's files by part: by the text of the official list if given, else by number.

    Raises:
        ValueError: a file has no part.
    """
    numbers = None
    if partition is not None:
        numbers = dict(line.split() for line in partition.splitlines() if line.strip())
    parts: dict[str, list[str]] = {part: [] for part in LAST_NUMBERS}
    for name, path in sorted({Path(path).name: path for path in names}.items()):
        if numbers is None:
            parts[_part_by_number(name)].append(path)
        elif name in numbers:
            parts[list(LAST_NUMBERS)[int(numbers[name])]].append(path)
        else:
            raise ValueError(f"{name} is not in {PARTITION}")
    return parts


def _part_by_number(name: str) -> str:
    number = int(Path(name).stem)
    for part, last in LAST_NUMBERS.items():
        if number <= last:
            return part
    raise ValueError(f"{name} has a number beyond CelebA's 202599")

"""CelebA: its files lie in a folder or in an archive, and have their part by list or by number."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from benchmark.base.arrays import UNREADABLE, open_archive
from benchmark.base.errors import DataError
from benchmark.config.facts import Facts
from benchmark.data.downloads import _fetch, _torchvision
from benchmark.data.image_files import folder_reader, image_files, list_images, zip_reader
from benchmark.data.sources import Part, Parts, Source

CELEBA_FOLDER, CELEBA_ZIP = "img_align_celeba", "img_align_celeba.zip"


CELEBA_PARTITION = "list_eval_partition.txt"


def _celeba(facts: Facts, root: Path, download: bool) -> Source:
    """A folder of images, or the archive; under the root, or in torchvision's folder there."""
    places = (root, root / "celeba")
    folder, archive = _celeba_images(places)
    if folder is None and archive is None:
        _fetch(
            facts,
            root,
            root / "celeba" / CELEBA_ZIP,
            download,
            ["celeba"],
            lambda place: _torchvision("CelebA")(place, split="all", download=True),
        )
        folder, archive = _celeba_images(places)  # torchvision unpacks it: as a later run finds it
    listed = (place / CELEBA_PARTITION for place in places)
    partition = next((path for path in listed if path.is_file()), None)
    listing = [] if partition is None else [partition]

    def by_part(names: list[str], read: Callable[[str], bytes], place: Path) -> Parts:
        try:
            parts = celeba_parts(names, partition.read_text() if partition else None)
        except (ValueError, IndexError, OSError) as error:
            raise DataError(f"{facts.name}: the files of {place} have no part: {error}") from error
        return {part: Part(image_files(facts, each, read)) for part, each in parts.items()}

    if folder is not None:
        names = list_images(folder)
        files = [folder / name for name in names]
        return Source(
            str(folder), lambda: by_part(names, folder_reader(folder), folder), files + listing
        )

    def read_archive() -> Parts:
        _check_md5(facts, archive)
        try:
            opened = open_archive(archive)
        except UNREADABLE as error:
            raise DataError(
                f"{facts.name}: {archive} cannot be read: {error}\n"
                "  It is truncated or no zip archive: fetch it again."
            ) from error
        names = sorted(name for name in opened.namelist() if name.lower().endswith(".jpg"))
        return by_part(names, zip_reader(opened), archive)

    return Source(str(archive), read_archive, [archive, *listing])


def _celeba_images(places: tuple[Path, ...]) -> tuple[Path | None, Path | None]:
    """The folder of images and the archive, where there are any."""
    folders, archives = ([p / name for p in places] for name in (CELEBA_FOLDER, CELEBA_ZIP))
    return next(filter(Path.is_dir, folders), None), next(filter(Path.is_file, archives), None)


def _check_md5(facts: Facts, archive: Path) -> None:
    if facts.archive_md5 is None:
        return
    with archive.open("rb") as handle:
        found = hashlib.file_digest(handle, "md5").hexdigest()
    if found != facts.archive_md5:
        raise DataError(
            f"{facts.name}: {archive} is not the official archive, or it is damaged\n"
            f"  expected MD5 {facts.archive_md5}\n  found        {found}\n"
            f"  Fetch it again; or unpack it to {archive.with_suffix('')} to use it as it is."
        )


# Of CelebA's official partition, which follows the numbers of the files: the last of each part.
CELEBA_PARTS = {"train": 162770, "validation": 182637, "test": 202599}


def celeba_parts(names: list[str], partition: str | None) -> dict[str, list[str]]:
    """CelebA's files by part: by `list_eval_partition.txt` if its text is given, else by number.

    Raises:
        ValueError: a file has no part.
    """
    by_name = {Path(name).name: name for name in names}
    parts: dict[str, list[str]] = {part: [] for part in CELEBA_PARTS}
    if partition is None:
        for name in sorted(by_name):
            number = int(Path(name).stem)
            part = next((p for p, last in CELEBA_PARTS.items() if number <= last), None)
            if part is None:
                raise ValueError(f"{name} has a number beyond CelebA's 202599")
            parts[part].append(by_name[name])
        return parts
    listed = dict(line.split() for line in partition.splitlines() if line.strip())
    unlisted = [name for name in sorted(by_name) if name not in listed]
    if unlisted:
        raise ValueError(f"{unlisted[0]} is not in list_eval_partition.txt")
    for name in sorted(by_name):
        parts[list(CELEBA_PARTS)[int(listed[name])]].append(by_name[name])
    return parts

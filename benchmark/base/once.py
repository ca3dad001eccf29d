"""Folders that are built once, whichever job comes first, and are whole or not there at all."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from benchmark.base.errors import DataError

Opened = TypeVar("Opened")


def open_once(
    folder: Path, build: Callable[[Path], None], open_built: Callable[[Path], Opened | None]
) -> Opened:
    """Return `open_built(folder)` of a folder that `build(empty folder)` builds if it is not there.

    A folder for which it returns None is damaged, and is built anew, once.

    Raises:
        OSError: the folder cannot be written; DataError: it is damaged again.
    """
    for _ in range(2):
        build_once(folder, build)
        opened = open_built(folder)
        if opened is not None:
            return opened
        discard(folder)
    raise DataError(f"{folder} is damaged again right after it was built")


def build_once(folder: Path, build: Callable[[Path], None]) -> None:
    """Build a folder unless it is there.

    A second job that wants the same folder waits for the first; whatever `build` raises leaves
    nothing behind.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with empty_folder(folder.with_name(f".{folder.name}.building")) as unfinished:
        if not folder.is_dir():
            build(unfinished)
            unfinished.rename(folder)


@contextmanager
def empty_folder(folder: Path) -> Iterator[Path]:
    """Make an empty folder for one process at a time, which is gone afterwards; what a killed one
    left is removed by the next."""
    with FileLock(f"{folder}.lock"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            Path(f"{folder}.lock").unlink()


def discard(folder: Path) -> None:
    """Remove a folder that turned out to be damaged, all of it or none."""
    doomed = folder.with_name(f".{folder.name}.damaged")
    shutil.rmtree(doomed, ignore_errors=True)
    with suppress(FileNotFoundError):  # another job was faster
        folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)

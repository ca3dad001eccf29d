"""Fetching a dataset's own distribution: only when asked for, and whole or not at all."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from benchmark.base.errors import DataError
from benchmark.config.facts import Facts

# What a download weighs, and where the file is to be had by hand where downloads often fail.
DOWNLOADS = {
    "torchvision.MNIST": "12 MB",
    "torchvision.FashionMNIST": "30 MB",
    "torchvision.CIFAR10": "170 MB",
    "torchvision.SVHN": "250 MB",
    "celeba": "1.4 GB, which Google often refuses: then fetch img_align_celeba.zip by hand",
}


def _torchvision(kind: str):
    import torchvision  # seconds: not for a mere look

    return getattr(torchvision.datasets, kind)


@contextmanager
def _reading(facts: Facts, path: Path) -> Iterator[None]:
    """Turns what torchvision raises for a damaged file into one message."""
    try:
        yield
    except (RuntimeError, ValueError, OSError, AssertionError, KeyError, EOFError) as error:
        raise DataError(
            f"{facts.name}: {path} cannot be read: {error}\n"
            f"  Delete it and run `{preflight_command(facts.name)}` to fetch it again."
        ) from error


def _fetch(
    facts: Facts,
    root: Path,
    missing: Path,
    download: bool,
    wanted: list[str],
    fetch: Callable[[Path], object],
) -> None:
    """Fetch into a folder beside the final place and move what is wanted there when it is whole."""
    name, size = facts.name, DOWNLOADS[facts.layout]
    if not download:
        raise DataError(
            f"{name}: {missing} is missing\n"
            f"  Run `{preflight_command(name)}` with network access to fetch it ({size}),\n"
            f"  or put {name}.npz there, or set KAEM_DATA_ROOT to a torchvision root that has it."
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        staging = root / f".{name}.fetching"
        with FileLock(f"{staging}.lock"):
            shutil.rmtree(staging, ignore_errors=True)  # of a process that was killed
            staging.mkdir()
            try:
                _fetch_into(staging, facts, root, missing, wanted, fetch)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
                Path(f"{staging}.lock").unlink()
    except OSError as error:
        raise DataError(f"{name}: cannot write to the data folder {root}: {error}") from error


def _fetch_into(
    staging: Path,
    facts: Facts,
    root: Path,
    missing: Path,
    wanted: list[str],
    fetch: Callable[[Path], object],
) -> None:
    if missing.exists():
        return  # another process fetched it meanwhile
    try:
        fetch(staging)
        for each in wanted:
            if (root / each).is_dir():
                shutil.rmtree(root / each)
            (staging / each).replace(root / each)
    except Exception as error:  # of torchvision, of gdown, of a server
        raise DataError(
            f"{facts.name}: {missing} is missing and cannot be downloaded: {error}\n"
            f"  It is {DOWNLOADS[facts.layout]}. With no network, put {', '.join(wanted)} or "
            f"{facts.name}.npz into {root} by hand,\n  or set KAEM_DATA_ROOT to a torchvision root "
            "that has it."
        ) from error


def preflight_command(name: str) -> str:
    """What fetches and checks a dataset."""
    return f"python -m benchmark preflight --dataset {name} --config FILE"

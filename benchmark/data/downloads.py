"""Fetching a dataset's own distribution: only when a user wants it, and whole or not at all."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmark.base.errors import DataError
from benchmark.base.once import empty_folder
from benchmark.config.facts import Facts

# What a download weighs.
DOWNLOADS = {
    "torchvision.MNIST": "12 MB",
    "torchvision.FashionMNIST": "30 MB",
    "torchvision.CIFAR10": "170 MB",
    "torchvision.SVHN": "250 MB",
    "celeba": "1.4 GB, which Google often refuses",
}


def torchvision_dataset(kind: str):
    """Return what torchvision calls `kind`; imported late, since the import takes seconds."""
    import torchvision

    return getattr(torchvision.datasets, kind)


@contextmanager
def damage_explained(facts: Facts, path: Path) -> Iterator[None]:
    """Turn what readers raise for a damaged file into one message."""
    try:
        yield
    except (RuntimeError, ValueError, OSError, AssertionError, KeyError, EOFError) as error:
        raise DataError(
            f"{facts.name}: {path} cannot be read: {error}\n"
            f"  Delete it and run `{preflight_command(facts.name)}` to fetch it again."
        ) from error


def fetch_missing(
    facts: Facts,
    root: Path,
    needed: Iterable[Path],
    names: list[str],
    by_hand: list[str],
    fetch: Callable[[Path], object],
    download: bool,
) -> None:
    """Fetch a distribution where one of its files is missing.

    Args:
        needed: the files that will be read.
        names: the files and folders of the root that `fetch` downloads into a folder. They take
            their places when all are whole.
        by_hand: the files of the root that a user may fetch instead, packed as their servers have
            them. `fetch` finds in its folder those that are there, and takes what is whole.
        download: whether it may be fetched.

    Raises:
        DataError: a file is missing and may not or cannot be fetched.
    """
    missing = next((path for path in needed if not path.exists()), None)
    if missing is None:
        return
    name, size = facts.name, DOWNLOADS[facts.layout]
    if not download:
        raise DataError(
            f"{name}: {missing} is missing\n"
            f"  Run `{preflight_command(name)}` to fetch it ({size}),\n"
            f"  without network after you put {', '.join(by_hand)} into {root},\n"
            f"  or put {name}.npz there, or set KAEM_DATA_ROOT to a torchvision root that has it."
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        with empty_folder(root / f".{name}.fetching") as staging:
            if missing.exists():
                return  # another process fetched it meanwhile
            try:
                for file in filter(Path.is_file, (root / each for each in by_hand)):
                    copy = staging / file.relative_to(root)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, copy)
                fetch(staging)
                _move(names, staging, root)
            except Exception as error:  # of torchvision, of gdown, of a server
                raise DataError(
                    f"{name}: {missing} is missing and cannot be downloaded: {error}\n"
                    f"  It is {size}. With no network, put {name}.npz into {root} by hand, or "
                    f"{', '.join(by_hand)},\n  or set KAEM_DATA_ROOT to a torchvision root that "
                    "has it."
                ) from error
    except OSError as error:
        raise DataError(f"{name}: cannot write to the data folder {root}: {error}") from error


def _move(names: list[str], source: Path, target: Path) -> None:
    for name in names:
        if (target / name).is_dir():
            shutil.rmtree(target / name)
        (source / name).replace(target / name)


def preflight_command(name: str) -> str:
    """Return the command that fetches and checks a dataset."""
    return f"python -m benchmark preflight --dataset {name} --config FILE"

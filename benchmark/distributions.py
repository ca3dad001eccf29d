"""The datasets' own distributions: scikit-learn's digits, torchvision's sets, and CelebA's files.

Nothing is downloaded unless it is asked for, and a download takes its place only when whole.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
from filelock import FileLock

from benchmark.cifar import check_md5, read_batch
from benchmark.datasets import Facts
from benchmark.errors import DataError
from benchmark.files import UNREADABLE, open_archive
from benchmark.image_files import (
    celeba_parts,
    folder_reader,
    image_files,
    list_images,
    zip_reader,
)
from benchmark.sources import Part, Parts, Source, folder_source, npz_source


def find_source(facts: Facts, root: Path, download: bool = False) -> Source:
    """The source of a dataset: `<name>.npz`, else a folder `<name>`, else its own distribution,
    which is fetched if it is missing and `download` is set.

    Raises:
        DataError: files are missing, truncated, or cannot be fetched.
    """
    archive, folder = root / f"{facts.name}.npz", root / facts.name
    if archive.is_file():
        return npz_source(facts, archive)
    if all((folder / part).is_dir() for part in facts.needed):
        return folder_source(facts, folder)
    if facts.layout is None:
        raise DataError(
            f"{facts.name}: neither {archive} nor {folder} is there\n"
            f"  Put the images into {folder}/<part>/ for each of {', '.join(facts.needed)}, or "
            f"into {archive.name} with the\n  arrays <part>_images, uint8 (N, H, W, C), and "
            "<part>_labels. KAEM_DATA_ROOT names another root."
        )
    return READERS[facts.layout](facts, root, download)


def _digits(facts: Facts, root: Path, download: bool) -> Source:  # noqa: ARG001
    def read() -> Parts:
        from sklearn.datasets import load_digits

        bundle = load_digits()
        return {"all": Part(bundle.images.astype(np.uint8), bundle.target)}

    return Source("scikit-learn", read, version=version("scikit-learn"))


# Bytes of the unpacked IDX files, the same for MNIST and Fashion-MNIST.
IDX_FILES = {
    "train-images-idx3-ubyte": 47040016,
    "train-labels-idx1-ubyte": 60008,
    "t10k-images-idx3-ubyte": 7840016,
    "t10k-labels-idx1-ubyte": 10008,
}


def _idx(facts: Facts, root: Path, download: bool) -> Source:
    kind = facts.layout.removeprefix("torchvision.")
    folder = root / kind / "raw"
    files = [folder / file for file in IDX_FILES]

    def fetch(place: Path) -> None:
        _torchvision(kind)(place, train=True, download=True)

    missing = [path for path in files if not path.is_file()]
    if missing:
        _fetch(facts, root, missing[0], download, [kind], fetch)
    for path in files:
        size, expected = path.stat().st_size, IDX_FILES[path.name]
        if size != expected:
            raise DataError(
                f"{facts.name}: {path} is truncated or damaged: {size} bytes, expected {expected}\n"
                f"  Delete {folder.parent} and run `{preflight_command(facts.name)}` to fetch it "
                "again."
            )

    def read() -> Parts:
        with _reading(facts, folder):
            parts = {flag: _torchvision(kind)(root, train=flag) for flag in (True, False)}
        names = {True: "train", False: "test"}
        return {names[f]: Part(p.data.numpy(), p.targets.numpy()) for f, p in parts.items()}

    return Source(str(root), read, files)


def _cifar10(facts: Facts, root: Path, download: bool) -> Source:
    base = "cifar-10-batches-py"
    folder = root / base

    def fetch(place: Path) -> None:
        official = _torchvision("CIFAR10")  # whose own reader would unpickle the files
        name, md5 = official.filename, official.tgz_md5
        _torchvision("utils").download_and_extract_archive(
            official.url, place, filename=name, md5=md5
        )

    if not folder.is_dir():
        _fetch(facts, root, folder, download, [base], fetch)

    def read() -> Parts:
        official, parts = _torchvision("CIFAR10"), {}
        for part, files in (("train", official.train_list), ("test", official.test_list)):
            with _reading(facts, folder):
                for file, md5 in files:
                    check_md5(folder / file, md5)
                batches = [read_batch(folder / file) for file, _ in files]
            images, labels = zip(*batches, strict=True)
            parts[part] = Part(np.concatenate(images), np.concatenate(labels))
        return parts

    return Source(str(root), read, sorted(path for path in folder.iterdir() if path.is_file()))


# torchvision checks them by their MD5.
SVHN_FILES = ("train_32x32.mat", "test_32x32.mat")


def _svhn(facts: Facts, root: Path, download: bool) -> Source:
    files = [root / file for file in SVHN_FILES]

    def fetch(place: Path) -> None:
        for split in ("train", "test"):
            _torchvision("SVHN")(place, split, download=True)

    missing = [path for path in files if not path.is_file()]
    if missing:
        _fetch(facts, root, missing[0], download, list(SVHN_FILES), fetch)

    def read() -> Parts:
        parts = {}
        for part, file in zip(("train", "test"), files, strict=True):
            with _reading(facts, file):
                held = _torchvision("SVHN")(root, part)
            images = np.ascontiguousarray(held.data.transpose(0, 2, 3, 1))
            parts[part] = Part(images, held.labels)
        return parts

    return Source(str(root), read, files)


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


READERS = {
    "scikit-learn": _digits,
    "torchvision.MNIST": _idx,
    "torchvision.FashionMNIST": _idx,
    "torchvision.CIFAR10": _cifar10,
    "torchvision.SVHN": _svhn,
    "celeba": _celeba,
}

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

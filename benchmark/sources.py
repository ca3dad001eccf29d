"""Where the images of each dataset come from, and what is said when they are not there.

A reader returns the source's parts as arrays: uint8 images (n, H, W) or (n, H, W, C), and labels.
Any dataset may also lie in one file `<name>.npz` under the data root, with the arrays
`<part>_images` and `<part>_labels` of each of its parts. Nothing is downloaded unless it is asked
for, and a download takes its place only when whole.
"""

import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmark.config import dataset_facts
from benchmark.errors import DataError

Parts = dict[str, tuple[np.ndarray, np.ndarray]]

# Bytes of the unpacked IDX files, the same for MNIST and Fashion-MNIST.
IDX_FILES = {
    "train-images-idx3-ubyte": 47040016,
    "train-labels-idx1-ubyte": 60008,
    "t10k-images-idx3-ubyte": 7840016,
    "t10k-labels-idx1-ubyte": 10008,
}

# torchvision checks them by their MD5.
SVHN_FILES = ("train_32x32.mat", "test_32x32.mat")


def read_source(name: str, root: Path, download: bool) -> Parts:
    """The parts of a dataset, from `<name>.npz` if there is one and from its own layout otherwise.

    Raises:
        DataError: files are missing or damaged.
    """
    archive = _archive(name, root)
    return _read_npz(name, archive) if archive else READERS[name](name, root, download)


def place(name: str, root: Path) -> str:
    """What to call the source in messages."""
    return str(_archive(name, root) or ("scikit-learn" if name == "digits" else root))


def _archive(name: str, root: Path) -> Path | None:
    """The dataset's `<name>.npz`, if there is one."""
    path = root / f"{name}.npz"
    return path if path.is_file() else None


def _read_npz(name: str, path: Path) -> Parts:
    parts = {cut["part"] for cut in dataset_facts(name)["splits"].values()}
    try:
        with np.load(path) as held:  # no pickles: a file from elsewhere is safe to read
            found = {
                part: (held[f"{part}_images"], held[f"{part}_labels"]) for part in sorted(parts)
            }
    except KeyError as error:
        raise DataError(
            f"{name}: {path} has no array {error.args[0].split(' ')[0]}\n"
            "  It needs <part>_images, uint8 (N, H, W) or (N, H, W, C), and <part>_labels for "
            f"the parts {', '.join(sorted(parts))}."
        ) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{name}: {path} cannot be read: {error}") from error
    for part, (images, labels) in found.items():
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or len(images) != len(labels):
            raise DataError(
                f"{name}: {path}: {part}_images must be uint8 (N, H, W) or (N, H, W, C) with as "
                f"many labels, got {images.dtype} {images.shape} and {len(labels)} labels"
            )
    return found


def _read_digits(name: str, root: Path, download: bool) -> Parts:  # noqa: ARG001
    from sklearn.datasets import load_digits

    bundle = load_digits()
    return {"all": (bundle.images.astype(np.uint8), bundle.target)}


def _read_mnist_like(name: str, root: Path, download: bool) -> Parts:
    import torchvision

    kind = {"mnist": torchvision.datasets.MNIST, "fashion_mnist": torchvision.datasets.FashionMNIST}
    kind = kind[name]
    folder = root / kind.__name__ / "raw"
    missing = [file for file in IDX_FILES if not (folder / file).is_file()]
    if missing and download:
        _fetch(name, root, [kind.__name__], lambda place: kind(place, train=True, download=True))
    elif missing:
        raise DataError(
            f"{name}: {folder / missing[0]} is missing ({len(missing)} of {len(IDX_FILES)} files)\n"
            f"  Run `{preflight_command(name)}` with network access to fetch "
            "them (12 to 30 MB),\n  or set KAEM_DATA_ROOT to a torchvision root that holds them."
        )
    for file, expected in IDX_FILES.items():
        size = (folder / file).stat().st_size
        if size != expected:
            raise DataError(
                f"{name}: {folder / file} is truncated or damaged: {size} bytes, "
                f"expected {expected}\n  Delete {folder.parent} and run "
                f"`{preflight_command(name)}` to fetch it again."
            )
    try:
        train, test = (kind(root, train=flag, download=False) for flag in (True, False))
    except (RuntimeError, ValueError, OSError, AssertionError, KeyError) as error:
        raise DataError(f"{name}: the files in {folder} cannot be read: {error}") from error
    return {
        "train": (train.data.numpy(), train.targets.numpy()),
        "test": (test.data.numpy(), test.targets.numpy()),
    }


def _read_cifar10(name: str, root: Path, download: bool) -> Parts:
    from torchvision.datasets import CIFAR10

    folder = root / CIFAR10.base_folder
    if not folder.is_dir():
        _missing(name, folder, download, "170 MB")
        _fetch(name, root, [CIFAR10.base_folder], lambda place: CIFAR10(place, download=True))
    try:
        train, test = (CIFAR10(root, train=flag) for flag in (True, False))
    except (RuntimeError, ValueError, OSError, EOFError, KeyError) as error:
        raise _unreadable(name, folder, error) from error
    return {
        "train": (train.data, np.asarray(train.targets)),
        "test": (test.data, np.asarray(test.targets)),
    }


def _read_svhn(name: str, root: Path, download: bool) -> Parts:
    from torchvision.datasets import SVHN

    absent = [file for file in SVHN_FILES if not (root / file).is_file()]
    if absent:
        _missing(name, root / absent[0], download, "250 MB")

        def fetch(place: Path) -> None:
            for split in ("train", "test"):
                SVHN(place, split, download=True)

        _fetch(name, root, list(SVHN_FILES), fetch)
    try:
        parts = {split: SVHN(root, split) for split in ("train", "test")}
    except (RuntimeError, ValueError, OSError, KeyError) as error:
        raise _unreadable(name, root / SVHN_FILES[0], error) from error
    return {
        part: (np.ascontiguousarray(held.data.transpose(0, 2, 3, 1)), held.labels)
        for part, held in parts.items()
    }


def _missing(name: str, path: Path, download: bool, size: str) -> None:
    if not download:
        raise DataError(
            f"{name}: {path} is missing\n"
            f"  Run `{preflight_command(name)}` with network access to fetch it ({size}),\n"
            f"  or put {name}.npz there, or set KAEM_DATA_ROOT to a torchvision root that has it."
        )


def _unreadable(name: str, path: Path, error: Exception) -> DataError:
    return DataError(
        f"{name}: {path} cannot be read: {error}\n"
        f"  Delete it and run `{preflight_command(name)}` to fetch it again."
    )


def _fetch(name: str, root: Path, wanted: list[str], fetch: Callable[[Path], object]) -> None:
    """Fetch into a folder beside the final place and move what is wanted there when it is whole."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root))
    except OSError as error:
        raise DataError(f"{name}: cannot write to the data folder {root}: {error}") from error
    try:
        fetch(staging)
        for each in wanted:
            if (root / each).is_dir():
                shutil.rmtree(root / each)
            (staging / each).replace(root / each)
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"{name}: cannot be downloaded into {root}: {error}\n"
            f"  With no network, put {', '.join(wanted)} or {name}.npz there by hand,\n"
            "  or set KAEM_DATA_ROOT to a torchvision root that has it."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


READERS = {
    "digits": _read_digits,
    "mnist": _read_mnist_like,
    "fashion_mnist": _read_mnist_like,
    "cifar10": _read_cifar10,
    "svhn": _read_svhn,
}


def preflight_command(name: str) -> str:
    """What fetches and checks a dataset."""
    return f"python -m benchmark preflight --dataset {name} --config FILE"

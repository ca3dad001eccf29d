"""The datasets' own distributions: scikit-learn's digits, torchvision's sets, and CelebA's files.

Nothing is downloaded unless it is asked for, and a download takes its place only when whole.
"""

from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmark.base.errors import DataError
from benchmark.config.facts import Facts
from benchmark.data.celeba import _celeba
from benchmark.data.cifar import check_md5, read_batch
from benchmark.data.downloads import _fetch, _reading, _torchvision, preflight_command
from benchmark.data.sources import Part, Parts, Source, folder_source, npz_source


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


READERS = {
    "scikit-learn": _digits,
    "torchvision.MNIST": _idx,
    "torchvision.FashionMNIST": _idx,
    "torchvision.CIFAR10": _cifar10,
    "torchvision.SVHN": _svhn,
    "celeba": _celeba,
}

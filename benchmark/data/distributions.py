"""Where a dataset's images are: in an npz file, in folders, or in its own distribution."""

from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmark.base.errors import DataError
from benchmark.config.facts import Facts
from benchmark.data.celeba import celeba_source
from benchmark.data.cifar import check_md5, read_batch
from benchmark.data.downloads import (
    damage_explained,
    fetch_missing,
    preflight_command,
    torchvision_dataset,
)
from benchmark.data.image_files import listed
from benchmark.data.sources import Part, Parts, Source, folder_source, npz_source

# Bytes of the unpacked IDX files, the same for MNIST and Fashion-MNIST.
IDX_FILES = {
    "train-images-idx3-ubyte": 47040016,
    "train-labels-idx1-ubyte": 60008,
    "t10k-images-idx3-ubyte": 7840016,
    "t10k-labels-idx1-ubyte": 10008,
}
PARTS = ("train", "test")


def find_source(facts: Facts, root: Path, download: bool = False) -> Source:
    """Find `<name>.npz`, else a folder `<name>`, else the dataset's own distribution.

    Args:
        root: folder of the datasets.
        download: fetch a distribution that is missing.

    Raises:
        DataError: files are missing, truncated, or cannot be fetched.
    """
    archive, folder = root / f"{facts.name}.npz", root / facts.name
    if archive.is_file():
        return npz_source(facts, archive)
    if all((folder / part).is_dir() for part in facts.needed):
        return folder_source(facts, folder)
    if facts.layout is None:
        found = f"neither {archive} nor {folder} is there"
        if folder.is_dir():
            lacks = [part for part in facts.needed if not (folder / part).is_dir()]
            holds = listed(sorted(path.name for path in folder.iterdir())) or "nothing"
            found = f"{folder} has no folder {' and '.join(lacks)}; it holds {holds}"
        places = " and ".join(f"{folder / part}/" for part in facts.needed)
        arrays = ", ".join(f"{part}_images" for part in facts.needed)
        labels = "" if facts.classes is None else ", and as many <part>_labels"
        raise DataError(
            f"{facts.name}: {found}\n"
            f"  Put the images into {places}, or into {archive} as\n"
            f"  arrays {arrays}, uint8 (N, H, W, C){labels}. `splits` in the configuration\n"
            "  names these parts; KAEM_DATA_ROOT names another root."
        )
    return READERS[facts.layout](facts, root, download)


def _digits(_facts: Facts, _root: Path, _download: bool) -> Source:
    def read() -> Parts:
        from sklearn.datasets import load_digits

        bundle = load_digits()
        return {"all": Part(bundle.images.astype(np.uint8), bundle.target)}

    return Source("scikit-learn", read, version=version("scikit-learn"))


def _darcy_flow(facts: Facts, _root: Path, _download: bool) -> Source:
    channels, height, width = facts.image_shape
    if channels != 1 or height != width:
        raise DataError(
            f"{facts.name}: image_shape is {list(facts.image_shape)}, but solutions of Darcy flow "
            "are grey and square, such as [1, 32, 32]"
        )

    def read() -> Parts:
        from benchmark.data.darcy import darcy_parts

        return darcy_parts(facts)

    return Source("Darcy flow as computed here", read)


def _idx(facts: Facts, root: Path, download: bool) -> Source:
    kind = facts.layout.removeprefix("torchvision.")
    folder = root / kind / "raw"
    files = [folder / name for name in IDX_FILES]

    def fetch(place: Path) -> None:
        torchvision_dataset(kind)(place, train=True, download=True)

    packed = [f"{kind}/raw/{name}.gz" for name in IDX_FILES]
    fetch_missing(facts, root, files, [kind], packed, fetch, download)
    for path in files:
        size, expected = path.stat().st_size, IDX_FILES[path.name]
        if size != expected:
            raise DataError(
                f"{facts.name}: {path} is truncated or damaged: {size} bytes, expected {expected}\n"
                f"  Delete {folder.parent} and run `{preflight_command(facts.name)}` to fetch it "
                "again."
            )

    def read(part: str) -> Part:
        with damage_explained(facts, folder):
            held = torchvision_dataset(kind)(root, train=part == "train")
        return Part(held.data.numpy(), held.targets.numpy())

    return Source(str(root), partial(_both, read), files)


def _cifar10(facts: Facts, root: Path, download: bool) -> Source:
    folder, packed = root / "cifar-10-batches-py", ["cifar-10-python.tar.gz"]

    def fetch(place: Path) -> None:
        official = torchvision_dataset("CIFAR10")  # whose own reader would unpickle the files
        torchvision_dataset("utils").download_and_extract_archive(
            official.url, place, filename=official.filename, md5=official.tgz_md5
        )

    fetch_missing(facts, root, [folder], [folder.name], packed, fetch, download)

    def read(part: str) -> Part:
        files = getattr(torchvision_dataset("CIFAR10"), f"{part}_list")
        with damage_explained(facts, folder):
            for file, md5 in files:
                check_md5(folder / file, md5)
            batches = [read_batch(folder / file) for file, _ in files]
        images, labels = zip(*batches, strict=True)
        return Part(np.concatenate(images), np.concatenate(labels))

    files = sorted(path for path in folder.iterdir() if path.is_file())
    return Source(str(root), partial(_both, read), files)


def _svhn(facts: Facts, root: Path, download: bool) -> Source:
    files = {part: root / f"{part}_32x32.mat" for part in PARTS}

    def fetch(place: Path) -> None:
        for part in PARTS:
            torchvision_dataset("SVHN")(place, part, download=True)

    names = [file.name for file in files.values()]
    fetch_missing(facts, root, files.values(), names, names, fetch, download)

    def read(part: str) -> Part:
        with damage_explained(facts, files[part]):  # torchvision looks at their MD5
            held = torchvision_dataset("SVHN")(root, part)
        return Part(np.ascontiguousarray(held.data.transpose(0, 2, 3, 1)), held.labels)

    return Source(str(root), partial(_both, read), list(files.values()))


def _both(read: Callable[[str], Part]) -> Parts:
    return {part: read(part) for part in PARTS}


READERS = {
    "scikit-learn": _digits,
    "torchvision.MNIST": _idx,
    "torchvision.FashionMNIST": _idx,
    "torchvision.CIFAR10": _cifar10,
    "torchvision.SVHN": _svhn,
    "celeba": celeba_source,
    "computed.darcy_flow": _darcy_flow,
}

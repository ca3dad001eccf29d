"""Generated images, and every form of files that a dataset may have on the disk."""

import io
import pickle
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torchvision
from PIL import Image

from benchmark.config.facts import Facts
from benchmark.data import distributions

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]  # part -> (images, labels)

COUNTS = {"train": 30, "test": 20}
VALIDATION = 5
SPLITS = {
    "train": {"part": "train", "count": COUNTS["train"] - VALIDATION},
    "validation": {"part": "train", "count": VALIDATION},
    "test": {"part": "test", "count": COUNTS["test"]},
}


def generated(shape: tuple[int, ...], seed: int = 0) -> Arrays:
    """Random images, no two alike, whose label is their index modulo ten."""
    draws = np.random.default_rng(seed)
    return {
        part: (draws.integers(0, 256, (n, *shape), dtype=np.uint8), np.arange(n) % 10)
        for part, n in COUNTS.items()
    }


def facts_of(arrays: Arrays, layout: str | None = None, name: str = "made", **more) -> Facts:
    """What would be known of these images; `more` replaces what is said."""
    images = arrays["train"][0]
    values = {
        "image_shape": [images.shape[3] if images.ndim == 4 else 1, *images.shape[1:3]],
        "classes": 10,
        "layout": layout,
        "digests": {part: naive_digest(images) for part, (images, _) in arrays.items()},
        "splits": SPLITS,
    }
    values = {key: value for key, value in (values | more).items() if value is not None}
    return Facts.parse(name, values)


def naive_digest(images: np.ndarray) -> str:
    """sha256 over the sorted, concatenated sha256 digests of the images' pixels, row by row."""
    digests = sorted(sha256(bytes(image.ravel().tolist())).digest() for image in images)
    total = sha256()
    for digest in digests:
        total.update(digest)
    return total.hexdigest()


def image_digests(images) -> list[bytes]:
    """Of each image's bytes."""
    return [sha256(np.asarray(image).tobytes()).digest() for image in images]


def labels_by_pixels(arrays: Arrays) -> dict[bytes, tuple[str, int]]:
    """Channel-first bytes of an image -> its part and label."""
    return {
        channel_first(image).tobytes(): (part, label)
        for part, (images, labels) in arrays.items()
        for image, label in zip(images, labels.tolist(), strict=True)
    }


def channel_first(image: np.ndarray) -> np.ndarray:
    return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)


def pixels(images) -> list[bytes]:
    """Of a tensor of images, the bytes of each."""
    return [image.numpy().tobytes() for image in images]


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, with the contents of the files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def write_npz(root: Path, arrays: Arrays, name: str = "made") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    held = {f"{part}_images": images for part, (images, _) in arrays.items()}
    held |= {f"{part}_labels": labels for part, (_, labels) in arrays.items()}
    np.savez(root / f"{name}.npz", **held)
    return root / f"{name}.npz"


def write_folders(root: Path, arrays: Arrays, name: str = "made") -> None:
    """PNG files, which lose nothing, by part and label."""
    for part, (images, labels) in arrays.items():
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = root / name / part / str(label) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(image, "PNG"))


def idx_bytes(array: np.ndarray) -> bytes:
    """The IDX format: magic number 0x0000 08 <dimensions>, big-endian sizes, bytes."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">i4").tobytes()
    return header + array.tobytes()


def idx_files(arrays: Arrays) -> dict[str, bytes]:
    """MNIST's own files."""
    files = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = arrays[part]
        files[f"{prefix}-images-idx3-ubyte"] = idx_bytes(images)
        files[f"{prefix}-labels-idx1-ubyte"] = idx_bytes(labels.astype(np.uint8))
    return files


def write_idx(kind: str):
    """MNIST's own layout, under torchvision's name of the dataset."""
    return lambda root, arrays: write_files(root / kind / "raw", idx_files(arrays))


def write_cifar(root: Path, arrays: Arrays) -> None:
    """CIFAR-10's own layout: pickled batches of flat channel-first rows."""
    folder = root / torchvision.datasets.CIFAR10.base_folder
    folder.mkdir(parents=True)
    train, labels = arrays["train"]
    size = len(train) // 5
    for k in range(5):
        rows = slice(size * k, size * (k + 1))
        _write_batch(folder / f"data_batch_{k + 1}", train[rows], labels[rows])
    _write_batch(folder / "test_batch", *arrays["test"])
    with (folder / "batches.meta").open("wb") as handle:
        pickle.dump({"label_names": [str(k) for k in range(10)]}, handle)


def _write_batch(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    with path.open("wb") as handle:
        flat = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        pickle.dump({"data": flat, "labels": labels.tolist()}, handle)


def write_svhn(root: Path, arrays: Arrays) -> None:
    """SVHN's own layout: MATLAB files with the image's number last, and 10 for the digit 0."""
    root.mkdir(parents=True, exist_ok=True)
    for part, (images, labels) in arrays.items():
        held = {"X": images.transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels)[:, None]}
        scipy.io.savemat(root / f"{part}_32x32.mat", held)


# layout -> (the shape of one image, what writes the layout)
OWN_LAYOUTS = {
    "torchvision.MNIST": ((28, 28), write_idx("MNIST")),
    "torchvision.FashionMNIST": ((28, 28), write_idx("FashionMNIST")),
    "torchvision.CIFAR10": ((32, 32, 3), write_cifar),
    "torchvision.SVHN": ((32, 32, 3), write_svhn),
}


def accept_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let generated images pass for the official files, whose sizes and MD5 are checked."""
    sizes = {name: len(content) for name, content in idx_files(generated((28, 28))).items()}
    monkeypatch.setattr(distributions, "IDX_FILES", sizes)
    monkeypatch.setattr(distributions, "check_md5", lambda *_: None)
    monkeypatch.setattr(torchvision.datasets.SVHN, "_check_integrity", lambda _: True)


def encoded(image: np.ndarray, kind: str, **options) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


# CelebA's shape, and how many files of each part.
CELEBA_COUNTS = {"train": 12, "validation": 3, "test": 4}
CELEBA_LAST = {"train": 162770, "validation": 182637, "test": 202599}


def celeba_files(seed: int = 0) -> dict[str, bytes]:
    """Smooth 178x218 jpgs with the last numbers of each official part."""
    draws = np.random.default_rng(seed)
    files = {}
    for part, count in CELEBA_COUNTS.items():
        for number in range(CELEBA_LAST[part] - count + 1, CELEBA_LAST[part] + 1):
            coarse = Image.fromarray(draws.integers(0, 256, (5, 4, 3), dtype=np.uint8))
            files[f"{number:06d}.jpg"] = encoded(np.asarray(coarse.resize((178, 218))), "JPEG")
    return files


def celeba_facts(name: str = "faces", **more) -> Facts:
    """Of `celeba_files`; `more` replaces what is said."""
    splits = {part: {"part": part, "count": count} for part, count in CELEBA_COUNTS.items()}
    values = {"image_shape": [3, 64, 64], "layout": "celeba", "crop": 140, "splits": splits}
    values = {key: value for key, value in (values | more).items() if value is not None}
    return Facts.parse(name, values)


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path

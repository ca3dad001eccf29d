"""Datasets: what is read, how it is split, and what is said when it cannot be read."""

import itertools
import pickle
import urllib.error
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
import torchvision
from reference.idx import generate, naive_digest

import benchmark.config
from benchmark import data, sources
from benchmark.data import content_digest, data_root, image_digests, load_dataset
from benchmark.errors import DataError
from benchmark.pixels import to_uint8

# sha256 over the digests of the 8x8 source images, in the order of each split.
DIGITS_ORDER = {
    "train": "eb45cc5c92ed871422948983bba229c29ad03294be1edee40dd917c5b4a63a74",
    "validation": "7175604d185924e2b27948dfc5d7b9d6758e96a1e8954c1868de240a3f27c03c",
    "test": "cea3bc4365bbc4b0fd297f92f2a201fd1ddcd6328c3fd1a89e96b9d1f3408cf6",
}
NO_FOLDER = Path("no") / "such" / "folder"  # the digits come with scikit-learn


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return load_dataset("digits", NO_FOLDER)


@pytest.fixture(scope="module")
def digits_source() -> tuple[np.ndarray, np.ndarray]:
    return sources.READERS["digits"]("digits", NO_FOLDER, False)["all"]


def pixels(images: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


# Digits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "count"), [("train", 1257), ("validation", 180), ("test", 360)])
def test_digits(digits, split, count):
    images, labels = digits.images[split], digits.labels[split]
    assert images.shape == (count, *digits.image_shape) == (count, 1, 16, 16)
    assert images.dtype == torch.uint8
    assert (images.min(), images.max()) == (0, 255)
    assert labels.shape == (count,)
    assert labels.dtype == torch.int64
    assert set(labels.tolist()) == set(range(10))


def test_splits_have_no_image_in_common(digits, digits_source):
    # The source holds no image twice; if it did, the splits could share one.
    assert len(set(image_digests(digits_source[0]))) == 1797
    splits = {split: set(pixels(images)) for split, images in digits.images.items()}
    for split, images in splits.items():
        assert len(images) == len(digits.images[split])
    for one, other in itertools.combinations(splits.values(), 2):
        assert not one & other


def test_the_splits_are_fixed(digits_source):
    digests = {"all": image_digests(digits_source[0])}
    rows = data.split_rows("digits", digests)
    order = {
        split: sha256(b"".join(digests[part][row] for row in chosen)).hexdigest()
        for split, (part, chosen) in rows.items()
    }
    assert order == DIGITS_ORDER


def test_the_order_of_the_source_is_no_matter(digits, digits_source, monkeypatch):
    order = np.random.default_rng(0).permutation(1797)
    images, labels = (array[order] for array in digits_source)
    monkeypatch.setitem(sources.READERS, "digits", lambda *_: {"all": (images, labels)})
    permuted = load_dataset("digits", NO_FOLDER)
    assert permuted.digests == digits.digests
    for split in digits.images:
        assert torch.equal(permuted.images[split], digits.images[split])
        assert torch.equal(permuted.labels[split], digits.labels[split])


def test_labels_go_with_their_images(digits):
    flat = {split: images.flatten(1).float() for split, images in digits.images.items()}
    nearest = torch.cdist(flat["test"], flat["train"]).argmin(1)
    right = digits.labels["train"][nearest] == digits.labels["test"]
    assert right.float().mean() > 0.95


def test_digits_are_enlarged_bilinearly(digits, digits_source):
    # Output pixel i lies at (i - 0.5) / 2 of the input, clamped to its first and last pixel.
    at = np.clip((np.arange(16) - 0.5) / 2, 0, 7)
    hats = np.clip(1 - np.abs(at[:, None] - np.arange(8)), 0, 1)
    expected = np.einsum("ai,nij,bj->nab", hats, digits_source[0] / 16, hats) * 255
    where = dict(zip(image_digests(digits_source[0]), expected, strict=True))
    digests = {"all": image_digests(digits_source[0])}
    for split, (_, rows) in data.split_rows("digits", digests).items():
        truth = np.stack([where[digests["all"][row]] for row in rows])
        # Half a level, plus float32.
        assert np.abs(digits.images[split][:, 0].numpy() - truth).max() < 0.501


def test_one_changed_pixel_is_noticed(digits_source, monkeypatch):
    images, labels = digits_source[0].copy(), digits_source[1]
    images[100, 3, 3] ^= 1
    monkeypatch.setitem(sources.READERS, "digits", lambda *_: {"all": (images, labels)})
    with pytest.raises(DataError) as caught:
        load_dataset("digits", NO_FOLDER)
    message = str(caught.value)
    assert message.startswith("digits: the all images in scikit-learn are not the expected ones")
    assert f"expected digest {naive_digest(digits_source[0])}" in message
    assert f"found           {naive_digest(images)}" in message


# Digests and rounding ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 5, 4), (6, 4, 4, 3)])
def test_the_content_digest_is_the_naive_one_and_knows_no_order(shape):
    images = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    found = content_digest(image_digests(images))
    assert found == naive_digest(images)
    assert found == content_digest(image_digests(images[::-1]))
    assert found != content_digest(image_digests(images[1:]))
    assert found != content_digest(image_digests(np.concatenate([images, images[:1]])))
    transposed = images.swapaxes(1, 2).copy()
    assert found != content_digest(image_digests(transposed))


def rounds_to_nearest(to_uint8) -> bool:
    """All levels come back, and values closer to a level than 0.4 go to it."""
    levels = torch.arange(256)
    for offset in (-0.4, 0.0, 0.4):
        values = (levels + offset) / 255
        found = to_uint8(values.clamp(0, 1))
        if found.dtype != torch.uint8 or not torch.equal(found.long(), levels):
            return False
    return True


def to_uint8_truncated(images: torch.Tensor) -> torch.Tensor:
    """The fault to avoid: floats are cut off, and every image darkens by half a level."""
    return (images * 255).to(torch.uint8)


def test_to_uint8_rounds():
    assert rounds_to_nearest(to_uint8)
    assert not rounds_to_nearest(to_uint8_truncated)
    assert to_uint8(torch.tensor([-0.1, 1.1])).tolist() == [0, 255]


def test_to_float_is_undone_by_to_uint8():
    levels = torch.arange(256, dtype=torch.uint8)
    values = data.to_float(levels)
    assert values.dtype == torch.float32
    assert (values[0], values[255]) == (0.0, 1.0)
    assert torch.equal(to_uint8(values), levels)


@pytest.mark.parametrize(
    ("environment", "expected"), [("from/environment", "from/environment"), ("", "configured")]
)
def test_the_environments_data_root_wins(monkeypatch, environment, expected):
    monkeypatch.setenv("KAEM_DATA_ROOT", environment)
    assert data_root("configured") == Path(expected)
    monkeypatch.delenv("KAEM_DATA_ROOT")
    assert data_root("configured") == Path("configured")


# MNIST and Fashion-MNIST, with generated images -------------------------------------------------

VALIDATION = 15
KINDS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}


@pytest.fixture
def source(monkeypatch):
    """Generated images that the datasets' facts describe, and no network."""
    made = generate()
    facts = dict.fromkeys(KINDS, made.facts(VALIDATION))
    monkeypatch.setattr(benchmark.config, "known_datasets", lambda: facts)
    monkeypatch.setattr(sources, "IDX_FILES", made.sizes())
    monkeypatch.setattr(torchvision.datasets.MNIST, "download", no_network)
    return made


def no_network(_dataset):
    raise urllib.error.URLError("no route to host")


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, with the contents of the files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture(params=KINDS)
def name(request) -> str:
    return request.param


@pytest.fixture
def raw(name, tmp_path) -> Path:
    return tmp_path / KINDS[name] / "raw"


@pytest.mark.parametrize("download", [False, True])
def test_idx_files_are_read_without_network(source, name, raw, tmp_path, download):
    source.write(raw)
    before = snapshot(tmp_path)
    found = load_dataset(name, tmp_path, download=download)
    counts = {split: len(images) for split, images in found.images.items()}
    assert counts == {"train": 60 - VALIDATION, "validation": VALIDATION, "test": 20}
    assert found.image_shape == (1, 28, 28)
    truth = {
        image.tobytes(): (part, label)
        for part in source.images
        for image, label in zip(source.images[part], source.labels[part], strict=True)
    }
    drawn = {}
    for split, images in found.images.items():
        drawn[split] = [truth[each] for each in pixels(images)]
        assert [label for _, label in drawn[split]] == found.labels[split].tolist()
        assert {part for part, _ in drawn[split]} == {"test" if split == "test" else "train"}
    train = pixels(found.images["train"]) + pixels(found.images["validation"])
    assert len(set(train)) == 60
    assert drawn["test"] != [("test", label) for label in source.labels["test"]]  # shuffled
    assert snapshot(tmp_path) == before


def test_the_two_datasets_are_shuffled_differently(source, tmp_path):
    orders = []
    for name, folder in KINDS.items():
        source.write(tmp_path / folder / "raw")
        orders.append(pixels(load_dataset(name, tmp_path).images["test"]))
    assert set(orders[0]) == set(orders[1])
    assert orders[0] != orders[1]


def test_missing_files(source, name, raw, tmp_path):
    source.write(raw)
    missing = raw / "t10k-images-idx3-ubyte"
    missing.unlink()
    with pytest.raises(DataError) as caught:
        load_dataset(name, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{name}: {missing} is missing (1 of 4 files)")
    assert f"python -m benchmark preflight --dataset {name}" in message
    assert "KAEM_DATA_ROOT" in message


@pytest.mark.parametrize("files_before", [0, 3])
def test_a_download_that_fails_leaves_everything_as_it_was(
    source, name, raw, tmp_path, files_before
):
    root = tmp_path / "root"
    raw = root / raw.relative_to(tmp_path)
    if files_before:
        source.write(raw)
        (raw / "train-images-idx3-ubyte").unlink()
    before = snapshot(tmp_path)
    with pytest.raises(DataError) as caught:
        load_dataset(name, root, download=True)
    message = str(caught.value)
    assert f"{name}: cannot be downloaded into {root}" in message
    assert "no route to host" in message
    assert f"put {KINDS[name]} or {name}.npz there by hand" in message
    assert "KAEM_DATA_ROOT" in message
    assert snapshot(tmp_path) == before | ({} if files_before else {"root": None})


def test_a_download_that_stops_half_way_leaves_nothing(source, name, tmp_path, monkeypatch):
    def download(dataset):
        source.write(Path(dataset.raw_folder))
        (Path(dataset.raw_folder) / "t10k-images-idx3-ubyte").write_bytes(b"half")
        raise RuntimeError("connection lost")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", download)
    with pytest.raises(DataError, match="connection lost"):
        load_dataset(name, tmp_path, download=True)
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize("files_before", [0, 1])
def test_a_download_takes_its_place_when_whole(
    source, name, raw, tmp_path, monkeypatch, files_before
):
    if files_before:
        raw.mkdir(parents=True)
        (raw / "train-images-idx3-ubyte").write_bytes(b"old")
    monkeypatch.setattr(
        torchvision.datasets.MNIST,
        "download",
        lambda dataset: source.write(Path(dataset.raw_folder)),
    )
    found = load_dataset(name, tmp_path, download=True)
    assert len(found.images["test"]) == 20
    files = {path for path, content in snapshot(tmp_path).items() if content is not None}
    assert files == {f"{KINDS[name]}/raw/{file}" for file in source.files}
    assert torch.equal(load_dataset(name, tmp_path).images["test"], found.images["test"])


@pytest.mark.parametrize("download", [False, True])
def test_a_truncated_file(source, name, raw, tmp_path, download):
    source.write(raw)
    short = raw / "train-images-idx3-ubyte"
    short.write_bytes(short.read_bytes()[:-100])
    expected = source.sizes()["train-images-idx3-ubyte"]
    with pytest.raises(DataError) as caught:
        load_dataset(name, tmp_path, download=download)
    message = str(caught.value)
    assert message.startswith(f"{name}: {short} is truncated or damaged: {expected - 100} bytes")
    assert f"expected {expected}" in message
    assert f"python -m benchmark preflight --dataset {name}" in message


def test_an_unreadable_file(source, name, raw, tmp_path):
    # Whole by its size, but not what its first bytes should say.
    source.write(raw)
    broken = raw / "train-images-idx3-ubyte"
    broken.write_bytes(b"\xff" * 16 + broken.read_bytes()[16:])
    with pytest.raises(DataError, match=f"{name}: the files in {raw} cannot be read"):
        load_dataset(name, tmp_path)


def test_other_images_of_the_same_size(source, name, raw, tmp_path):
    other = generate(seed=1)
    other.write(raw)
    with pytest.raises(DataError) as caught:
        load_dataset(name, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{name}: the train images in {tmp_path} are not the expected ones")
    assert naive_digest(source.images["train"]) in message
    assert naive_digest(other.images["train"]) in message


def test_a_data_root_that_cannot_be_written(source, name, tmp_path):  # noqa: ARG001
    # A file where the folder should be refuses root too, which permissions do not.
    (tmp_path / "file").write_text("")
    root = tmp_path / "file" / "root"
    with pytest.raises(DataError, match=f"{name}: cannot write to the data folder {root}"):
        load_dataset(name, root, download=True)
    assert snapshot(tmp_path) == {"file": b""}


# Colour images, and one file for any dataset ----------------------------------------------------

COLOUR = {"train": 30, "test": 12}


@pytest.fixture
def colour(monkeypatch) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Generated colour images that the facts of CIFAR-10 and SVHN describe."""
    draws = np.random.default_rng(0)
    parts = {
        part: (draws.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), np.arange(n) % 10)
        for part, n in COLOUR.items()
    }
    facts = {
        "title": "generated",
        "image_shape": [3, 32, 32],
        "digests": {part: naive_digest(images) for part, (images, _) in parts.items()},
        "splits": {
            "train": {"part": "train", "count": 25},
            "validation": {"part": "train", "count": 5},
            "test": {"part": "test", "count": 12},
        },
    }
    known = {"cifar10": facts, "svhn": facts | {"digests": {}}}
    monkeypatch.setattr(benchmark.config, "known_datasets", lambda: known)
    return parts


def write_cifar(root: Path, parts) -> None:
    """CIFAR-10's own layout: pickled batches of flat channel-first rows."""
    folder = root / torchvision.datasets.CIFAR10.base_folder
    folder.mkdir(parents=True)
    train, labels = parts["train"]
    batches = {f"data_batch_{k}": slice(6 * (k - 1), 6 * k) for k in range(1, 6)}
    for name, rows in batches.items():
        write_batch(folder / name, train[rows], labels[rows])
    write_batch(folder / "test_batch", *parts["test"])
    with (folder / "batches.meta").open("wb") as handle:
        pickle.dump({"label_names": [str(k) for k in range(10)]}, handle)


def write_batch(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    with path.open("wb") as handle:
        flat = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        pickle.dump({"data": flat, "labels": labels.tolist()}, handle)


def write_svhn(root: Path, parts) -> None:
    """SVHN's own layout: MATLAB files with the image's number last, and 10 for the digit 0."""
    root.mkdir(parents=True, exist_ok=True)
    for part, (images, labels) in parts.items():
        held = {"X": images.transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels)[:, None]}
        scipy.io.savemat(root / f"{part}_32x32.mat", held)


def write_npz(name: str):
    def write(root: Path, parts) -> None:
        root.mkdir(parents=True, exist_ok=True)
        arrays = {f"{part}_images": images for part, (images, _) in parts.items()}
        arrays |= {f"{part}_labels": labels for part, (_, labels) in parts.items()}
        np.savez(root / f"{name}.npz", **arrays)

    return write


LAYOUTS = {
    "cifar10": [write_cifar, write_npz("cifar10")],
    "svhn": [write_svhn, write_npz("svhn")],
}
layouts = pytest.mark.parametrize(
    ("name", "write"), [(name, write) for name, each in LAYOUTS.items() for write in each]
)


@layouts
def test_colour_images_are_read_from_every_layout(colour, name, write, tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "_check_integrity", lambda _: True)
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)
    monkeypatch.setattr(torchvision.datasets.SVHN, "_check_integrity", lambda _: True)
    write(tmp_path, colour)
    found = load_dataset(name, tmp_path)
    assert found.image_shape == (3, 32, 32)
    truth = {
        image.transpose(2, 0, 1).tobytes(): label
        for images, labels in colour.values()
        for image, label in zip(images, labels, strict=True)
    }
    for split, count in {"train": 25, "validation": 5, "test": 12}.items():
        assert len(found.images[split]) == count
        assert [truth[each] for each in pixels(found.images[split])] == found.labels[split].tolist()


@pytest.mark.parametrize("name", LAYOUTS)
def test_colour_images_that_are_not_there(colour, name, tmp_path):  # noqa: ARG001
    with pytest.raises(DataError, match="is missing") as caught:
        load_dataset(name, tmp_path)
    assert f"python -m benchmark preflight --dataset {name}" in str(caught.value)
    assert f"{name}.npz" in str(caught.value)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_failed_download_of_colour_images_leaves_nothing(colour, name, tmp_path, monkeypatch):  # noqa: ARG001
    def no_route(*_args, **_kwargs):
        raise urllib.error.URLError("no route to host")

    for kind in (torchvision.datasets.CIFAR10, torchvision.datasets.SVHN):
        monkeypatch.setattr(kind, "download", no_route)
    with pytest.raises(DataError, match="no route to host"):
        load_dataset(name, tmp_path, download=True)
    assert snapshot(tmp_path) == {}


def test_a_damaged_archive(colour, tmp_path):  # noqa: ARG001
    path = tmp_path / "cifar10.npz"
    path.write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(DataError, match=f"cifar10: {path} cannot be read"):
        load_dataset("cifar10", tmp_path)
    np.savez(path, train_images=np.zeros((3, 32, 32, 3), np.uint8), train_labels=np.zeros(3))
    with pytest.raises(DataError, match=f"{path} has no array test_images"):
        load_dataset("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images, labels: (images / 255, labels), "must be uint8"),
        (lambda images, labels: (images, labels[1:]), "with as many labels"),
        (lambda images, labels: (images[:9], labels[:9]), "need"),
        (lambda images, labels: (images[:, :28], labels), r"shape \(3, 28, 32\)"),
    ],
)
def test_archives_that_do_not_fit(colour, change, message, tmp_path):
    parts = {part: change(*each) for part, each in colour.items()}
    write_npz("svhn")(tmp_path, parts)
    with pytest.raises(DataError, match=message):
        load_dataset("svhn", tmp_path)


def test_other_images_in_an_archive_are_noticed(colour, tmp_path):
    train, labels = colour["train"]
    write_npz("cifar10")(tmp_path, colour | {"train": (train ^ 1, labels)})
    with pytest.raises(DataError, match=r"train images in .*cifar10\.npz are not the expected"):
        load_dataset("cifar10", tmp_path)

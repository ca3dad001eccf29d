"""Features of images: whatever the batches, streamed, and of the real images computed once."""

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reference.frechet import classifier_features
from support.configs import bars_dataset
from support.damage import emptied, flipped, halved, replaced
from support.extractors import Pixels, smooth_images
from support.memory import STATUS, Peak

import benchmark.evaluation.features
from benchmark.base.errors import DataError
from benchmark.config.facts import Cut, reference_splits
from benchmark.evaluation.features import ClassifierFeatures, extract, real_features
from benchmark.evaluation.frechet import fit_gaussian
from benchmark.training.classifier import Classifier

CPU = torch.device("cpu")
SHAPE = (1, 8, 8)
TRAIN = ["train", "validation"]


def features_of(dataset, splits=TRAIN) -> np.ndarray:
    return torch.cat([dataset.images[split] for split in splits]).flatten(1).double().numpy()


@pytest.fixture
def dataset():
    return replace(bars_dataset(40), digests={"all": "0" * 64})


@pytest.fixture
def reference(dataset, tmp_path):
    """(extractor, changed arguments) -> a reference in the cache."""

    def make(extractor, **changes):
        arguments = {"dataset": dataset, "splits": TRAIN, "batch_size": 16, "cache": tmp_path}
        return real_features(extractor=extractor, **(arguments | changes))

    return make


def folders(cache: Path) -> set[str]:
    """What is kept there; the locks that guard it are no matter."""
    return {path.name for path in cache.iterdir() if path.suffix != ".lock"}


# --- extraction ----------------------------------------------------------------------------------


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    return Classifier(SHAPE, features=12, classes=3)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_features_do_not_depend_on_the_batch_size(batch_size, classifier, tmp_path):
    images = smooth_images(50, SHAPE, 0)
    space = ClassifierFeatures(classifier, "digest", CPU)
    found = extract(images.split(batch_size), 50, space, tmp_path / "features")
    assert found.dtype == torch.float32
    expected = classifier_features(classifier, images.numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_features_lie_in_the_file_in_the_order_of_the_images(tmp_path):
    images = smooth_images(10, (3, 4, 4), 0)
    found = extract(images.split(4), 10, Pixels(48), tmp_path / "features")
    assert torch.equal(found, images.flatten(1).float())
    stored = np.fromfile(tmp_path / "features", np.float32).reshape(10, 48)
    assert np.array_equal(stored, found)


@pytest.mark.parametrize("announced", [9, 11])
def test_another_number_of_images_than_announced_is_an_error(announced, tmp_path):
    images = smooth_images(10, SHAPE, 0)
    with pytest.raises(ValueError, match="expected"):
        extract(images.split(4), announced, Pixels(64), tmp_path / "features")


def test_the_classifier_is_used_for_inference(classifier):
    space = ClassifierFeatures(classifier.train(), "digest", CPU)
    assert not classifier.training
    assert space.dimension == 12
    assert space.digest == "digest"
    assert not space(smooth_images(2, SHAPE, 0)).requires_grad


def test_classes_are_the_ones_that_the_network_finds(classifier):
    images = smooth_images(60, SHAPE, 0)
    space = ClassifierFeatures(classifier, "digest", CPU)
    with torch.no_grad():  # so that an untrained network finds more than one class
        classifier.head.bias -= classifier(images.float() / 255).mean(0)
    expected = classifier(images.float() / 255).argmax(1)
    assert torch.equal(space.classes(space(images)), expected)
    assert len(expected.unique()) > 1


# --- which images make a reference ---------------------------------------------------------------

ONE_PART = {"train": {"part": "all"}, "validation": {"part": "all"}, "test": {"part": "all"}}
USUAL = {"train": {"part": "train"}, "validation": {"part": "train"}, "test": {"part": "test"}}
GIVEN = {"train": {"part": "train"}, "validation": {"part": "valid"}, "test": {"part": "test"}}
WITHOUT = {"train": {"part": "train"}, "test": {"part": "test"}}


@pytest.mark.parametrize(
    ("splits", "expected"),
    [(ONE_PART, TRAIN), (USUAL, TRAIN), (GIVEN, ["train"]), (WITHOUT, ["train"])],
    ids=["one part", "held back", "a part of its own", "no validation"],
)
def test_train_joins_the_validation_split_that_was_held_back_from_it(splits, expected):
    splits = {name: Cut(count=1, **cut) for name, cut in splits.items()}
    assert reference_splits(splits, "train") == expected
    for name in splits.keys() - {"train"}:
        assert reference_splits(splits, name) == [name]


# --- the real images -----------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [30, 80, 1000])
def test_the_moments_are_of_all_images_and_the_first_features_are_kept(kept, dataset, reference):
    found, expected = reference(Pixels(64), kept=kept), features_of(dataset)
    assert found.gaussian.count == 80
    assert np.array_equal(found.features, expected[:kept])
    np.testing.assert_allclose(found.gaussian.mean, expected.mean(0), rtol=1e-12)
    covariance = np.cov(expected, rowvar=False)
    np.testing.assert_allclose(found.gaussian.covariance, covariance, rtol=1e-9, atol=1e-9)


def test_it_is_computed_once_and_read_back_equal(reference, tmp_path):
    extractor = Pixels(64)
    first, second = reference(extractor), reference(extractor)
    assert extractor.seen == 80
    assert torch.equal(first.features, second.features)
    assert np.array_equal(first.gaussian.covariance, second.gaussian.covariance)
    assert len(folders(tmp_path)) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": replace(bars_dataset(40), digests={"all": "1" * 64})},
        {"dataset": replace(bars_dataset(41), digests={"all": "0" * 64})},
        {"dataset": replace(bars_dataset(40), digests={"all": "0" * 64}, name="others")},
        {"splits": ["train"]},
        {"splits": ["test"]},
        {"batch_size": 17},
        {"extractor": Pixels(64, "other weights")},
    ],
    ids=["images", "count", "name", "less splits", "another split", "batch size", "weights"],
)
def test_it_is_computed_anew_when_anything_is_another(changes, reference, tmp_path):
    reference(Pixels(64))
    before = folders(tmp_path)
    changes = {"extractor": Pixels(64)} | changes
    reference(**changes)
    assert changes["extractor"].seen > 0
    assert len(folders(tmp_path) - before) == 1


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (benchmark.evaluation.features, "version", lambda _name: "99"),
        (torch, "get_num_threads", lambda: 99),
        (Pixels, "device", torch.device("cuda")),
    ],
    ids=["version of torch-fidelity", "threads", "device"],
)
def test_it_is_computed_anew_in_another_place(module, name, value, reference, monkeypatch):
    reference(Pixels(64))
    monkeypatch.setattr(module, name, value)
    again = Pixels(64)
    reference(again)
    assert again.seen == 80


def flipped_in_the_middle(content: bytes) -> bytes:
    return flipped(content, len(content) // 2)


@pytest.mark.parametrize(
    ("name", "damage"),
    [("features", halved), ("features", emptied), ("features", replaced), ("features", None)]
    + [
        ("statistics.npz", damage)
        for damage in (halved, emptied, replaced, flipped_in_the_middle, None)
    ],
)
def test_a_damaged_file_is_built_anew(name, damage, dataset, reference, tmp_path):
    reference(Pixels(64))
    (folder,) = folders(tmp_path)
    path = tmp_path / folder / name
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    extractor = Pixels(64)
    found = reference(extractor)
    assert extractor.seen == 80
    assert np.array_equal(found.features, features_of(dataset))
    assert folders(tmp_path) == {folder}


def test_what_is_damaged_again_is_given_up(reference, monkeypatch):
    def savez(path, **_arrays):
        path.write_bytes(b"no statistics")

    monkeypatch.setattr(np, "savez", savez)
    extractor = Pixels(64)
    with pytest.raises(DataError, match="is damaged again right after it was built"):
        reference(extractor)
    assert extractor.seen == 160  # tried twice


def test_a_full_disk_is_one_clear_error_and_leaves_nothing_behind(reference, tmp_path, monkeypatch):
    def savez(path, **_arrays):
        path.write_bytes(b"half of the")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", savez)
        with pytest.raises(DataError, match="No space left on device") as caught:
            reference(Pixels(64))
    assert f"digits: cannot keep the features of the real images in {tmp_path}" in str(caught.value)
    assert "KAEM_CACHE_ROOT" in str(caught.value)
    assert folders(tmp_path) == set()
    reference(Pixels(64))  # and the next try succeeds


class Failing(Pixels):
    """Fails at the third batch."""

    def __call__(self, images):
        if self.seen >= 32:
            raise KeyboardInterrupt
        return super().__call__(images)


def test_an_interrupted_extraction_leaves_nothing_behind(reference, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        reference(Failing(64))
    assert folders(tmp_path) == set()


# --- memory --------------------------------------------------------------------------------------


WIDE, MANY = 256, 100_000


class Wide:
    """Random features of 1 kB an image."""

    digest, dimension, device = "wide", WIDE, CPU

    def __call__(self, images):
        return torch.randn(len(images), WIDE)


def small_images(n: int) -> torch.Tensor:
    return torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(n, -1, -1, -1)


def streamed(n: int, tmp_path: Path) -> None:
    dataset = replace(bars_dataset(1), images={"train": small_images(n)}, digests={})
    real_features(dataset, ["train"], Wide(), 500, tmp_path)
    fit_gaussian(extract(small_images(n).split(500), n, Wide(), tmp_path / "samples"))


@pytest.mark.skipif(not STATUS.exists(), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    streamed(1000, tmp_path)  # what is allocated once is now
    with Peak() as few:
        streamed(9_000, tmp_path)  # more than two of the chunks that the moments take
    with Peak() as many:
        streamed(MANY, tmp_path)
    features = MANY * WIDE * 4
    # What the allocator keeps of earlier work comes and goes, about a fifth of this.
    assert many.grown < few.grown + features / 2
    with Peak() as whole:  # the watch sees an array of all features
        everything = torch.ones(MANY, WIDE)
    assert whole.grown > features / 2
    assert everything.numel() * 4 == features

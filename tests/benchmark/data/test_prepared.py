"""Prepared images: digests, splits that depend on the images alone, and files that are whole."""

import time
from hashlib import sha256

import numpy as np
import pytest
import torch
from support.damage import flipped
from support.datasets import (
    SPLITS,
    channel_first,
    facts_of,
    generated,
    image_digests,
    labels_by_pixels,
    naive_digest,
    pixels,
)

from benchmark.base.errors import DataError
from benchmark.config.facts import Facts, known_datasets
from benchmark.data import prepared
from benchmark.data.distributions import find_source
from benchmark.data.image_files import BrokenImageError
from benchmark.data.prepared import (
    ORIGIN,
    content_digest,
    is_intact,
    open_prepared,
    prepare,
    prepared_name,
    split_rows,
)
from benchmark.data.sources import Part, Source

# sha256 over the digests of the 8x8 source images, in the order of each split.
DIGITS_ORDER = {
    "train": "eb45cc5c92ed871422948983bba229c29ad03294be1edee40dd917c5b4a63a74",
    "validation": "7175604d185924e2b27948dfc5d7b9d6758e96a1e8954c1868de240a3f27c03c",
    "test": "cea3bc4365bbc4b0fd297f92f2a201fd1ddcd6328c3fd1a89e96b9d1f3408cf6",
}
DIGITS = Facts.parse("digits", known_datasets()["digits"])
ARRAYS = generated((6, 5, 3))
FACTS = facts_of(ARRAYS)


def source_of(arrays) -> Source:
    return Source("memory", lambda: {part: Part(*each) for part, each in arrays.items()})


def prepared_from(folder, arrays, facts=FACTS):
    folder.mkdir()
    prepare(facts, source_of(arrays), folder)
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """(images, labels) by split, and the source's 8x8 images."""
    source = find_source(DIGITS, tmp_path_factory.mktemp("root"))
    folder = tmp_path_factory.mktemp("digits")
    prepare(DIGITS, source, folder)
    images, labels, _ = open_prepared(folder)
    return images, labels, source.read()["all"].images


# Digests ----------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("part", ["train", "test"])
def test_one_changed_pixel_is_noticed(tmp_path, part):
    images = ARRAYS[part][0].copy()
    images[7, 3, 3, 1] ^= 1
    with pytest.raises(DataError) as caught:
        prepared_from(tmp_path / "made", ARRAYS | {part: (images, ARRAYS[part][1])})
    message = str(caught.value)
    assert message.startswith(f"made: the {part} images in memory are not the expected ones")
    assert f"expected digest {naive_digest(ARRAYS[part][0])}" in message
    assert f"found           {naive_digest(images)}" in message


# Splits -----------------------------------------------------------------------------------------


def test_the_digits_splits_have_no_image_in_common(digits):
    # The source holds no image twice; if it did, the splits could share one.
    assert len(set(image_digests(digits[2]))) == 1797
    for split, count in (("train", 1257), ("validation", 180), ("test", 360)):
        images, labels = digits[0][split], digits[1][split]
        assert images.shape == (count, 1, 16, 16)
        assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
        assert (images.min(), images.max()) == (0, 255)
        assert set(labels.tolist()) == set(range(10))
    every = [image for images in digits[0].values() for image in pixels(images)]
    assert len(set(every)) == len(every) == 1797


def test_the_splits_are_fixed(digits):
    digests = {"all": image_digests(digits[2])}
    order = {
        split: sha256(b"".join(digests[part][row] for row in chosen)).hexdigest()
        for split, (part, chosen) in split_rows(DIGITS, digests).items()
    }
    assert order == DIGITS_ORDER


def test_the_order_of_the_source_is_no_matter(tmp_path):
    order = {part: np.random.default_rng(0).permutation(len(ARRAYS[part][1])) for part in ARRAYS}
    mixed = {part: tuple(array[order[part]] for array in ARRAYS[part]) for part in ARRAYS}
    one = open_prepared(prepared_from(tmp_path / "one", ARRAYS))
    other = open_prepared(prepared_from(tmp_path / "other", mixed))
    assert one[2] == other[2]
    for mine, theirs in zip(one[:2], other[:2], strict=True):
        assert list(mine) == list(theirs) == ["train", "validation", "test"]
        assert all(torch.equal(mine[split], theirs[split]) for split in mine)


def test_each_split_takes_its_count_of_its_part_and_every_image_keeps_its_label(tmp_path):
    images, labels, _ = open_prepared(prepared_from(tmp_path / "made", ARRAYS))
    truth = labels_by_pixels(ARRAYS)
    for split, cut in SPLITS.items():
        drawn = [truth[each] for each in pixels(images[split])]
        assert len(set(pixels(images[split]))) == cut["count"]
        assert {part for part, _ in drawn} == {cut["part"]}
        assert [label for _, label in drawn] == labels[split].tolist()
    drawn = pixels(images["test"])
    assert drawn != [channel_first(image).tobytes() for image in ARRAYS["test"][0]]  # shuffled
    assert not set(pixels(images["train"])) & set(pixels(images["validation"]))


def test_two_datasets_are_shuffled_differently(tmp_path):
    folders = [
        prepared_from(tmp_path / name, ARRAYS, facts_of(ARRAYS, name=name))
        for name in ("one", "two")
    ]
    one, two = (pixels(open_prepared(folder)[0]["test"]) for folder in folders)
    assert sorted(one) == sorted(two)
    assert one != two


def test_a_split_may_leave_images_over(tmp_path):
    splits = {split: cut | {"count": 4} for split, cut in SPLITS.items()}
    facts = facts_of(ARRAYS, splits=splits)
    images, _, digests = open_prepared(prepared_from(tmp_path / "few", ARRAYS, facts))
    whole = open_prepared(prepared_from(tmp_path / "all", ARRAYS))[0]
    assert {split: len(each) for split, each in images.items()} == dict.fromkeys(SPLITS, 4)
    assert torch.equal(images["train"], whole["train"][:4])
    assert digests == facts.digests  # of all images


def test_digits_are_enlarged_bilinearly(digits):
    # Output pixel i lies at (i - 0.5) / 2 of the input, clamped to its first and last pixel.
    at = np.clip((np.arange(16) - 0.5) / 2, 0, 7)
    hats = np.clip(1 - np.abs(at[:, None] - np.arange(8)), 0, 1)
    enlarged = np.einsum("ai,nij,bj->nab", hats, digits[2] / 16, hats, optimize=True) * 255
    for split, (_, rows) in split_rows(DIGITS, {"all": image_digests(digits[2])}).items():
        # Half a level, plus float32.
        assert np.abs(digits[0][split][:, 0].numpy() - enlarged[rows]).max() < 0.501


# What cannot be prepared ------------------------------------------------------------------------


class Images:
    """Images of which some cannot be decoded."""

    def __init__(self, images, broken):
        self.images, self.broken = images, broken

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        if index in self.broken:
            raise BrokenImageError(f"{index}.jpg: broken")
        return self.images[index]


@pytest.mark.parametrize(
    ("count", "broken", "message"),
    [
        (
            30,
            {3, 29},
            "2 of 30 images in memory cannot be decoded; .*:\n  3.jpg: broken\n  29.jpg: broken$",
        ),
        (30, range(30), r"30 of 30 images .*:\n(  \d+\.jpg: broken\n?){30}$"),
        (200, range(200), r"200 of 200 images .*:\n(  \d+\.jpg: broken\n){100}  \.\.\.$"),
        (4000, {3210}, "1 of 4000 images .*:\n  3210.jpg: broken$"),
    ],
)
def test_broken_images_are_reported_together(tmp_path, count, broken, message):
    images = np.random.default_rng(0).integers(0, 256, (count, 6, 5, 3), dtype=np.uint8)
    splits = {
        name: {"part": "train", "count": n} for name, n in (("train", count - 1), ("test", 1))
    }
    arrays = {"train": (Images(images, broken), np.zeros(count, int))}
    with pytest.raises(DataError, match=f"made: {message}"):
        prepared_from(tmp_path / "made", arrays, facts_of(ARRAYS, digests={}, splits=splits))


def test_broken_images_of_all_parts_are_reported_at_once(tmp_path):
    arrays = {part: (Images(images, {3}), labels) for part, (images, labels) in ARRAYS.items()}
    with pytest.raises(DataError, match=r"2 of 50 images .*(\n  3\.jpg: broken){2}$"):
        prepared_from(tmp_path / "made", arrays)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images: images[:9], "holds 9 of 30 train images and 9 of 20 test images that its"),
        (lambda images: images[:, :4], r"shape \(4, 5, 3\).*expected \(6, 5, 3\)"),
        (lambda images: images[..., 0], r"shape \(6, 5\).*expected \(6, 5, 3\)"),
        (lambda images: images[..., :2], r"shape \(6, 5, 2\).*expected \(6, 5, 3\)"),
        (lambda images: images.transpose(0, 3, 1, 2), r"shape \(3, 6, 5\).*expected \(6, 5, 3\)"),
    ],
)
def test_images_that_do_not_fit(tmp_path, change, message):
    arrays = {part: (change(images), labels) for part, (images, labels) in ARRAYS.items()}
    with pytest.raises(DataError, match=message):
        prepared_from(tmp_path / "made", arrays)


def test_a_part_that_the_source_does_not_have(tmp_path):
    splits = {"train": {"part": "train", "count": 5}, "test": {"part": "extra", "count": 5}}
    message = "memory holds 30 of 5 train images and 0 of 5 extra images .*parts are train, test"
    with pytest.raises(DataError, match=message):
        prepared_from(tmp_path / "made", ARRAYS, facts_of(ARRAYS, splits=splits))


def test_a_digest_of_a_part_that_no_split_takes_is_no_matter(tmp_path):
    facts = facts_of(ARRAYS, digests={"extra": "0" * 64})
    assert open_prepared(prepared_from(tmp_path / "made", ARRAYS, facts))


class SlowFirst(Images):
    """The first image takes long; which others are asked for meanwhile?"""

    def __init__(self, images):
        super().__init__(images, ())
        self.meanwhile, self.first_is_done = [], False

    def __getitem__(self, index):
        if index == 0:
            time.sleep(0.3)
            self.first_is_done = True
        elif not self.first_is_done:
            self.meanwhile.append(index)
        return super().__getitem__(index)


def test_decoding_does_not_run_ahead_of_writing_by_more_than_a_chunk(tmp_path, monkeypatch):
    # What waits to be written waits in memory.
    monkeypatch.setattr(prepared, "CHUNK", 8)
    monkeypatch.setattr(prepared, "available_cores", lambda: 4)
    images, labels = ARRAYS["train"]
    slow = SlowFirst(images)
    prepared_from(tmp_path / "made", ARRAYS | {"train": (slow, labels)})
    assert sorted(slow.meanwhile) == list(range(1, 8))


# Files ------------------------------------------------------------------------------------------


def test_many_chunks_give_the_same_files(tmp_path, monkeypatch):
    one = prepared_from(tmp_path / "one", ARRAYS)
    monkeypatch.setattr(prepared, "CHUNK", 7)
    other = prepared_from(tmp_path / "other", ARRAYS)
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def test_a_prepared_folder_holds_what_it_says_and_nothing_else(tmp_path):
    folder = prepared_from(tmp_path / "made", ARRAYS)
    arrays = {f"{split}{kind}.npy" for split in SPLITS for kind in ("", "_labels")}
    assert {path.name for path in folder.iterdir()} == arrays | {ORIGIN}
    assert np.load(folder / "test.npy").shape == (20, 3, 6, 5)  # numpy alone can read it


def test_images_are_mapped_and_writing_to_them_does_not_reach_the_disk(tmp_path):
    folder = prepared_from(tmp_path / "made", ARRAYS)
    images, _, _ = open_prepared(folder)
    assert is_intact(folder)
    images["train"].zero_()
    assert is_intact(folder)
    assert open_prepared(folder)[0]["train"].any()


ORIGINS = ["", "{", "null", "[]", "3", "{}", '{"arrays": {}}', '{"arrays": {"a.npy": ""}}']
DAMAGES = [
    *((ORIGIN, lambda _, text=text: text.encode()) for text in ORIGINS),
    *((name, lambda content: content[:-1]) for name in ("train.npy", "test_labels.npy")),
    *((name, None) for name in ("train.npy", "train_labels.npy", "test.npy", ORIGIN)),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_a_damaged_or_missing_file_is_noticed_at_once(tmp_path, name, damage):
    path = prepared_from(tmp_path / "made", ARRAYS) / name
    content = path.read_bytes()
    path.unlink()
    if damage:
        path.write_bytes(damage(content))
    assert open_prepared(path.parent) is None
    assert not is_intact(path.parent)


@pytest.mark.parametrize("name", ["train.npy", "validation_labels.npy"])
@pytest.mark.parametrize("place", [8, 60, -1])
def test_a_flipped_bit_is_noticed_by_reading_all(tmp_path, name, place):
    path = prepared_from(tmp_path / "made", ARRAYS) / name
    path.write_bytes(flipped(path.read_bytes(), place))
    assert not is_intact(path.parent)


def test_opening_a_damaged_header_raises_nothing(tmp_path):
    folder = prepared_from(tmp_path / "made", ARRAYS)
    whole = (folder / "test.npy").read_bytes()
    refused = 0
    for place in range(128):
        (folder / "test.npy").write_bytes(flipped(whole, place))
        refused += open_prepared(folder) is None
    assert refused > 30


def test_the_name_follows_all_that_the_files_depend_on(monkeypatch):
    source = Source("memory", dict, version="1")
    facts = [
        FACTS,
        facts_of(ARRAYS, name="other"),
        facts_of(ARRAYS, crop=140),
        facts_of(ARRAYS, image_shape=[3, 5, 6]),
        facts_of(ARRAYS, digests={}),
        facts_of(ARRAYS, classes=None),
        facts_of(ARRAYS, splits=SPLITS | {"test": {"part": "test", "count": 1}}),
    ]
    names = [prepared_name(each, source) for each in facts]
    names.append(prepared_name(FACTS, Source("memory", dict, version="2")))
    monkeypatch.setattr(prepared, "FORMAT", prepared.FORMAT + 1)
    names.append(prepared_name(FACTS, source))
    assert len(set(names)) == len(facts) + 2
    assert names[0].startswith("made-")
    titled = facts_of(ARRAYS, title="another title")
    assert prepared_name(titled, source) == names[-1]

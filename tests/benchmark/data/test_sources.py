"""The two forms that any dataset may have: what fits, what does not, and when it has changed."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.datasets import facts_of, generated, write_folders, write_npz

from benchmark.base.errors import DataError
from benchmark.data.sources import folder_source, npz_source

ARRAYS = generated((6, 6, 3))
FACTS = facts_of(ARRAYS)


def test_an_npz_without_labels_will_do_where_there_are_no_classes(tmp_path):
    np.savez(tmp_path / "made.npz", **{f"{k}_images": v[0] for k, v in ARRAYS.items()})
    parts = npz_source(facts_of(ARRAYS, classes=None), tmp_path / "made.npz").read()
    assert all(part.labels is None for part in parts.values())
    with pytest.raises(DataError, match="has no array train_labels"):
        npz_source(FACTS, tmp_path / "made.npz").read()


@pytest.mark.parametrize("missing", ["train_images", "train_labels", "test_images"])
def test_a_missing_array_is_named(tmp_path, missing):
    path = write_npz(tmp_path, ARRAYS)
    arrays = {key: value for key, value in np.load(path).items() if key != missing}
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=rf"made: .*made\.npz has no array {missing}"):
        npz_source(FACTS, path).read()


UNFIT = {
    "floats": lambda images, labels: (images / 255, labels),
    "one image": lambda images, labels: (images[0, 0], labels),
    "no image": lambda images, labels: (images[0, 0, 0, 0], labels),
    "fewer labels": lambda images, labels: (images, labels[1:]),
    "labels in a column": lambda images, labels: (images, labels[:, None]),
    "one-hot labels": lambda images, labels: (images, np.eye(10)[labels]),
    "float labels": lambda images, labels: (images, labels / 1.0),
    "labels from one": lambda images, labels: (images, labels + 1),
    "negative labels": lambda images, labels: (images, labels - 1),
    "one label": lambda images, labels: (images, labels[0]),
    "no image of a class": lambda images, labels: (images, labels.clip(0, 8)),
}


@pytest.mark.parametrize("change", UNFIT.values(), ids=UNFIT)
def test_arrays_that_do_not_fit(tmp_path, change):
    arrays = {part: change(*each) for part, each in ARRAYS.items()}
    with pytest.raises(
        DataError, match=r"_images must be uint8 .* with as many labels, each of 0 to 9"
    ):
        npz_source(FACTS, write_npz(tmp_path, arrays)).read()


@pytest.mark.parametrize("images", [lambda images: images // 128, np.zeros_like])
def test_pixels_from_0_to_1_are_refused(tmp_path, images):
    # To the models they would be all but black.
    path = write_npz(tmp_path, {part: (images(x), y) for part, (x, y) in ARRAYS.items()})
    with pytest.raises(DataError, match=r"made\.npz: train_images has no value above 1 of 255"):
        npz_source(FACTS, path).read()


def test_members_with_odd_names_are_not_unpacked(tmp_path):
    root = tmp_path / "a" / "root"
    path = write_npz(root, ARRAYS)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../escaped.npy", b"")
        archive.writestr(str(tmp_path / "absolute.npy"), b"")
    npz_source(FACTS, path).read()
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "made.npz", "root"]


def test_the_stamp_follows_every_change_of_a_file(tmp_path):
    write_folders(tmp_path, ARRAYS)
    folder = tmp_path / "made"

    def stamp():
        return folder_source(FACTS, folder).stamp()

    stamps = [stamp()]
    assert stamp() == stamps[0]
    file = folder / "train" / "3" / "3.png"
    os.utime(file, ns=(1, 1))
    stamps.append(stamp())
    file.write_bytes(file.read_bytes() + b" ")
    os.utime(file, ns=(1, 1))  # the size alone
    stamps.append(stamp())
    file.rename(file.with_name("other.png"))
    stamps.append(stamp())
    other = folder / "train" / "3" / "other.png"
    other.rename(os.fsdecode(os.fsencode(folder / "train/3") + b"/caf\xe9.png"))  # no UTF-8
    stamps.append(stamp())
    Path(os.fsdecode(os.fsencode(folder / "train/3") + b"/caf\xe9.png")).unlink()
    stamps.append(stamp())
    assert len(set(stamps)) == 6


def test_a_link_to_nowhere_is_named(tmp_path):
    write_folders(tmp_path, ARRAYS)
    link = tmp_path / "made" / "test" / "0" / "link.png"
    link.symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=f"{link} cannot be read"):
        folder_source(FACTS, tmp_path / "made").stamp()

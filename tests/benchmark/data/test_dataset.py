"""Datasets as the pipeline sees them: the same from every form, prepared once, whole or refused."""

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from support.damage import emptied, flipped, halved
from support.datasets import (
    OWN_LAYOUTS,
    SPLITS,
    accept_generated,
    encoded,
    facts_of,
    generated,
    labels_by_pixels,
    pixels,
    snapshot,
    write_files,
    write_folders,
    write_npz,
)
from support.memory import STATUS, Peak, resident

from benchmark.base.errors import DataError
from benchmark.base.paths import ROOT, cache_root, data_root, inception_weights
from benchmark.config.facts import Facts, known_datasets
from benchmark.data import dataset, prepared
from benchmark.data.dataset import Dataset, load_dataset, mend_cache
from benchmark.data.prepared import prepare

ARRAYS = generated((6, 6, 3))
FACTS = facts_of(ARRAYS)


@pytest.fixture
def root(tmp_path) -> Path:
    write_npz(tmp_path / "root", ARRAYS)
    return tmp_path / "root"


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


def folders(cache: Path) -> list[Path]:
    """All folders of a cache, unfinished ones too."""
    return [path for path in cache.iterdir() if path.is_dir()]


def same(one: Dataset, other: Dataset) -> bool:
    return one.digests == other.digests and all(
        torch.equal(mine[split], theirs[split])
        for mine, theirs in ((one.images, other.images), (one.labels, other.labels))
        for split in SPLITS
    )


def is_whole(found: Dataset) -> bool:
    """Whether every image of `ARRAYS` is there, once, in its split and with its label."""
    truth = labels_by_pixels(ARRAYS)
    drawn = {split: [truth[each] for each in pixels(found.images[split])] for split in SPLITS}
    right = all(
        {part for part, _ in drawn[split]} == {cut["part"]}
        and [label for _, label in drawn[split]] == found.labels[split].tolist()
        for split, cut in SPLITS.items()
    )
    return right and len(set(itertools.chain(*map(pixels, found.images.values())))) == 50


@pytest.fixture
def counted(monkeypatch) -> list[str]:
    """The folders that were prepared."""
    built = []

    def count(facts, source, folder):
        built.append(folder.name)
        prepare(facts, source, folder)

    monkeypatch.setattr(dataset, "prepare", count)
    return built


# Every form -------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", OWN_LAYOUTS)
def test_every_form_gives_the_same_images_splits_and_digests(tmp_path, monkeypatch, layout):
    accept_generated(monkeypatch)
    shape, write_own = OWN_LAYOUTS[layout]
    arrays, found = generated(shape), []
    for write in (write_own, write_npz, write_folders):
        root = tmp_path / str(len(found))
        write(root, arrays)
        found.append(load_dataset(facts_of(arrays, layout), root, tmp_path / "cache"))
    assert found[0].digests == facts_of(arrays).digests
    assert all(same(found[0], other) for other in found[1:])
    assert len(folders(tmp_path / "cache")) == 3


def test_a_dataset_of_ones_own_needs_no_more_than_splits(tmp_path):
    values = {"image_shape": [3, 6, 6], "splits": SPLITS}
    for part, (images, _) in ARRAYS.items():
        files = {f"{k}.png": encoded(image, "PNG") for k, image in enumerate(images)}
        write_files(tmp_path / "flowers" / part, files)
    found = load_dataset(Facts.parse("flowers", values), tmp_path, tmp_path / "cache")
    assert {split: len(images) for split, images in found.images.items()} == {
        split: cut["count"] for split, cut in SPLITS.items()
    }
    assert found.image_shape == (3, 6, 6)
    assert found.labels == {}
    assert found.digests == FACTS.digests


def test_photographs_are_cut_and_resized_into_the_datasets_shape(tmp_path):
    draws = np.random.default_rng(0)
    for part in ("train", "test"):
        sizes = draws.integers(30, 60, (30, 2))
        photographs = (draws.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes)
        files = {f"{k % 10}/{k}.jpg": encoded(each, "JPEG") for k, each in enumerate(photographs)}
        write_files(tmp_path / "made" / part, files)
    facts = facts_of(ARRAYS, digests={}, image_shape=[1, 12, 20])
    found = load_dataset(facts, tmp_path, tmp_path / "cache")
    assert found.image_shape == (1, 12, 20)
    assert set(found.labels["test"].tolist()) == set(range(10))


def test_the_digits_need_no_files(tmp_path):
    facts = Facts.parse("digits", known_datasets()["digits"])
    found = load_dataset(facts, tmp_path / "nowhere", tmp_path / "cache")
    assert found.name == "digits"
    assert found.image_shape == (1, 16, 16)
    assert found.digests == facts.digests
    assert [len(found.images[split]) for split in SPLITS] == [1257, 180, 360]
    assert not (tmp_path / "nowhere").exists()


def test_a_file_whose_name_is_no_utf_8_is_an_image_like_others(tmp_path):
    write_folders(tmp_path, ARRAYS)
    for name, other in (("train/7/17.png", b"caf\xe9.png"), ("test/3/3.png", b"\xff.png")):
        path = tmp_path / "made" / name
        path.rename(path.with_name(os.fsdecode(other)))
    found = load_dataset(FACTS, tmp_path, tmp_path / "cache")
    assert is_whole(found)
    (tmp_path / "made/train/7" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    with pytest.raises(DataError, match="caf\udce9\\.png: no image"):
        load_dataset(FACTS, tmp_path, tmp_path / "cache")


@pytest.mark.parametrize("variable", ["KAEM_DATA_ROOT", "KAEM_CACHE_ROOT"])
def test_the_environments_roots_win(monkeypatch, variable):
    for each in ("KAEM_DATA_ROOT", "KAEM_CACHE_ROOT"):
        monkeypatch.delenv(each, raising=False)
    defaults = {"KAEM_DATA_ROOT": Path("set"), "KAEM_CACHE_ROOT": Path("set/cache")}

    def roots():
        return {"KAEM_DATA_ROOT": data_root("set"), "KAEM_CACHE_ROOT": cache_root("set")}

    assert roots() == defaults
    monkeypatch.setenv(variable, "from/environment")
    assert roots() == defaults | {variable: Path("from/environment")}
    monkeypatch.setenv(variable, "")
    assert roots() == defaults


def test_home_and_variables_are_filled_in(monkeypatch):
    for each in ("KAEM_DATA_ROOT", "KAEM_CACHE_ROOT", "KAEM_INCEPTION_WEIGHTS", "NOT_SET"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for text in ("~/x", "$HOME/x", "${HOME}/x"):
        assert data_root(text) == Path("/home/me/x")
        assert cache_root(text) == Path("/home/me/x/cache")
        with monkeypatch.context() as patch:
            patch.setenv("KAEM_DATA_ROOT", text)
            patch.setenv("KAEM_CACHE_ROOT", text)
            patch.setenv("KAEM_INCEPTION_WEIGHTS", text)
            assert data_root("set") == cache_root("set") == Path("/home/me/x")
            assert inception_weights(Path("data")) == Path("/home/me/x")
    for unknown in ("$NOT_SET/x", "~nobody_of_that_name/x"):
        with pytest.raises(DataError, match=r"names a variable or a user that is not known here"):
            data_root(unknown)


def test_the_results_folder_is_filled_in_too():
    command = [sys.executable, "-c", "from benchmark.base import paths; print(paths.RESULTS)"]
    for text, found in (("~/x", "/home/me/x"), ("$HOME/x", "/home/me/x"), ("", "results")):
        env = os.environ | {"KAEM_RESULTS": text, "HOME": "/home/me"}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
        assert done.stdout == f"{found}\n"


def test_images_of_other_splits_that_are_trained_on_are_counted(tmp_path):
    (train, labels), (test, _) = ARRAYS.values()
    arrays = {"train": (train, labels), "test": (np.vstack([train[:3], test[3:]]), labels[:20])}
    write_npz(tmp_path, arrays)
    found = load_dataset(facts_of(arrays), tmp_path, tmp_path / "cache")
    trained = set(pixels(found.images["train"]))
    assert found.repeated() == len(trained & set(pixels(found.images["test"]))) > 0
    write_npz(tmp_path, ARRAYS)
    assert load_dataset(FACTS, tmp_path, tmp_path / "cache").repeated() == 0


# Prepared once ----------------------------------------------------------------------------------


def test_files_are_prepared_anew_only_when_they_have_changed(root, cache, counted):
    first = load_dataset(FACTS, root, cache)
    before = snapshot(cache)
    assert is_whole(first)
    assert same(first, load_dataset(FACTS, root, cache))
    assert snapshot(cache) == before
    assert len(counted) == 1
    other = generated((6, 6, 3), seed=1)
    write_npz(root, other)
    with pytest.raises(DataError, match=r"train images in .*made\.npz are not the expected ones"):
        load_dataset(FACTS, root, cache)
    assert load_dataset(facts_of(other), root, cache).digests == facts_of(other).digests
    assert len(counted) == 3
    assert len(folders(cache)) == 2


def test_jobs_that_begin_together_prepare_once(root, cache, counted):
    opened, begin = [], threading.Barrier(4)

    def job():
        begin.wait()
        opened.append(load_dataset(FACTS, root, cache))

    jobs = [threading.Thread(target=job) for _ in range(4)]
    for thread in jobs:
        thread.start()
    for thread in jobs:
        thread.join()
    assert len(counted) == 1
    assert [is_whole(data) for data in opened] == [True] * 4


def test_the_datas_folder_is_only_read(root, cache):
    before = snapshot(root)
    load_dataset(FACTS, root, cache)
    mend_cache(FACTS, root, cache)
    assert snapshot(root) == before


KILLED = """
import json, os, signal, sys
from pathlib import Path
from benchmark.data import prepared
from benchmark.data.dataset import load_dataset
from benchmark.config.facts import Facts

prepared.write_json = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # the last step
values = json.loads(sys.argv[1])
load_dataset(Facts.parse(values.pop("name"), values), Path(sys.argv[2]), Path(sys.argv[3]))
"""


def test_after_a_kill_the_next_run_prepares_it(root, cache, counted):
    arguments = [json.dumps(FACTS.plain()), root, cache]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name.startswith(".") for path in folders(cache)] == [True]  # unfinished
    assert is_whole(load_dataset(FACTS, root, cache))
    assert len(counted) == len(folders(cache)) == 1


# Damage -----------------------------------------------------------------------------------------


DAMAGES = [
    ("train.npy", lambda content: content[:-1]),
    ("test.npy", emptied),
    ("test_labels.npy", halved),
    ("origin.json", emptied),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_a_truncated_file_is_prepared_anew_at_once(root, cache, counted, name, damage):
    load_dataset(FACTS, root, cache)
    path = folders(cache)[0] / name
    path.write_bytes(damage(path.read_bytes()))
    assert is_whole(load_dataset(FACTS, root, cache))
    assert len(counted) == 2
    assert len(folders(cache)) == 1


@pytest.mark.parametrize("name", ["train.npy", "test_labels.npy"])
def test_a_flipped_bit_is_mended(root, cache, name):
    load_dataset(FACTS, root, cache)
    path = folders(cache)[0] / name
    path.write_bytes(flipped(path.read_bytes(), -1))
    mend_cache(FACTS, root, cache)
    assert folders(cache) == []
    assert is_whole(load_dataset(FACTS, root, cache))


def test_what_is_whole_is_not_mended(root, cache, counted):
    mend_cache(FACTS, root, cache)  # nothing is there yet
    load_dataset(FACTS, root, cache)
    mend_cache(FACTS, root, cache)
    load_dataset(FACTS, root, cache)
    assert len(counted) == 1


def test_a_disk_that_damages_all_it_gets_is_an_error(root, cache, monkeypatch):
    def careless(_facts, _source, folder):
        (folder / "train.npy").write_bytes(b"")

    monkeypatch.setattr(dataset, "prepare", careless)
    with pytest.raises(DataError, match="is damaged again right after it was built"):
        load_dataset(FACTS, root, cache)


def broken_image(root: Path) -> None:
    (root / "made.npz").unlink(missing_ok=True)
    write_folders(root, ARRAYS)
    path = root / "made" / "train" / "7" / "17.png"
    path.write_bytes(path.read_bytes()[:60])


def other_files(root: Path) -> None:
    broken_image(root)
    path = root / "made" / "train" / "7" / "17.png"
    path.rename(path.with_suffix(".tif"))


FAULTS = {
    "empty archive": (lambda root: (root / "made.npz").write_bytes(b""), "cannot be read"),
    "broken image": (broken_image, r"1 of 50 images in .*:\n  .*train/7/17\.png: "),
    "other images": (lambda root: write_npz(root, generated((6, 6, 3), 1)), "not the expected"),
    "other files": (
        other_files,
        r"holds 29 of 30 train images .*\n  Left out: 1 \.tif; images are",
    ),
    "no files": (lambda root: (root / "made.npz").unlink(), "is there"),
}


@pytest.mark.parametrize(("fault", "message"), FAULTS.values(), ids=FAULTS)
def test_after_a_fault_nothing_is_kept_and_a_second_run_recovers(root, cache, fault, message):
    fault(root)
    with pytest.raises(DataError, match=f"^made: .*{message}"):
        load_dataset(FACTS, root, cache)
    assert not cache.exists() or folders(cache) == []
    write_npz(root, ARRAYS)
    assert is_whole(load_dataset(FACTS, root, cache))


# A full disk ------------------------------------------------------------------------------------


NO_ROOM = (
    "made: cannot write the prepared images to .*: No space left on device\n"
    ".* MB.*\n?.*KAEM_CACHE_ROOT"
)


def refuse(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("writer", ["_write_part", "_write_rows", "np.save", "write_json"])
def test_a_disk_that_fills_up_leaves_nothing_behind(root, cache, writer):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"benchmark.data.prepared.{writer}", refuse)
        with pytest.raises(DataError, match=NO_ROOM):
            load_dataset(FACTS, root, cache)
    assert folders(cache) == []
    assert is_whole(load_dataset(FACTS, root, cache))


@pytest.fixture
def small_disk(tmp_path):
    """A function that makes a disk of some bytes at a folder, or of more bytes than before."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size: int, *options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", ",".join([*options, f"size={size}"])]
        done = subprocess.run([*command, "tmpfs", str(place)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted: {done.stderr.strip()}")
        return place

    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    yield mount
    if place.is_mount():  # lazily: images that were opened may still be mapped
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("share", [0.3, 0.8, 1.3, 1.9])
def test_a_small_disk_that_fills_up(tmp_path, small_disk, share):
    # Both at once: the images in the order of the files, and those of the splits.
    arrays = generated((64, 64, 3))
    facts = facts_of(arrays)
    write_npz(tmp_path / "root", arrays)
    disk = small_disk(int(share * facts.cache_bytes))
    with pytest.raises(DataError, match=NO_ROOM):
        load_dataset(facts, tmp_path / "root", disk)
    assert folders(disk) == []
    small_disk(3 * facts.cache_bytes, "remount")
    assert load_dataset(facts, tmp_path / "root", disk).digests == facts.digests


def test_a_cache_that_cannot_be_written(root, tmp_path):
    # A file where the folder should be refuses root too, which permissions do not.
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"made: cannot write the prepared images to .*file"):
        load_dataset(FACTS, root, tmp_path / "file" / "cache")


# Memory -----------------------------------------------------------------------------------------


@pytest.mark.skipif(not STATUS.exists(), reason="needs Linux's /proc")
def test_images_do_not_sit_in_memory(tmp_path, monkeypatch):
    # 118 MB: preparing them may not take a third of it, opening them not a tenth.
    count, side = 600, 256
    file = encoded(np.zeros((side, side, 3), np.uint8), "PNG")
    for part in ("train", "test"):
        write_files(tmp_path / "big" / part, {f"{k}.png": file for k in range(count // 2)})
    splits = {part: {"part": part, "count": count // 2} for part in ("train", "test")}
    facts = Facts.parse("big", {"image_shape": [3, side, side], "splits": splits})
    assert facts.cache_bytes == count * side * side * 3
    monkeypatch.setattr(prepared, "CHUNK", 32)
    with Peak() as preparing:
        load_dataset(facts, tmp_path, tmp_path / "cache")
    assert preparing.grown < facts.cache_bytes / 3
    before = resident("VmRSS")
    found = load_dataset(facts, tmp_path, tmp_path / "cache")
    assert resident("VmRSS") - before < facts.cache_bytes / 10
    assert found.images["test"][-1].sum() == 0

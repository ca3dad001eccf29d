"""The datasets' own files: read where they lie, refused when damaged, and fetched whole."""

import functools
import gzip
import hashlib
import io
import os
import random
import signal
import tarfile
import time
import urllib.error
import zipfile
from pathlib import Path

import numpy as np
import pytest
import requests
import torchvision
import urllib3
from support.damage import flipped
from support.datasets import (
    CELEBA_COUNTS,
    OWN_LAYOUTS,
    accept_generated,
    celeba_facts,
    celeba_files,
    facts_of,
    generated,
    idx_files,
    snapshot,
    write_cifar,
    write_files,
    write_idx,
    write_npz,
    write_svhn,
    write_zip,
)
from support.server import cut_in_half, cut_in_the_middle_of_a_chunk, serving, whole

from benchmark.base.errors import DataError
from benchmark.config.facts import Facts
from benchmark.data import distributions, downloads
from benchmark.data.celeba import celeba_parts
from benchmark.data.dataset import load_dataset
from benchmark.data.distributions import find_source

DATASETS = torchvision.datasets
DIGITS = generated((28, 28))
RAW = Path("MNIST/raw")


@pytest.fixture(autouse=True)
def _generated_files_and_no_network(monkeypatch):
    accept_generated(monkeypatch)

    def no_route(*_args, **_kwargs):
        raise urllib.error.URLError("no route to host")

    for kind in (DATASETS.MNIST, DATASETS.SVHN):
        monkeypatch.setattr(kind, "download", no_route)
    for download in ("download_and_extract_archive", "download_file_from_google_drive"):
        monkeypatch.setattr(DATASETS.utils, download, no_route)


def facts(layout: str):
    shape, _ = OWN_LAYOUTS.get(layout, ((32, 32, 3), None))
    return celeba_facts("made") if layout == "celeba" else facts_of(generated(shape), layout)


MNIST = facts("torchvision.MNIST")
every_layout = pytest.mark.parametrize("layout", [*OWN_LAYOUTS, "celeba"])


# torchvision's layouts --------------------------------------------------------------------------


@pytest.mark.parametrize("layout", OWN_LAYOUTS)
def test_files_that_are_there_are_read_without_network(tmp_path, layout):
    shape, write = OWN_LAYOUTS[layout]
    write(tmp_path, generated(shape))
    before = snapshot(tmp_path)
    for download in (False, True):
        parts = find_source(facts(layout), tmp_path, download).read()
        for part, (images, labels) in generated(shape).items():
            assert np.array_equal(parts[part].images, images)
            assert np.array_equal(parts[part].labels, labels)
    assert snapshot(tmp_path) == before


@every_layout
def test_missing_files_are_named_with_the_ways_to_get_them(tmp_path, layout):
    with pytest.raises(DataError, match=f"^made: {tmp_path}.* is missing\n") as caught:
        find_source(facts(layout), tmp_path)
    ways = ("python -m benchmark preflight --dataset made", "made.npz", "KAEM_DATA_ROOT")
    assert all(way in str(caught.value) for way in (*ways, downloads.DOWNLOADS[layout]))


@pytest.mark.parametrize("kind", ["MNIST", "FashionMNIST"])
def test_one_missing_file_of_four_is_named(tmp_path, kind):
    write_idx(kind)(tmp_path, DIGITS)
    missing = tmp_path / kind / "raw" / "t10k-images-idx3-ubyte"
    missing.unlink()
    with pytest.raises(DataError, match=f"made: {missing} is missing"):
        find_source(facts(f"torchvision.{kind}"), tmp_path)


@pytest.mark.parametrize("download", [False, True])
def test_a_truncated_idx_file(tmp_path, download):
    write_idx("MNIST")(tmp_path, DIGITS)
    short = tmp_path / RAW / "train-images-idx3-ubyte"
    size = short.stat().st_size
    short.write_bytes(short.read_bytes()[:-100])
    message = f"made: {short} is truncated or damaged: {size - 100} bytes, expected {size}\n.*"
    with pytest.raises(DataError, match=message + "python -m benchmark preflight --dataset made"):
        find_source(MNIST, tmp_path, download)


@pytest.mark.parametrize("header", [b"\xff" * 16, b"\0" * 16, b"\0\0\x08\x03" + b"\x01" * 12])
def test_an_idx_file_that_is_not_what_it_should_be(tmp_path, header):
    # Whole by its size, but not what its first bytes should say.
    write_idx("MNIST")(tmp_path, DIGITS)
    broken = tmp_path / RAW / "train-images-idx3-ubyte"
    broken.write_bytes(header + broken.read_bytes()[16:])
    with pytest.raises(DataError, match=f"made: {tmp_path / RAW} cannot be read"):
        find_source(MNIST, tmp_path).read()


def test_damaged_cifar_files_are_noticed_by_their_md5(tmp_path, monkeypatch):
    monkeypatch.undo()  # the official MD5: generated files are not the official ones
    write_cifar(tmp_path, generated((32, 32, 3)))
    folder = tmp_path / "cifar-10-batches-py"
    with pytest.raises(DataError, match=f"made: {folder} cannot be read: .*corrupted"):
        find_source(facts("torchvision.CIFAR10"), tmp_path).read()


@pytest.mark.parametrize("damaged", ["train", "test"])
def test_the_damaged_file_of_svhn_is_named(tmp_path, monkeypatch, damaged):
    monkeypatch.setattr(DATASETS.SVHN, "_check_integrity", lambda held: held.split != damaged)
    write_svhn(tmp_path, generated((32, 32, 3)))
    file = tmp_path / f"{damaged}_32x32.mat"
    with pytest.raises(DataError, match=f"made: {file} cannot be read: .*corrupted"):
        find_source(facts("torchvision.SVHN"), tmp_path).read()


def test_an_npz_comes_before_a_folder_and_a_folder_before_the_own_files(tmp_path):
    write_idx("MNIST")(tmp_path, DIGITS)
    with pytest.raises(DataError, match=f"made: neither {tmp_path}/made.npz nor .* is there"):
        find_source(facts_of(generated((8, 8))), tmp_path)
    (tmp_path / "made" / "train").mkdir(parents=True)  # a folder without all parts is none
    (tmp_path / "made" / "val").mkdir()
    assert find_source(MNIST, tmp_path).place == str(tmp_path)
    with pytest.raises(DataError, match=r"made: .*/made has no folder test; it holds train, val\n"):
        find_source(facts_of(generated((8, 8))), tmp_path)
    cuts = {split: {"part": "all", "count": 5} for split in ("train", "test")}
    own = Facts.parse("made", {"image_shape": [3, 8, 8], "splits": cuts})  # one part, no labels
    with pytest.raises(
        DataError, match=r"into .*/made/all/, or .*\n  arrays all_images, .* C\)\. "
    ):
        find_source(own, tmp_path)
    (tmp_path / "made" / "test").mkdir(parents=True)
    assert find_source(MNIST, tmp_path).place == str(tmp_path / "made")
    path = write_npz(tmp_path, DIGITS)
    assert find_source(MNIST, tmp_path).place == str(path)


# Downloads --------------------------------------------------------------------------------------


@every_layout
def test_a_download_that_fails_leaves_nothing(tmp_path, layout):
    root = tmp_path / "root"
    message = "is missing and cannot be downloaded: .*no route to host"
    with pytest.raises(DataError, match=message) as caught:
        find_source(facts(layout), root, download=True)
    assert f"put made.npz into {root} by hand, or " in str(caught.value)
    assert "KAEM_DATA_ROOT" in str(caught.value)
    assert snapshot(tmp_path) == {"root": None}


def test_a_download_that_fails_leaves_what_was_there(tmp_path):
    write_idx("MNIST")(tmp_path, DIGITS)
    (tmp_path / RAW / "train-images-idx3-ubyte").unlink()
    before = snapshot(tmp_path)
    with pytest.raises(DataError, match="no route to host"):
        find_source(MNIST, tmp_path, download=True)
    assert snapshot(tmp_path) == before


class OfASubpackage(Exception):
    """Such as gdown's errors, which torchvision lets through."""


@pytest.mark.parametrize("error", [RuntimeError, EOFError, zipfile.BadZipFile, OfASubpackage])
def test_a_download_that_stops_half_way_leaves_nothing(tmp_path, monkeypatch, error):
    def download(dataset):
        write_files(Path(dataset.raw_folder), {"t10k-images-idx3-ubyte": b"half"})
        raise error("connection lost")

    monkeypatch.setattr(DATASETS.MNIST, "download", download)
    with pytest.raises(DataError, match="connection lost"):
        find_source(MNIST, tmp_path, download=True)
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize("files_before", [{}, {"train-images-idx3-ubyte": b"old"}])
@pytest.mark.parametrize("kind", ["MNIST", "FashionMNIST"])
def test_a_download_takes_its_place_when_whole(tmp_path, monkeypatch, kind, files_before):
    write_files(tmp_path / kind / "raw", files_before)
    files, made = idx_files(DIGITS), facts(f"torchvision.{kind}")
    monkeypatch.setattr(
        DATASETS.MNIST, "download", lambda dataset: write_files(Path(dataset.raw_folder), files)
    )
    find_source(made, tmp_path, download=True)
    held = {path for path, content in snapshot(tmp_path).items() if content is not None}
    assert held == {f"{kind}/raw/{file}" for file in files}
    assert len(find_source(made, tmp_path).read()["test"].images) == 20


def test_a_data_root_that_cannot_be_written(tmp_path):
    # A file where the folder should be refuses root too, which permissions do not.
    (tmp_path / "file").write_text("")
    root = tmp_path / "file" / "root"
    with pytest.raises(DataError, match=f"made: cannot write to the data folder {root}"):
        find_source(MNIST, root, download=True)
    assert snapshot(tmp_path) == {"file": b""}


def packed_digits() -> dict[str, bytes]:
    return {f"{k}.gz": gzip.compress(v, mtime=0) for k, v in idx_files(DIGITS).items()}


@pytest.fixture
def server(monkeypatch):
    """MNIST as its servers hold it, from this machine."""
    monkeypatch.undo()
    accept_generated(monkeypatch)
    files = packed_digits()
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(DATASETS.MNIST, "resources", list(md5.items()))
    with serving(files) as server:
        monkeypatch.setattr(DATASETS.MNIST, "mirrors", [server.url])
        yield server


def test_archives_that_were_fetched_by_hand_are_unpacked_without_network(tmp_path, server):
    packed = packed_digits()
    write_files(tmp_path / RAW, packed)
    with pytest.raises(DataError, match=r"after you put MNIST/raw/train-images-idx3-ubyte\.gz, "):
        find_source(MNIST, tmp_path)
    server.answer = cut_in_half
    parts = find_source(MNIST, tmp_path, download=True).read()
    assert np.array_equal(parts["train"].images, DIGITS["train"][0])
    assert packed.keys() < {path.name for path in (tmp_path / RAW).iterdir()}


def test_cifars_archive_too(tmp_path, monkeypatch):
    monkeypatch.undo()
    cifar = DATASETS.CIFAR10
    monkeypatch.setattr(distributions, "check_md5", lambda *_: None)
    write_cifar(tmp_path / "made", generated((32, 32, 3)))
    with tarfile.open(tmp_path / cifar.filename, "w:gz") as archive:
        archive.add(tmp_path / "made" / cifar.base_folder, cifar.base_folder)
    md5 = md5_of(tmp_path / cifar.filename)
    monkeypatch.setattr(cifar, "tgz_md5", md5)
    parts = find_source(facts("torchvision.CIFAR10"), tmp_path, download=True).read()
    assert np.array_equal(parts["test"].images, generated((32, 32, 3))["test"][0])
    assert md5_of(tmp_path / cifar.filename) == md5


@pytest.mark.parametrize("failure", [cut_in_half, cut_in_the_middle_of_a_chunk])
def test_a_download_that_is_cut_in_half_leaves_nothing_and_a_second_one_is_whole(
    tmp_path, server, failure
):
    fetch = functools.partial(find_source, MNIST, tmp_path, download=True)
    server.answer = failure
    with pytest.raises(DataError, match="is missing and cannot be downloaded"):
        fetch()
    assert snapshot(tmp_path) == {}
    server.answer = whole
    assert np.array_equal(fetch().read()["train"].images, DIGITS["train"][0])


def test_a_process_that_is_killed_while_it_downloads_leaves_nothing_that_the_next_one_takes(
    tmp_path, server
):
    fetch = functools.partial(find_source, MNIST, tmp_path, download=True)
    draws = random.Random(0)
    for _ in range(5):
        server.seconds = 0.05  # of each file
        pid = os.fork()
        if not pid:
            fetch()
            os._exit(0)
        time.sleep(draws.uniform(0, 0.2))
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        with pytest.raises(DataError, match="is missing"):
            find_source(MNIST, tmp_path)
    server.seconds = 0
    assert np.array_equal(fetch().read()["train"].images, DIGITS["train"][0])
    assert {path.name for path in tmp_path.iterdir()} == {"MNIST"}


# CelebA -----------------------------------------------------------------------------------------

FACES = celeba_files()
IN_FOLDER = {f"img_align_celeba/{name}": content for name, content in FACES.items()}
ARCHIVE = "img_align_celeba.zip"


def in_folder(root):
    write_files(root, IN_FOLDER)


def in_archive(root):
    write_zip(root / ARCHIVE, IN_FOLDER)


def archive_beside_an_empty_folder(root):
    (root / "img_align_celeba").mkdir(parents=True)
    in_archive(root)


def archive_of_macos(root):
    hidden = {f"__MACOSX/img_align_celeba/._{name}": b"\0\5\x16\7" for name in FACES}
    write_zip(root / ARCHIVE, {"img_align_celeba/": b""} | IN_FOLDER | hidden)


def linked_folder(root):
    in_folder(root.parent / "elsewhere")
    root.mkdir()
    (root / "img_align_celeba").symlink_to(root.parent / "elsewhere" / "img_align_celeba")


FORMS = {
    "folder": in_folder,
    "archive": in_archive,
    "flat archive": lambda root: write_zip(root / ARCHIVE, FACES),
    "torchvision's folder": lambda root: in_folder(root / "celeba"),
    "torchvision's archive": lambda root: in_archive(root / "celeba"),
    "archive beside an empty folder": archive_beside_an_empty_folder,
    "archive of macOS": archive_of_macos,
    "linked folder": linked_folder,
}


def load_faces(tmp_path, write=lambda _: None, **more):
    write(tmp_path / "root")
    return load_dataset(celeba_facts(**more), tmp_path / "root", tmp_path / "cache")


@pytest.mark.parametrize("write", FORMS.values(), ids=FORMS)
def test_every_form_of_celeba_gives_the_same_images_and_is_read_in_place(tmp_path, write):
    write(tmp_path / "root")
    before = snapshot(tmp_path / "root")
    faces, truth = load_faces(tmp_path), load_faces(tmp_path / "other", in_folder)
    assert snapshot(tmp_path / "root") == before
    assert {split: len(images) for split, images in faces.images.items()} == CELEBA_COUNTS
    assert faces.image_shape == (3, 64, 64)
    assert faces.labels == {}
    assert faces.digests == truth.digests
    assert all(np.array_equal(faces.images[split], truth.images[split]) for split in CELEBA_COUNTS)


NAMES = [*reversed(FACES), "000001.jpg", "x/162771.jpg"]


def test_parts_follow_the_numbers():
    parts = celeba_parts(NAMES)
    counts = {part: len(names) for part, names in parts.items()}
    assert counts == CELEBA_COUNTS | {"train": 13, "validation": 4}
    assert "000001.jpg" in parts["train"]
    assert "x/162771.jpg" in parts["validation"]
    assert "202599.jpg" in parts["test"]


def test_a_name_that_is_there_twice_is_named():
    names = ["img/000001.jpg", "img/img/000001.jpg"]
    with pytest.raises(
        ValueError, match=r"img/000001\.jpg and img/img/000001\.jpg have one number"
    ):
        celeba_parts(names)


@pytest.mark.parametrize("suffix", ["png", "jpeg", "JPG"])
@pytest.mark.parametrize("pack", [write_zip, lambda path, files: write_files(path.parent, files)])
def test_other_suffixes_of_images_will_do(tmp_path, suffix, pack):
    files = {name.replace("jpg", suffix): content for name, content in IN_FOLDER.items()}
    pack(tmp_path / "root" / ARCHIVE, files)
    assert load_faces(tmp_path).digests == load_faces(tmp_path / "other", in_folder).digests


def test_what_is_left_out_of_an_archive_is_said(tmp_path):
    files = {name.replace("jpg", "tif"): b"" for name in FACES}
    write_zip(tmp_path / "root" / ARCHIVE, files)
    with pytest.raises(
        DataError, match=r"holds 0 of 12 train .*\n  Left out: 19 \.tif; images are"
    ):
        load_faces(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [("202600.jpg", "beyond CelebA's 202599"), ("photo.jpg", r"photo\.jpg has none")],
)
def test_a_file_without_a_part(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        celeba_parts([name])
    write_zip(tmp_path / "root" / ARCHIVE, {name: b""})
    with pytest.raises(DataError, match=rf"\.zip has no parts by their numbers: .*{message}"):
        load_faces(tmp_path)


def md5_of(path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_the_official_archive_is_known_by_its_md5(tmp_path):
    in_archive(tmp_path)
    md5 = md5_of(tmp_path / ARCHIVE)
    assert find_source(celeba_facts(archive_md5=md5), tmp_path).read()
    with pytest.raises(DataError, match=f"{ARCHIVE} is not the official archive, or") as caught:
        find_source(celeba_facts(archive_md5="0" * 32), tmp_path).read()
    assert f"expected MD5 {'0' * 32}\n  found        {md5}" in str(caught.value)


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
@pytest.mark.parametrize("checked", [True, False])
def test_a_truncated_archive_is_refused_and_a_second_run_recovers(tmp_path, keep, checked):
    path = tmp_path / "root" / ARCHIVE
    in_archive(path.parent)
    whole = path.read_bytes()
    more = {"archive_md5": md5_of(path)} if checked else {}
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    expected = "not the official archive" if checked else "truncated or no zip archive"
    with pytest.raises(DataError, match=expected):
        load_faces(tmp_path, **more)
    assert not list((tmp_path / "cache").iterdir())
    path.write_bytes(whole)
    assert load_faces(tmp_path, **more)


def test_a_damaged_member_of_an_archive_is_named(tmp_path):
    path = tmp_path / "root" / ARCHIVE
    in_archive(path.parent)
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("img_align_celeba/202599.jpg").header_offset + 2000
    path.write_bytes(flipped(path.read_bytes(), place))
    with pytest.raises(
        DataError, match=r"1 of 19 images .*\n  img_align_celeba/202599\.jpg: Bad CRC"
    ):
        load_faces(tmp_path)


def test_members_with_odd_names_are_not_unpacked(tmp_path):
    path, inside = tmp_path / "in" / "root" / ARCHIVE, dict(FACES)
    inside |= {"../202599.jpg": inside.pop("202599.jpg")}
    write_zip(path, inside)
    assert load_faces(tmp_path / "in")
    write_zip(path, inside | {str(tmp_path / "abs" / "1.jpg"): b""})
    with pytest.raises(DataError, match="images"):
        load_faces(tmp_path / "in")
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")} == {
        "in/cache",
        "in/root",
    }
    assert list(path.parent.iterdir()) == [path]


def test_google_drives_archive_is_downloaded_and_takes_its_place(tmp_path, monkeypatch):
    # Google's answers are made up; torchvision and gdown, which it needs for them, are not.
    monkeypatch.undo()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # of cookies
    in_archive(tmp_path)
    content, asked = (tmp_path / ARCHIVE).read_bytes(), []

    def send(adapter, request, **_options):
        asked.append(request.url)
        page = b'<form id="download-form" action="https://drive.usercontent.google.com/download">'
        page += b'<input type="hidden" name="confirm" value="t"></form>'  # too large for its scan
        head = {"Content-Type": "text/html"}
        if "confirm" in request.url:
            page, head = content, {"Content-Type": "application/zip"}
            head["Content-Disposition"] = f'attachment; filename="{ARCHIVE}"'
        raw = urllib3.HTTPResponse(io.BytesIO(page), head, 200, preload_content=False)
        return adapter.build_response(request, raw)

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    number = DATASETS.CelebA.file_list[0][0]
    files = [(number, md5_of(tmp_path / ARCHIVE), ARCHIVE)]
    monkeypatch.setattr(DATASETS.CelebA, "file_list", files)
    source = find_source(celeba_facts(), tmp_path / "root", download=True)
    assert source.files == [tmp_path / "root" / ARCHIVE]
    assert snapshot(tmp_path / "root") == {ARCHIVE: content}
    assert [number in url for url in asked] == [True, False]

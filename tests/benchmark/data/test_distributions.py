"""The datasets' own files: read where they lie, refused when damaged, and fetched whole."""

import functools
import gzip
import hashlib
import http.server
import os
import random
import signal
import threading
import time
import urllib.error
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torchvision
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

from benchmark.base.errors import DataError
from benchmark.data import downloads
from benchmark.data.dataset import load_dataset
from benchmark.data.distributions import find_source

KINDS = {"torchvision.MNIST": "MNIST", "torchvision.FashionMNIST": "FashionMNIST"}
DATASETS = torchvision.datasets


@pytest.fixture(autouse=True)
def _generated_files_and_no_network(monkeypatch):
    accept_generated(monkeypatch)

    def no_route(*_args, **_kwargs):
        raise urllib.error.URLError("no route to host")

    for kind in (DATASETS.MNIST, DATASETS.SVHN, DATASETS.CelebA):
        monkeypatch.setattr(kind, "download", no_route)
    monkeypatch.setattr(DATASETS.utils, "download_and_extract_archive", no_route)


def facts(layout: str):
    shape, _ = OWN_LAYOUTS.get(layout, ((32, 32, 3), None))
    return celeba_facts("made") if layout == "celeba" else facts_of(generated(shape), layout)


every_layout = pytest.mark.parametrize("layout", [*OWN_LAYOUTS, "celeba"])


# torchvision's layouts --------------------------------------------------------------------------


@pytest.mark.parametrize("download", [False, True])
@pytest.mark.parametrize("layout", OWN_LAYOUTS)
def test_files_that_are_there_are_read_without_network(tmp_path, layout, download):
    shape, write = OWN_LAYOUTS[layout]
    arrays = generated(shape)
    write(tmp_path, arrays)
    before = snapshot(tmp_path)
    found = find_source(facts(layout), tmp_path, download).read()
    for part, (images, labels) in arrays.items():
        assert np.array_equal(found[part].images, images)
        assert np.array_equal(found[part].labels, labels)
    assert snapshot(tmp_path) == before


@every_layout
def test_missing_files_are_named_with_the_ways_to_get_them(tmp_path, layout):
    with pytest.raises(DataError) as caught:
        find_source(facts(layout), tmp_path)
    message = str(caught.value)
    assert message.startswith(f"made: {tmp_path}")
    assert " is missing\n" in message
    assert "python -m benchmark preflight --dataset made" in message
    assert downloads.DOWNLOADS[layout] in message
    assert "made.npz" in message
    assert "KAEM_DATA_ROOT" in message


@pytest.mark.parametrize("layout", KINDS)
def test_one_missing_file_of_four_is_named(tmp_path, layout):
    OWN_LAYOUTS[layout][1](tmp_path, generated((28, 28)))
    missing = tmp_path / KINDS[layout] / "raw" / "t10k-images-idx3-ubyte"
    missing.unlink()
    with pytest.raises(DataError, match=f"made: {missing} is missing"):
        find_source(facts(layout), tmp_path)


@pytest.mark.parametrize("download", [False, True])
def test_a_truncated_idx_file(tmp_path, download):
    write_idx("MNIST")(tmp_path, generated((28, 28)))
    short = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    size = short.stat().st_size
    short.write_bytes(short.read_bytes()[:-100])
    with pytest.raises(DataError) as caught:
        find_source(facts("torchvision.MNIST"), tmp_path, download)
    message = str(caught.value)
    assert message.startswith(f"made: {short} is truncated or damaged: {size - 100} bytes")
    assert f"expected {size}" in message
    assert "python -m benchmark preflight --dataset made" in message


@pytest.mark.parametrize("header", [b"\xff" * 16, b"\0" * 16, b"\0\0\x08\x03" + b"\x01" * 12])
def test_an_idx_file_that_is_not_what_it_should_be(tmp_path, header):
    # Whole by its size, but not what its first bytes should say.
    write_idx("MNIST")(tmp_path, generated((28, 28)))
    raw = tmp_path / "MNIST" / "raw"
    broken = raw / "train-images-idx3-ubyte"
    broken.write_bytes(header + broken.read_bytes()[16:])
    with pytest.raises(DataError, match=f"made: {raw} cannot be read"):
        find_source(facts("torchvision.MNIST"), tmp_path).read()


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


# What comes first -------------------------------------------------------------------------------


def test_an_npz_comes_before_a_folder_and_a_folder_before_the_own_files(tmp_path):
    arrays, made = generated((28, 28)), facts("torchvision.MNIST")
    write_idx("MNIST")(tmp_path, arrays)
    assert find_source(made, tmp_path).place == str(tmp_path)
    for part in ("train", "test"):
        (tmp_path / "made" / part).mkdir(parents=True)
    assert find_source(made, tmp_path).place == str(tmp_path / "made")
    path = write_npz(tmp_path, arrays)
    assert find_source(made, tmp_path).place == str(path)


def test_a_folder_without_all_parts_is_not_taken(tmp_path):
    (tmp_path / "made" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match=f"made: neither {tmp_path}/made.npz nor .* is there"):
        find_source(facts_of(generated((8, 8))), tmp_path)


# Downloads --------------------------------------------------------------------------------------


@every_layout
def test_a_download_that_fails_leaves_nothing(tmp_path, layout):
    root = tmp_path / "root"
    with pytest.raises(DataError) as caught:
        find_source(facts(layout), root, download=True)
    message = str(caught.value)
    assert "is missing and cannot be downloaded" in message
    assert "no route to host" in message
    assert f"or made.npz into {root} by hand" in message
    assert "KAEM_DATA_ROOT" in message
    assert snapshot(tmp_path) == {"root": None}


def test_a_download_that_fails_leaves_what_was_there(tmp_path):
    write_idx("MNIST")(tmp_path, generated((28, 28)))
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").unlink()
    before = snapshot(tmp_path)
    with pytest.raises(DataError, match="no route to host"):
        find_source(facts("torchvision.MNIST"), tmp_path, download=True)
    assert snapshot(tmp_path) == before


class OfASubpackage(Exception):
    """Such as gdown's errors, which torchvision lets through."""


@pytest.mark.parametrize("error", [RuntimeError, EOFError, zipfile.BadZipFile, OfASubpackage])
@pytest.mark.parametrize("layout", KINDS)
def test_a_download_that_stops_half_way_leaves_nothing(tmp_path, monkeypatch, layout, error):
    def download(dataset):
        write_files(Path(dataset.raw_folder), {"t10k-images-idx3-ubyte": b"half"})
        raise error("connection lost")

    monkeypatch.setattr(DATASETS.MNIST, "download", download)
    with pytest.raises(DataError, match="connection lost"):
        find_source(facts(layout), tmp_path, download=True)
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize("files_before", [0, 1])
@pytest.mark.parametrize("layout", KINDS)
def test_a_download_takes_its_place_when_whole(tmp_path, monkeypatch, layout, files_before):
    raw, files = tmp_path / KINDS[layout] / "raw", idx_files(generated((28, 28)))
    if files_before:
        write_files(raw, {"train-images-idx3-ubyte": b"old"})
    monkeypatch.setattr(
        DATASETS.MNIST, "download", lambda dataset: write_files(Path(dataset.raw_folder), files)
    )
    find_source(facts(layout), tmp_path, download=True)
    found = {path for path, content in snapshot(tmp_path).items() if content is not None}
    assert found == {f"{KINDS[layout]}/raw/{file}" for file in files}
    assert len(find_source(facts(layout), tmp_path).read()["test"].images) == 20


def test_a_data_root_that_cannot_be_written(tmp_path):
    # A file where the folder should be refuses root too, which permissions do not.
    (tmp_path / "file").write_text("")
    root = tmp_path / "file" / "root"
    with pytest.raises(DataError, match=f"made: cannot write to the data folder {root}"):
        find_source(facts("torchvision.MNIST"), root, download=True)
    assert snapshot(tmp_path) == {"file": b""}


class Server(http.server.BaseHTTPRequestHandler):
    """Serves files, and hangs up after `share` of each."""

    protocol_version = "HTTP/1.1"
    files, share, chunked, seconds = {}, 1.0, False, 0.0

    def do_GET(self):
        content = self.files[self.path.strip("/")]
        sent = content[: int(self.share * len(content))]
        time.sleep(self.seconds)
        self.send_response(200)
        if self.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            sent = f"{len(content):x}\r\n".encode() + sent
            sent += b"\r\n0\r\n\r\n" if self.share == 1 else b""
        else:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(sent)
        self.close_connection = True

    def log_message(self, *_args):
        pass


@pytest.fixture
def served(monkeypatch):
    """MNIST as its servers hold it, from this machine."""
    monkeypatch.undo()
    accept_generated(monkeypatch)
    files = {f"{k}.gz": gzip.compress(v) for k, v in idx_files(generated((28, 28))).items()}

    class Handler(Server):
        pass

    Handler.files = files
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(DATASETS.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(DATASETS.MNIST, "resources", list(md5.items()))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield Handler
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("chunked", [False, True], ids=["of known length", "chunked"])
def test_a_download_that_is_cut_in_half_leaves_nothing_and_a_second_one_is_whole(
    tmp_path, served, chunked
):
    fetch = functools.partial(find_source, facts("torchvision.MNIST"), tmp_path, download=True)
    served.share, served.chunked = 0.5, chunked
    with pytest.raises(DataError, match="is missing and cannot be downloaded"):
        fetch()
    assert snapshot(tmp_path) == {}
    served.share = 1.0
    assert np.array_equal(fetch().read()["train"].images, generated((28, 28))["train"][0])


def test_a_process_that_is_killed_while_it_downloads_leaves_nothing_that_the_next_one_takes(
    tmp_path, served
):
    fetch = functools.partial(find_source, facts("torchvision.MNIST"), tmp_path, download=True)
    draws = random.Random(0)
    for _ in range(5):
        served.seconds = 0.05  # of each file
        pid = os.fork()
        if not pid:
            fetch()
            os._exit(0)
        time.sleep(draws.uniform(0, 0.2))
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        with pytest.raises(DataError, match="is missing"):
            find_source(facts("torchvision.MNIST"), tmp_path)
    served.seconds = 0
    assert np.array_equal(fetch().read()["train"].images, generated((28, 28))["train"][0])
    assert {path.name for path in tmp_path.iterdir()} == {"MNIST"}


# CelebA -----------------------------------------------------------------------------------------

FACES = celeba_files()


def in_folder(root):
    write_files(root / "img_align_celeba", FACES)


def in_archive(root):
    write_zip(root / "img_align_celeba.zip", {f"img_align_celeba/{k}": v for k, v in FACES.items()})


def in_flat_archive(root):
    write_zip(root / "img_align_celeba.zip", FACES)


def as_torchvision(root):
    in_folder(root / "celeba")


def archive_as_torchvision(root):
    in_archive(root / "celeba")


FORMS = [in_folder, in_archive, in_flat_archive, as_torchvision, archive_as_torchvision]


def load_faces(tmp_path, write, **more):
    write(tmp_path / "root")
    return load_dataset(celeba_facts(**more), tmp_path / "root", tmp_path / "cache")


@pytest.mark.parametrize("write", FORMS)
def test_every_form_of_celeba_gives_the_same_images(tmp_path, write):
    found = load_faces(tmp_path / "one", write)
    truth = load_faces(tmp_path / "two", in_folder)
    assert {split: len(images) for split, images in found.images.items()} == CELEBA_COUNTS
    assert found.image_shape == (3, 64, 64)
    assert found.labels == {}
    assert found.digests == truth.digests
    for split, images in truth.images.items():
        assert np.array_equal(found.images[split], images)


def test_the_official_list_decides_where_it_lies_beside(tmp_path):
    names = sorted(FACES)
    # As many of each part, but not the same ones.
    parts = [2] * 4 + [1] * 3 + [0] * 12
    listing = "".join(f"{name} {part}\n" for name, part in zip(names, parts, strict=True))

    def write(root):
        in_archive(root)
        write_files(root, {"list_eval_partition.txt": listing.encode()})

    by_list, by_number = load_faces(tmp_path / "a", write), load_faces(tmp_path / "b", in_archive)
    assert by_list.digests.keys() == by_number.digests.keys()
    assert by_list.digests["test"] != by_number.digests["test"]


def test_a_file_that_the_list_does_not_name(tmp_path):
    def write(root):
        in_folder(root)
        write_files(root, {"list_eval_partition.txt": b"000001.jpg 0\n"})

    with pytest.raises(DataError, match=r"img_align_celeba have no part: .* is not in list"):
        load_faces(tmp_path, write)


def md5_of(path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_the_official_archive_is_known_by_its_md5(tmp_path):
    in_archive(tmp_path)
    md5 = md5_of(tmp_path / "img_align_celeba.zip")
    assert find_source(celeba_facts(archive_md5=md5), tmp_path).read()
    with pytest.raises(DataError) as caught:
        find_source(celeba_facts(archive_md5="0" * 32), tmp_path).read()
    message = str(caught.value)
    assert "img_align_celeba.zip is not the official archive, or it is damaged" in message
    assert f"expected MD5 {'0' * 32}\n  found        {md5}" in message


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
@pytest.mark.parametrize("checked", [True, False])
def test_a_truncated_archive_is_refused_and_a_second_run_recovers(tmp_path, keep, checked):
    root, path = tmp_path / "root", tmp_path / "root" / "img_align_celeba.zip"
    in_archive(root)
    whole = path.read_bytes()
    more = {"archive_md5": md5_of(path)} if checked else {}
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    expected = "not the official archive" if checked else "truncated or no zip archive"
    with pytest.raises(DataError, match=expected):
        load_faces(tmp_path, lambda _: None, **more)
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] == [".lock"]
    path.write_bytes(whole)
    assert load_faces(tmp_path, lambda _: None, **more)


def test_a_damaged_member_of_an_archive_is_named(tmp_path):
    path = tmp_path / "root" / "img_align_celeba.zip"
    in_archive(path.parent)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        content[archive.getinfo("img_align_celeba/202599.jpg").header_offset + 2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"1 of 4 images .* img_align_celeba/202599\.jpg: Bad CRC"):
        load_faces(tmp_path, lambda _: None)


def test_members_with_odd_names_are_not_unpacked(tmp_path):
    outside = {"../202599.jpg": FACES["202599.jpg"], str(tmp_path / "abs" / "1.jpg"): b""}
    held = {name: content for name, content in FACES.items() if name != "202599.jpg"}

    def write(root):
        write_zip(root / "img_align_celeba.zip", held | {"../202599.jpg": FACES["202599.jpg"]})

    assert load_faces(tmp_path / "in", write)
    write_zip(tmp_path / "in" / "root" / "img_align_celeba.zip", held | outside)
    with pytest.raises(DataError, match="images"):
        load_faces(tmp_path / "in", lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["cache", "root"]
    assert len(list((tmp_path / "in" / "root").iterdir())) == 1


def test_an_archive_is_read_in_place(tmp_path):
    in_archive(tmp_path / "root")
    before = snapshot(tmp_path / "root")
    load_faces(tmp_path, lambda _: None)
    assert snapshot(tmp_path / "root") == before


def test_a_download_is_prepared_once(tmp_path, monkeypatch):
    # torchvision leaves the archive and what it unpacked: the next run finds both.
    def download(place, **_options):
        as_torchvision(place)
        archive_as_torchvision(place)

    monkeypatch.setattr(DATASETS, "CelebA", download)
    root, cache = tmp_path / "root", tmp_path / "cache"
    load_dataset(celeba_facts(), root, cache, download=True)
    load_dataset(celeba_facts(), root, cache)
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1

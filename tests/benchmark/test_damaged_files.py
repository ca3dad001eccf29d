"""Every reader of a file that may be damaged or come from others, against the same damages.

A damaged file is read as it was, or is one error that names it; nothing in it is run.
"""

import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from reference.inception import random_state
from support.configs import tiny_config
from support.damage import Executed, damages
from support.datasets import encoded, facts_of, generated, write_npz, write_zip

from benchmark.base.arrays import UNREADABLE, open_archive, read_arrays, write_arrays
from benchmark.base.errors import DataError, RecordError
from benchmark.base.tensors import read_tensors, write_tensors
from benchmark.config.jobs import job_of
from benchmark.data.cifar import read_batch
from benchmark.data.image_files import BrokenImageError, ImageFiles, read_file, zip_reader
from benchmark.data.sources import npz_source
from benchmark.evaluation.inception import InceptionFeatures
from benchmark.evaluation.samples import open_samples, save_samples

ARRAYS = generated((6, 6, 3))
BATCH = generated((32, 32, 3))["train"]
NOISE = np.random.default_rng(4).integers(0, 256, (40, 40, 3), dtype=np.uint8)
DRAWN = torch.from_numpy(NOISE[:32].reshape(4, 3, 16, 20))
JOB = job_of(tiny_config(), "sampling", "digits", "vae")
IMAGE_KINDS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        write: makes a file that is whole.
        read: reads it into a list of arrays.
        error: what it raises for any other file.
        message: what that error says, but for its reason.
        exact: whether no damage can change what is read.
    """

    write: Callable[[Path], object]
    read: Callable[[Path], list]
    error: type[Exception]
    message: str = ".+"
    exact: bool = True


def write_dataset(path: Path, save=np.savez) -> None:
    held = np.load(write_npz(path.parent, ARRAYS, "other"))
    save(path, **held)


def read_dataset(path: Path) -> list:
    parts = npz_source(facts_of(ARRAYS), path).read()
    return [array for part in parts.values() for array in (part.images, part.labels)]


def write_batch(path: Path) -> None:
    flat = BATCH[0].transpose(0, 3, 1, 2).reshape(len(BATCH[0]), -1)
    path.write_bytes(pickle.dumps({"data": flat, "labels": BATCH[1].tolist()}))


def image(kind: str) -> Reader:
    def read(path: Path) -> list:
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
            files = ImageFiles([str(path)], read_file, (16, 16), "RGB", None)
            return [files[0]]

    return Reader(
        lambda path: path.write_bytes(encoded(NOISE, kind)),
        read,
        BrokenImageError,
        "a_file.npz: .+",
        exact=False,
    )


def write_member(path: Path) -> None:
    bitmap = encoded((np.indices((40, 40)).sum(0) % 7 * 40).astype(np.uint8), "BMP")
    write_zip(path, {"a.bmp": bitmap}, zipfile.ZIP_DEFLATED)


def read_member(path: Path) -> list:
    try:
        opened = open_archive(path)
    except UNREADABLE as error:
        raise BrokenImageError("no archive") from error
    with opened as archive:
        return [ImageFiles(["a.bmp"], zip_reader(archive), (16, 16), "RGB", None)[0]]


READERS = {
    "arrays": Reader(
        lambda path: write_arrays(path, x=np.arange(50.0), y=np.array("text")),
        lambda path: list(read_arrays(path, "arrays").values()),
        RecordError,
        "a_file.npz: cannot be read as arrays: .+",
    ),
    "tensors": Reader(
        lambda path: write_tensors(path, {"x": torch.arange(50.0)}, {"kind": "numbers"}),
        lambda path: list(read_tensors(path, "tensors")[0].values()),
        RecordError,
        "a_file.npz: ",
    ),
    "samples": Reader(
        lambda path: save_samples(path, DRAWN.split(3), DRAWN.shape, JOB),
        lambda path: [torch.cat(list(open_samples(path, JOB).batches(3)))],
        RecordError,
        "a_file.npz: cannot be read as samples: .+",
    ),
    "dataset": Reader(write_dataset, read_dataset, DataError, "made: .*a_file.npz "),
    "compressed dataset": Reader(
        lambda path: write_dataset(path, np.savez_compressed),
        read_dataset,
        DataError,
        "made: .*a_file.npz ",
    ),
    "CIFAR-10": Reader(write_batch, lambda path: list(read_batch(path)), ValueError, exact=False),
    "member": Reader(write_member, read_member, BrokenImageError),
    **{kind: image(kind) for kind in IMAGE_KINDS},
}

every_reader = pytest.mark.parametrize("reader", READERS.values(), ids=READERS)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "a_file.npz"


@every_reader
def test_whatever_is_damaged_there_is_one_error(reader, path):
    reader.write(path)
    truth, refused = reader.read(path), 0
    for content in damages(path.read_bytes()):
        path.write_bytes(content)
        try:
            values = reader.read(path)
        except reader.error:
            refused += 1
        else:  # some bytes, such as an archive's dates, mean nothing
            assert not reader.exact or all(map(np.array_equal, values, truth))
    assert refused > (40 if reader.exact else 15)


def npy() -> bytes:
    held = io.BytesIO()
    np.save(held, NOISE)
    return held.getvalue()


CONTENTS = {
    "empty": b"",
    "text": b"<html>quota exceeded</html>",
    "the beginning of an archive": b"PK\x03\x04 and then nothing",
    "one array": npy(),
}


@pytest.mark.parametrize("content", [*CONTENTS.values(), None], ids=[*CONTENTS, "cut in half"])
@every_reader
def test_what_is_no_such_file_is_the_same_error(reader, content, path):
    reader.write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(reader.error, match=reader.message):
        reader.read(path)


@pytest.mark.parametrize("name", sorted(READERS.keys() - {"tensors"}))
def test_a_missing_file_is_an_error_and_a_pipe_is_not_waited_for(name, path):
    errors = (READERS[name].error, FileNotFoundError)
    with pytest.raises(errors):
        READERS[name].read(path)
    os.mkfifo(path)
    with pytest.raises(errors):
        READERS[name].read(path)


def hostile_npz(path: Path, code: Executed) -> None:
    whole = np.load(write_npz(path.parent, ARRAYS, path.stem))
    pickled = {key: np.array([code] * 30) for key in ("train_labels", "config_hash")}
    np.savez(path, **{**whole, "images": DRAWN.numpy()} | pickled)


def hostile_weights(path: Path, code: Executed) -> None:
    torch.save(random_state() | {"fc.bias": code}, path)


HOSTILE = {
    **{name: (hostile_npz, READERS[name]) for name in ("arrays", "samples", "dataset")},
    "Inception": (
        hostile_weights,
        Reader(print, lambda path: InceptionFeatures(path, torch.device("cpu")), DataError),
    ),
}


@pytest.mark.parametrize(("write", "reader"), HOSTILE.values(), ids=HOSTILE)
def test_code_in_a_file_is_not_run(write, reader, path, tmp_path):
    write(path, Executed(tmp_path / "executed"))
    with pytest.raises(reader.error):
        reader.read(path)
    assert not (tmp_path / "executed").exists()


def test_the_code_would_run(tmp_path):
    pickle.loads(pickle.dumps(Executed(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()

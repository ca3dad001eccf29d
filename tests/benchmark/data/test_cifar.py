"""CIFAR-10's batches are read as Python 2 and 3 pickle them, and nothing in them is carried out."""

import pickle
import struct

import numpy as np
import pytest
from support.damage import Executed
from support.datasets import generated

from benchmark.data.cifar import PIXELS, check_md5, read_batch

IMAGES, LABELS = generated((32, 32, 3))["train"]
FLAT = IMAGES.transpose(0, 3, 1, 2).reshape(len(IMAGES), PIXELS)


def by_python_2() -> bytes:
    """A batch in the instructions that Python 2's cPickle wrote: texts are byte strings."""

    def text(value: bytes) -> bytes:
        long = struct.pack("<I", len(value))
        return b"T" + long + value if len(value) > 255 else b"U" + long[:1] + value

    empty = (
        b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + b"K\x00\x85" + text(b"b")
    )
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"K" + bytes([len(IMAGES)]) + b"M" + struct.pack("<H", PIXELS) + b"\x86"
    array = empty + b"\x87R(K\x01" + shape + dtype + b"\x89" + text(FLAT.tobytes()) + b"tb"
    labels = b"](" + b"".join(b"K" + bytes([label]) for label in LABELS) + b"e"
    names = b"](" + text(b"a.png") * len(LABELS) + b"e"
    entries = ((b"data", array), (b"labels", labels), (b"filenames", names))
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in entries) + b"u."


PICKLES = {
    "Python 2": by_python_2(),
    **{
        f"protocol {protocol}": pickle.dumps({"labels": LABELS.tolist(), "data": FLAT}, protocol)
        for protocol in (2, 3, 4, 5)
    },
}


@pytest.mark.parametrize("content", PICKLES.values(), ids=PICKLES)
def test_a_batch_is_read_as_unpickling_would(tmp_path, content):
    (tmp_path / "data_batch_1").write_bytes(content)
    unpickled = pickle.loads(content, encoding="latin1")
    images, labels = read_batch(tmp_path / "data_batch_1")
    assert np.array_equal(unpickled["data"], FLAT)
    assert np.array_equal(images, IMAGES)
    assert images.dtype == np.uint8
    assert labels.tolist() == unpickled["labels"] == LABELS.tolist()


def test_a_hostile_batch_runs_nothing(tmp_path):
    content = pickle.dumps({"code": Executed(tmp_path / "pwned"), "labels": [1], "data": FLAT[:1]})
    (tmp_path / "data_batch_1").write_bytes(content)
    assert read_batch(tmp_path / "data_batch_1")[0].shape == (1, 32, 32, 3)
    assert not (tmp_path / "pwned").exists()
    pickle.loads(content)  # it is as hostile as it should be
    assert (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "content",
    [
        PICKLES["Python 2"][:-1000],
        pickle.dumps({"labels": LABELS.tolist()[:-1], "data": FLAT}),
        pickle.dumps({"labels": [10] * len(LABELS), "data": FLAT}),
        pickle.dumps({"data": FLAT}),
        b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"a.",
    ],
    ids=["cut off", "a label short", "label 10", "no labels", "huge bytes"],
)
def test_what_is_no_batch_is_refused(tmp_path, content):
    (tmp_path / "data_batch_1").write_bytes(content)
    with pytest.raises(ValueError, match=r".+"):
        read_batch(tmp_path / "data_batch_1")


def test_another_file_than_the_official_one(tmp_path):
    (tmp_path / "test_batch").write_bytes(b"abc")
    check_md5(tmp_path / "test_batch", "900150983cd24fb0d6963f7d28e17f72")
    with pytest.raises(ValueError, match="test_batch is corrupted"):
        check_md5(tmp_path / "test_batch", "0" * 32)

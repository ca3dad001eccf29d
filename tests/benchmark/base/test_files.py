"""Files appear whole or not at all; arrays are read no further than they should be."""

import io
import json
import math
import zipfile

import numpy as np
import pytest

from benchmark.base.arrays import LARGEST_ARRAYS, load_arrays, read_arrays, write_arrays
from benchmark.base.errors import RecordError
from benchmark.base.files import atomic, write_json


def test_a_file_takes_its_place_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    with atomic(path) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == path.parent  # a rename across disks would not be atomic
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), atomic(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_do_not_share_a_temporary(tmp_path):
    path = tmp_path / "file.txt"
    with atomic(path) as first, atomic(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the outer block ended last
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_json_reads_back_and_refuses_what_is_not_a_number(tmp_path, number):
    path, value = tmp_path / "file.json", {"a": [1, 2.5, None, "é"], "b": {"c": True}}
    write_json(path, value)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"loss": [number]})
    assert json.loads(path.read_text()) == value
    assert list(tmp_path.iterdir()) == [path]


# Arrays ------------------------------------------------------------------------------------------


def npy(array: np.ndarray, **header) -> bytes:
    """An npy file whose header may say something else than its data."""
    held = io.BytesIO()
    fields = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape} | header
    np.lib.format.write_array_header_1_0(held, fields)
    return held.getvalue() + array.tobytes()


def test_arrays_come_back(tmp_path):
    arrays = {
        "x": np.arange(6.0).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "empty": np.empty((0, 3), np.float32),
        "scalar": np.array(5),
        "text": np.array("abc"),
    }
    write_arrays(tmp_path / "a.npz", **arrays)
    read = read_arrays(tmp_path / "a.npz", "arrays")
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        assert np.array_equal(read[name], array)
        assert read[name].dtype == array.dtype
    assert list(load_arrays(tmp_path / "a.npz", ["text"])) == ["text"]


X = np.arange(4, dtype=np.int64)
BOMB = npy(np.zeros(0, np.uint8), shape=(LARGEST_ARRAYS,)) + bytes(LARGEST_ARRAYS)
DEFLATED = zipfile.ZIP_DEFLATED
REFUSED = {
    # numpy would make room for what a header announces before it reads.
    "more than any memory": (npy(X, shape=(2**60,)), DEFLATED, "does not take the"),
    "more than any integer": (npy(X, shape=(2**80,)), DEFLATED, "does not take the"),
    "more than there is": (npy(X, shape=(5,)), DEFLATED, "does not take the"),
    "less than there is": (npy(X, shape=(3,)), DEFLATED, "does not take the"),
    "fewer than none": (npy(X, shape=(-2, -2)), DEFLATED, "does not take the"),
    "a pickle": (npy(X, descr="|O"), DEFLATED, "a pickle"),
    "pickles in a structure": (npy(X, descr=[("a", "|O")]), DEFLATED, "a pickle"),
    "no dtype": (npy(X, descr="nope"), DEFLATED, "dtype"),
    "no npy": (b"no npy", DEFLATED, "magic"),
    "a bomb": (BOMB, DEFLATED, "its arrays would take 134217856 bytes, more than"),
    "bzip2": (npy(X), zipfile.ZIP_BZIP2, "compressed in another way"),
    "lzma": (npy(X), zipfile.ZIP_LZMA, "compressed in another way"),
}


@pytest.mark.parametrize(("content", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_an_array_is_read_only_as_far_as_its_header_can_be_believed(
    tmp_path, content, kind, message
):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", kind, compresslevel=1) as archive:
        archive.writestr("x.npy", content)
    assert (tmp_path / "a.npz").stat().st_size < LARGEST_ARRAYS / 100
    with pytest.raises(RecordError, match=rf"a\.npz: cannot be read as a figure: .*{message}"):
        read_arrays(tmp_path / "a.npz", "a figure")

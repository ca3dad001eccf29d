"""Arrays in npz files: written whole or not at all, and read without pickle and within bounds."""

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmark.base.errors import RecordError
from benchmark.base.files import atomic, file_digest
from benchmark.base.foreign import check_size

# What numpy and zipfile raise for a damaged archive (RuntimeError: a bit says it is encrypted;
# TokenError, SyntaxError: the header of an array).
UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
)

WHOLE = "whole_sha256"  # in a thinned file, the digest of the whole one
LARGEST_ARRAYS = 2**27  # bytes, of all arrays of a file; those of a figure have 7 MB
ARRAY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def write_arrays(path: str | Path, **arrays) -> None:
    """Write arrays as a compressed npz, atomically."""
    with atomic(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)


def read_arrays(path: str | Path, what: str) -> dict[str, np.ndarray]:
    """Read an npz without pickle; RecordError, which says `what` it should hold, if damaged."""
    try:
        return load_arrays(path)
    except UNREADABLE as error:
        raise RecordError(f"{path}: cannot be read as {what}: {error}") from error


def load_arrays(
    path: str | Path, names: Iterable[str] | None = None, largest: int = LARGEST_ARRAYS
) -> dict[str, np.ndarray]:
    """Read the arrays of an npz, none of which may be a pickle; too large ones are not unpacked.

    Numbers in half precision, which nothing computes with, become single.

    Args:
        names: of the arrays; all by default.
        largest: bytes that all of them may have.

    Raises:
        UNREADABLE: the file is damaged, or refused; KeyError: it has no array of that name.
    """
    with open_archive(path) as archive:
        held = {i.filename.removesuffix(".npy"): i for i in archive.infolist()}
        chosen = held if names is None else {name: held[name] for name in names}
        total = sum(info.file_size for info in chosen.values())
        if total > largest:
            raise ValueError(f"its arrays would take {total} bytes, more than {largest}")
        return {name: _read_array(archive, info) for name, info in chosen.items()}


def arrays_digest(path: Path) -> str:
    """Return the digest by which a record knows a file of arrays: that of the whole file, which one
    that was thinned names.

    Raises:
        RecordError: it is damaged.
    """
    try:
        return str(load_arrays(path, [WHOLE])[WHOLE])
    except KeyError:
        return file_digest(path)
    except UNREADABLE as error:
        raise RecordError(f"{path}: cannot be read as arrays: {error}") from error


def open_archive(path: str | Path) -> zipfile.ZipFile:
    """Open a zip archive whose members are stored or deflated, as numpy writes them.

    Raises:
        UNREADABLE: it is none.
    """
    check_size(path, largest=2**63)
    archive = zipfile.ZipFile(path)
    kinds = {info.compress_type for info in archive.infolist()}
    if not kinds <= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        archive.close()
        raise ValueError("a member is compressed in another way than zip's usual one")
    return archive


def array_header(member, size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read (shape, Fortran order, dtype) from the beginning of an npy file of `size` bytes.

    Raises:
        UNREADABLE: it is damaged, a pickle, or announces more or fewer numbers than `size` holds.
    """
    version = np.lib.format.read_magic(member)
    if version not in ARRAY_HEADERS:
        raise ValueError(f"npy format {version}")
    try:
        shape, fortran, dtype = ARRAY_HEADERS[version](member)
    except (RecursionError, MemoryError, OverflowError, TypeError) as error:
        raise ValueError(f"its header is damaged: {error}") from error
    if dtype.hasobject:
        raise ValueError("it holds a pickle, which may run code")
    if min(shape, default=0) < 0 or member.tell() + math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"{dtype} {shape} does not take the {size} bytes that there are")
    return shape, fortran, dtype


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as member:
        array_header(member, info.file_size)
    with archive.open(info) as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
    return array.astype(np.float32) if array.dtype == np.float16 else array

"""Files that appear whole or not at all, and are read with one clear error when damaged."""

import hashlib
import json
import os
import secrets
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmark.errors import RecordError

# What numpy and zipfile raise for a damaged archive (RuntimeError: a bit says it is encrypted;
# TokenError: the header of an array).
UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
)


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Without this a machine that goes down may forget that a file was put in its place."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: str | Path) -> str:
    """sha256 of a file's bytes."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_json(path: str | Path, value) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with atomic(path) as temporary:
        temporary.write_text(text)


def write_arrays(path: str | Path, **arrays) -> None:
    """Write arrays as a compressed npz, atomically."""
    with atomic(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)


def read_arrays(path: str | Path, what: str) -> dict[str, np.ndarray]:
    """Read an npz without pickle; RecordError, which says `what` it should hold, if damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except UNREADABLE as error:
        raise RecordError(f"{path}: cannot be read as {what}: {error}") from error

"""CIFAR-10's own files, read without unpickling them.

They are pickles, and unpickling does whatever a file says. A pickle is a list of instructions: here
they are looked through for the pixels and the labels, and none is carried out.
"""

import pickletools
from pathlib import Path

import numpy as np

from benchmark.base.files import file_digest
from benchmark.base.foreign import MIB, check_size

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
LARGEST = 64 * MIB  # bytes; a batch of 10,000 images has 31 MB
INTEGERS = ("BININT", "BININT1", "BININT2", "INT", "LONG1")


def read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the images, uint8 (n, 32, 32, 3), and labels, (n,), of one file.

    Raises:
        OSError: it cannot be read; ValueError: it is no such batch.
    """
    check_size(path, LARGEST)
    pixels, labels, within_labels = b"", [], False
    # From memory: of a file, more would be read at once than it has, if an instruction says so.
    for opcode, argument, _ in pickletools.genops(path.read_bytes()):
        if isinstance(argument, str | bytes | bytearray):
            # Python 2 wrote bytes as texts: the pixels are the longest of the file.
            within_labels = argument in ("labels", b"labels")
            if len(argument) > len(pixels):
                pixels = argument
        elif within_labels and opcode.name in INTEGERS:
            labels.append(argument)
    pixels = pixels.encode("latin1") if isinstance(pixels, str) else bytes(pixels)
    if not labels or len(pixels) != PIXELS * len(labels):
        raise ValueError(f"{path.name} has {len(labels)} labels and {len(pixels)} bytes of pixels")
    if min(labels) < 0 or max(labels) > 9:
        raise ValueError(f"{path.name} has labels from {min(labels)} to {max(labels)}")
    images = np.frombuffer(pixels, np.uint8).reshape(-1, *SHAPE)
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1)), np.array(labels)


def check_md5(path: Path, expected: str) -> None:
    """Raise ValueError where a file is not the official one, OSError where it cannot be read."""
    md5 = file_digest(path, "md5")
    if md5 != expected:
        raise ValueError(f"{path.name} is corrupted: its MD5 is {md5}, not {expected}")

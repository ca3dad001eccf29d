"""What may become of a file: damages, and pickles that run code."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np


def flipped(content: bytes, place: int, bits: int = 0x40) -> bytes:
    """Flip bits of one byte."""
    damaged = bytearray(content)
    damaged[place] ^= bits
    return bytes(damaged)


def halved(content: bytes) -> bytes:
    return content[: len(content) // 2]


def emptied(_content: bytes) -> bytes:
    return b""


def replaced(_content: bytes) -> bytes:
    return b"<html>no such file</html>"


def damages(whole: bytes, seed: int = 0) -> Iterator[bytes]:
    """Yield 120 damaged versions of a file: one bit anywhere, or two bytes of the first and last
    200, where headers are, and the end cut off or repeated. The same in every run."""
    for place in np.linspace(0, len(whole) - 1, 60).astype(int):
        yield flipped(whole, place, 0x24)
    draws = np.random.default_rng(seed)
    for number in range(60):
        content = bytearray(whole)
        for place in draws.integers(0, min(200, len(whole)), 2):
            content[place if number % 2 else -1 - place] = draws.integers(0, 256)
        yield bytes((content + content)[: draws.integers(1, 2 * len(whole))])


class Executed:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)

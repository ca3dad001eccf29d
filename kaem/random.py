"""Random numbers, and streams of them that do not depend on the batch size.

Sampling functions take `generator`: one `torch.Generator` for the whole batch, `Streams` with one
for each row, or None for torch's global generator.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Streams(Protocol):
    """A stream of random numbers for each row, such as `PhiloxStreams` of the benchmark.

    Row i depends on stream i alone, so that an image is the same whichever batch it is drawn in.
    """

    def rand(self, n: int, shape: Sequence[int], like: Tensor) -> Tensor:
        """Draw what the function `rand` does; n streams must be there, or ValueError."""

    def randn(self, n: int, shape: Sequence[int], like: Tensor) -> Tensor:
        """Draw what the function `randn` does; n streams must be there, or ValueError."""


Generators = torch.Generator | Streams | None


def rand(n: int, shape: Sequence[int], generator: Generators, like: Tensor) -> Tensor:
    """Draw uniform numbers in [0, 1), (n, *shape), with the dtype and device of `like`."""
    return _draw("rand", n, shape, generator, like)


def randn(n: int, shape: Sequence[int], generator: Generators, like: Tensor) -> Tensor:
    """Draw standard normal numbers, (n, *shape), with the dtype and device of `like`."""
    return _draw("randn", n, shape, generator, like)


def rand_rows(rows: int, n: int, generator: Generators, like: Tensor) -> Tensor:
    """Draw uniform numbers in [0, 1), (rows, n), of which a stream has a column; as `rand`."""
    if generator is None or isinstance(generator, torch.Generator):
        return rand(rows, (n,), generator, like)  # with the rows side by side, as inversion wants
    return rand(n, (rows,), generator, like).T


def _draw(name: str, n: int, shape: Sequence[int], generator: Generators, like: Tensor) -> Tensor:
    numbers: Tensor
    if generator is None or isinstance(generator, torch.Generator):
        # A CPU generator also serves a model on the GPU: the numbers are drawn where it lives.
        device = like.device if generator is None else generator.device
        options = {"generator": generator, "dtype": like.dtype, "device": device}
        numbers = getattr(torch, name)((n, *shape), **options).to(like.device)
    elif hasattr(generator, name):
        numbers = getattr(generator, name)(n, shape, like)
    else:
        raise TypeError(f"random numbers come from a torch.Generator, got {generator!r}")
    return numbers

"""Seeds derived from names, so that no two uses of randomness share a stream by accident."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

BLOCK = 32  # bytes for each step of Philox's counter


def derive_seed(*components: str | int) -> int:
    """Hash named components, e.g. ("noise", "mnist", "vae", seed), into a 63-bit seed."""
    text = "\x1f".join(str(c) for c in components)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*components: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator seeded with `derive_seed(*components)`.

    On a CPU torch keeps the lowest 32 bits of a seed: of n names two share a stream with a
    probability of n^2 / 2^33. Enough for the few streams of a job; for thousands of rows there is
    `PhiloxStreams`.
    """
    return torch.Generator(device=device).manual_seed(derive_seed(*components))


class PhiloxStreams:
    """A stream of random numbers for each row of a batch, `Streams` of `kaem.random`.

    The numbers are a function of a counter alone, by numpy's Philox4x64-10 (Salmon et al. 2011,
    doi 10.1145/2063384.2063405): a row's depend on the seed, the number of its stream, how many
    draws there were before, and the shape of a row. No two places of the streams of a seed share
    a counter. Computed on the CPU, they are the same for every device.

    Args:
        seed: in [0, 2^128).
        start, stop: the rows have the streams of the numbers start, ..., stop - 1.
    """

    def __init__(self, seed: int, start: int, stop: int):
        self.seed, self.start, self.count, self.draws = seed, start, stop - start, 0

    def rand(self, n: int, shape: Sequence[int], like: Tensor) -> Tensor:
        """Draw uniform numbers in [0, 1), (n, *shape), with the dtype and device of `like`.

        The dtype is float32 or float64: of a shorter one, 1 would be among them.

        Raises:
            ValueError: there are not n streams.
        """
        return self._uniform(n, math.prod(shape), like).reshape(n, *shape).to(like.device)

    def randn(self, n: int, shape: Sequence[int], like: Tensor) -> Tensor:
        """Draw standard normal numbers likewise, by Box and Muller's transform."""
        count = math.prod(shape)
        radius, angle = self._uniform(n, 2 * math.ceil(count / 2), like).chunk(2, dim=1)
        radius, angle = (1 - radius).log_().mul_(-2).sqrt_(), 2 * math.pi * angle
        normal = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
        return normal[:, :count].reshape(n, *shape).to(like.device)

    def _uniform(self, n: int, count: int, like: Tensor) -> Tensor:
        """Return numbers on the CPU, (n, count), as fine as the dtype of `like`."""
        if n != self.count:
            raise ValueError(f"expected {n} streams, one per row, got {self.count}")
        dtype = np.float64 if like.dtype == torch.float64 else np.float32
        places = BLOCK // np.dtype(dtype).itemsize
        blocks = math.ceil(count / places)
        counter = [self.start * blocks, 0, 0, self.draws]
        self.draws += 1
        random = np.random.Generator(np.random.Philox(key=self.seed, counter=counter))
        numbers = random.random((n, blocks * places), dtype=dtype)
        return torch.from_numpy(numbers[:, :count]).to(like.dtype)

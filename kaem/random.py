"""Random numbers that do not depend on the batch size.

Sampling functions take `generator`: one `torch.Generator` for the whole batch, a sequence of
generators with one per row, or None for torch's global generator. With one generator per row,
row i depends on generator i alone, so an image is the same whichever batch it is drawn in
(the convention of Karras et al.'s EDM code).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator] | None


def rand(n: int, shape: Sequence[int], generator: Generators, like: Tensor) -> Tensor:
    """Draw uniform numbers in [0, 1), (n, *shape), with the dtype and device of `like`."""
    return _draw(torch.rand, n, shape, generator, like)


def randn(n: int, shape: Sequence[int], generator: Generators, like: Tensor) -> Tensor:
    """Draw standard normal numbers, (n, *shape), with the dtype and device of `like`."""
    return _draw(torch.randn, n, shape, generator, like)


def _draw(
    draw: Callable[..., Tensor],
    n: int,
    shape: Sequence[int],
    generator: Generators,
    like: Tensor,
) -> Tensor:
    def one_call(shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        # A CPU generator also serves a model on the GPU: the numbers are drawn where it lives.
        device = like.device if generator is None else generator.device
        return draw(shape, generator=generator, dtype=like.dtype, device=device)

    if generator is None or isinstance(generator, torch.Generator):
        return one_call((n, *shape), generator).to(like.device)
    if len(generator) != n:
        raise ValueError(f"expected {n} generators, one per row, got {len(generator)}")
    if n == 0:
        return one_call((0, *shape), None)
    return torch.stack([one_call(tuple(shape), g) for g in generator]).to(like.device)

"""What every model of the benchmark offers; `tests/test_contract.py` holds them to it."""

from typing import Protocol

import torch
from torch import Tensor

from kaem.random import Generators


class GenerativeModel(Protocol):
    """An `nn.Module` that learns from images in [0, 1] and draws new ones.

    A model may also have `diagnostics() -> dict[str, Tensor]`: small arrays that show what it
    learned. They are stored before and after training.
    """

    nfe: int
    """Network evaluations that one sample costs."""

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, dict]:
        """x (n, C, H, W) in [0, 1] -> scalar to minimise, and floats to log."""

    def sample(self, n: int, generator: Generators = None) -> Tensor:
        """n images in [0, 1], (n, C, H, W); with one generator per image, whatever the batch."""

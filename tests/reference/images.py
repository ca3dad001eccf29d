"""Structured images to train on."""

import torch
from torch import Tensor


def bars(n: int, image_shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Images whose left or right half is lit at a random level, (n, C, H, W) in [0, 1]."""
    channels, height, width = image_shape
    x = torch.zeros(n, channels, height, width)
    level = 0.5 + 0.5 * torch.rand(n, generator=generator)
    left = torch.rand(n, generator=generator) < 0.5
    halves = torch.arange(width) < width // 2
    lit = (halves == left[:, None])[:, None, None, :]
    return torch.where(lit, level[:, None, None, None], x)

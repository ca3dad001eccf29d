"""Structured images to train on, and a plain loop to train with."""

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


def adam_losses(
    model: torch.nn.Module, image_shape: tuple[int, int, int], updates: int
) -> list[float]:
    """Train a model on batches of bars; the loss of every update."""
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    draws, losses = torch.Generator().manual_seed(0), []
    for _ in range(updates):
        loss, _ = model.loss(bars(32, image_shape, draws), draws)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses

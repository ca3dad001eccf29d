"""Decoding what was found of the latents, for pictures and distances."""

import torch
from torch import Tensor

from benchmark.data.pixels import to_uint8
from kaem.model import KAEM

BATCH_SIZE = 100  # images that are decoded side by side


@torch.no_grad()
def decoded(model: KAEM, h: Tensor) -> Tensor:
    """Decode what the decoder sees, (..., q), to uint8 images on the CPU, (..., C, H, W)."""
    parts = h.flatten(0, -2).split(BATCH_SIZE)
    images = torch.cat([to_uint8(model.decoder(part)).cpu() for part in parts])
    return images.unflatten(0, h.shape[:-1])

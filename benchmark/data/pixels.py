"""Between the uint8 of files and metrics and the floats that models see."""

import torch
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """Turn uint8 images into float32 in [0, 1]."""
    return images.float() / 255


def to_uint8(images: Tensor) -> Tensor:
    """Round images in [0, 1] to uint8 (truncating would darken every image)."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


def to_rgb(images: Tensor) -> Tensor:
    """Repeat grey: (n, 1 or 3, H, W) to (n, 3, H, W)."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images

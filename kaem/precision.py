"""What keeps all digits under `torch.autocast`, which is for networks alone."""

import torch
from torch import Tensor


def full_precision(like: Tensor) -> torch.autocast:
    """Keep `torch.autocast` out, on the device of a tensor: a difference in half precision has no
    digits left, and tables outlive it."""
    return torch.autocast(like.device.type, enabled=False)

"""How much memory a training takes, estimated on the CPU with a handful of images."""

from collections import Counter

import torch
from torch import Tensor

PROBES = (2, 4)  # images; the activations grow by the same amount with each
COPIES = 4  # of each parameter: itself, its gradient, and Adam's two moments


def training_bytes(
    model: torch.nn.Module, image_shape: tuple[int, int, int], batch_size: int
) -> int:
    """Bytes of the state, the optimiser and the activations of one training step.

    What autograd keeps for the backward pass is counted for 2 and for 4 images and continued as a
    line. Workspace and the allocator's waste come on top, and a few megabytes where a part of the
    loss that hardly shows for 4 images keeps the most for a batch.
    """
    few, more = (saved_bytes(model, image_shape, count) for count in PROBES)
    each = (more - few) / (PROBES[1] - PROBES[0])
    activations = few + each * (batch_size - PROBES[0])
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    parameters = sum(_bytes(p) for p in model.parameters() if id(p) in trained)
    state = sum(_bytes(value) for value in model.state_dict().values())
    return int(state + (COPIES - 1) * parameters + activations)


def saved_bytes(model: torch.nn.Module, image_shape: tuple[int, int, int], count: int) -> int:
    """Most bytes that autograd keeps at once for a loss over `count` images, parameters left out.

    A Markov chain in the loss keeps one step at a time.
    """
    meter = _Meter({p.untyped_storage().data_ptr() for p in model.parameters()})
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, *image_shape, generator=generator)
    which = {"index": torch.arange(count)} if getattr(model, "needs_index", False) else {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda value: _Kept(value, meter), lambda kept: kept.value
    ):
        model.loss(images, generator, **which)
    return meter.most


class _Meter:
    """Counts the bytes of storages that a graph holds; `most` is the largest sum so far."""

    def __init__(self, ignored: set[int]):
        self.ignored, self.holders = ignored, Counter()
        self.now = self.most = 0

    def hold(self, storage: torch.UntypedStorage, change: int) -> None:
        """One holder more (1) or fewer (-1)."""
        address = storage.data_ptr()
        if address in self.ignored:
            return
        before = self.holders[address]
        self.holders[address] += change
        if 0 in (before, before + change):  # the first holder, or the last
            self.now += change * storage.nbytes()
            self.most = max(self.most, self.now)


class _Kept:
    """A tensor that the graph holds, until the graph lets it go."""

    def __init__(self, value: Tensor, meter: _Meter):
        self.value, self.meter = value, meter
        meter.hold(value.untyped_storage(), 1)

    def __del__(self):
        self.meter.hold(self.value.untyped_storage(), -1)


def _bytes(value: Tensor) -> int:
    return value.numel() * value.element_size()

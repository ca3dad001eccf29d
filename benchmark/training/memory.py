"""The memory of a training: an estimate of it beforehand, and going on with less of it."""

import gc
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmark.base.errors import TrainingError
from benchmark.base.process import say

PROBES = (2, 4)  # images; the activations grow by the same amount with each
COPIES = 4  # of each parameter: itself, its gradient, and Adam's two moments

Result = TypeVar("Result")


def training_bytes(model: nn.Module, image_shape: tuple[int, int, int], batch_size: int) -> int:
    """Estimate the bytes of the state, the optimiser and the activations of one training step.

    What autograd keeps for the backward pass is counted for 2 and for 4 images and continued as a
    line. Workspace and the allocator's waste come on top, and a few megabytes where a part of the
    loss that hardly shows for 4 images keeps the most for a batch.
    """
    few, more = (saved_bytes(model, image_shape, count) for count in PROBES)
    per_image = (more - few) / (PROBES[1] - PROBES[0])
    activations = few + per_image * (batch_size - PROBES[0])
    parameters = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    state = sum(value.nbytes for value in model.state_dict().values())
    return int(state + (COPIES - 1) * parameters + activations)


def saved_bytes(model: nn.Module, image_shape: tuple[int, int, int], count: int) -> int:
    """Measure the most bytes that autograd keeps at once for a loss over `count` images.

    Parameters are left out. A Markov chain in the loss keeps one step at a time.
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
    """The bytes of storages that a graph holds; `most` is the largest sum so far."""

    def __init__(self, ignored: set[int]):
        self.ignored, self.holders = ignored, Counter()
        self.now = self.most = 0

    def hold(self, storage: torch.UntypedStorage, change: int) -> None:
        """Count one holder more (1) or fewer (-1)."""
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


def with_less_memory(run: Callable[[int], Result], batch_size: int, title: str) -> Result:
    """Return `run(parts)` with 1 part, and with twice as many as often as memory does not suffice.

    Raises:
        TrainingError: not even one datum at a time fits.
    """
    parts = 1
    while True:
        try:
            return run(parts)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
        # Here, and not in the handler, whose traceback holds what filled the memory.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if parts >= batch_size:
            raise TrainingError(
                f"{title}: memory does not suffice for one image at a time: {reason}\n"
                "  Make the model smaller, or run it where there is more memory."
            )
        parts = min(2 * parts, batch_size)
        say(
            f"{title}: memory does not suffice ({reason}); going on with each batch in {parts} "
            "parts: the same gradients, more slowly"
        )


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "can't allocate memory" in str(error)  # torch's words on a CPU


def split_rows(model: nn.Module, parts: int) -> None:
    """Let the model's networks take their batches in so many parts.

    Those are the children that the model names in `row_wise`: each treats every row of its
    arguments alone. What happens inside them is forgotten and computed again on the way back (Chen
    et al. 2016, arXiv 1604.06174), so one part at a time is in memory. Noise is drawn outside of
    them, so gradients are the same up to the order of float sums. A loop over parts of the images
    would draw other noise, divide no population of proposals, and be wrong where a loss is no sum
    over images, as with the sigma that suits a batch best.
    """
    for name in model.row_wise:
        network = getattr(model, name)
        network.forward = _in_parts(network.forward, parts)


def _in_parts(forward: Callable, parts: int) -> Callable:
    def run(*arguments: Tensor):
        rows = zip(*(argument.chunk(parts) for argument in arguments), strict=True)
        pieces = [checkpoint(forward, *part, use_reentrant=False) for part in rows]
        if isinstance(pieces[0], Tensor):
            return torch.cat(pieces)
        # diffusers' networks return a mapping.
        return type(pieces[0])({key: torch.cat([p[key] for p in pieces]) for key in pieces[0]})

    return run

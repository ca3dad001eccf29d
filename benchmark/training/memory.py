"""Training goes on with less memory, where a batch does not fit."""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmark.base.errors import TrainingError
from benchmark.base.process import say

Result = TypeVar("Result")


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

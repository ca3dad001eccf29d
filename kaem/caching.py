"""Tables that are built once from the parameters of a module, and again after any change."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

Table = TypeVar("Table")

# Fused optimisers change parameters without torch's count: any optimiser's step ends the tables of
# all parameters. Those of buffers alone, as a copula's, stay.
_steps = 0


def _count_step(*_: Any) -> None:
    global _steps
    _steps += 1


register_optimizer_step_post_hook(_count_step)


class Seen(NamedTuple):
    """A tensor as it was when a table was built.

    Attributes:
        tensor: itself.
        memory: it had, which is not given out again while this holds it.
        version: torch's count of the changes in place.
    """

    tensor: Tensor
    memory: Tensor
    version: int

    def is_now(self, tensor: Tensor) -> bool:
        """Say whether a tensor is this one, unchanged."""
        memory = self.memory
        return (
            tensor is self.tensor
            and tensor._version == self.version
            and tensor.data_ptr() == memory.data_ptr()
            and tensor.dtype == memory.dtype
        )


class Tables:
    """What was built from modules' parameters and buffers, by name; copies begin empty."""

    def __init__(self) -> None:
        self._built: dict[str, tuple[int, list[Seen], Any]] = {}

    def __reduce__(self) -> tuple[type["Tables"], tuple[()]]:
        return Tables, ()

    def get(self, name: str, module: nn.Module, build: Callable[[], Table]) -> Table:
        """Return `build()`, remembered until a tensor of `module` changes; never with a graph.

        Torch counts changes, so that nobody waits for a GPU to compare values. It does not count
        edits through `.data` outside of an optimiser: `clear` is for these.
        """
        tensors = list(_tensors(module))
        if torch.is_grad_enabled() or any(tensor.is_inference() for tensor in tensors):
            return build()
        now = _steps if any(isinstance(tensor, nn.Parameter) for tensor in tensors) else 0
        steps, seen, table = self._built.get(name, (-1, [], None))
        alike = steps == now and len(seen) == len(tensors)
        if not (alike and all(map(Seen.is_now, seen, tensors))):
            table = build()
            seen = [Seen(tensor, tensor.detach(), tensor._version) for tensor in tensors]
            self._built[name] = now, seen, table
        return cast(Table, table)

    def clear(self) -> None:
        """Forget all tables."""
        self._built.clear()


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Go through parameters and buffers. `Module.parameters` and `Module.buffers`, which look for
    duplicates, take as long as a whole draw of one latent vector."""
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            yield from (tensor for tensor in tensors.values() if tensor is not None)

"""Tables that are built once from the parameters of a module, and again after any change."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

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


class Seen:
    """A tensor as it was when a table was built."""

    __slots__ = ("dtype", "memory", "place", "tensor", "version")

    def __init__(self, tensor: Tensor):
        self.tensor, self.version, self.dtype = tensor, tensor._version, tensor.dtype
        # Its memory is not given out again while this holds it.
        self.memory, self.place = tensor.detach(), tensor.data_ptr()

    def is_now(self, tensor: Tensor) -> bool:
        """Say whether a tensor is this one, unchanged as far as torch counts changes in place."""
        return (
            tensor is self.tensor
            and tensor._version == self.version
            and tensor.data_ptr() == self.place
            and tensor.dtype == self.dtype
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
        tensors, trained = _tensors(module)
        if torch.is_grad_enabled() or any(map(Tensor.is_inference, tensors)):
            return build()
        now = _steps if trained else 0
        steps, seen, table = self._built.get(name, (-1, [], None))
        alike = steps == now and len(seen) == len(tensors)
        if not (alike and all(map(Seen.is_now, seen, tensors))):
            table = build()
            self._built[name] = now, list(map(Seen, tensors)), table
        return cast(Table, table)

    def clear(self) -> None:
        """Forget all tables."""
        self._built.clear()


def _tensors(module: nn.Module) -> tuple[list[Tensor], bool]:
    """List parameters and buffers, and say whether there are parameters. `Module.parameters` and
    `Module.buffers` take as long as a whole draw of one latent vector."""
    tensors: list[Tensor | None] = []
    trained, modules = False, [module]
    for part in modules:  # which grows meanwhile
        trained = trained or bool(part._parameters)
        tensors += part._parameters.values()
        tensors += part._buffers.values()
        modules += (child for child in part._modules.values() if child is not None)
    return [tensor for tensor in tensors if tensor is not None], trained

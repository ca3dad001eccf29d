"""Tables that are built once from the parameters of a module, and again after any change."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Table = TypeVar("Table")


class Tables:
    """What was built from modules' parameters and buffers, by name."""

    def __init__(self) -> None:
        self._built: dict[str, tuple[Tensor, Any]] = {}

    def get(self, name: str, module: nn.Module, build: Callable[[], Table]) -> Table:
        """Return `build()`, remembered until a tensor of `module` changes; never with a graph."""
        if torch.is_grad_enabled():
            return build()
        # Values are compared, which is cheap beside a table: versions and addresses of tensors
        # miss edits through `.data`, and memory that is freed and given out again.
        state = torch.cat([tensor.detach().flatten() for tensor in _tensors(module)])
        if name not in self._built or not _same(self._built[name][0], state):
            self._built[name] = (state, build())
        table: Table = self._built[name][1]
        return table


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Go through parameters and buffers. `Module.parameters` and `Module.buffers`, which look for
    duplicates, take as long as a whole draw of one latent vector."""
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            yield from (tensor for tensor in tensors.values() if tensor is not None)


def _same(old: Tensor, new: Tensor) -> bool:
    return old.dtype == new.dtype and old.device == new.device and torch.equal(old, new)

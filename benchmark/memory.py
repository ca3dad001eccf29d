"""How much memory a training takes, estimated on the CPU with a handful of images."""

import torch
from torch import Tensor

PROBES = (2, 4)  # images; the activations grow by the same amount with each
COPIES = 4  # of each parameter: itself, its gradient, and Adam's two moments


def training_bytes(
    model: torch.nn.Module, image_shape: tuple[int, int, int], batch_size: int
) -> int:
    """Bytes of the state, the optimiser and the activations of one training step.

    What autograd keeps for the backward pass is counted for 2 and for 4 images and continued as a
    line. Workspace and the allocator's waste come on top.
    """
    few, more = (saved_bytes(model, image_shape, count) for count in PROBES)
    each = (more - few) / (PROBES[1] - PROBES[0])
    activations = few + each * (batch_size - PROBES[0])
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    parameters = sum(_bytes(p) for p in model.parameters() if id(p) in trained)
    state = sum(_bytes(value) for value in model.state_dict().values())
    return int(state + (COPIES - 1) * parameters + activations)


def saved_bytes(model: torch.nn.Module, image_shape: tuple[int, int, int], count: int) -> int:
    """Bytes that autograd keeps of one loss over `count` images, parameters left out."""
    kept: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held = []  # a storage that is freed may give its address to the next one

    def pack(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            held.append(value)
        return value

    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, *image_shape, generator=generator)
    which = {"index": torch.arange(count)} if getattr(model, "needs_index", False) else {}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        model.loss(images, generator, **which)
    return sum(kept.values())


def _bytes(value: Tensor) -> int:
    return value.numel() * value.element_size()

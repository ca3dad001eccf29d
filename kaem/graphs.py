"""The decoder's gradient as one launch: a CUDA graph of it, for a training's batches of one shape.

A Langevin step on a GPU takes as long as its launches, and most are the decoder's. A graph makes
them again from the same places in memory: it is given inputs by copying them there, and sees
parameters that an optimiser changes in place. Random numbers are drawn outside of it, so that
chains are the same with and without.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from kaem.model import KAEM

Function = Callable[..., Tensor]

CALLS = 20  # of a kind before its graph is worth its making
MOST = 4  # graphs at once: each keeps the memory that its function needs
TOLERANCE = 1e-2  # of the largest value: another algorithm's rounding in TF32, no other function


class Graph:
    """A function of tensors that is made once and then only launched.

    Args:
        function: of tensors alone; what else it reads keeps its place in memory.
        inputs: of the shape and kind of all to come.
    """

    def __init__(self, function: Function, inputs: tuple[Tensor, ...]):
        self._inputs = [tensor.clone() for tensor in inputs]
        side, now = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(now)
        with torch.cuda.stream(side):  # what is made at a first call is no part of the graph
            function(*self._inputs)
        now.wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = function(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return the result, which holds until the next call."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._result


class Graphs:
    """Graphs of functions by kind and shape of their inputs; copies begin empty."""

    def __init__(self) -> None:
        self._calls: Counter[Hashable] = Counter()
        self._graphs: dict[Hashable, Function] = {}

    def __reduce__(self) -> tuple[type["Graphs"], tuple[()]]:
        return Graphs, ()

    def call(self, kind: Hashable, function: Function, *inputs: Tensor) -> Tensor:
        """Return `function(*inputs)`, by a graph once there were enough calls; where there can be
        none, or it finds something else, by the function itself.

        Args:
            kind: all that the function depends on but its inputs and values in memory; None where
                there is to be no graph.
        """
        if kind is None:
            return function(*inputs)
        kind = (kind, *((tensor.shape, tensor.dtype) for tensor in inputs))
        self._calls[kind] += 1
        if kind not in self._graphs:
            if self._calls[kind] < CALLS:
                return function(*inputs)
            if len(self._graphs) == MOST:
                self._graphs.clear()
                self._calls.clear()
            self._graphs[kind] = _graph_or_function(function, inputs)
        return self._graphs[kind](*inputs)


def _graph_or_function(function: Function, inputs: tuple[Tensor, ...]) -> Function:
    try:
        graph, expected = Graph(function, inputs), function(*inputs)
        error = (graph(*inputs) - expected).abs().max()
        alike = bool(error <= TOLERANCE * expected.abs().max())
    except RuntimeError:  # it waits for the GPU somewhere, or memory does not hold it
        return function
    return graph if alike else function


def kind_of_decoder(model: "KAEM", z: Tensor) -> Hashable:
    """Return what the gradient of a model's decoder depends on, for `Graphs.call`.

    None outside of training on a GPU, and for decoders with buffers, which calls may change, or
    with hooks, which a graph would leave out.
    """
    if not (z.is_cuda and model.training) or torch.cuda.is_current_stream_capturing():
        return None
    decoder, autocast = model.decoder, torch.is_autocast_enabled("cuda")
    hooked = any(part._forward_hooks or part._forward_pre_hooks for part in decoder.modules())
    if hooked or autocast or any(True for _ in decoder.buffers()):
        return None
    return model.sigma, tuple(parameter.data_ptr() for parameter in decoder.parameters())

"""When the decoder's gradient is a CUDA graph: the rules, on a CPU, with a graph that replays the
function that it was made of. tests/test_cuda.py has real ones."""

import copy
import pickle

import pytest
import torch
from torch import nn

from kaem import graphs
from kaem.graphs import CALLS, MOST, Graphs, kind_of_decoder


class Replayed:
    """What a CUDA graph does: it reads inputs and writes its result at fixed places."""

    error = 0.0

    def __init__(self, function, inputs):
        self.function, self.inputs = function, [tensor.clone() for tensor in inputs]
        self.result = function(*self.inputs)

    def __call__(self, *inputs):
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        return self.result.copy_(self.function(*self.inputs) + self.error)


class Refused(Replayed):
    def __init__(self, *_):
        raise RuntimeError("operation not permitted when stream is capturing")


class Wrong(Replayed):
    error = 1.0


@pytest.fixture
def made(monkeypatch):
    """The graphs that were made."""
    made = []
    monkeypatch.setattr(graphs, "Graph", lambda *given: made.append(Replayed(*given)) or made[-1])
    return made


def called(cache: Graphs, times: int, kind="kind", n: int = 3) -> None:
    """Call with new numbers each time; the result must be the function's."""
    for _ in range(times):
        x = torch.rand(n)
        assert torch.equal(cache.call(kind, torch.square, x), x.square())


def test_a_graph_is_made_of_what_is_called_often_and_of_nothing_else(made):
    cache = Graphs()
    called(cache, 3 * CALLS, kind=None)
    called(cache, CALLS - 1)
    assert not made
    called(cache, 10)
    assert len(made) == 1
    for kind, n in (("kind", 4), ("another", 3)):
        called(cache, CALLS + 10, kind, n)
    assert len(made) == 3
    called(cache, 10)
    assert len(made) == 3


def test_no_more_are_kept_than_memory_is_worth(made):
    cache = Graphs()
    for n in range(1, MOST + 2):
        called(cache, CALLS, n=n)
    assert len(made) == MOST + 1
    assert len(cache._graphs) == 1
    called(cache, CALLS, n=1)
    assert len(made) == MOST + 2


@pytest.mark.parametrize("graph", [Refused, Wrong])
def test_where_a_graph_cannot_be_made_or_is_wrong_the_function_is_called(graph, monkeypatch):
    monkeypatch.setattr(graphs, "Graph", graph)
    called(Graphs(), CALLS + 10)


def test_a_copy_begins_without_graphs(made):
    cache = Graphs()
    called(cache, CALLS)
    for twin in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        called(twin, 1)
        assert len(made) == 1


class OnGpu:
    is_cuda = True


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.decoder, self.sigma = nn.Sequential(nn.Linear(2, 3), nn.Tanh()), 0.3


def test_a_decoder_that_calls_change_or_watch_has_no_graph(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    model, z = Model(), OnGpu()
    kind = kind_of_decoder(model, z)
    assert kind is not None
    torch.optim.SGD(model.parameters(), 0.1).step()
    assert kind_of_decoder(model, z) == kind
    assert kind_of_decoder(model, torch.zeros(1)) is None
    assert kind_of_decoder(model.eval(), z) is None
    model.train().decoder.append(nn.BatchNorm1d(3))
    assert kind_of_decoder(model, z) is None
    del model.decoder[-1]
    handle = model.decoder[0].register_forward_hook(lambda *_: None)
    assert kind_of_decoder(model, z) is None
    handle.remove()
    model.decoder[0].weight = nn.Parameter(torch.zeros(3, 2))
    assert kind_of_decoder(model, z) not in (None, kind)

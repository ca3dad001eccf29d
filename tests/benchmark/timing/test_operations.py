"""Operations are counted; those of draws and chains stay as few as promised, and nobody waits."""

import pytest
import torch

from benchmark.timing.bench import measure_promises
from benchmark.timing.operations import operations
from benchmark.timing.promises import kaem_model, noise, promises
from kaem.langevin import run_chains
from kaem.posterior import Posterior
from paper_figures.tables import bench as table

CPU = torch.device("cpu")

# Operations whose result Python looks at: on a GPU everything before must end first.
WAITS = {"_local_scalar_dense", "equal", "is_nonzero", "nonzero"}
COUNTED = [promise for promise in promises() if promise.cost == "operations"]


def test_views_are_no_operations():
    x = torch.rand(3, 4)
    counts = operations(lambda: (x.T[1:].unsqueeze(0) + 1).sum().item())
    assert counts == {"add": 1, "sum": 1, "_local_scalar_dense": 1}
    assert WAITS & counts.keys()


@pytest.mark.parametrize("promise", COUNTED, ids=lambda promise: promise.what)
def test_promised_operations(promise):
    (row,) = measure_promises([promise], CPU, 0)
    assert 0 < row["operations"] <= promise.target
    assert table._judged(row).startswith(f"{row['operations']} operations, ")


@pytest.mark.parametrize("copula", [None, {"components": 3}])
@pytest.mark.parametrize("name", ["kaem_ula", "kaem_ula_univariate"])
def test_neither_draws_nor_chains_wait_for_a_result(name, copula):
    settings = {} if copula is None else {"copula": copula}
    model = kaem_model(name, CPU, sampler={"steps": 3, "step_size": 0.01}, **settings).eval()
    if copula:
        model.prior.fit(model.prior.sample_features(100), 2)
    posterior, z = Posterior(model, noise(CPU)), model.prior.sample(100)
    chain = lambda: run_chains(posterior, z, steps=3, step_size=0.01)  # noqa: E731
    with torch.no_grad():
        for call in (lambda: model.sample(64), lambda: model.sample_features(64), chain):
            assert not WAITS & operations(call).keys()

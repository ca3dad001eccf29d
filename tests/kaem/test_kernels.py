"""Triton's kernel against torch's calls, by Triton's interpreter, and compiled for a GPU that need
not be here."""

import os
import subprocess
import sys

import pytest
import torch
from support.priors import make_copula, sharp

from kaem import inverse

pytest.importorskip("triton", reason="Triton comes with torch's standard build on Linux alone")

INTERPRETED = """
import sys, torch
from kaem.kernels import look_up
tables = torch.load(sys.argv[1])
torch.save([look_up(*arguments) for arguments in tables], sys.argv[1])
"""


@torch.no_grad()
def lookups() -> list[tuple[torch.Tensor, ...]]:
    """Ends, columns and keys of a mixture's, a sum's and a copula's draws, far tails among them."""
    arguments, seeded = [], torch.Generator().manual_seed(0)
    for kind in ("mixture", "univariate"):
        prior = make_copula(kind, 3, shape=sharp).float()
        copula, u = prior.copula(), torch.rand(3, 600, generator=seeded)
        u[:, :300] **= 8
        u[:, 0] = 1
        table = copula.densities.inverse
        arguments.append((table._ends, table._columns, u))
        s = prior.mixture.sample(600, seeded).T.contiguous()
        s[:, :2] = torch.tensor([-1e3, 1e3])
        arguments.append((copula.quantiles._ends, copula.quantiles._columns, s))
    return arguments


def test_the_interpreted_kernel_finds_what_torchs_calls_find(tmp_path):
    path, arguments = tmp_path / "tables.pt", lookups()
    torch.save(arguments, path)
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", INTERPRETED, str(path)]
    subprocess.run(command, env=environment, check=True)
    for found, given in zip(torch.load(path), arguments, strict=True):
        torch.testing.assert_close(found, inverse.look_up(*given), atol=1e-5, rtol=0)


def test_it_compiles_for_a_gpu_to_one_kernel_with_exact_roots_and_quotients():
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from kaem import kernels

    numbers = dict.fromkeys(("OWN", "ROUNDS", "BLOCK"), "constexpr")
    pointers = dict.fromkeys(("keys", "ends", "columns", "out"), "*fp32")
    signature = {**pointers, "n": "i32", "entries": "i32", **numbers}
    constants = {"OWN": 4, "ROUNDS": 8, "BLOCK": 64}
    source = ASTSource(kernels._look_up, signature=signature, constexprs=constants)
    assembly = triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
    assert assembly.count(".entry") == 1
    assert "sqrt.rn.f32" in assembly
    assert "div.rn.f32" in assembly


class Cuda(torch.Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda = True
    device = torch.device("cpu")


@pytest.mark.parametrize("fault", ["raises", "is wrong", None])
def test_a_kernel_that_does_not_work_is_not_used(fault, monkeypatch):
    def kernel(*arguments):
        if fault == "raises":
            raise RuntimeError("no compiler")
        calls.append(fault)
        return inverse._look_up(*arguments) + (1 if fault else 0)

    calls = []
    monkeypatch.setattr("kaem.kernels.look_up", kernel)
    inverse._kernel_on.cache_clear()
    ends, columns, keys = lookups()[0]
    found = inverse.look_up(ends, columns, keys.as_subclass(Cuda))
    assert torch.equal(found.as_subclass(torch.Tensor), inverse.look_up(ends, columns, keys))
    assert len(calls) == {"raises": 0, "is wrong": 1, None: 2}[fault]
    inverse._kernel_on.cache_clear()

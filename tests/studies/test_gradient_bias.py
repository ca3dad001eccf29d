"""The three posterior samplers' gradients of log p(x) against dense quadrature, in one table.

The table is printed, and written to results/tests/gradient_bias.md, from where
`python -m paper_figures.documents tests` copies it into docs/kaem.md.
"""

import pandas as pd
import pytest
import torch
from reference.gradient_bias import Case, as_markdown, measure
from reference.posterior import ExactPosterior, toy_data, toy_model

from benchmark.base.files import atomic
from benchmark.base.paths import ROOT
from kaem import ImportanceSampling, Langevin, Thermodynamic

OUTPUT = ROOT / "results" / "tests" / "gradient_bias.md"


def importance(proposals: int) -> Case:
    sampler = ImportanceSampling(proposals, survivors=proposals, ess_threshold=0)
    return Case("importance sampling", f"S = {proposals}", sampler)


def langevin(kernel: str, steps: int, step_size: float) -> Case:
    sampler = Langevin(steps, step_size, kernel, persistent=False)
    return Case(kernel.upper(), f"n = {steps}, eta = {step_size}", sampler)


def population(temperatures: int) -> Case:
    sampler = Thermodynamic(
        temperatures, steps=4, sweeps=4, step_size=0.01, prior_step_size=0.3, persistent=False
    )
    return Case(
        "population of ULA",
        f"N_t = {temperatures}, n = 4 x 4, eta = 0.01 (t = 1) to 0.3 (t = 0)",
        sampler,
    )


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Every case on a toy with two latents, each started from the prior."""
    torch.manual_seed(0)
    model = toy_model("mixture", 2, 2)
    exact = ExactPosterior.of(model, toy_data())
    rows = [measure(model, exact, importance(s), 300) for s in (10, 100, 1000)]
    chains = [langevin("ula", n, 0.04) for n in (1, 4, 16, 64)]
    chains += [langevin("ula", 64, eta) for eta in (0.01, 0.16)]
    chains += [langevin("mala", n, 0.04) for n in (16, 64)]
    chains += [population(n) for n in (1, 2, 4, 8)]
    rows += [measure(model, exact, case, 10) for case in chains]
    return pd.DataFrame(rows)


def bias(table: pd.DataFrame, case: Case) -> float:
    chosen = table[(table["sampler"] == case.name) & (table["setting"] == case.setting)]
    return chosen["bias"].item()


def test_the_table_is_printed_and_written(table, capsys):
    text = as_markdown(table)
    with capsys.disabled():
        print(f"\nGradients of log p(x) against dense quadrature, two latents\n{text}")
    with atomic(OUTPUT) as temporary:
        temporary.write_text(text)


# The seeds are fixed; the margins are many of the table's own standard errors ("noise").


def test_importance_sampling_loses_its_bias_as_one_over_s(table):
    assert 0.03 < bias(table, importance(10)) < 0.15
    assert bias(table, importance(1000)) < 0.01


def test_more_langevin_steps_leave_less_of_the_start(table):
    biases = [bias(table, langevin("ula", n, 0.04)) for n in (1, 4, 16, 64)]
    assert biases == sorted(biases, reverse=True)
    assert biases[0] > 0.7
    assert biases[-1] < 0.15


def test_a_small_step_needs_more_steps_and_mala_agrees_with_ula(table):
    assert bias(table, langevin("ula", 64, 0.01)) > 2 * bias(table, langevin("ula", 64, 0.04))
    for steps in (16, 64):
        ula, mala = (bias(table, langevin(kernel, steps, 0.04)) for kernel in ("ula", "mala"))
        assert mala == pytest.approx(ula, abs=0.05)


def test_a_population_forgets_the_start_sooner_than_one_chain(table):
    # Sixteen steps at eta = 0.01 leave a single chain with over half of its bias.
    assert all(bias(table, population(n)) < 0.3 for n in (1, 2, 4, 8))
    assert bias(table, population(8)) < bias(table, population(1))

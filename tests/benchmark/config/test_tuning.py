"""The tuned settings are those of the best published trial, and all sides had as many trials."""

import pytest

from benchmark.base.paths import ROOT
from benchmark.config.config import load_config
from benchmark.config.jobs import job_of
from benchmark.records.record import read_record

FILES = ("cpu", "tuning", "copula_tuning", "budgets")
CPU, TUNING, COPULA, BUDGETS = (load_config(ROOT / f"config/{name}.yaml") for name in FILES)
TUNED = ("kaem_ula", "vae", "latent_ebm")
FOLDER = ROOT / "results/published/tuning/metrics/mnist"


def trials(model: str) -> list[str]:
    return [entry for entry in TUNING.models if TUNING.architecture(entry) == model]


def distance(entry: str) -> float:
    """FD-classifier against the validation split."""
    record = read_record(FOLDER / entry / "seed0.json")
    assert record.config_hash == job_of(TUNING, "metrics", "mnist", entry).config_hash
    (found,) = (m.value for m in record.metrics.values if m.name == "fd_classifier")
    return found


def settings(config, entry: str) -> dict:
    """All that a trial may vary, and what it may not; but for the updates."""
    training = job_of(config, "training", "mnist", entry).settings.training.plain()
    kept = {key: value for key, value in training.items() if key != "updates"}
    return {"model": config.model_settings("mnist", entry), "training": kept}


def test_every_tuned_model_had_as_many_trials():
    assert {len(trials(model)) for model in TUNED} == {12}
    assert len(COPULA.models) <= 12


@pytest.mark.parametrize("model", TUNED)
def test_the_best_trial_was_taken(model):
    # KAEM-ULA's is one with the passes of the latent EBM, which it is compared with.
    passes = TUNING.entry("latent_ebm_start").passes
    tried = [t for t in trials(model) if model != "kaem_ula" or TUNING.entry(t).passes == passes]
    assert settings(CPU, model) == settings(TUNING, min(tried, key=distance))


@pytest.mark.parametrize("model", BUDGETS.budgets())
def test_budgets_are_those_of_the_same_settings(model):
    for entry in BUDGETS.budgets()[model].values():
        assert settings(BUDGETS, entry) == settings(CPU, model)

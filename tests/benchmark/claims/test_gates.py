"""Health gates: bounds that broken models fail and healthy ones meet."""

import itertools

import pytest
from support.configs import MODEL_SETTINGS, tiny_config

from benchmark.claims.gates import EVERY_MODEL, Gate, failures, load_gates
from benchmark.config.facts import known_datasets
from benchmark.config.registry import MODELS

MEANS = {
    ("mnist", "vae"): {"fd_classifier": 100.0, "recall_classifier": 0.5},
    ("mnist", "ddim_50"): {"fd_classifier": 120.0, "recall_classifier": 0.05},
}


def test_a_number_bounds_from_below_and_from_above():
    least = Gate(metric="recall_classifier", at_least={"mnist": 0.1})
    assert least.failure(MEANS, "mnist", "vae") is None
    assert least.failure(MEANS, "mnist", "ddim_50") == (
        "recall_classifier 0.05, at least 0.1 expected"
    )
    most = Gate(metric="fd_classifier", at_most={"mnist": 110})
    assert most.failure(MEANS, "mnist", "vae") is None
    assert most.failure(MEANS, "mnist", "ddim_50") == "fd_classifier 120, at most 110 expected"


def test_bounds_are_inclusive_and_another_entry_is_to_be_undercut():
    at = {"metric": "fd_classifier"}
    assert Gate(**at, at_least={"any": 100}).failure(MEANS, "mnist", "vae") is None
    assert Gate(**at, at_most={"any": 100}).failure(MEANS, "mnist", "vae") is None
    equal = MEANS | {("mnist", "ddim_50"): MEANS["mnist", "vae"]}
    assert Gate(**at, below="vae").failure(equal, "mnist", "ddim_50")


def test_a_dataset_has_its_own_bound_or_that_of_any():
    gate = Gate(metric="fd_classifier", at_most={"digits": 1, "any": 110})
    means = MEANS | {("digits", "vae"): {"fd_classifier": 100.0}}
    assert gate.failure(means, "mnist", "vae") is None
    assert gate.failure(means, "digits", "vae")
    assert (
        Gate(metric="fd_classifier", at_most={"digits": 1}).failure(MEANS, "mnist", "vae") is None
    )


def test_another_entry_may_be_the_bound():
    gate = Gate(metric="fd_classifier", below="vae")
    assert gate.failure(MEANS, "mnist", "ddim_50") == "fd_classifier 120, not below vae's 100"
    better = MEANS | {("mnist", "ddim_50"): {"fd_classifier": 99.0}}
    assert gate.failure(better, "mnist", "ddim_50") is None
    assert gate.failure(MEANS, "mnist", "vae") is None  # which is that entry itself


@pytest.mark.parametrize("missing", ["value", "metric", "other"])
def test_what_was_not_measured_fails_nothing(missing):
    means = {} if missing == "value" else {("mnist", "ddim_50"): MEANS["mnist", "ddim_50"]}
    for bound in ({"below": "vae"}, {"at_least": {"any": 1000}}):
        if bound == {"below": "vae"} or missing != "other":
            metric = "class_coverage" if missing == "metric" else "fd_classifier"
            assert Gate(metric=metric, **bound).failure(means, "mnist", "ddim_50") is None


def test_the_committed_gates():
    found = load_gates()
    assert set(found) - {EVERY_MODEL} <= set(MODELS)
    # Each baseline has one of its own, and KAEM those of every model.
    assert {name for name in MODELS if not name.startswith("kaem")} <= set(found)
    assert {gate.metric for gate in found[EVERY_MODEL]} == {"class_coverage", "recall_classifier"}
    for gate in itertools.chain(*found.values()):
        for bounds in (gate.at_least or {}, gate.at_most or {}):
            assert set(bounds) <= {*known_datasets(), "any"}


def test_a_collapsed_model_fails_and_variants_have_their_models_gates():
    config = tiny_config(
        {
            "models.ddim_5": {"model": "ddpm", **MODEL_SETTINGS["ddpm"]},
            "models.ddim_10": {"weights_of": "ddim_5", "sampler": {"kind": "ddim", "steps": 10}},
        }
    )
    healthy = {"fd_classifier": 5.0, "recall_classifier": 0.6, "class_coverage": 0.8}
    means = {("digits", name): dict(healthy) for name in ("vae", "ddim_5", "ddim_10")}
    means["digits", "vae"]["fd_classifier"] = 6.0
    assert failures(config, means, "digits", "ddim_10") == []
    means["digits", "ddim_10"] |= {"fd_classifier": 7.0, "class_coverage": 0.0}
    assert failures(config, means, "digits", "ddim_10") == [
        "class_coverage 0, at least 0.2 expected",
        "fd_classifier 7, not below vae's 6",
    ]

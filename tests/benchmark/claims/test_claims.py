"""Claims: the committed file, verdicts on records whose truth is known, and what forbids one."""

import itertools
import json
import math
import operator
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from support.claims import QUALITY, SPEED, UPDATE, a_claim
from support.configs import CONFIG_FOLDER, FACES, MODEL_SETTINGS, RUN_CONFIGS
from support.records import forge, mnist_config, write_quality, write_timing, write_training

from benchmark.base.errors import RecordError
from benchmark.claims.claims import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    OWN_CLAIMS,
    SUPPORTED,
    Claim,
    load_claims,
)
from benchmark.claims.report import report
from benchmark.config.config import load_config
from benchmark.config.jobs import job_of

RECALL = a_claim(metric="recall_classifier", effect="difference", comparison="above", margin=0.05)
OURS, THEIRS = [50.0, 52.0, 51.0], [100.0, 108.0, 96.0]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """An empty working directory, where results go."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def verdicts(config, *claims, of="verdicts"):
    """The verdicts on the paper's claims, or this suite's own, as the command reports them."""
    report(config, list(claims))
    return json.loads(Path("results/tiny/claims.json").read_text())[of]


def verdict(config, about):
    """The only verdict on one claim."""
    (found,) = verdicts(config, about)
    return found


def write_both(config, ours=OURS, theirs=THEIRS, metric="fd_classifier", **others):
    for model, values in (("kaem_ula", ours), ("vae", theirs)):
        for seed, value in enumerate(values):
            write_quality(config, model, seed, **{metric: value}, **others)
            write_training(config, model, seed, value + len(model))


# The committed file -----------------------------------------------------------------------------


def test_every_committed_claim_can_be_judged_by_some_committed_configuration():
    found = load_claims()
    configs = [load_config(path) for path in RUN_CONFIGS]
    for claim in found:
        # A misspelt entry would be "not in this run" everywhere.
        assert claim.not_measured or any(set(claim.entries) <= set(c.models) for c in configs)
        assert claim.evidence in ("L0", "L2", "L4")
        # A misspelt setting would be at its default on both sides.
        for config, entry in itertools.product(configs, claim.entries):
            if entry in config.models and claim.shared:
                operator.attrgetter(*claim.shared)(config.entry(entry))
    assert {"faster_than_ddpm_1000", "quality_of_vae", "exact_sampling"} <= {c.id for c in found}


def test_what_quotes_the_abstract_says_of_which_version_and_the_page_shows_it():
    for claim in load_claims():
        assert bool(claim.version) == ("abstract" in claim.source), claim.id
    config = mnist_config()
    write_both(config)
    report(config, [a_claim(version="v4 to v14"), a_claim(id="own", of="suite")])
    for page in ("verdicts.md", "claims.md"):
        papers, _, ours = Path("results/tiny", page).read_text().partition(OWN_CLAIMS)
        assert "| v4 to v14" in papers, page
        assert "Abstract" not in ours, page


@pytest.mark.parametrize("name", ["cpu", "paper", "colour"])
def test_the_configurations_can_decide_what_rests_on_equal_passes(name):
    config = load_config(CONFIG_FOLDER / f"{name}.yaml")
    for claim in load_claims():
        if "passes" in claim.shared and set(claim.entries) <= set(config.models):
            shared = operator.attrgetter(*claim.shared)
            ours, theirs = (shared(config.entry(entry)) for entry in claim.entries)
            assert ours == theirs is not None, claim.id


def updates_of(config, entry: str) -> int:
    job = job_of(config, "training", config.datasets[0], config.trained_entry(entry))
    return job.settings.training.updates


def test_the_papers_claims_are_about_its_model_and_the_suites_own_give_its_rivals_no_less():
    for config, claim in itertools.product(map(load_config, RUN_CONFIGS), load_claims()):
        if set(claim.entries) <= set(config.models):
            entries = [config.entry(entry) for entry in claim.entries]
            copulas = [getattr(entry, "copula", None) is not None for entry in entries]
            assert copulas == [claim.of == "suite", False][: len(entries)], claim.id
            # Fewer passes of the decoder a draw and fewer updates: no rival's handicap.
            if claim.kind == "metrics" and claim.of == "suite" and len(entries) == 2:
                ours, theirs = (updates_of(config, entry) for entry in claim.entries)
                assert ours <= theirs, claim.id
                passes = getattr(entries[1], "passes", None)
                assert passes is None or entries[0].passes <= passes, claim.id


# Verdicts ---------------------------------------------------------------------------------------


def test_a_verdict_asks_for_the_whole_interval():
    for comparison, effect, margin, interval, expected in (
        ("below", "ratio", 1.1, (0.9, 1.05), SUPPORTED),
        ("below", "ratio", 1.1, (1.2, 1.3), CONTRADICTED),
        ("below", "ratio", 1.1, (1.0, 1.2), INCONCLUSIVE),
        ("above", "ratio", 2.0, (2.1, 3.0), SUPPORTED),
        ("above", "difference", 0.5, (0.1, 0.4), CONTRADICTED),
        ("within", "ratio", 1.25, (0.81, 1.2), SUPPORTED),
        ("within", "ratio", 1.25, (0.5, 0.79), CONTRADICTED),
        ("within", "difference", 0.1, (-0.2, 0.05), INCONCLUSIVE),
    ):
        claim = a_claim(comparison=comparison, effect=effect, margin=margin)
        scale = math.log if effect == "ratio" else float
        assert claim.verdict(*map(scale, interval)) == expected, (comparison, effect, interval)


def test_quality_over_seeds():
    config = mnist_config()
    write_both(config)
    found = verdict(config, QUALITY)
    assert found["verdict"] == SUPPORTED
    assert found["effect"] == pytest.approx(stats.gmean(OURS) / stats.gmean(THEIRS))
    expected = stats.ttest_ind(np.log(OURS), np.log(THEIRS), equal_var=False)
    assert found["interval"] == pytest.approx(np.exp(expected.confidence_interval(0.95)))
    assert found["seeds"] == {"kaem_ula": [0, 1, 2], "vae": [0, 1, 2]}
    assert found["values"] == {"kaem_ula": OURS, "vae": THEIRS}
    assert len(found["records"]) == 6
    assert all(json.loads(Path(f).read_text())["digest"] == d for f, d in found["records"].items())
    trainings = sum(OURS) + 3 * len("kaem_ula") + sum(THEIRS) + 3 * len("vae")
    assert found["seconds"] == pytest.approx(trainings + 6 * 2.0)
    text = Path("results/tiny/claims.md").read_text()
    assert "1 supported, 0 contradicted, 0 inconclusive, 0 not run" in text
    assert re.search(r"^\| KAEM is as good. \| +\| MNIST", text, re.MULTILINE)
    assert "not read" not in text
    verdict(mnist_config(seeds=[0, 1]), QUALITY)
    text = Path("results/tiny/claims.md").read_text()
    assert "4 records of other datasets, entries or seeds: not read." in text


def test_swapped_sides_swap_the_verdict():
    config = mnist_config()
    write_both(config, ours=THEIRS, theirs=OURS)
    assert verdict(config, QUALITY)["verdict"] == CONTRADICTED
    assert verdict(config, a_claim(comparison="above"))["verdict"] == (SUPPORTED)


@pytest.mark.parametrize(
    ("seeds", "reason", "swapped"),
    [(1, "one seed", False), (2, "2 of 3 seeds", False), (1, "one seed", True)],
)
def test_few_seeds_neither_support_nor_contradict(seeds, reason, swapped):
    config = mnist_config()
    sides = [[value / 1000 for value in OURS[:seeds]], THEIRS]  # far apart
    write_both(config, *(reversed(sides) if swapped else sides))
    found = verdict(config, QUALITY)
    assert (found["verdict"], found["reasons"]) == (INCONCLUSIVE, [reason])
    assert (found["interval"] is None) == (seeds == 1)
    few = "vae" if swapped else "kaem_ula"
    missing = ", ".join(str(seed) for seed in range(seeds, 3))
    assert f"{few}: no record of seed {missing}" in found["notes"]


@pytest.mark.parametrize("worse", [False, True])
@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        # An ill model cannot win, but it can lose; against an ill rival nothing is decided.
        (0.05, 0.5, (INCONCLUSIVE, CONTRADICTED)),
        (0.5, 0.05, (INCONCLUSIVE, INCONCLUSIVE)),
        (0.05, 0.04, (INCONCLUSIVE, INCONCLUSIVE)),
        (0.5, 0.4, (SUPPORTED, CONTRADICTED)),
    ],
)
def test_what_a_failed_health_gate_forbids(ours, theirs, expected, worse):
    config = mnist_config()
    sides = {"kaem_ula": (ours, OURS), "vae": (theirs, THEIRS)}
    for (model, (recall, _)), values in zip(
        sides.items(), (THEIRS, OURS) if worse else (OURS, THEIRS), strict=True
    ):
        for seed, value in enumerate(values):
            recalled = recall + seed / 1000
            write_quality(config, model, seed, fd_classifier=value, recall_classifier=recalled)
            write_training(config, model, seed, value + len(model))
    found = verdict(config, QUALITY)
    assert found["verdict"] == expected[worse]
    ill = [model for model, (recall, _) in sides.items() if recall < 0.1]
    forbidden = found["verdict"] == INCONCLUSIVE
    assert found["reasons"] == [f"{m} failed its health gate" for m in ill[-1:] if forbidden]
    noted = [note for note in found["notes"] if "at least 0.1 expected" in note]
    assert [note.split()[0] for note in noted] == ill


def test_a_gate_that_is_the_claims_subject_forbids_nothing():
    config = mnist_config()
    write_both(config, [0.8, 0.82, 0.81], [0.06, 0.04, 0.05], metric="recall_classifier")
    found = verdict(config, RECALL)
    assert (found["verdict"], found["reasons"]) == (INCONCLUSIVE, ["vae failed its health gate"])
    despite = a_claim(RECALL, despite=["recall_classifier"])
    assert verdict(config, despite)["verdict"] == SUPPORTED
    # Another gate still counts.
    for seed in config.seeds:
        write_quality(config, "vae", seed, recall_classifier=0.05 + seed / 100, class_coverage=0.1)
    assert verdict(config, despite)["reasons"] == ["vae failed its health gate"]


def test_a_demo_decides_nothing():
    config = mnist_config(budget="demo")
    write_both(config)
    found = verdict(config, QUALITY)
    assert (found["verdict"], found["reasons"]) == (INCONCLUSIVE, ["demo budget"])


@pytest.mark.parametrize(
    ("drawn", "real", "reasons"),
    [
        (2047, 4000, ["a distance from 2,047 images, fewer than 2,048"]),
        (4000, 2047, ["a distance from 2,047 images, fewer than 2,048"]),
        (2048, 2048, []),
    ],
)
def test_a_distance_from_few_images_decides_nothing(drawn, real, reasons):
    splits = {split: {"part": split, "count": real} for split in ("train", "test")}
    own = {"datasets": ["faces"], "own_datasets.faces": FACES | {"splits": splits}}
    config = mnist_config(**own, **{"evaluation.references": {"test": drawn}})
    for model, values in (("kaem_ula", OURS), ("vae", THEIRS)):
        for seed, value in enumerate(values):
            write_quality(config, model, seed, "faces", drawn, fd_classifier=value)
    assert verdict(config, a_claim(datasets=["faces"]))["reasons"] == reasons


def test_a_difference_of_shares():
    config = mnist_config()
    write_both(config, [0.8, 0.82, 0.81], [0.6, 0.62, 0.64], metric="recall_classifier")
    found = verdict(config, RECALL)
    assert (found["verdict"], found["effect"]) == (SUPPORTED, pytest.approx(0.19))


def test_a_claim_may_have_a_number_for_each_dataset():
    config = mnist_config(datasets=["mnist", "fashion_mnist"])
    for (dataset, level), seed in itertools.product(
        (("mnist", 4.0), ("fashion_mnist", 9.0)), config.seeds
    ):
        value = level + seed / 10
        write_quality(config, "kaem_ula", seed, dataset, fd_classifier=value, recall_classifier=0.5)
    datasets = ["mnist", "fashion_mnist"]
    claim = a_claim(against=dict(zip(datasets, (5.0, 3.0), strict=True)), datasets=datasets)
    found = verdicts(config, a_claim(claim, margin=1.0))
    assert [one["verdict"] for one in found] == [SUPPORTED, CONTRADICTED]
    assert [one["claim"]["against"] for one in found] == [5.0, 3.0]
    with pytest.raises(ValueError, match="a number for each of the datasets"):
        a_claim(claim, datasets=["mnist"])


def test_a_latency_rests_on_repetitions_and_a_margin_for_drift():
    config = mnist_config()
    write_timing(config, "kaem_ula", {4: 2.0})
    write_timing(config, "vae", {4: 21.0})
    found = verdict(config, SPEED)
    # The ratio is below 0.1, and so would be its interval without the drift of 10%.
    assert (found["verdict"], found["effect"]) == (INCONCLUSIVE, pytest.approx(2 / 21))
    error = 1.2533 * math.log(1.01**2) / 1.349 / 10 * math.sqrt(2)
    half = error * stats.t.ppf(0.975, 2 * 0.37 * 99)
    ends = [2 / 21 * math.exp(-half) / 1.1, 2 / 21 * math.exp(half) * 1.1]
    assert found["interval"] == pytest.approx(ends, rel=1e-3)
    write_timing(config, "vae", {4: 24.0})
    found = verdict(config, SPEED)
    assert (found["verdict"], found["device"]) == (SUPPORTED, "cpu")
    assert any(note.startswith("times on ") for note in found["notes"])
    assert "timed apart, not in turns" not in found["notes"]
    # Apart, its end is a factor of two further out.
    write_timing(config, "vae", {4: 24.0}, session="f" * 16)
    found = verdict(config, SPEED)
    assert found["verdict"] == INCONCLUSIVE
    assert "timed apart, not in turns" in found["notes"]
    ends = [2 / 24 * math.exp(-half) / 2, 2 / 24 * math.exp(half) * 2]
    assert found["interval"] == pytest.approx(ends, rel=1e-3)
    assert verdict(config, a_claim(SPEED, metric="nfe", batch_size=None, against=1))["effect"] == 1


def test_an_update_is_timed_in_turns_as_well():
    config = mnist_config()
    write_timing(config, "kaem_ula", {4: 50.0}, update=2.0)
    write_timing(config, "vae", {4: 1.0}, update=40.0)
    found = verdict(config, UPDATE)
    assert (found["verdict"], found["effect"]) == (SUPPORTED, pytest.approx(0.05))
    assert found["values"] == {"kaem_ula": [2.0], "vae": [40.0]}
    low, high = found["interval"]
    assert high / low > 1.1**2  # drift, at both ends
    # A setting on which the cost depends has to be the same where the claim says so.
    alike = a_claim(UPDATE, against="kaem_thermo", shared=["sampler.steps"])
    settings = {"models.kaem_thermo": MODEL_SETTINGS["kaem_thermo"]}
    for steps, reasons in ((3, ["sampler.steps of 2 and 3"]), (2, [])):
        config = mnist_config(
            **settings,
            **{"models.kaem_thermo.sampler.steps": steps, "models.kaem_ula.sampler.steps": 2},
        )
        write_timing(config, "kaem_ula", {4: 50.0}, update=2.0)
        write_timing(config, "kaem_thermo", {4: 1.0}, update=40.0)
        found = verdict(config, alike)
        assert (found["verdict"] == SUPPORTED, found["reasons"]) == (not reasons, reasons)


def test_all_updates_of_a_training():
    config = mnist_config(**{"training.updates": 300, "models.kaem_ula.training.updates": 10})
    write_timing(config, "kaem_ula", {4: 50.0}, update=2.0)
    write_timing(config, "vae", {4: 1.0}, update=4.0)
    found = verdict(config, a_claim(UPDATE, metric="all_updates"))
    assert (found["verdict"], found["effect"]) == (SUPPORTED, pytest.approx(20 / 1200))
    assert found["values"] == {"kaem_ula": [20.0], "vae": [1200.0]}


@pytest.mark.parametrize(
    ("sampler", "reasons"),
    [
        ({"temperatures": 2, "steps": 5, "persistent": False}, []),
        ({"temperatures": 2, "steps": 1, "sweeps": 5, "persistent": False}, []),
        ({"temperatures": 2, "steps": 5}, ["sampler.persistent of False and its default"]),
        ({"temperatures": 2, "steps": 4, "persistent": False}, ["passes of 10 and 8"]),
    ],
)
def test_what_unequal_chains_found_decides_nothing(sampler, reasons):
    config = mnist_config(
        **{
            "models.kaem_thermo": MODEL_SETTINGS["kaem_thermo"]
            | {"sampler": {"step_size": 0.03} | sampler}
        }
    )
    for model, values in (("kaem_ula", OURS), ("kaem_thermo", THEIRS)):
        for seed, value in enumerate(values):
            write_quality(config, model, seed, fd_classifier=value)
    claim = a_claim(against="kaem_thermo", shared=["passes", "sampler.persistent"])
    found = verdict(config, claim)
    assert (found["verdict"] == SUPPORTED, found["reasons"]) == (not reasons, reasons)


@pytest.mark.parametrize("model", ["kaem_ula", "latent_ebm", "latent_ebm_thermo", "kaem_is"])
def test_passes_of_an_entry(model):
    ebms = {f"models.{name}": MODEL_SETTINGS[name] for name in ("latent_ebm", "latent_ebm_thermo")}
    changes = {"models.latent_ebm.posterior_steps": 7, "models.latent_ebm_thermo.sweeps": 3}
    config = mnist_config(**ebms, **changes)
    expected = {"kaem_ula": 10, "latent_ebm": 7, "latent_ebm_thermo": 60, "kaem_is": None}[model]
    assert config.entry(model).passes == expected


@pytest.mark.parametrize(
    ("claim", "change", "reason"),
    [
        (SPEED, lambda r: r["provenance"].update(cpu="another"), "timed on different machines"),
        (UPDATE, lambda r: r["provenance"].update(threads=64), "timed on different machines"),
        (
            UPDATE,
            lambda r: r["metrics"]["update"].update(batch_size=7),
            "trained in batches of different sizes",
        ),
        (UPDATE, lambda r: r["metrics"].update(disturbed=True), "timed beside other work"),
    ],
)
def test_times_that_are_not_comparable(claim, change, reason):
    config = mnist_config()
    write_both(config)
    for model, median in (("kaem_ula", 2.0), ("vae", 90.0)):
        write_timing(config, model, {4: median}, update=median)
    assert verdict(config, claim)["verdict"] == SUPPORTED
    forge(Path("results/tiny/timing/cpu/mnist/vae.json"), change)
    found = verdict(config, claim)
    assert (found["verdict"], found["reasons"]) == (INCONCLUSIVE, [reason])


NEVER = Claim(id="a", claim="A.", source="b", datasets=["mnist"], not_measured="nobody knows")
MISSING = [
    (a_claim(datasets=["svhn"]), "not in this run"),
    (a_claim(against="ddpm_1000"), "ddpm_1000 is not in this run"),
    (a_claim(against="kaem_is"), "kaem_is: no metrics record"),
    (a_claim(metric="fid", model="vae"), "vae: fid was not measured"),
    (a_claim(SPEED, model="vae", batch_size=64), "vae: latency of batch size 64 was not measured"),
    (a_claim(UPDATE, model="vae"), "vae: update was not measured"),
    (
        NEVER,
        "nobody knows",
    ),
]


def test_what_is_missing_is_said():
    config = mnist_config()
    write_both(config)
    write_timing(config, "vae", {4: 1.0})
    for claim, reason in MISSING:
        found = verdict(config, claim)
        assert found["verdict"] == NOT_RUN
        assert reason in found["reasons"]
        assert f"- {claim.claim} " in Path("results/tiny/claims.md").read_text()


def test_there_is_no_ratio_of_a_share_that_is_zero():
    config = mnist_config()
    write_both(config, ours=[0.0, 0.1, 0.2], theirs=[0.5, 0.6, 0.7], metric="recall_classifier")
    found = verdict(config, a_claim(metric="recall_classifier"))
    assert (found["verdict"], found["effect"]) == (INCONCLUSIVE, None)
    assert found["reasons"] == ["a value is not positive: there is no ratio"]


def test_the_short_page_has_a_row_for_each_claim_that_was_judged():
    config = mnist_config(datasets=["mnist", "fashion_mnist"])
    speed = a_claim(SPEED, id="speed", claim="KAEM is as fast.")
    asked = [a_claim(datasets=["mnist", "fashion_mnist"]), speed]
    write_both(config)
    report(config, asked)
    text = Path("results/tiny/verdicts.md").read_text()
    assert speed.claim not in text
    (row,) = (line for line in text.splitlines() if QUALITY.claim in line)
    ours, theirs = (np.mean(side) for side in (OURS, THEIRS))
    assert f"| **supported** (ratio {ours / theirs:.2g}, " in row
    assert "Fashion-MNIST" not in text  # nothing was judged there
    for model, median in (("kaem_ula", 2.0), ("vae", 90.0)):
        write_timing(config, model, {4: median})
    report(config, asked)
    assert f"| {speed.claim} (CPU)" in Path("results/tiny/verdicts.md").read_text()


def test_this_suites_own_claims_stand_apart_from_the_papers():
    config = mnist_config()
    write_both(config)
    own = a_claim(of="suite", id="own", claim="Ours is better.", margin=0.1)
    (found,) = verdicts(config, QUALITY, own, of="own_verdicts")
    assert (found["claim"]["id"], found["verdict"]) == ("own", CONTRADICTED)
    assert [v["claim"]["id"] for v in verdicts(config, QUALITY, own)] == ["quality"]
    for page, count in (("verdicts.md", ""), ("claims.md", "1 supported, 0 contradicted")):
        text = Path("results/tiny", page).read_text()
        papers, _, ours = text.partition(OWN_CLAIMS)
        assert count in papers
        assert (QUALITY.claim in papers, own.claim in papers) == (True, False), page
        assert (QUALITY.claim in ours, own.claim in ours) == (False, True), page


def test_the_short_page_where_nothing_was_judged():
    config = mnist_config()
    write_both(config)
    report(config, [a_claim(datasets=["svhn"])])
    assert "No claim could be judged" in Path("results/tiny/verdicts.md").read_text()


def test_records_that_are_not_what_they_should_be_leave_no_verdict():
    config = mnist_config()
    write_both(config)
    forge(Path("results/tiny/metrics/mnist/vae/seed2.json"), lambda r: r.update(run="other"))
    with pytest.raises(RecordError, match="belongs to another job"):
        verdict(config, QUALITY)
    assert not Path("results/tiny/claims.json").exists()
    with pytest.raises(RecordError, match="no records are there"):
        verdict(mnist_config(run="another"), QUALITY)

"""Planning: what a check costs, scaled to this machine, and the commands that make it."""

import argparse
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from support.claims import SPEED, a_claim
from support.configs import MODEL_SETTINGS, RUN_CONFIGS, tiny_config
from support.records import mnist_config, write_quality, write_timing, write_training

from benchmark import cli
from benchmark.base.errors import RecordError
from benchmark.base.paths import ROOT
from benchmark.base.progress import duration
from benchmark.base.tensors import LEFT_OUT, write_tensors
from benchmark.claims import machine, plan
from benchmark.claims.claims import OWN_CLAIMS
from benchmark.claims.machine import Machine, measure
from benchmark.config.config import load_config
from benchmark.config.jobs import jobs
from benchmark.records.folder import by_subject, read_folder

CONFIG = mnist_config()
PUBLISHED = [p for p in RUN_CONFIGS if (ROOT / "results/published" / p.stem).is_dir()]
QUALITY = a_claim(datasets=["mnist", "svhn"])
FASTER = a_claim(SPEED, id="faster", against=1.0)
ESS = a_claim(id="ess", metric="ess")
# A machine on which an update of KAEM takes three times as long, and of a VAE as long.
SLOW = Machine(
    slower={("mnist", "kaem_ula"): 3.0, ("mnist", "vae"): 1.0},
    image={("mnist", "kaem_ula"): 0.001, ("mnist", "vae"): 0.002},
)


@pytest.fixture(autouse=True)
def records(tmp_path, monkeypatch) -> None:
    """Trainings of 100 and of 40 seconds, measured in 2 and timed in 3 seconds."""
    monkeypatch.chdir(tmp_path)
    for model, seconds in (("kaem_ula", 100.0), ("vae", 40.0)):
        write_timing(CONFIG, model, {4: seconds})
        for seed in CONFIG.seeds:
            # Seeds differ by a little, and their mean is what was said.
            write_training(CONFIG, model, seed, seconds + seed - 1)
            write_quality(CONFIG, model, seed, fd_classifier=seconds + seed)


def test_recorded_costs_are_scaled():
    costs = plan.Costs(CONFIG, read_folder("results/tiny"), SLOW, {})
    for about, level, seconds, count in (
        (QUALITY, "L1", 2 * 2 * 2, 2),  # two evaluations, at the median of 2
        (QUALITY, "L2", 8 + 10 + 20, 4),  # and 10,000 images of each
        (ESS, "L3", 3 * 100 + 40, 2),
        (ESS, "L4", 3 * 340, 6),
        (SPEED, "L2", 2 * 2 * 3, 2),
        (SPEED, "L3", 340 + 12, 4),
    ):
        steps = plan.steps(CONFIG, about, "mnist", level, ["cpu"])
        assert len(steps) == count, (about.id, level)
        assert costs.total(steps) == pytest.approx(seconds), (about.id, level)


def test_the_plan_lists_levels_within_the_budget_and_commands_that_parse():
    given = {"claims": [QUALITY, SPEED, FASTER, ESS], "machine": SLOW, "trainings": {}}
    for folder, suffix in (("samples", "npz"), ("weights", "safetensors")):
        for model in ("kaem_ula", "vae"):
            file = Path(f"results/tiny/{folder}/mnist/{model}/seed0.{suffix}")
            file.parent.mkdir(parents=True)
            file.write_text(model)
    text = plan.plan(CONFIG, ["--config", "a b.yaml"], 400.0, **given)
    assert "takes 2 times as long here as in the records (median of 2 models, 1 to 3)" in text
    rows = [[c.strip() for c in r.split("|")[2:-1]] for r in text.splitlines() if "| KAEM" in r]
    assert rows == [
        # The classifier's training is not recorded, so whatever trains has no known cost.
        ["MNIST", "8 s", "38 s", "unknown", "unknown", "L4", "L2"],
        ["MNIST", "", "12 s", "6 min", "", "L2", "L2"],
        ["MNIST", "", "6 s", "5 min", "", "L2", "L2"],
        ["MNIST", "", "", "6 min", "17 min", "L4", "L3"],
    ]
    commands = [line for line in text.splitlines() if line.startswith("python")]
    assert len(commands) == 1 + 4 + 1 + 2 + 1
    for command in commands:
        words = shlex.split(command)
        assert words[:3] == ["python", "-m", "benchmark"]
        options = cli._parser().parse_args(words[3:])
        assert options.config == "a b.yaml"
    # What several claims want timed is timed once, in turns.
    assert "# speed, faster on mnist: in turns, 12 s\n" in text
    assert "--dataset mnist --model kaem_ula --model vae --seed 0 --device cpu --untrained" in text
    # With another's records the last step is to compare.
    Path("results/tiny").rename("theirs")
    assert plan.plan(CONFIG, [], 400.0, "theirs", **given).endswith(
        "python -m benchmark claims\npython -m benchmark compare results/tiny theirs\n```"
    )
    # What is published has weights, which come first.
    Path("results/published").mkdir()
    Path("theirs").rename("results/published/tiny")
    published = plan.plan(CONFIG, [], 400.0, "results/published/tiny", **given)
    commands = [line for line in published.splitlines() if line.startswith("python")]
    assert commands[:2] == ["python -m benchmark preflight", "python -m benchmark restore"]
    assert re.search(r"MNIST +\| +\| 38 s", published)  # of samples a few alone are published
    assert plan.plan(CONFIG, [], 400.0, **given) == published  # as in a fresh clone
    # A likelihood takes the encoder, which is not published.
    asks = mnist_config(**{"evaluation.likelihood": {"split": "test", "images": 4, "passes": 8}})
    weights = Path("results/published/tiny/weights/mnist")
    for model, header in (("kaem_ula", {}), ("vae", {LEFT_OUT: ["encoder.weight"]})):
        write_tensors(weights / model / "seed0.safetensors", {"w": torch.zeros(3)}, header)
    assert re.search(r"MNIST +\| +\| +\| unknown", plan.plan(asks, [], 400.0, **given))
    shutil.rmtree(weights / "vae")  # as of a model that is too large
    assert re.search(r"MNIST +\| +\| +\| unknown", plan.plan(CONFIG, [], 400.0, **given))
    with pytest.raises(RecordError, match="elsewhere: no records are there"):
        plan.plan(CONFIG, [], 400.0, "elsewhere", **given)


def test_trainings_without_a_record_are_measured(monkeypatch):
    shutil.rmtree("results/tiny/training/mnist/vae")  # nor has KAEM-IS any
    found = {("mnist", "vae"): 500.0}
    text = plan.plan(CONFIG, [], 400.0, machine=SLOW, trainings=found, claims=[QUALITY])
    assert "6 trainings have no record: about 50 min here, one after the other" in text
    assert re.search(r"^\| MNIST +\| vae +\| 8 min", text, re.MULTILINE)
    costs = plan.Costs(CONFIG, read_folder("results/tiny"), SLOW, found)
    assert costs.of(plan.Step("train", "mnist", "vae", 0)) == 500.0
    # As before any run. A batch of 20 is measured by smaller ones, on the line through the last.
    shutil.rmtree("results/tiny")
    monkeypatch.setattr(machine, "step_call", lambda _, images: len(images))
    monkeypatch.setattr(machine, "seconds_of", lambda size, _: 3.0 + 2.0 * size)
    threads = torch.get_num_threads()
    text = plan.plan(CONFIG, [], 400.0, claims=[QUALITY])
    torch.set_num_threads(threads)
    updates = CONFIG.resolved("mnist").training.updates
    assert f"9 trainings have no record: about {duration(9 * 43.0 * updates)} here" in text


def test_real_updates_are_measured_as_many_models_as_the_time_allows():
    threads = torch.get_num_threads()
    trainings = jobs(CONFIG, "training")
    found = machine.measure_trainings(CONFIG, trainings, seconds=1e-9)
    torch.set_num_threads(threads)
    assert [seconds > 0 for seconds in found.values()] == [True]
    assert machine.whole_time(trainings, found) == pytest.approx(9 * sum(found.values()))


def test_this_suites_own_claims_have_a_table_of_their_own():
    given = [QUALITY, a_claim(SPEED, of="suite", claim="Ours is as fast.")]
    text = plan.plan(CONFIG, [], 400.0, claims=given, machine=SLOW, trainings={})
    papers, _, ours = text.partition(OWN_CLAIMS)
    assert (QUALITY.claim in papers, QUALITY.claim in ours) == (True, False)
    assert (given[1].claim in papers, given[1].claim in ours) == (False, True)


def test_published_classifiers_alone_are_no_records_of_costs():
    # As `benchmark restore` leaves them in the run's own folder.
    given = {"claims": [SPEED], "machine": SLOW, "trainings": {}}
    Path("results/published").mkdir()
    Path("results/tiny").rename("results/published/tiny")
    published = plan.plan(CONFIG, [], 400.0, **given)
    Path("results/tiny/classifier").mkdir(parents=True)
    Path("results/tiny/classifier/mnist.json").touch()
    assert plan.plan(CONFIG, [], 400.0, **given) == published


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_the_published_records_serve_the_plan_of_a_configuration_that_has_changed(path):
    config = load_config(path)
    folder = ROOT / "results/published" / config.run
    text = plan.plan(config, [], 600.0, folder, machine=Machine(), trainings={})
    assert re.search(r"^Records: [1-9]\d*, of which \d+ are of settings", text, re.MULTILINE)


def test_this_machine_is_measured_by_updates_of_the_recorded_models():
    threads = torch.get_num_threads()
    here = measure(CONFIG, by_subject(read_folder("results/tiny")), seconds=10)
    torch.set_num_threads(threads)
    assert set(here.slower) == set(here.image) == {("mnist", "kaem_ula"), ("mnist", "vae")}
    # An update of these tiny models takes milliseconds, and 20 and 8 seconds in the records.
    assert all(0 < ratio < 0.1 for ratio in here.slower.values())
    assert all(0 < seconds < 0.1 for seconds in here.image.values())


def test_updates_by_importance_sampling_cost_less_once_it_has_learned_and_are_not_compared():
    config = mnist_config(**{"models.kaem_is": MODEL_SETTINGS["kaem_is"]})
    write_training(config, "kaem_is", 0, 3.0)
    write_quality(config, "kaem_is", 0, fd_classifier=1.0)
    here = measure(config, by_subject(read_folder("results/tiny")), seconds=10)
    assert set(here.slower) == {("mnist", "kaem_ula"), ("mnist", "vae")}
    assert ("mnist", "kaem_is") in here.image


def test_without_records_of_trainings_nothing_is_scaled():
    here = measure(tiny_config(), {}, seconds=0.1)
    assert (here.slower, here.median) == ({}, 1.0)
    assert here.text().endswith("costs are as recorded.")


def test_durations():
    assert [cli._duration(text) for text in ("90s", "30m", "1h30m", "2h")] == [90, 1800, 5400, 7200]
    for text in ("", "30", "m", "1m1h", "0s"):
        with pytest.raises(argparse.ArgumentTypeError, match="write 90s, 30m or 1h30m"):
            cli._duration(text)

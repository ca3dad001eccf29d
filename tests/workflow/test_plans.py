"""What the workflow would do, and what it refuses to begin: dry runs."""

import re

import pytest
from support.configs import FACES, RUN_CONFIGS, write_config
from support.own_dataset import write_own, write_own_config
from support.workflow import plan, snakemake, snapshot

from benchmark import cli
from benchmark.config.config import load_config


def test_data_come_before_training_and_training_before_evaluation(tmp_path):
    write_config(tmp_path / "tiny.yaml")
    done = snakemake(tmp_path, "--configfile", "tiny.yaml", "--rulegraph", "--quiet", "all")
    names = dict(re.findall(r"(\d+)\[label = \"(\w+)\"", done.stdout))
    before: dict[str, set[str]] = {name: set() for name in names.values()}
    for first, then in re.findall(r"(\d+) -> (\d+)", done.stdout):
        before[names[then]].add(names[first])
    assert before["data"] == set()
    assert before["train"] == before["classifier"] == {"data"}
    assert before["evaluate"] == {"sample", "train", "classifier"}


@pytest.mark.parametrize("classes", [None, 2])
def test_only_labelled_images_ask_for_a_classifier(tmp_path, classes):
    facts = FACES | ({} if classes is None else {"classes": classes})
    write_config(tmp_path / "tiny.yaml", {"own_datasets.faces": facts, "datasets": ["faces"]})
    jobs = plan(tmp_path, "tiny.yaml").jobs
    assert {"data faces", "train faces vae 0", "evaluate faces real 0"} <= jobs
    assert ("classifier faces" in jobs) == (classes is not None)


def test_other_images_than_those_that_a_run_found_redo_it_and_the_same_do_not(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_own(tmp_path / "data")
    write_own_config(tmp_path / "tiny.yaml")
    job = ["--config", "tiny.yaml", "--dataset", "own"]
    assert cli.main(["train", *job, "--model", "vae", "--progress", "none"]) == 0
    weights = "results/tiny/weights/own/{}/seed0.safetensors".format
    before = snapshot(tmp_path / "results")
    assert plan(tmp_path, "tiny.yaml", weights("vae")).jobs == set()
    write_own(tmp_path / "data")  # once more, at another time
    assert plan(tmp_path, "tiny.yaml", weights("kaem_is")).jobs == {"train own kaem_is 0"}
    write_own(tmp_path / "data", seed=1)
    planned = plan(tmp_path, "tiny.yaml", weights("vae"), weights("kaem_is")).jobs
    assert planned == {"data own", "train own vae 0", "train own kaem_is 0"}
    assert snapshot(tmp_path / "results") == before


def test_three_mistakes_are_listed_before_any_job(tmp_path):
    mistakes = {"datasets": ["digts"], "training.learning_rate": "1e-3", "models.vae.sgma": 0.3}
    write_config(tmp_path / "tiny.yaml", mistakes)
    done = snakemake(tmp_path, "--configfile", "tiny.yaml")
    assert done.returncode != 0
    assert "tiny.yaml: 3 problems" in done.stdout
    for line in (
        "datasets[0]: unknown dataset 'digts'; did you mean 'digits'?",
        "training.learning_rate: must be number, but '1e-3' is text in YAML; write 1.0e-3",
        "models.vae.sgma: unknown setting; did you mean 'sigma'?",
    ):
        assert done.stdout.count(f"  - {line}") == 1
    assert "Traceback" not in done.stdout
    assert set(snapshot(tmp_path)) == {"tiny.yaml"}


@pytest.mark.parametrize("path", RUN_CONFIGS, ids=lambda path: path.stem)
def test_a_committed_configuration_plans(path, tmp_path):
    # The paper's is the one that is taken when none is named.
    words = [] if path.stem == "paper" else ["--configfile", path]
    planned = snakemake(tmp_path, *words, "-n")
    assert planned.returncode == 0, planned.stdout
    config = load_config(path)
    trainings = len(config.datasets) * len(config.trained_models) * len(config.seeds)
    assert re.search(rf"^train +{trainings}$", planned.stdout, re.MULTILINE)
    assert snapshot(tmp_path) == {}

"""Results of other settings or other images are found out from the files themselves."""

import shutil
from pathlib import Path

import pytest
from support.own_dataset import OWN, write_own, write_own_config
from support.workflow import snapshot

from benchmark import cli
from benchmark.base.errors import RecordError
from benchmark.base.foreign import parse_json
from benchmark.config.config import load_config
from benchmark.config.jobs import job_of
from benchmark.evaluation.samples import open_samples
from benchmark.records.drawn import is_drawn, note_drawn
from benchmark.records.folder import own_records
from benchmark.records.record import read_record
from benchmark.run.outdated import is_done, is_outdated
from benchmark.run.status import OUTDATED, status


def run(command: str, *words: str) -> int:
    return cli.main([command, "--config", "own.yaml", "--dataset", "own", *words])


@pytest.fixture
def trained(tmp_path, monkeypatch) -> Path:
    """A folder in which a VAE was trained and real images were drawn, each by hand."""
    monkeypatch.chdir(tmp_path)
    for name in ("KAEM_DATA_ROOT", "KAEM_CACHE_ROOT"):
        monkeypatch.delenv(name, raising=False)
    write_own(tmp_path / "data")
    write_own_config(tmp_path / "own.yaml")
    assert run("train", "--model", "vae", "--progress", "none") == 0
    assert run("sample", "--model", "real") == 0
    return tmp_path


def outdated(kind: str, model: str = "") -> bool:
    config = load_config("own.yaml")
    return is_outdated(config, job_of(config, kind, "own", model))


@pytest.mark.usefixtures("trained")
def test_the_digests_that_were_found_are_part_of_jobs_and_records():
    config = load_config("own.yaml")
    digests = config.found_digests("own")
    assert set(digests) == {"train", "test", "train_labels", "test_labels"}
    record = read_record(job_of(config, "training", "own", "vae").path())
    assert record.settings["data"]["digests"] == digests
    assert record.config_hash == job_of(config, "training", "own", "vae").config_hash
    real = job_of(config, "sampling", "own", "real")
    assert real.settings.images == digests
    open_samples(real.path("samples"), real)
    assert is_done(config, real)
    assert not is_outdated(config, real)


@pytest.mark.parametrize("change", [{"seed": 1}, {"shift": 1}], ids=["images", "labels"])
def test_other_images_or_labels_are_refused_until_all_is_done_anew(trained, capsys, change):
    write_own(trained / "data", **change)
    before = snapshot(trained / "results")
    assert outdated("data")
    told = status(load_config("own.yaml"))
    assert {t.model: t.state for t in told.trainings}["vae"] == OUTDATED
    assert told.steps["sample"][0] == 0
    assert run("train", "--model", "kaem_is", "--progress", "none") == 1
    assert "own: its images or labels are not those that this run was made from" in (
        capsys.readouterr().err
    )
    assert snapshot(trained / "results") == before
    # Once the run has found the others, what was made of the first ones is outdated, and no reader
    # takes it for a result.
    assert run("preflight") == 0
    assert not outdated("data")
    assert outdated("training", "vae")
    assert outdated("sampling", "real")
    with pytest.raises(RecordError, match="belongs to another job: config_hash"):
        own_records(load_config("own.yaml"), "training")
    assert run("sample", "--model", "vae") == 1
    assert run("train", "--model", "vae", "--progress", "none") == 0
    assert not outdated("training", "vae")


def test_the_same_images_elsewhere_are_the_same(trained, monkeypatch):
    write_own(trained / "data")  # at another time
    assert not outdated("data")
    Path("data").rename("moved")
    assert not outdated("data")  # what was made of them stands without them
    monkeypatch.setenv("KAEM_DATA_ROOT", "moved")
    before = snapshot(trained)
    assert not outdated("data")
    assert snapshot(trained) == before
    shutil.rmtree("moved/cache", ignore_errors=True)
    assert not outdated("data")  # not prepared: read, and nothing is written
    assert not Path("moved/cache").exists()


def test_images_that_broke_and_facts_that_changed_are_looked_at_again(trained):
    archive = trained / "data" / "own.npz"
    archive.write_bytes(archive.read_bytes()[:1000])
    assert outdated("data")
    write_own(trained / "data")
    smaller = OWN | {"splits": OWN["splits"] | {"train": {"part": "train", "count": 30}}}
    write_own_config(trained / "own.yaml", {"own_datasets.own": smaller})
    assert outdated("data")
    assert outdated("training", "vae")


@pytest.mark.usefixtures("trained")
def test_a_note_of_what_was_drawn_holds_wherever_the_results_lie():
    config = load_config("own.yaml")
    job = job_of(config, "training", "own", "vae")
    note_drawn(config, "quality", [job])
    assert is_drawn(config, "quality", [job])
    note = parse_json(Path("results/tiny/drawn/quality.json").read_text())
    assert note["jobs"] == [["training/own/vae/seed0.json", job.config_hash]]


@pytest.mark.usefixtures("trained")
def test_records_of_another_folder_are_of_the_images_that_its_run_found():
    shutil.copytree("results/tiny", "theirs")
    shutil.rmtree("results")
    assert [
        record.model for record in own_records(load_config("own.yaml"), "training", folder="theirs")
    ] == ["vae"]

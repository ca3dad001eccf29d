"""Publishing a run and restoring it: what is copied, what is refused, that it renders the same."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from support.configs import tiny_config
from support.records import forge

from benchmark.base import paths
from benchmark.base.errors import RecordError
from benchmark.config.config import Config
from benchmark.config.jobs import job_of
from benchmark.evaluation.samples import open_samples, save_samples
from benchmark.records.record import write_record
from benchmark.run.publish import LARGEST_WEIGHTS, SHOWN, publish, restore
from paper_figures.cli import render_comparison
from paper_figures.tables import quality

CPU = torch.device("cpu")
TARGET = Path("results/published/tiny")


@pytest.fixture
def config(tmp_path, monkeypatch) -> Config:
    monkeypatch.chdir(tmp_path)
    config = tiny_config()
    names = {"dataset": "digits", "model": "vae", "seed": 0}
    write_record(
        job_of(config, "metrics", "digits", "vae"),
        {"fd_classifier_test_64": 5.0, "reference_count_test": 360},
        device=CPU,
        wall_time_s=1.0,
        sample_count=64,
    )
    job = job_of(config, "sampling", "digits", "vae")
    images = torch.randint(256, (SHOWN + 9, 1, 16, 16), dtype=torch.uint8)
    path = paths.fill(paths.SAMPLES, config.run, **names)
    save_samples(path, [images], images.shape, job)
    for model, size in (("vae", 9), ("latent_ebm", LARGEST_WEIGHTS + 1)):
        weights = paths.fill(paths.WEIGHTS, config.run, **names | {"model": model})
        weights.parent.mkdir(parents=True)
        weights.write_bytes(b"w" * size)
    classifier = paths.fill(paths.CLASSIFIER, config.run, dataset="digits")
    classifier.parent.mkdir(parents=True)
    classifier.write_bytes(b"c" * (LARGEST_WEIGHTS + 1))  # of any size
    return config


def test_records_small_weights_and_the_first_images_are_copied(config):
    small = {"classifier/digits.safetensors", "weights/digits/vae/seed0.safetensors"}
    for weights in (True, False):
        assert "published 1 records" in publish(config, weights=weights)
        found = {str(path.relative_to(TARGET)) for path in TARGET.rglob("*") if path.is_file()}
        assert found == (small if weights else set()) | {
            "config.yaml",
            "metrics/digits/vae/seed0.json",
            "samples/digits/vae/seed0.npz",
        }
    shown = open_samples(TARGET / "samples/digits/vae/seed0.npz")
    whole = open_samples("results/tiny/samples/digits/vae/seed0.npz")
    assert torch.equal(shown.first(1000), whole.first(SHOWN))
    assert len(shown) == SHOWN


def test_what_is_published_renders_the_same(config):
    quality.render(config)
    here = Path("results/tiny/tables/quality.csv").read_text()
    publish(config)
    shutil.rmtree("results/tiny")
    TARGET.rename("results/tiny")
    again = Config(yaml.safe_load(Path("results/tiny/config.yaml").read_text()), "published")
    quality.render(again)
    assert Path("results/tiny/tables/quality.csv").read_text() == here


def test_a_rerun_is_published_with_the_run_and_compared_with_it(config):
    publish(config)
    render_comparison(TARGET)
    assert not (TARGET / "compare.md").exists()
    rerun = Path("results/tiny/repeat")
    shutil.copytree("results/tiny/metrics", rerun / "metrics")
    forge(rerun / "metrics/digits/vae/seed0.json", lambda r: r.update(wall_time_s=2.0))
    publish(config)
    render_comparison(TARGET)
    row = next(r for r in (TARGET / "compare.md").read_text().splitlines() if "fd_class" in r)
    assert " equal " in row
    assert "one seed of both" in row


def test_an_earlier_publication_is_replaced(config):
    publish(config)
    old = TARGET / "metrics/digits/gone.json"
    old.write_text("{}")
    publish(config)
    assert not old.exists()


def test_a_damaged_record_is_refused_and_the_earlier_publication_stays(config):
    publish(config)
    path = paths.fill(paths.METRICS_RECORD, config.run, dataset="digits", model="vae", seed=0)
    record = json.loads(path.read_text())
    record["metrics"]["fd_classifier_test_64"] = 1.0
    path.write_text(json.dumps(record))
    with pytest.raises(RecordError, match="edited or damaged"):
        publish(config)
    kept = json.loads((TARGET / "metrics/digits/vae/seed0.json").read_text())
    assert kept["metrics"]["fd_classifier_test_64"] == 5.0


def test_nothing_to_publish(config):
    shutil.rmtree("results/tiny/metrics")
    with pytest.raises(RecordError, match="no records to publish"):
        publish(config)
    assert not TARGET.exists()


def test_weights_are_restored_and_no_measurements(config):
    publish(config, weights=True)
    shutil.rmtree("results/tiny")
    message = restore(config)
    assert "restored 2 files" in message
    # The VAE's are there; KAEM-IS was not trained, or its weights are too large.
    assert message.endswith("No weights are published of digits/kaem_is: train them.")
    found = {str(p) for p in Path("results/tiny").rglob("*") if p.is_file()}
    weights = "results/tiny/weights/digits/vae/seed0.safetensors"
    assert found == {weights, "results/tiny/classifier/digits.safetensors"}
    assert Path(weights).read_bytes() == b"w" * 9
    assert "restored 0 files" in restore(config)


def test_restoring_overwrites_nothing(config):
    publish(config, weights=True)
    Path("results/tiny/classifier/digits.safetensors").write_bytes(b"mine")
    Path("results/tiny/weights/digits/vae/seed0.safetensors").unlink()
    with pytest.raises(RecordError, match="not what was published"):
        restore(config)
    assert Path("results/tiny/classifier/digits.safetensors").read_bytes() == b"mine"
    assert not Path("results/tiny/weights/digits/vae/seed0.safetensors").exists()


def test_nothing_to_restore(config):
    publish(config)
    with pytest.raises(RecordError, match="no weights are published"):
        restore(config)

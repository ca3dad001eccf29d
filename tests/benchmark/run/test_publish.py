"""Publishing a run and restoring it: what is copied, what is refused, that it renders the same."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from support.configs import tiny_config
from support.records import forge
from torch import nn

from benchmark.base import paths
from benchmark.base.arrays import arrays_digest, read_arrays, write_arrays
from benchmark.base.errors import RecordError
from benchmark.base.files import file_digest
from benchmark.base.paths import CHECKSUMS
from benchmark.base.tensors import read_tensors
from benchmark.config.config import Config
from benchmark.config.jobs import job_of
from benchmark.evaluation.samples import open_samples, save_samples
from benchmark.records.record import write_record
from benchmark.run.checksums import write_checksums
from benchmark.run.publish import LARGEST_WEIGHTS, SHOWN, publish, restore
from benchmark.training.classifier import build_classifier
from benchmark.training.weights import save_weights
from paper_figures.cli import render_comparison
from paper_figures.tables import quality

CPU = torch.device("cpu")
DENSITY = np.linspace(0.1, 1.3, 1500, dtype=np.float32)
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
    job = job_of(config, "training", "digits", "vae")
    save_weights(job.path("weights"), network(("encoder", 5), ("decoder", 9)), job)
    large = job_of(config, "training", "digits", "kaem_is")
    save_weights(large.path("weights"), network(("prior", LARGEST_WEIGHTS // 4)), large)
    classifier = job_of(config, "classifier", "digits")
    fresh = build_classifier(classifier, config.facts("digits").image_shape)
    save_weights(classifier.path("weights"), fresh, classifier)
    return config


def network(*parts: tuple[str, int]) -> nn.Module:
    """A network with so many weights in each of its parts."""
    return nn.ModuleDict({name: nn.Linear(size, 1, bias=False) for name, size in parts})


def write_training(config: Config, seed: int) -> None:
    """The arrays and the history that a training leaves."""
    job = job_of(config, "training", "digits", "vae", seed=seed)
    arrays = {"density_after": DENSITY, "values": DENSITY, "counts": np.arange(2000)}
    write_arrays(job.path("diagnostics"), **arrays)
    row = "100000,1.23456789,-0.000123456789,7.1,0.25"
    job.path("history").write_text(f"update,seconds,loss,kl,swap_1\n{row}\n")


def test_records_small_weights_and_the_first_images_are_copied(config):
    small = {
        "classifier/digits.safetensors",
        "reference/digits.npz",
        "weights/digits/vae/seed0.safetensors",
    }
    for weights in (True, False):
        assert "published 1 records" in publish(config, weights=weights)
        found = {str(path.relative_to(TARGET)) for path in TARGET.rglob("*") if path.is_file()}
        assert found == (small if weights else set()) | {
            "config.yaml",
            CHECKSUMS,
            "metrics/digits/vae/seed0.json",
            "samples/digits/vae/seed0.npz",
        }
    listed = (TARGET / CHECKSUMS).read_bytes()
    write_checksums(TARGET)
    assert (TARGET / CHECKSUMS).read_bytes() == listed  # the list is not in itself
    shown = open_samples(TARGET / "samples/digits/vae/seed0.npz")
    whole = open_samples("results/tiny/samples/digits/vae/seed0.npz")
    assert torch.equal(shown.first(1000), whole.first(SHOWN))
    assert len(shown) == SHOWN


def test_arrays_and_histories_are_thinned_and_name_what_they_were(config):
    for seed in (0, 1):
        write_training(config, seed)
    publish(config)
    folder = TARGET / "training/digits/vae"
    assert sorted(path.name for path in folder.iterdir()) == ["seed0.csv", "seed0.npz", "seed1.csv"]
    assert (folder / "seed0.csv").read_text().split() == [
        "update,seconds,loss,swap_1",
        "100000,1.2346,-0.00012346,0.25",
    ]
    whole = Path("results/tiny/training/digits/vae/seed0.npz")
    assert arrays_digest(folder / "seed0.npz") == file_digest(whole)
    assert (folder / "seed0.npz").stat().st_size < whole.stat().st_size
    arrays = read_arrays(folder / "seed0.npz", "arrays")
    np.testing.assert_allclose(arrays["density_after"], DENSITY[::2], rtol=1e-3)
    np.testing.assert_allclose(arrays["values"], DENSITY, rtol=1e-3)
    assert arrays["values"].dtype == np.float32  # again, for whoever computes with it
    np.testing.assert_array_equal(arrays["counts"], np.arange(2000))


def test_publishing_what_was_published_changes_nothing(config):
    write_training(config, 0)
    publish(config, weights=True)
    before = {path: path.read_bytes() for path in sorted(TARGET.rglob("*")) if path.is_file()}
    shutil.rmtree("results/tiny")
    shutil.copytree(TARGET, "results/tiny")
    publish(config, weights=True)
    after = {path: path.read_bytes() for path in sorted(TARGET.rglob("*")) if path.is_file()}
    assert after == before


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
    assert read_tensors(weights, "weights")[0].keys() == {"decoder.weight"}
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

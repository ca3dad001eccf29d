"""The checker is checked: folders of records in which something is wrong are refused."""

import json
import shutil
from pathlib import Path

import pytest
from support.records import (
    bits_and_nats,
    forge,
    mnist_config,
    write_quality,
    write_timing,
    write_training,
)

from benchmark.base.errors import RecordError
from benchmark.records.results import read_results

LIKELIHOOD = {"split": "test", "images": 10_000, "passes": 100}


@pytest.fixture(autouse=True)
def records(tmp_path, monkeypatch) -> dict[str, Path]:
    """A healthy folder: kind -> the record of the VAE's first seed."""
    monkeypatch.chdir(tmp_path)
    config = mnist_config(**{"evaluation.likelihood": LIKELIHOOD})
    for seed in config.seeds:
        for model in ("vae", "kaem_ula"):
            trained = write_training(config, model, seed, 10.0 + seed + len(model))
            value = 20.0 + seed + len(model)
            write_quality(
                config,
                model,
                seed,
                fd_classifier=value,
                recall_classifier=value / 100,
                **bits_and_nats(value, 0.5),
            )
            weights = Path(str(trained).replace("training", "weights")).with_suffix(".safetensors")
            weights.parent.mkdir(parents=True, exist_ok=True)
            weights.write_text(f"{model} {seed}")
    timing = write_timing(config, "vae", {1: 5.0, 4: 8.0}, update=3.0)
    names = {"training": "training/mnist/vae/seed0", "metrics": "metrics/mnist/vae/seed0"}
    found = {kind: Path(f"results/tiny/{name}.json") for kind, name in names.items()}
    return found | {"timing": timing}


def read():
    return read_results("results/tiny")


def test_a_healthy_folder_is_read_whole_or_in_part(records):
    results = read()
    assert len(results) == 6 + 6 + 1
    assert {r.job for r in results if r.path == records["timing"]} == {
        ("timing", "mnist", "vae", "cpu")
    }
    (one,) = read_results("results/tiny", {records["metrics"]})
    assert (one.job, one.seed) == (("metrics", "mnist", "vae", None), 0)


def test_an_edited_record_does_not_match_its_digest(records):
    record = json.loads(records["metrics"].read_text())
    swap(record["metrics"], "fd_classifier_test_10k", "bits_per_dimension_test_10k")
    records["metrics"].write_text(json.dumps(record))
    with pytest.raises(RecordError, match="do not match its digest"):
        read()


def swap(values: dict, a: str, b: str) -> None:
    values[a], values[b] = values[b], values[a]


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        (
            "timing",
            lambda r: swap(r["metrics"]["sampling"][0]["latency_ms"], "median", "p95"),
            "quantiles of the latency are out of order",
        ),
        (
            "timing",
            lambda r: swap(r["metrics"]["update"]["latency_ms"], "q25", "q75"),
            "update: the quantiles of the latency are out of order",
        ),
        (
            "timing",
            lambda r: r["metrics"]["sampling"][0].update(images_per_second=5.0),
            "images_per_second is not the batch over the median",
        ),
        (
            "timing",
            lambda r: r["metrics"]["sampling"][0].update(batch_size=64),
            "batch size 64: its settings have",
        ),
        (
            "training",
            lambda r: r["metrics"].update(seconds_per_update=r["wall_time_s"]),
            "seconds_per_update times updates is not wall_time_s",
        ),
        ("training", lambda r: r["metrics"].update(updates=6), "6 updates, 5 in its settings"),
        ("training", lambda r: r.update(settings={}), "its settings do not say what was done"),
        (
            "training",
            lambda r: r["metrics"].update(updates=10**400),
            "its settings do not say what was done",
        ),
        (
            "metrics",
            lambda r: r["settings"].update(evaluation=["a"]),
            "its settings do not say what was done",
        ),
        (
            "metrics",
            lambda r: swap(r["metrics"], "bits_per_dimension_test_10k", "nats_test_10k"),
            "bits_per_dimension_test_10k does not follow from the nats",
        ),
    ],
)
def test_swapped_columns_contradict_each_other(records, kind, change, said):
    forge(records[kind], change)  # with the digest that the swapped record should have
    with pytest.raises(RecordError, match=f"contradicts itself: .*{said}"):
        read()


def rename(old: str, new: str):
    return lambda r: r["metrics"].update({new: r["metrics"].pop(old)})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            rename("fd_classifier_test_10k", "fd_classifier_train_10k"),
            "compare with {'test': 10000",
        ),
        (
            lambda r: r["metrics"].update(nats_low_ess_share_validation_10k=0.1),
            "ask for the likelihood of",
        ),
        (
            rename("reference_count_test", "reference_count_train"),
            "reference_count_test is missing",
        ),
    ],
)
def test_a_metric_of_another_split_than_was_asked_for(records, change, said):
    forge(records["metrics"], change)
    with pytest.raises(RecordError, match=f"contradicts itself: .*{said}"):
        read()


@pytest.mark.parametrize("kind", ["training", "metrics"])
def test_one_record_under_two_seeds(records, kind):
    path = records[kind]
    second = path.with_name("seed1.json")
    shutil.copy(path, second)
    with pytest.raises(RecordError, match=r"seed1.json: holds the record that belongs at .*seed0"):
        read()
    forge(path, lambda record: record.update(seed=1), to=second)
    with pytest.raises(RecordError, match=r"seed1.json: has the same values as .*seed0.json"):
        read()


def test_one_record_under_two_models(records):
    theirs = Path(str(records["metrics"]).replace("vae", "kaem_ula"))
    forge(records["metrics"], lambda record: record.update(model="kaem_ula"), to=theirs)
    with pytest.raises(RecordError, match=r"has other settings|has the same values"):
        read()


def test_two_seeds_with_the_same_weights():
    folder = Path("results/tiny/weights/mnist/vae")
    shutil.copy(folder / "seed0.safetensors", folder / "seed2.safetensors")
    with pytest.raises(RecordError, match=r"seed2.safetensors: is the same file as .*seed0"):
        read()


def test_distances_by_two_classifiers_do_not_mix(records):
    def measured_with(digit: str):
        return lambda record: record["metrics"].update(classifier_sha256=digit * 64)

    second = records["metrics"].with_name("seed1.json")
    forge(records["metrics"], measured_with("a"))
    assert len(read()) == 13  # the others do not say
    forge(second, measured_with("a"))
    assert len(read()) == 13
    forge(second, measured_with("b"))
    with pytest.raises(RecordError, match=r"seed1.json: another classifier than that of .*seed0"):
        read()


def test_seeds_of_other_settings_do_not_mix(records):
    second = records["training"].with_name("seed1.json")
    forge(second, lambda record: record.update(config_hash="0" * 16))
    with pytest.raises(RecordError, match=r"seed1.json: has other settings than .*seed0.json"):
        read()


@pytest.mark.parametrize("kind", ["metrics", "timing"])
def test_a_measurement_of_another_training(records, kind):
    def change(record):
        settings = record["settings"]
        settings.get("sampling", settings)["training"] = "0" * 16

    forge(records[kind], change)
    with pytest.raises(RecordError, match="measures a training with other settings"):
        read()


def test_a_folder_without_records():
    with pytest.raises(RecordError, match="no records are there"):
        read_results("results/other")


def test_a_sampling_that_is_no_mapping_is_no_crash(records):
    forge(records["metrics"], lambda r: r["settings"].update(sampling="metrics"))
    assert len(read()) == 13  # nothing can be said about its training

"""The checker is checked: folders of records in which something is wrong are refused."""

import json
import shutil
from pathlib import Path

import pytest
from support.records import (
    bits_and_nats,
    forge,
    mnist_config,
    write_any,
    write_quality,
    write_timing,
    write_training,
)

from benchmark.base.errors import RecordError
from benchmark.config.jobs import job_of
from benchmark.records.folder import by_subject, own_record, own_records, read_folder

CONFIG = mnist_config(
    **{"evaluation.likelihood": {"split": "test", "images": 10_000, "passes": 100}}
)


@pytest.fixture(autouse=True)
def records(tmp_path, monkeypatch) -> dict[str, Path]:
    """A healthy folder: kind -> the record of the VAE's first seed."""
    monkeypatch.chdir(tmp_path)
    for seed in CONFIG.seeds:
        for model in ("vae", "kaem_ula"):
            write_training(CONFIG, model, seed, 10.0 + seed + len(model))
            value = 20.0 + seed + len(model)
            values = bits_and_nats(value, 0.5) | {"recall_classifier": value / 100}
            write_quality(CONFIG, model, seed, fd_classifier=value, **values)
    timing = write_timing(CONFIG, "vae", {1: 5.0, 4: 8.0}, update=3.0)
    first = {kind: Path(f"results/tiny/{kind}/mnist/vae/seed0.json") for kind in READ[:2]}
    return first | {"timing": timing}


READ = ("training", "metrics", "timing")


def read():
    """The folder as it is compared and as it is judged and shown; both check alike."""
    records = read_folder("results/tiny")
    own = own_records(CONFIG, *READ)
    assert {r.path for r in own} == {r.path for r in records}
    return records


def refused(match: str) -> None:
    with pytest.raises(RecordError, match=match):
        read_folder("results/tiny")
    with pytest.raises(RecordError, match=f"{match}|belongs to another job"):
        own_records(CONFIG, *READ)


def test_a_healthy_folder_is_read_whole_or_in_part(records):
    assert len(read()) == 6 + 6 + 1
    assert [r.path for r in own_records(CONFIG, "timing")] == [records["timing"]]
    assert len(own_records(mnist_config(seeds=[0]), "training")) == 2
    assert own_records(CONFIG, "classifier", folder="results/other") == []
    subjects = by_subject(read())
    assert len(subjects) == 2 + 2 + 1
    assert [r.seed for r in subjects["metrics", "mnist", "vae", None]] == [0, 1, 2]
    assert len(subjects["timing", "mnist", "vae", "cpu"]) == 1
    job = job_of(CONFIG, "training", "mnist", "vae")
    assert own_record(job).path == records["training"]
    assert own_record(job_of(CONFIG, "training", "mnist", "vae", 9)) is None
    Path("results/tiny").rename("elsewhere")
    assert own_record(job) is None
    assert own_record(job, Path("elsewhere")).seed == 0
    assert len(own_records(CONFIG, *READ, folder="elsewhere")) == 13


def test_a_folder_without_records():
    with pytest.raises(RecordError, match="no records are there"):
        read_folder("results/other")


def test_an_edited_record_does_not_match_its_digest(records):
    record = json.loads(records["metrics"].read_text())
    swap(record["metrics"], "fd_classifier_test_10k", "bits_per_dimension_test_10k")
    records["metrics"].write_text(json.dumps(record))
    refused("do not match its digest")


def swap(values: dict, a: str, b: str) -> None:
    values[a], values[b] = values[b], values[a]


def change(kind: str, name: str, **values):
    """A contradiction that a change of a record's metrics makes."""
    return kind, lambda r: r["metrics"].update(values), name


def row(r: dict) -> dict:
    return r["metrics"]["sampling"][0]


def rename(old: str, new: str):
    return lambda r: r["metrics"].update({new: r["metrics"].pop(old)})


def faster(share: float):
    return lambda r: row(r).update(images_per_second=row(r)["images_per_second"] * (1 + share))


NO_SETTINGS = "its settings do not say what was done"
CONTRADICTIONS = [
    ("timing", lambda r: swap(row(r)["latency_ms"], "median", "p95"), "are out of order"),
    (
        "timing",
        lambda r: swap(r["metrics"]["update"]["latency_ms"], "q25", "q75"),
        "update: the quantiles of the latency are out of order",
    ),
    ("timing", lambda r: row(r).update(images_per_second=5.0), "not the batch over the median"),
    ("timing", faster(1.1e-6), "not the batch over the median"),
    ("timing", lambda r: row(r).update(batch_size=64), "batch size 64: its settings have"),
    (
        "training",
        lambda r: r["metrics"].update(seconds_per_update=r["wall_time_s"]),
        "seconds_per_update times updates is not wall_time_s",
    ),
    change("training", "6 updates, 5 in its settings", updates=6),
    change("training", NO_SETTINGS, updates=10**400),
    ("training", lambda r: r.update(settings={}), NO_SETTINGS),
    ("metrics", lambda r: r["settings"].update(evaluation=["a"]), NO_SETTINGS),
    (
        "metrics",
        lambda r: swap(r["metrics"], "bits_per_dimension_test_10k", "nats_test_10k"),
        "bits_per_dimension_test_10k does not follow from the nats",
    ),
    (
        "metrics",
        lambda r: r["metrics"].pop("nats_error_test_10k"),
        "bits_per_dimension_test_10k does not follow from the nats",
    ),
    change(
        "metrics",
        "bits_per_dimension_fitted_test_10k does not follow from the nats",
        bits_per_dimension_fitted_test_10k=2.0,
    ),
    (
        "metrics",
        lambda r: (
            r["settings"]["evaluation"].pop("likelihood"),
            r.update(metrics={"sigma_fitted_validation_50": 0.1}),
        ),
        "sigma_fitted_validation_50: its settings ask for no likelihood",
    ),
    (
        "metrics",
        rename("fd_classifier_test_10k", "fd_classifier_train_10k"),
        "compare with {'test': 10000",
    ),
    (
        "metrics",
        rename("fd_classifier_test_10k", "fd_classifier_test_9k"),
        "compare with {'test': 10000",
    ),
    change("metrics", "ask for the likelihood of", nats_low_ess_share_validation_10k=0.1),
    change("metrics", "ask for the likelihood of", nats_low_ess_share_test_11k=0.1),
    (
        "metrics",
        rename("reference_count_test", "reference_count_train"),
        "reference_count_test is missing",
    ),
]


@pytest.mark.parametrize(("kind", "make", "text"), CONTRADICTIONS)
def test_a_record_that_contradicts_itself(records, kind, make, text):
    forge(records[kind], make)  # with the digest that the changed record should have
    refused(f"contradicts itself: .*{text}")


def in_one_dimension(r: dict) -> None:
    values = bits_and_nats(-3.0, 0.2, dimension=1)
    r["metrics"].update({f"{name}_test_10k": value for name, value in values.items()})


@pytest.mark.parametrize(
    ("kind", "make"), [("metrics", in_one_dimension), ("timing", faster(9e-7))]
)
def test_a_record_that_does_not_contradict_itself(records, kind, make):
    forge(records[kind], make)
    read()


@pytest.mark.parametrize("kind", ["training", "metrics"])
def test_one_record_under_two_seeds(records, kind):
    path = records[kind]
    second = path.with_name("seed1.json")
    shutil.copy(path, second)
    refused(r"seed1.json: holds the record that belongs at .*seed0")
    forge(path, lambda record: record.update(seed=1), to=second)
    refused(r"seed1.json: has the same values as .*seed0.json")


def test_one_record_under_two_models(records):
    theirs = Path(str(records["metrics"]).replace("vae", "kaem_ula"))
    forge(records["metrics"], lambda record: record.update(model="kaem_ula"), to=theirs)
    refused(r"has other settings|has the same values")


def test_distances_by_two_classifiers_do_not_mix(records):
    def measured_with(digit: str):
        return lambda record: record["metrics"].update(classifier_sha256=digit * 64)

    forge(records["metrics"], measured_with("a"))
    assert len(read()) == 13  # the others do not say
    forge(records["metrics"].with_name("seed1.json"), measured_with("a"))
    assert len(read()) == 13
    forge(records["metrics"].with_name("seed1.json"), measured_with("b"))
    refused(r"seed1.json: another classifier than that of .*seed0")


def test_a_distance_by_another_classifier_than_the_one_beside_it(records):
    job = job_of(CONFIG, "classifier", "mnist")
    trained = {"accuracy_test": 0.9, "weights_sha256": "b" * 64}
    path = write_any(job.path(), "classifier", trained, job).path
    forge(records["metrics"], lambda r: r["metrics"].update(classifier_sha256="a" * 64))
    for read_both in (
        lambda: read_folder("results/tiny"),
        lambda: own_records(CONFIG, "metrics", "classifier"),
    ):
        with pytest.raises(RecordError, match="another classifier than that of"):
            read_both()
    # One that another run trained with the same settings will do.
    forge(path, lambda r: r.update(run="other"))
    forge(path, lambda r: r["metrics"].update(weights_sha256="a" * 64))
    assert len(own_records(CONFIG, "metrics", "classifier")) == 7


def test_seeds_of_other_settings_do_not_mix(records):
    second = records["training"].with_name("seed1.json")
    forge(second, lambda record: record.update(config_hash="0" * 16))
    refused(r"seed1.json: has other settings than .*seed0.json")


@pytest.mark.parametrize("kind", ["metrics", "timing"])
def test_a_measurement_of_another_training(records, kind):
    def other(record):
        settings = record["settings"]
        settings.get("sampling", settings)["training"] = "0" * 16

    forge(records[kind], other)
    refused("measures a training with other settings")


def test_a_sampling_that_is_no_mapping_is_no_crash(records):
    forge(records["metrics"], lambda r: r["settings"].update(sampling="metrics"))
    assert len(read()) == 13  # nothing can be said about its training


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda r: r["metrics"].update(reference_count_test=5000),
            "compares with 5000 images as the test split of mnist, which has 10000",
        ),
        (
            lambda r: r.update(metrics={"nats_low_ess_share_test_10k": 0.1}),
            "compares with None images as the test split",
        ),
        (lambda r: r.update(run="other"), r"belongs to another job: run other \(now tiny\)"),
        (
            lambda r: r.update(config_hash="0" * 16),
            r"belongs to another job: config_hash 0{16} \(now [0-9a-f]{16}\)",
        ),
    ],
    ids=["the validation split", "no count", "another run", "other settings"],
)
def test_records_of_another_job_are_refused(records, make, text):
    forge(records["metrics"].with_name("seed2.json"), make)
    with pytest.raises(RecordError, match=f"seed2.json: {text}"):
        own_records(CONFIG, "metrics")

"""Records: written whole or not at all, and read back as they were written."""

import json
import math
from pathlib import Path

import pytest
from support.configs import changed, tiny_config
from support.records import METRICS, forge, write_any

from benchmark.base.errors import BenchmarkError, RecordError
from benchmark.config.jobs import job_of
from benchmark.records.record import read_record

JOB = job_of(tiny_config(), "metrics", "digits", "vae")


@pytest.mark.parametrize("kind", METRICS)
def test_a_record_reads_back(tmp_path, kind):
    path = tmp_path / "a" / "b" / "record.json"
    written = write_any(path, kind)
    record = read_record(path)
    assert record == written
    assert record.path == path
    assert record.model_dump(exclude_unset=True) == json.loads(path.read_text())
    assert (record.config_hash, record.settings) == (JOB.config_hash, JOB.settings.plain())
    assert record.metrics.model_dump(exclude_unset=True) == METRICS[kind]
    names = (record.kind, record.run, record.dataset, record.model, record.seed)
    assert names == (kind, "tiny", "digits", "vae", 0)
    assert (record.sample_count, record.wall_time_s) == (64, 1.235)
    assert record.subject == (kind, "digits", "vae", "cpu" if kind == "timing" else None)


def test_times_are_found_by_what_was_timed(tmp_path):
    metrics = METRICS["timing"]
    (row,) = metrics["sampling"]
    others = [row | {"mode": "compiled"}, row | {"part": "latents"}]
    left_out = {"mode": "eager", "part": "images", "batch_size": 9, "left_out": "slow"}
    metrics = metrics | {"sampling": [*others, row | {"batch_size": 2}, left_out]}
    timing = write_any(tmp_path / "record.json", "timing", metrics).metrics
    assert {size: time.mode for size, time in timing.latencies().items()} == {2: "eager"}
    assert timing.update_time() is None
    update = {"batch_size": 1, "left_out": "slow"}
    timing = write_any(tmp_path / "record.json", "timing", metrics | {"update": update}).metrics
    assert timing.update_time() is None


@pytest.mark.parametrize(
    "key",
    [
        *("fid_train_50k", "fid_infinity_train_50k", "fid_infinity_se_train_50k", "kid_train_50k"),
        *("precision_test_10k", "recall_test_10k", "fd_classifier_validation_360"),
        *("fd_efficientnet_test_2048", "kid_efficientnet_test_2048"),
        *("kid_classifier_test_2048", "class_coverage_test_64", "bits_per_dimension_test_100"),
        *("frechet_1234abcd_test_50k", "frechet_1234abcd_infinity_test_50k"),
        *("kid_1234abcd_test_2k", "bits_per_dimension_error_fitted_test_100"),
        *("nats_low_ess_share_fitted_test_9", "sigma_constant_validation_5k"),
    ],
)
def test_a_metrics_name_says_reference_and_count(tmp_path, key):
    write_any(tmp_path / "record.json", metrics={key: 0.5, "reference_count_test": 360})
    metrics = read_record(tmp_path / "record.json").metrics
    (measured,) = metrics.values
    name, split, count = key.rsplit("_", 2)
    assert (measured.key, measured.name, measured.split, measured.value) == (key, name, split, 0.5)
    assert measured.count == int(count.replace("k", "000"))
    assert metrics.get(key) == 0.5
    assert [metrics.reference_count(split) for split in ("train", "test")] == [None, 360]


# Of what is refused when written and read alike; `test_damaged.py` has the rest.
WRONG_METRICS = [
    # The reference and the number of images are part of a name.
    ("metrics", {"fid": 3.0}),
    ("metrics", {"fid_50k": 3.0}),
    ("metrics", {"fid_test": 3.0}),
    ("metrics", {"fd_classifier_64": 3.0}),
    ("metrics", {"reference_count": 360}),
    # Nothing that is not FID may be called so.
    ("metrics", {"fid_classifier_test_64": 3.0}),
    ("metrics", {"fid_1234abcd_test_64": 3.0}),
    ("metrics", {"frechet_test_64": 3.0}),
    ("metrics", {"kid_other_test_64": 3.0}),
    ("metrics", {"precision_test_64": 1.01}),
    ("metrics", {"class_coverage_test_64": -0.01}),
    ("metrics", {"inception_missing": True}),
    ("metrics", {"fd_classifier_tset_64": 3.0}),
    ("metrics", {"fd_classifier_test_64": "3.0"}),
    ("metrics", {"fd_classifier_test_64\n": 3.0}),
    ("metrics", {"reference_count_test": 1}),
    ("metrics", {"nats_low_ess_share_test_10": 1.01}),
    ("metrics", {"nats_low_ess_share_test_10": -0.01}),
    ("metrics", {"nats_low_ess_share_10": 0.5}),
    ("training", METRICS["training"] | {"final": {"kl": 1.0}}),
    ("training", METRICS["training"] | {"updats": 5}),
    ("training", METRICS["training"] | {"updates": 5.0}),
    ("training", METRICS["training"] | {"updates": True}),
    ("training", METRICS["training"] | {"seconds_per_update": 0}),
    ("classifier", {"accuracy_test": 97.0, "weights_sha256": "a" * 64}),
    ("classifier", {"accuracy_test": 0.97, "weights_sha256": "a" * 64 + "\n"}),
    ("classifier", {"accuracy_test": 0.97}),
    ("inspection", METRICS["inspection"] | {"ks_prior": [1.1]}),
    ("inspection", METRICS["inspection"] | {"independence": {"fd_images": 1.0}}),
    ("power", METRICS["power"] | {"swap_rates": [-0.1]}),
    ("timing", METRICS["timing"] | {"sampling": []}),
    *(
        ("timing", METRICS["timing"] | {"sampling": [METRICS["timing"]["sampling"][0] | change]})
        for change in ({"mean": 1.0}, {"latency_ms": {}}, {"latency_ms": None}, {"left_out": "a"})
    ),
    ("timing", METRICS["timing"] | {"update": {"batch_size": 1}}),
    ("timing", METRICS["classifier"]),
    ("speed", METRICS["timing"]),
]


@pytest.mark.parametrize(("kind", "metrics"), WRONG_METRICS)
def test_measurements_of_no_kind_are_not_written(tmp_path, kind, metrics):
    with pytest.raises(RecordError, match=r"record\.json: not a valid record: (metrics|kind)"):
        write_any(tmp_path / "record.json", kind, metrics)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_not_a_number_is_refused_and_replaces_nothing(tmp_path, number):
    before = write_any(tmp_path / "record.json")
    with pytest.raises(BenchmarkError):
        write_any(tmp_path / "record.json", metrics={"fd_classifier_test_64": number})
    assert read_record(tmp_path / "record.json") == before


@pytest.mark.parametrize(
    "change",
    [
        {"metrics.fd_classifier_test_64": 1.0},
        {"config_hash": "0" * 16},
        {"seed": 7},
        {"dataset": "digits2"},
        {"provenance.commit": "0" * 40},
        {"digest": "0" * 64},
        {"settings.evaluation.samples": 65},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_edited_record_fails_its_digest(tmp_path, change):
    path = tmp_path / "record.json"
    write_any(path)
    path.write_text(json.dumps(changed(json.loads(path.read_text()), change)))
    with pytest.raises(RecordError, match="do not match its digest: it was edited or damaged"):
        read_record(path)


def test_the_digest_is_of_the_contents_and_not_of_the_form(tmp_path):
    path = tmp_path / "record.json"
    written = write_any(path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(content.items())), indent=7))
    assert read_record(path) == written
    forge(path, lambda record: record.update(seed=7))
    assert read_record(path).seed == 7


def test_a_missing_record_is_said_to_be(tmp_path):
    with pytest.raises(RecordError, match=r"absent\.json: cannot be read: No such file"):
        read_record(Path(tmp_path / "absent.json"))

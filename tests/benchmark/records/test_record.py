"""Records: a closed schema, a digest over the contents, and where each result comes from."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.configs import tiny_config
from support.records import timing_metrics, timing_row

import benchmark.records.provenance
from benchmark.base.errors import BenchmarkError, RecordError
from benchmark.records.record import read_record, record_digest, write_record

CPU = torch.device("cpu")
TIMING_ROW = timing_row()
METRICS = {
    "training": {
        "updates": 5,
        "seconds_per_update": 0.1,
        "parameters": 100,
        "final": {"loss": -3.5, "kl": 1.0},
    },
    "classifier": {"accuracy_test": 0.97, "weights_sha256": "a" * 64},
    "metrics": {
        "fd_classifier_test_64": 12.5,
        "reference_count_test": 360,
        "nats_test_10": -20.5,
        "nats_error_test_10": 0.5,
        "nats_low_ess_share_test_10": 0.1,
    },
    "inspection": {
        "arrays_sha256": "a" * 64,
        "r_hat_median": 1.2,
        "r_hat_mixed_share": 0.5,
        "acceptance": 0.6,
        "ks_prior": [0.1],
        "ks_chains": [0.0],
        "sobol_total": [1.0],
        "sobol_error": [0.1],
        "formulas": [
            {
                "latent": [0],
                "form": "linear",
                "formula": "1 + 2 z",
                "error": 0.1,
                "relative_error": 0.2,
            }
        ],
    },
    "power": {
        "passes": 100,
        "arrays_sha256": "a" * 64,
        "swap_rates": [0.5],
        "mass_true": 0.7,
        "mass_prior_basin": 0.5,
        **{
            f"{name}_{sampler}{tail}": 0.5
            for sampler in ("ula", "population")
            for name, tail in (("mass", ""), ("mass", "_error"), ("autocorrelation", ""))
        },
    },
    "timing": timing_metrics([TIMING_ROW]),
}


def write(path: Path, kind: str = "metrics", metrics: dict | None = None, **changes) -> dict:
    arguments = {"seed": 0, "device": CPU, "wall_time_s": 1.23456, "sample_count": 64} | changes
    job = tiny_config().evaluation_job("digits", "vae")
    return write_record(path, kind, job, metrics or METRICS[kind], **arguments)


def rewrite(path: Path, record: dict) -> None:
    """Store a record with the digest that it should have."""
    path.write_text(json.dumps(record | {"digest": record_digest(record)}))


@pytest.fixture
def record(tmp_path) -> tuple[Path, dict]:
    path = tmp_path / "record.json"
    return path, write(path)


@pytest.mark.parametrize("kind", METRICS)
def test_a_record_reads_back(tmp_path, kind):
    path = tmp_path / "a" / "b" / "record.json"
    written = write(path, kind)
    assert read_record(path) == written == json.loads(path.read_text())
    job = tiny_config().evaluation_job("digits", "vae")
    assert written["config_hash"] == job.config_hash
    assert written["settings"] == job.settings
    assert written["metrics"] == METRICS[kind]
    names = [written[key] for key in ("kind", "run", "dataset", "model", "seed", "sample_count")]
    assert names == [kind, "tiny", "digits", "vae", 0, 64]
    assert written["wall_time_s"] == 1.235


def test_provenance(record):
    found = record[1]["provenance"]
    assert found["source_digest"] == benchmark.records.provenance.source_digest()
    assert torch.__version__.startswith(found["packages"]["torch"])
    assert found["threads"] == torch.get_num_threads()
    assert (found["device"], found["gpu"], found["cuda"]) == ("cpu", None, None)
    assert found["created"].endswith("+00:00")
    assert found["cpu"]
    # Nothing about the person or the machine's folders.
    assert str(Path.home()) not in json.dumps(record[1]["provenance"])


@pytest.fixture
def anew():
    """The state of the source is read again, before the test and after it."""
    for read in (
        benchmark.records.provenance.source_state,
        benchmark.records.provenance.source_digest,
    ):
        read.cache_clear()
    yield
    for read in (
        benchmark.records.provenance.source_state,
        benchmark.records.provenance.source_digest,
    ):
        read.cache_clear()


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize(
    "error",
    [FileNotFoundError("git"), subprocess.CalledProcessError(128, "git")],
    ids=["git is not installed", "not a checkout"],
)
def test_a_record_without_git(tmp_path, monkeypatch, error):
    def run(*_arguments, **_options):
        raise error

    monkeypatch.setattr(benchmark.records.provenance.subprocess, "run", run)
    origin = write(tmp_path / "record.json")["provenance"]
    assert (origin["commit"], origin["dirty"]) == (None, None)
    assert read_record(tmp_path / "record.json")["provenance"] == origin


def test_a_package_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark.records.provenance, "PACKAGES", ("no-such-package",))
    packages = write(tmp_path / "record.json")["provenance"]["packages"]
    assert packages == {"no-such-package": None}


@pytest.mark.usefixtures("anew")
def test_commit_and_dirty_flag_are_gits(tmp_path, monkeypatch):
    git = shutil.which("git")
    monkeypatch.setattr(benchmark.records.provenance, "ROOT", tmp_path)

    def run(*arguments):
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        done = subprocess.run(
            [git, *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    for folder in benchmark.records.provenance.SOURCE_FOLDERS:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "module.py").write_text("x = 1\n")
    run("init")
    run("add", ".")
    run("commit", "-m", "first")
    clean = benchmark.records.provenance.provenance(CPU)
    assert (clean["commit"], clean["dirty"]) == (run("rev-parse", "HEAD"), False)
    (tmp_path / "kaem" / "module.py").write_text("x = 2\n")
    # A process goes on with the code that it has loaded.
    assert benchmark.records.provenance.provenance(CPU) | {"created": ""} == clean | {"created": ""}
    benchmark.records.provenance.source_state.cache_clear()
    assert benchmark.records.provenance.provenance(CPU)["dirty"] is True


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (
            "cpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n\nmodel\t\t: 3\n",
            "AMD EPYC (family 26, model 2)",
        ),
        (
            "cpu family\t: 6\nmodel\t\t: 85\nmodel name\t: Intel(R) Xeon(R) Gold 6226\n",
            "Intel(R) Xeon(R) Gold 6226",
        ),
        (
            "cpu family\t: 6\nmodel\t\t: 79\nmodel name\t: Intel(R) Xeon(R) CPU @ 2.20GHz\n",
            "Intel(R) Xeon(R) CPU @ 2.20GHz (family 6, model 79)",
        ),
        ("model name\t: A processor\n", "A processor"),
        ("Hardware\t: BCM2835\n", None),
    ],
    ids=["numberless", "numbered", "clock alone", "name alone", "no name"],
)
def test_a_processor_is_told_apart_from_others(cpuinfo, expected):
    assert benchmark.base.devices.processor_name(cpuinfo) == expected


def test_the_steps_note_the_source_as_they_are_loaded():
    script = (
        "import benchmark.records.provenance as p; assert not p.source_state.cache_info().currsize;"
        "import benchmark.steps; assert p.source_state.cache_info().currsize"
    )
    subprocess.run(
        [sys.executable, "-c", script], cwd=benchmark.records.provenance.ROOT, check=True
    )


def test_the_source_digest_follows_the_code_that_computes_results(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark.records.provenance, "ROOT", tmp_path)
    digest = benchmark.records.provenance.source_digest.__wrapped__  # without its cache
    for folder in (*benchmark.records.provenance.SOURCE_FOLDERS, "tests"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "module.py").write_text("x = 1\n")
    first = digest()
    (tmp_path / "tests" / "module.py").write_text("x = 2\n")
    assert digest() == first
    seen = {first}
    for folder in benchmark.records.provenance.SOURCE_FOLDERS:
        (tmp_path / folder / "module.py").write_text("x = 2\n")
        seen.add(digest())
    (tmp_path / "kaem" / "module.py").rename(tmp_path / "kaem" / "renamed.py")
    seen.add(digest())
    assert len(seen) == 2 + len(benchmark.records.provenance.SOURCE_FOLDERS)


# What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "metrics"),
    [
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
        ("metrics", {"inception_missing": True}),
        ("metrics", {"fd_classifier_tset_64": 3.0}),
        ("metrics", {"fd_classifier_test_64": "3.0"}),
        ("metrics", {"reference_count_test": 1}),
        ("metrics", {"nats_low_ess_share_test_10": 1.01}),
        ("metrics", {"nats_low_ess_share_test_10": -0.01}),
        ("metrics", {"nats_low_ess_share_10": 0.5}),
        ("training", METRICS["training"] | {"final": {"kl": 1.0}}),
        ("training", METRICS["training"] | {"updats": 5}),
        ("classifier", {"accuracy_test": 97.0, "weights_sha256": "a" * 64}),
        ("classifier", {"accuracy_test": 0.97}),
        ("timing", METRICS["timing"] | {"sampling": []}),
        ("timing", METRICS["timing"] | {"sampling": [TIMING_ROW | {"mean": 1.0}]}),
        ("timing", METRICS["timing"] | {"sampling": [TIMING_ROW | {"latency_ms": {}}]}),
        ("timing", METRICS["timing"] | {"sampling": [TIMING_ROW | {"left_out": "slow"}]}),
        ("timing", METRICS["classifier"]),
        ("speed", METRICS["timing"]),
    ],
)
def test_measurements_that_the_schema_does_not_know(tmp_path, kind, metrics):
    with pytest.raises(RecordError, match=r"record\.json: not a valid record: \$\.(metrics|kind)"):
        write(tmp_path / "record.json", kind, metrics)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        *("fid_train_50k", "fid_infinity_train_50k", "fid_infinity_se_train_50k", "kid_train_50k"),
        *("precision_test_10k", "recall_test_10k", "fd_classifier_validation_360"),
        *("kid_classifier_test_2048", "class_coverage_test_64", "bits_per_dimension_test_100"),
        *(
            "frechet_1234abcd_test_50k",
            "frechet_1234abcd_infinity_test_50k",
            "kid_1234abcd_test_2k",
        ),
    ],
)
def test_a_metrics_name_says_reference_and_count(tmp_path, name):
    write(tmp_path / "record.json", metrics={name: 0.5, "reference_count_test": 360})
    assert read_record(tmp_path / "record.json")["metrics"][name] == 0.5


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_not_a_number_is_refused(record, number):
    path, before = record
    with pytest.raises(BenchmarkError):
        write(path, metrics={"fd_classifier_test_64": number, "reference_count_test": 360})
    assert read_record(path) == before


def remove(key):
    return lambda record: record.pop(key)


def put(value, *path):
    def change(record):
        *parents, last = path
        for parent in parents:
            record = record[parent]
        record[last] = value

    return change


CHANGES = {
    "an unknown key": put(1, "extra"),
    "an unknown key in the provenance": put("me", "provenance", "user"),
    "no seed": remove("seed"),
    "no provenance": remove("provenance"),
    "no digest": remove("digest"),
    "a seed in quotes": put("0", "seed"),
    "a negative seed": put(-1, "seed"),
    "no images": put(0, "sample_count"),
    "a hash in capitals": put("ABCDEF0123456789", "config_hash"),
    "a short hash": put("abc", "config_hash"),
    "a tag for a commit": put("v1.0", "provenance", "commit"),
    "an unknown kind": put("speed", "kind"),
    "no measurement": put({}, "metrics"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_schema_is_closed(record, change):
    path, content = record
    change(content)
    if "digest" in content:
        rewrite(path, content)
    else:
        path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match="not a valid record"):
        read_record(path)


@pytest.mark.parametrize(
    "change",
    [
        put(1.0, "metrics", "fd_classifier_test_64"),
        put("0" * 16, "config_hash"),
        put(7, "seed"),
        put("digits2", "dataset"),
        put("0" * 40, "provenance", "commit"),
        put("0" * 64, "digest"),
        put(65, "settings", "evaluation", "samples"),
    ],
)
def test_an_edited_record_fails_its_digest(record, change):
    path, content = record
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match="do not match its digest: it was edited or damaged"):
        read_record(path)


def test_the_digest_is_of_the_contents_and_not_of_the_form(record):
    path, content = record
    path.write_text(json.dumps(dict(reversed(content.items())), indent=7))
    assert read_record(path) == content


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", '"text"', "\x00", "[" * 100_000, "9" * 5000, '["\\ud800"]']
)
def test_files_that_are_no_record(tmp_path, text):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=r"record\.json: (not a valid record|is not valid JSON)"):
        read_record(path)


def test_a_truncated_and_a_missing_record(record, tmp_path):
    path, _ = record
    path.write_text(path.read_text()[:-20])
    with pytest.raises(RecordError, match="is not valid JSON"):
        read_record(path)
    with pytest.raises(RecordError, match=r"absent\.json: cannot be read: No such file"):
        read_record(tmp_path / "absent.json")


def test_a_record_larger_than_any_is_not_read(tmp_path):
    with (tmp_path / "record.json").open("wb") as handle:
        handle.truncate(2**40)
    with pytest.raises(RecordError, match=r"record\.json: .*1099511627776 bytes, more than"):
        read_record(tmp_path / "record.json")

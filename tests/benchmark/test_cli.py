"""The command line: every step by hand, exit codes, and messages without tracebacks."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support.configs import CONFIG_FOLDER, FACES, loaded_by, write_config

from benchmark import cli
from benchmark.base import paths
from benchmark.records.record import read_record

JOB_COMMANDS = ("train", "sample", "evaluate", "inspect", "time")
COMMANDS = ("preflight", *JOB_COMMANDS, "power", "claims", "plan", "status", "compare")
JOB = ["--dataset", "digits", "--model", "vae"]
CONFIG = CONFIG_FOLDER / "demo.yaml"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory with a configuration in it."""
    monkeypatch.chdir(tmp_path)
    for root in ("KAEM_DATA_ROOT", "KAEM_CACHE_ROOT"):
        monkeypatch.delenv(root, raising=False)
    write_config(tmp_path / "tiny.yaml")
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)  # steps set it as configured


def run(*words: str) -> int:
    return cli.main([*words, "--config", "tiny.yaml"])


def files(folder: Path) -> set[str]:
    """What is there, but for the prepared images and the features of real ones."""
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {str(path) for path in found if path.parts[:2] != ("data", "cache")}


def path(pattern: str, model: str = "vae") -> str:
    names = {"run": "tiny", "dataset": "digits", "model": model, "seed": 0, "device": "cpu"}
    return pattern.format(**names)


# Steps by hand ----------------------------------------------------------------------------------


def test_every_step_by_hand(folder, capsys, monkeypatch):
    written = {"tiny.yaml"}

    def step(words: list[str], new: list[str], *said: str) -> None:
        nonlocal written
        assert run(*words) == 0
        captured = capsys.readouterr()
        assert files(folder) - written == set(new)
        written |= set(new)
        assert all(part in captured.out for part in said), captured.out
        assert "Traceback" not in captured.err

    ready = "digits: ready, 1257 train, 180 validation, 360 test"
    step(["preflight"], [], ready)
    step(["preflight", "--dataset", "digits"], [path(paths.DATA)], ready)
    step(
        ["train", "--dataset", "digits", "--model", "classifier", "--progress", "none"],
        [path(paths.CLASSIFIER), path(paths.CLASSIFIER_RECORD)],
        "digits · classifier: accuracy",
    )
    step(
        ["train", *JOB, "--progress", "none"],
        [path(getattr(paths, n)) for n in ("WEIGHTS", "TRAINING_RECORD", "HISTORY", "DIAGNOSTICS")],
        f"wrote {path(paths.WEIGHTS)}",
    )
    step(["sample", *JOB], [path(paths.SAMPLES)], "64 images")
    step(["evaluate", *JOB], [path(paths.METRICS_RECORD)], "vae · seed 0: fd_classifier_test_64")
    step(
        ["sample", "--dataset", "digits", "--model", "real"],
        [path(paths.SAMPLES, "real")],
        "64 images",
    )
    step(
        ["evaluate", "--dataset", "digits", "--model", "real"],
        [path(paths.METRICS_RECORD, "real")],
        "digits · real · seed 0",
    )
    both = [path(paths.TIMING_RECORD, model) for model in ("kaem_is", "vae")]
    step(["time", "--dataset", "digits", "--untrained"], both, "digits · vae · cpu: up to")
    step(["time", *JOB], [], "digits · vae · cpu: up to")

    metrics = {name: read_record(name).metrics for name in written if is_record(name)}
    assert len(metrics) == 6
    real, vae = (metrics[path(paths.METRICS_RECORD, model)] for model in ("real", "vae"))
    assert real.reference_count_test == vae.reference_count_test == 360
    # Five updates make no digits: real ones are nearer.
    distances = [quality.get("fd_classifier_test_64") for quality in (real, vae)]
    assert 0 < distances[0] < distances[1]
    timing = metrics[path(paths.TIMING_RECORD)]
    rows = [(row.part, row.batch_size) for row in timing.sampling]
    assert rows == [("images", 1), ("images", 4), ("latents", 1), ("latents", 4)]
    assert timing.trained
    assert timing.nfe == 1
    assert (
        timing.update.batch_size
        == read_record(path(paths.TRAINING_RECORD)).settings["training"]["batch_size"]
    )
    assert timing.update.latency_ms.median > 0
    assert timing.parameters == metrics[path(paths.TRAINING_RECORD)].parameters
    # A step that is done again replaces its files with the same contents.
    before = {name: Path(name).read_bytes() for name in written}
    later = time.time() + 4000  # no file says when it was written
    monkeypatch.setattr(time, "time", lambda: later)
    step(["train", *JOB, "--progress", "none"], [], "wrote")
    step(["sample", *JOB], [], "wrote")
    for pattern in (paths.WEIGHTS, paths.DIAGNOSTICS, paths.SAMPLES):
        assert Path(path(pattern)).read_bytes() == before[path(pattern)]


def is_record(name: str) -> bool:
    return name.endswith(".json") and "/data/" not in name and "preflight" not in name


def test_training_shows_its_progress_on_standard_error(folder, capsys):  # noqa: ARG001
    assert run("train", *JOB, "--progress", "lines") == 0
    captured = capsys.readouterr()
    assert "digits · vae · seed 0" in captured.err
    assert "100%" in captured.err
    assert captured.out == f"wrote {path(paths.WEIGHTS)}\n"


def test_a_seed_of_ones_own(folder):
    assert run("train", *JOB, "--seed", "7", "--progress", "none") == 0
    record = read_record(path(paths.TRAINING_RECORD).replace("seed0", "seed7"))
    assert record.seed == 7
    assert not any("seed0" in name for name in files(folder))


def test_set_overrides_the_file(folder, capsys):  # noqa: ARG001
    words = ["--set", "training.updates=3", "--set", "run=other", "--set", "models.vae.sigma=0.5"]
    assert run("train", *JOB, "--progress", "none", *words) == 0
    capsys.readouterr()
    record = read_record(path(paths.TRAINING_RECORD).replace("tiny", "other"))
    assert record.metrics.updates == 3
    assert record.settings["model"]["sigma"] == 0.5


# What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "results", "message"),
    [
        (".", "file", "/file is a file, and results are to go into"),
        (".", "file/below", "/file is a file, and results are to go into"),
        (".", "r{x}", "KAEM_RESULTS: r{x} has braces"),
        ("gone", "results", "the working directory is gone"),
        (".", "", ""),  # as if it were not set
    ],
)
def test_places_where_nothing_can_be_written_are_one_message(tmp_path, place, results, message):
    (tmp_path / "file").touch()
    (tmp_path / "gone").mkdir()
    words = f"rmdir {tmp_path}/gone; exec {sys.executable} -m benchmark status --config {CONFIG}"
    done = subprocess.run(
        ["sh", "-c", words],
        cwd=tmp_path / place,
        env=os.environ | {"KAEM_RESULTS": results, "PYTHONPATH": str(paths.ROOT)},
        capture_output=True,
        text=True,
    )
    assert message in done.stderr
    assert (done.stderr.count("error: "), done.returncode) == ((1, 1) if message else (0, 0))
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--dataset", "digits", "--model", "vea"], "--model vea: not in models: kaem_is"),
        (["train", "--dataset", "digts", "--model", "vae"], "--dataset digts: "),
        (["preflight", "--dataset", "digts"], "--dataset digts: "),
        (["preflight", "--set", "training.updates"], "'training.updates' is not KEY=VALUE"),
        (["preflight", "--set", "training.updates=[1"], "is not YAML"),
        (["preflight", "--set", "training.updates=many"], "training.updates: must be integer"),
        (["preflight", "--set", "training.updats=3"], "did you mean 'updates'?"),
        (["preflight", "--set", "threads=1", "--set", "threads.x=2"], "threads"),
        (["preflight", "--set", "threads=1", "--set", "threads=2"], "threads is set twice"),
        (["preflight", "--set", "training.updates=1", "--set", "training={}"], "is set twice"),
        (["preflight", "--set", "=3"], "unknown setting"),
        (["preflight", "--set", "datasets=[digts]"], "did you mean 'digits'?"),
        (["sample", *JOB], "cannot be read as weights: it is not there"),
        (["time", *JOB], "cannot be read as weights"),
        (
            ["evaluate", *JOB],
            "samples: it is not there\n  Make it with these settings: python -m benchmark sample",
        ),
        (["train", *JOB, "--set", "training.batch_size=5000"], "exceeds its 1257 training images"),
        (["inspect", *JOB], "--model vae: only KAEM under"),
        (["inspect", "--dataset", "digits", "--model", "kaem_is"], "cannot be read as weights"),
        (["train", "--dataset", "digits", "--model", "real"], "--model real"),
        (["time", "--dataset", "digits", "--model", "real"], "--model real"),
        (["time", "--dataset", "digits", "--model", "classifier"], "--model classifier"),
        (["time", *JOB, "--model", "vea"], "--model vea: not in models"),
        (["sample", "--dataset", "digits", "--model", "classifier"], "--model classifier"),
        (["evaluate", "--dataset", "digits", "--model", "classifier"], "--model classifier"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refusals_are_one_message_and_write_nothing(folder, capsys, words, message):
    assert run(*words) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert captured.out == ""
    assert files(folder) == {"tiny.yaml"}


def test_weights_at_fault_are_said_before_the_machine_is_waited_for(folder, monkeypatch):  # noqa: ARG001
    monkeypatch.setattr("benchmark.timing.speed.reserved", lambda _: pytest.fail("it waited"))
    assert run("time", *JOB) == 1


def test_a_negative_seed_is_refused_before_anything_is_written(folder, capsys):
    try:
        code = run("train", *JOB, "--seed", "-1", "--progress", "none")
    except SystemExit as stopped:  # argparse may be the one to refuse it
        code = stopped.code
    assert code in (1, 2)
    assert "seed" in capsys.readouterr().err
    assert files(folder) == {"tiny.yaml"}


def test_unlabelled_images_train_no_classifier(folder, capsys):
    write_config(folder / "tiny.yaml", {"own_datasets.faces": FACES})
    assert run("train", "--dataset", "faces", "--model", "classifier") == 1
    assert "--model classifier: the images of faces have no labels" in capsys.readouterr().err
    assert files(folder) == {"tiny.yaml"}


def test_both_unknown_names_are_reported_at_once(folder, capsys):  # noqa: ARG001
    assert run("train", "--dataset", "digts", "--model", "vea") == 1
    error = capsys.readouterr().err
    assert "2 problems" in error
    assert "--dataset digts" in error
    assert "--model vea" in error


def test_a_device_that_is_not_there(folder, capsys, monkeypatch):  # noqa: ARG001
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run("train", *JOB, "--set", "device=cuda") == 1
    assert "error: device cuda: no GPU is visible here" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["absent.yaml", "list.yaml", "bad.yaml"])
def test_a_configuration_that_does_not_load(folder, capsys, name):
    (folder / "list.yaml").write_text("- a\n")
    write_config(folder / "bad.yaml", {"threads": 0, "sed": 1, "models.vae.sigma": "0"})
    assert cli.main(["preflight", "--config", name]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {name}: ")
    if name == "bad.yaml":
        assert "3 problems" in error
        assert all(part in error for part in ("threads: ", "sed: ", "models.vae.sigma: "))


def test_weights_of_other_settings_are_not_sampled(folder, capsys):  # noqa: ARG001
    assert run("train", *JOB, "--progress", "none") == 0
    capsys.readouterr()
    assert run("sample", *JOB, "--set", "training.learning_rate=0.1") == 1
    error = capsys.readouterr().err
    assert "was trained with other settings" in error
    assert "python -m benchmark train --config FILE --dataset digits --model vae" in error


def test_an_interrupt_is_130_and_says_so(folder, capsys, monkeypatch):
    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmark.steps.train_model", interrupted)
    assert run("train", *JOB) == 130
    assert "interrupted" in capsys.readouterr().err
    assert files(folder) == {"tiny.yaml"}


# Words that argparse refuses or answers ---------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert ("--config FILE" in text) == (command != "compare")
    assert ("--model" in text) == (command in JOB_COMMANDS)


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        ([], "COMMAND"),
        (["trian"], "invalid choice: 'trian'"),
        (["train", "--config", "tiny.yaml"], "--dataset, --model"),
        (["train", *JOB], "--config"),
        (["train", *JOB, "--config", "tiny.yaml", "--seed", "one"], "invalid int value: 'one'"),
        (["time", *JOB, "--config", "tiny.yaml", "--device", "tpu"], "invalid choice: 'tpu'"),
    ],
)
def test_usage_errors(words, missing, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert missing in captured.err
    assert captured.out == ""


def test_as_a_process(tmp_path):
    # Help lists the commands without importing torch, and an error has its exit code.
    environment = os.environ | {"PYTHONPATH": str(CONFIG_FOLDER.parent)}

    def process(*words):
        return subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    helped = process("-X", "importtime", "-m", "benchmark", "--help")
    assert helped.returncode == 0
    assert all(command in helped.stdout for command in COMMANDS)
    imported = {line.rpartition("|")[2].strip() for line in helped.stderr.splitlines()}
    assert "benchmark.config.config" in imported
    assert "torch" not in imported
    refused = process("-m", "benchmark", "preflight", "--config", "absent.yaml")
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr.startswith("error: absent.yaml: 1 problem\n")
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("module", "slow"),
    [
        ("paper_figures.cli", {"torch"}),
        ("benchmark.run.status_report", {"torch", "matplotlib"}),
        ("benchmark.steps", {"torch._dynamo", "torchvision", "sklearn", "scipy", "matplotlib"}),
    ],
)
def test_no_job_waits_for_imports_that_it_does_not_use(module, slow):
    # A run is a hundred processes: what one of them imports for nothing, all of them wait for.
    assert loaded_by(f"import {module}; print({slow} & set(sys.modules))") == "set()"


# Threads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", ["1", "7"])
def test_linear_algebra_has_the_configurations_threads_whatever_the_environment_says(
    monkeypatch, environment
):
    # Snakemake sets OMP_NUM_THREADS, to less where there are fewer cores.
    monkeypatch.setenv("OMP_NUM_THREADS", environment)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", environment)
    found = loaded_by(
        "from benchmark.base.devices import fix_threads;"
        "assert 'numpy' not in sys.modules; fix_threads(2); import numpy, scipy.linalg, torch;"
        "from threadpoolctl import threadpool_info;"
        "print(sorted({each['num_threads'] for each in threadpool_info()}))"
    )
    assert found == "[2]"


def test_output_that_nobody_reads_any_more_ends_the_command_quietly():
    lines = "def many():\n  for _ in range(100_000): print('line')\n"
    start = "import sys\nfrom benchmark.base.process import exit_code\n"
    code = f"{start}{lines}sys.exit(exit_code(many))"
    reader, writer = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE
    ) as process:
        os.close(reader)
        os.close(writer)
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE

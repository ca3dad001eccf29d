"""How far a run is, told from its files, whichever they are."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from rich.console import Console
from support.configs import CONFIG_FOLDER, MODEL_SETTINGS, tiny_config, write_config
from support.records import timing_metrics, timing_row

from benchmark import cli
from benchmark.base import paths
from benchmark.base.files import write_json
from benchmark.base.progress import duration
from benchmark.config.jobs import job_of
from benchmark.records.record import write_record
from benchmark.run import status_report
from benchmark.run.status import DONE, FAILED, OUTDATED, RUNNING, STARTS, STOPPED, WAITING, status
from benchmark.run.status_report import age, page
from benchmark.training import progress_file
from benchmark.training.progress_file import Checkpoint, write_progress

SAID = {"update": 2, "updates": 5, "rate": 0.5, "values": {"loss": -3.5}}
VAE = {"dataset": "digits", "model": "vae", "seed": 0}
LOG = "results/tiny/logs/train/digits/vae/0.log"
LINE = "digits · vae · seed 0    ██░░  40% · loss -3.5 · ETA 6s\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def record(job, wall_time_s: float = 7.0) -> str:
    final = {"updates": 5, "seconds_per_update": 0.1, "parameters": 3, "final": {"loss": -3.5}}
    about = {"device": torch.device("cpu"), "sample_count": 100}
    return write_record(job, final, wall_time_s=wall_time_s, **about).path


def checkpoints(config):
    settings = job_of(config, "training", "digits", "vae").config_hash
    return paths.fill(paths.CHECKPOINTS, "tiny", **VAE, config_hash=settings)


def note_digits() -> None:
    images = {"dataset": "digits", "image_shape": [1, 32, 32], "counts": {}, "digests": {}}
    images |= {"config_hash": job_of(tiny_config(), "data", "digits").config_hash, "stamp": ""}
    write_json(paths.fill(paths.DATA, "tiny", dataset="digits"), images)


def write_log(text: str, path: str = LOG, minutes_old: float = 0.0) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    then = time.time() - 60 * minutes_old
    os.utime(path, (then, then))


def vae(config):
    (found,) = (each for each in status(config).trainings if each.model == "vae")
    return found


# States -----------------------------------------------------------------------------------------


def test_every_training_waits_before_the_first_run(tmp_path):
    config = tiny_config({"seeds": [0, 1], "datasets": ["mnist", "digits"]})
    found = status(config)
    one = [("classifier", 0), *((model, seed) for model in ("kaem_is", "vae") for seed in (0, 1))]
    wanted = [(dataset, *names) for dataset in ("mnist", "digits") for names in one]
    assert [(each.dataset, each.model, each.seed) for each in found.trainings] == wanted
    assert {each.state for each in found.trainings} == {WAITING}
    assert found.steps == {
        "data": (0, 2),
        "sample": (0, 10),  # real images are drawn with one seed
        "evaluate": (0, 10),
        "inspect": (0, 2),
        "time": (0, 2),  # all models of a dataset in one step
    }
    assert found.failures == []
    assert list(tmp_path.iterdir()) == []  # looking leaves nothing


def test_done_and_outdated():
    config = tiny_config()
    record(job_of(config, "training", "digits", "vae"))
    found = vae(config)
    assert (found.state, found.seconds) == (DONE, 7.0)
    faster = tiny_config({"training.learning_rate": 0.5})
    assert vae(faster).state == OUTDATED
    # One that was begun with these settings counts more than what others left.
    write_progress(checkpoints(faster), **SAID)
    assert vae(faster).state == STOPPED


def test_a_damaged_record_is_a_failure_that_names_it():
    config = tiny_config()
    path = record(job_of(config, "training", "digits", "vae"))
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    assert vae(config).state == FAILED
    (failure,) = status(config).failures
    assert failure.path == path
    assert "edited or damaged" in failure.lines[0]


def test_damaged_samples_are_a_failure_that_names_them():
    config = tiny_config()
    path = job_of(config, "sampling", "digits", "vae").path("samples")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PK damaged")
    (failure,) = status(config).failures
    assert failure.path == path
    assert failure.lines == ["it is damaged: remove it, and the next run makes it again"]


def test_running_is_what_holds_the_lock_and_stopped_what_does_not():
    config = tiny_config()
    folder = checkpoints(config)
    write_progress(folder, **SAID, checkpoint=Checkpoint(update=1, written=990.0))
    write_log(LINE)
    with FileLock(folder / progress_file.LOCK):
        found = vae(config)
        assert found.state == RUNNING
        assert (found.progress.update, found.progress.checkpoint.update) == (2, 1)
    assert vae(config).state == STOPPED
    (folder / progress_file.PROGRESS).write_text("{")
    assert vae(config).state == STOPPED  # its log tells that it began


def test_a_failure_shows_the_end_of_its_log():
    config = tiny_config()
    write_progress(checkpoints(config), **SAID)
    write_log(LINE * 3 + "\x1b[31merror: the loss is nan at update 3\x1b[0m\n\n  Lower it.\a\n")
    assert vae(config).state == FAILED
    (failure,) = status(config).failures
    assert str(failure.path) == LOG
    assert failure.lines == ["error: the loss is nan at update 3", "  Lower it."]


TRACEBACK = "Traceback (most recent call last):\n  a\n  b\n  c\n  d\nValueError: e\n"


@pytest.mark.parametrize(
    ("text", "first", "count"),
    [
        (TRACEBACK, "  a", 5),
        ("python -m benchmark train: error: argument --seed: 'x'\n", "python -m", 1),
        ("warning\n" * 10_000 + "error: last\n", "error: last", 1),
        ("error: first\n" + "more\n" * 9, "error: first", 5),
        ("error: first\n" + LINE + "error: second\n", "error: second", 1),
        ("error: \ufffd", "error: \ufffd", 1),
    ],
    ids=["traceback", "usage", "long log", "long message", "two", "no text"],
)
def test_which_lines_tell_of_an_error(text, first, count):
    write_log(text)
    (failure,) = status(tiny_config()).failures
    assert failure.lines[0].startswith(first)
    assert len(failure.lines) == count


@pytest.mark.parametrize("text", [LINE, "interrupted; nothing half-written was left\n"])
def test_a_log_that_just_ends_is_of_a_training_that_was_stopped(text):
    write_log(text)
    assert vae(tiny_config()).state == STOPPED
    assert status(tiny_config()).failures == []


def test_an_empty_log_is_of_a_training_that_starts_or_was_stopped_as_it_started():
    write_log("", minutes_old=0.5)
    assert vae(tiny_config()).state == STARTS
    write_log("", minutes_old=1.5)
    assert vae(tiny_config()).state == STOPPED


def test_an_old_failure_is_not_that_of_a_training_begun_since():
    config = tiny_config()
    write_log("error: no space left\n", minutes_old=1)
    assert vae(config).state == FAILED
    write_progress(checkpoints(config), **SAID)
    assert vae(config).state == STOPPED
    record(job_of(config, "training", "digits", "vae"))
    assert vae(config).state == DONE
    assert status(config).failures == []


def test_the_classifier_has_files_of_its_own():
    write_log("error: so many classes\n", "results/tiny/logs/classifier/digits.log")
    states = {each.model: each.state for each in status(tiny_config()).trainings}
    assert states == {"classifier": FAILED, "kaem_is": WAITING, "vae": WAITING}


# The other steps --------------------------------------------------------------------------------


def test_other_steps_are_counted_where_their_settings_are_these():
    config = tiny_config()
    names = {"run": "tiny", "dataset": "digits", "model": "vae", "seed": 0, "device": "cpu"}
    note_digits()
    samples = Path(paths.SAMPLES.format(**names))
    samples.parent.mkdir(parents=True)
    job = job_of(config, "sampling", "digits", "vae")
    np.savez(samples, images=np.zeros((1, 1, 8, 8), np.uint8), config_hash=job.config_hash)
    steps = {"data": (1, 1), "sample": (1, 3), "evaluate": (0, 3), "inspect": (0, 1)}
    for model, done in (("vae", 0), ("kaem_is", 1)):  # timing is one step for all models
        write_record(
            job_of(config, "timing", "digits", model),
            timing_metrics([timing_row()]),
            device=torch.device("cpu"),
            wall_time_s=1.0,
            sample_count=1,
        )
        assert status(config).steps == steps | {"time": (done, 1)}
    faster = tiny_config({"training.learning_rate": 0.5})
    assert status(faster).steps == steps | {"sample": (0, 3), "time": (0, 1)}
    samples.write_bytes(b"PK")
    assert status(config).steps["sample"] == (0, 3)


def test_failures_of_other_steps_until_they_are_done():
    config = tiny_config()
    write_log("error: no images\n", "results/tiny/logs/data/digits.log")
    write_log("error: no weights\n", "results/tiny/logs/sample/digits/vae/0.log")
    write_log("error: nothing to show\n", "results/tiny/logs/loss_curves/digits.log")
    write_log("error: of another seed\n", "results/tiny/logs/sample/digits/vae/7.log")
    said = [failure.lines for failure in status(config).failures]
    assert said == [["error: no images"], ["error: no weights"], ["error: nothing to show"]]
    note_digits()
    assert len(status(config).failures) == 2


# What a person sees -----------------------------------------------------------------------------


def printed(config, width: int = 80) -> list[str]:
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(page(status(config), "config/tiny.yaml", width), soft_wrap=True)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_table_fits_80_columns():
    name = "latent_ebm_gaussian_abc"  # longer than any in the configurations
    config = tiny_config({f"models.{name}": {"model": "vae", **MODEL_SETTINGS["vae"]}})
    job = job_of(config, "training", "digits", name)
    names = {"dataset": "digits", "model": name, "seed": 0, "config_hash": job.config_hash}
    folder = paths.fill(paths.CHECKPOINTS, "tiny", **names)
    last = Checkpoint(update=14_000, written=time.time() - 720)
    said = {"update": 15_000, "updates": 30_000, "rate": 12.345, "values": {"loss": -512.3}}
    write_progress(folder, **said, checkpoint=last)
    with FileLock(folder / progress_file.LOCK):
        lines, wide = printed(config), printed(config, 120)
    (row,) = (line for line in lines if line.startswith(name))
    assert row.split(maxsplit=4)[:4] == [name, "0", "running", "15000/30000"]
    assert " ".join(row.split()[4:]) == "12.3/s ETA 20 min 12 min ago"
    assert max(map(len, lines)) <= 80
    assert any(line.startswith(name) and line.endswith("loss -512.3") for line in wide)
    assert "Trainings: 1 running, 3 waiting" in lines


def test_what_stopped_says_how_to_go_on_and_what_failed_why():
    config = tiny_config()
    write_progress(checkpoints(config), **SAID)
    lines = printed(config)
    assert "  snakemake --cores all --configfile config/tiny.yaml" in lines
    write_log("error: [red]no[/red] space :smile:\n")
    lines = printed(config)
    where = lines.index(f"Failed: {LOG}")
    assert lines[where + 1] == "  error: [red]no[/red] space :smile:"
    assert not any("snakemake" in line for line in lines)


@pytest.mark.parametrize(
    ("since", "shown"),
    [(1, "ETA 6 s"), (45, "silent 45 s"), (-3600, "clock moved")],
)
def test_a_running_training_that_is_silent_or_ahead_of_time(since, shown):
    config = tiny_config()
    folder = checkpoints(config)
    write_progress(folder, **SAID, checkpoint=Checkpoint(update=1, written=time.time() - since))
    said = json.loads((folder / progress_file.PROGRESS).read_text())
    said["written"] -= since
    (folder / progress_file.PROGRESS).write_text(json.dumps(said))
    with FileLock(folder / progress_file.LOCK):
        (row,) = (line for line in printed(config) if line.startswith("vae"))
    assert shown in row
    assert ("clock moved" in row) == (since < 0)


def test_times_and_ages():
    said = [duration(seconds) for seconds in (0, 89.4, 90, 5399, 5400, 129_000, 130_000)]
    assert said == ["0 s", "89 s", "2 min", "90 min", "1.5 h", "35.8 h", "1.5 d"]
    assert [age(seconds) for seconds in (3, -0.5, -2)] == ["3 s ago", "0 s ago", "clock moved"]


# The command ------------------------------------------------------------------------------------


def test_the_command_is_quick_and_plain_when_piped():
    write_config(Path("tiny.yaml"))
    write_log("error: no space\n")
    code = (
        "import sys; from benchmark import cli\n"
        "code = cli.main(sys.argv[1:]); print('torch' in sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "status", "--config", "tiny.yaml"],
        env=os.environ | {"PYTHONPATH": str(CONFIG_FOLDER.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert done.stderr == ""
    assert lines[0] == "tiny (tiny.yaml)"
    assert lines[-1] == "False"  # it needs no torch
    assert "\x1b" not in done.stdout


def test_settings_given_to_the_run_are_given_here_too(capsys):
    write_config(Path("tiny.yaml"))
    record(job_of(tiny_config({"training.updates": 7}), "training", "digits", "vae"))
    for words, state in (([], "outdated"), (["--set", "training.updates=7"], "done")):
        assert cli.main(["status", "--config", "tiny.yaml", *words]) == 0
        shown = capsys.readouterr().out
        assert f"Trainings: 1 {state}, 2 waiting" in shown
    assert shown.startswith("""tiny (tiny.yaml --config 'training={"updates": 7}')\n""")


def test_without_a_configuration_all_runs_that_there_are(capsys):
    assert cli.main(["status"]) == 0
    assert capsys.readouterr().out == "results/ holds no run yet. To begin: make demo\n"
    write_log("", "results/demo/logs/data/digits.log")
    write_log("", "results/published/demo/logs/data/digits.log")
    assert cli.main(["status"]) == 0
    found = capsys.readouterr().out
    assert "demo (" in found
    assert "--config FILE" not in found
    write_log("", "results/mine/logs/data/digits.log")
    assert cli.main(["status"]) == 0
    assert capsys.readouterr().out.startswith(found)
    assert cli.main(["status", "--set", "seeds=[1]"]) == 1
    assert "--config FILE" in capsys.readouterr().err


def test_a_broken_configuration_hides_no_other_run(capsys, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", Path.cwd())
    Path("config").mkdir()
    write_config(Path("config/tiny.yaml"))
    Path("config/broken.yaml").write_text("run: [")
    write_log("")
    assert cli.main(["status"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("tiny (config/tiny.yaml)")
    assert captured.err.startswith(f"left out: {Path.cwd()}/config/broken.yaml: 1 problem")


def test_watching_looks_again_until_it_is_interrupted(capsys, monkeypatch):
    looks = []

    def sleep(_seconds):
        looks.append(None)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(status_report.time, "sleep", sleep)
    write_config(Path("tiny.yaml"))
    assert cli.main(["status", "--config", "tiny.yaml", "--watch"]) == 0
    assert capsys.readouterr().out.count("tiny (tiny.yaml)") == 3

"""A workflow that is killed, and the same command once more."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.configs import CONFIG_FOLDER, write_config
from support.kills import results

from benchmark.run import workflow_lock

SNAKEFILE = CONFIG_FOLDER.parent / "Snakefile"
TRAINED = "results/tiny/weights/digits/vae/seed0.safetensors"


def start(folder: Path) -> subprocess.Popen:
    """The workflow up to one training, in a process group of its own."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "snakemake", "-s", SNAKEFILE, "--directory", folder, TRAINED),
            *("--cores", "1", "--configfile", folder / "tiny.yaml"),
        ],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=(folder / "said").open("a"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def said(folder: Path) -> str:
    return (folder / "said").read_text()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    """The folder of a training that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    changes = {"training.updates": 200, "checkpoint_seconds": 0}
    write_config(folder / "tiny.yaml", changes)
    assert start(folder).wait() == 0, said(folder)
    return folder


@pytest.fixture
def folder(uninterrupted, tmp_path) -> Path:
    """The same, but for the training: what comes before it is there already."""
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)
    for name in ("weights", "training"):
        shutil.rmtree(folder / "results/tiny" / name)
    (folder / "said").unlink()
    return folder


def trained(folder: Path) -> list[dict]:
    return [results(folder / "results/tiny" / name) for name in ("weights", "training")]


def states(folder: Path) -> list[Path]:
    return list(folder.glob("results/tiny/checkpoints/digits/vae/*/state-*"))


def when_it_trains(workflow: subprocess.Popen, folder: Path) -> None:
    """Wait until this workflow, and not one before it, has written a checkpoint."""
    before = set(states(folder))
    while set(states(folder)) <= before:
        assert workflow.poll() is None, said(folder)
        time.sleep(0.01)


def test_interrupted_and_killed_with_its_children_it_goes_on_by_itself(folder, uninterrupted):
    first = start(folder)
    when_it_trains(first, folder)
    os.killpg(first.pid, signal.SIGINT)  # as a terminal does on Ctrl-C
    assert first.wait() != 0
    assert "the same command goes on from there" in said(folder)
    second = start(folder)
    when_it_trains(second, folder)
    os.killpg(second.pid, signal.SIGKILL)
    second.wait()
    assert not (folder / TRAINED).exists()
    assert start(folder).wait() == 0, said(folder)
    assert "The last workflow here was killed; going on where it was." in said(folder)
    assert said(folder).count("vae · seed 0: goes on after update") == 2
    assert trained(folder) == trained(uninterrupted)


def test_a_second_workflow_is_refused_and_a_training_that_outlives_the_first_is_waited_for(
    folder, uninterrupted
):
    first = start(folder)
    when_it_trains(first, folder)
    os.killpg(first.pid, signal.SIGSTOP)
    assert start(folder).wait() == 1
    assert "Directory cannot be locked" in said(folder)
    os.kill(first.pid, signal.SIGKILL)  # Snakemake alone
    first.wait()
    third = start(folder)
    while "waiting for it to end" not in said(folder):
        assert third.poll() is None, said(folder)
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGCONT)
    assert third.wait() == 0, said(folder)
    assert "was trained by the other process" in said(folder)
    assert trained(folder) == trained(uninterrupted)


def test_locks_are_stale_when_no_workflow_holds_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not workflow_lock.clear_stale_locks()
    workflow_lock.SNAKEMAKE_LOCKS.mkdir(parents=True)
    assert not workflow_lock.clear_stale_locks()
    lock = workflow_lock.SNAKEMAKE_LOCKS / "0.output.lock"
    lock.touch()
    with workflow_lock.hold(), workflow_lock.hold():  # two may run on files of their own
        assert not workflow_lock.clear_stale_locks()
        assert lock.exists()
    assert workflow_lock.clear_stale_locks()
    assert not lock.exists()

"""Trainings in processes that can be killed at any moment, and what became of them."""

import contextlib
import csv
import math
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from support.configs import MODEL_SETTINGS, PRIOR, with_copulas
from support.records import without_times

from benchmark import cli
from benchmark.records.record import read_record

PERSISTENT = {"persistent": True}
# Everything that a model can carry from update to update: chains, a domain that moves, temperatures
# that are spaced anew, momentum; the rest of the models as other tests have them.
SETTINGS = MODEL_SETTINGS | {
    name: MODEL_SETTINGS[name] | {"sampler": MODEL_SETTINGS[name]["sampler"] | PERSISTENT}
    for name in MODEL_SETTINGS
    if name.startswith(("kaem_ula", "kaem_thermo"))
}
SETTINGS["kaem_ula"] |= {"domain_update": {"every": 7}}
SETTINGS["kaem_thermo"]["sampler"] |= {"respace_every": 5}
IN_TURN = {"objective": "integral", "exchange": "alternating"}
SETTINGS["kaem_thermo_univariate"]["sampler"] |= IN_TURN
SETTINGS["latent_ebm_thermo"] = MODEL_SETTINGS["latent_ebm_thermo"] | IN_TURN | {"respace_every": 5}
SETTINGS["kaem_is_univariate"] = SETTINGS["kaem_is_univariate"] | {
    "training": {
        "optimiser": "nesterov",
        "learning_rate": 1.0e-4,
        "schedule": "milestones",
        "milestones": [4, 12],
    },
    "domain_update": {"every": 5, "decay": 0.9},
    "prior": PRIOR | {"train_scale": True},
}
SETTINGS = with_copulas(SETTINGS)

ENTRIES = [*SETTINGS, "classifier"]
UPDATES = 16


def settings(model: str, **changes) -> dict:
    """Return changes of the tiny configuration for a training that is interrupted."""
    chosen = {} if model == "classifier" else {f"models.{model}": SETTINGS[model]}
    return chosen | {
        "training.updates": UPDATES,
        "classifier.updates": UPDATES,
        "checkpoint_seconds": 0,
        **changes,
    }


def train_words(model: str, config: Path) -> list[str]:
    """Return the command that trains it."""
    return ["train", "--dataset=digits", f"--model={model}", f"--config={config}"]


@contextlib.contextmanager
def working_folder(folder: Path) -> Iterator[None]:
    """Work in a folder, which is made where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(folder):
        yield


def fork(command: Callable[[], int], output: int) -> int:
    """Run a command in a child, which has all imports, its output into a descriptor; return its
    pid."""
    pid = os.fork()
    if pid:
        return pid
    try:  # in the child
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        code = command()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc(file=sys.stderr)
        code = 99
    os._exit(code)


def begin(words: list[str], log: Path) -> int:
    """Run `python -m benchmark` in a child; return its pid."""
    with log.open("a") as output:
        return fork(partial(cli.main, words), output.fileno())


def end(pid: int) -> int:
    """Wait for a child; return its exit code, minus the signal's number where one killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def train_killed(
    words: list[str],
    log: Path,
    longest: float,
    draws: random.Random,
    kills: float = math.inf,
    after_kill: Callable[[], None] = lambda: None,
) -> int:
    """Train, killing the process and starting it again by the same command, at most so many times,
    until it ends; return how often it was killed.

    Four kills of five come a random time, up to `longest` seconds, after the first update of the
    process; the others that long after it began.
    """
    done = 0
    while True:
        begun, pid = time.time(), begin(words, log)
        if done < kills:
            if draws.random() < 0.8:
                _wait_for_an_update(pid, begun)
            time.sleep(draws.uniform(0, longest))
            os.kill(pid, signal.SIGKILL)
        code = end(pid)
        if code == 0:
            return done
        if code != -signal.SIGKILL:
            raise AssertionError(f"{' '.join(words)}: exit code {code}\n{log.read_text()}")
        done += 1
        after_kill()


def _wait_for_an_update(pid: int, begun: float) -> None:
    """Wait until a process that trains here has made one, or has ended."""
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        for path in Path("results").rglob("progress.json"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime > begun:
                    return
        time.sleep(0.002)


def results(run: Path) -> dict:
    """Return all that a training left, but for times and provenance: file -> content."""
    return {str(path.relative_to(run)): _content(path) for path in run.rglob("*") if path.is_file()}


def _content(path: Path):
    if path.suffix == ".safetensors":
        return {key: value.tobytes() for key, value in load_file(path).items()}
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {key: value.tobytes() for key, value in arrays.items()}
    if path.suffix == ".csv":
        rows = csv.DictReader(path.read_text().splitlines())
        return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    return without_times(read_record(path)) if path.suffix == ".json" else None

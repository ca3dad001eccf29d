"""The workflow through a real Slurm, one of whose two nodes dies in the middle of a training.

It starts daemons, as root: set KAEM_TEST_SLURM=1 to allow that, as .ci/run does.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest
from support.configs import CONFIG_FOLDER, MISSING, write_config
from support.records import without_times

from benchmark.records.record import read_record

REPOSITORY = CONFIG_FOLDER.parent
CLUSTER = REPOSITORY / "tests" / "workflow" / "cluster.sh"
PATIENCE = 900  # seconds, on a busy machine
# This Slurm keeps no accounts, which sacct would need, and may be asked often.
ON_SLURM = ("--profile", REPOSITORY / "profiles/slurm", "--slurm-status-command", "squeue")
ON_SLURM += ("--slurm-init-seconds-before-status-checks", "2")
STATES = "digits/kaem_is/*/state-*.safetensors"
LONG_TRAINING = {
    "models.kaem_is.training": {"updates": 1500},
    "models.vae": MISSING,
    "checkpoint_seconds": 1,
}
KILLED = "rule_train_wildcards_digits_kaem_is_0"  # as the executor comments the job

pytestmark = pytest.mark.skipif(
    not os.environ.get("KAEM_TEST_SLURM"),
    reason="starts Slurm's daemons: as root with slurm-wlm and munge, set KAEM_TEST_SLURM=1",
)


@contextmanager
def snakemake(folder: Path, *words, **environment) -> Iterator[subprocess.Popen]:
    """The workflow, run from a folder that holds tiny.yaml; what it says goes into terminal.txt."""
    command = [sys.executable, "-m", "snakemake", "-s", REPOSITORY / "Snakefile"]
    command += ["--directory", folder, "--configfile", folder / "tiny.yaml", *words]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("KAEM_")}
    with (folder / "terminal.txt").open("w") as terminal:
        started = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            env=kept | environment,
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=subprocess.STDOUT,
        )
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def finish(started: subprocess.Popen, folder: Path) -> tuple[int, str]:
    """(the exit status, what was said) of a run."""
    return started.wait(PATIENCE), (folder / "terminal.txt").read_text()


class Cluster:
    """The loopback Slurm in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = dict([self.do("start").strip().split("=")])

    def do(self, *words: str) -> str:
        """Run cluster.sh."""
        verb, *rest = words
        # Not through a pipe: the daemons would keep its other end.
        said = self.folder / "cluster.txt"
        with said.open("w") as out:
            subprocess.run([CLUSTER, verb, self.folder / "slurm", *rest], stdout=out, check=True)
        return said.read_text()

    def jobs(self, comment: str) -> list[dict[str, str]]:
        """What Slurm knows of the jobs so commented, as `scontrol show job` names it."""
        told = subprocess.run(
            ["scontrol", "show", "job", "--oneliner"],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found = [dict(re.findall(r"(\S+?)=(\S+)", line)) for line in told.stdout.splitlines()]
        return [job for job in found if job.get("Comment") == comment]

    def await_job(self, comment: str, state: Callable[[dict], bool]) -> dict[str, str]:
        """The one job so commented, once it is in a state."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            jobs = self.jobs(comment)
            if jobs and state(jobs[-1]):
                return jobs[-1]
            time.sleep(0.2)
        raise AssertionError(f"{comment} did not come so far: {self.jobs(comment)}")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    temporary = Path(tempfile.gettempdir())
    for above in (each for each in (folder, *folder.parents) if temporary in each.parents):
        above.chmod(above.stat().st_mode | 0o011)  # munge runs as a user of its own
    running = Cluster(folder)
    yield running
    running.do("stop")


def comparable(folder: Path) -> dict[str, object]:
    """Every record of a run without origin and times; digests of its weights and images."""
    found = {}
    for path in sorted((folder / "results/tiny").rglob("*")):
        name = str(path.relative_to(folder))
        kind = path.relative_to(folder).parts[2]
        if kind in ("classifier", "training", "metrics") and path.suffix == ".json":
            found[name] = without_times(read_record(path))
        elif kind in ("weights", "samples") and path.is_file():
            found[name] = sha256(path.read_bytes()).hexdigest()
    return found


def test_a_run_whose_node_dies_ends_as_one_on_this_machine(cluster, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        write_config(folder / "tiny.yaml", LONG_TRAINING)
    with snakemake(there, *ON_SLURM, "claims", **cluster.environment) as started:
        checkpoints = there / "results/tiny/checkpoints"
        job = cluster.await_job(KILLED, lambda _: any(checkpoints.glob(STATES)))
        assert job["JobState"] == "RUNNING"
        cluster.do("kill", job["NodeList"])
        assert not (there / "results/tiny/weights/digits/kaem_is/seed0.safetensors").exists()
        cluster.await_job(KILLED, lambda job: job["Restarts"] == "1")
        cluster.do("boot", job["NodeList"])
        status, said = finish(started, there)
    assert status == 0, said
    log = (there / "results/tiny/logs/train/digits/kaem_is/0.log").read_text()
    assert "kaem_is · seed 0: goes on after update" in log
    with snakemake(here, "--cores", "2", "claims") as started:
        status, said = finish(started, here)
    assert status == 0, said

    expected = comparable(here)
    kinds = {name.split("/")[2] for name in expected}
    assert kinds == {"classifier", "training", "metrics", "weights", "samples"}
    assert comparable(there) == expected
    # Times are no part of that; but they were taken on a node of its own.
    (timing,) = cluster.jobs("rule_time_wildcards_cpu_digits")
    assert timing["OverSubscribe"] == "NO"
    assert (there / "results/tiny/timing/cpu/digits/kaem_is.json").is_file()


def test_jobs_ask_slurm_for_gpus_and_failures_say_where_to_look(cluster, tmp_path):
    # The cluster counts one GPU, which no program can use: the first step that looks for it fails.
    write_config(tmp_path / "tiny.yaml", {"device": "cuda"})
    with snakemake(tmp_path, *ON_SLURM, "--retries", "0", **cluster.environment) as started:
        status, said = finish(started, tmp_path)
    assert status == 1, said
    assert "the end of its log: python -m benchmark status --config tiny.yaml" in said
    log = (tmp_path / "results/tiny/logs/data/digits.log").read_text()
    assert "device cuda: no GPU is visible here" in log
    (job,) = [job for job in cluster.jobs("rule_data_wildcards_digits") if "TresPerJob" in job]
    assert job["TresPerJob"] == "gres:gpu:1"
    assert job["NodeList"] == "kaem1"  # the node that has it

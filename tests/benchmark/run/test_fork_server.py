"""A command that a server has forked is as one that was started by itself."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.configs import CONFIG_FOLDER

from benchmark.run.fork_server import ADDRESS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no server")

PROBE = """
import os, signal, sys, time
from pathlib import Path

def note(number, frame):
    print("signal", number, flush=True)

print(sys.argv[1:], Path.cwd(), os.environ["OWN"], os.environ.get("KAEM_FORK_SERVER"))
print("é", file=sys.stderr)
if sys.argv[1] == "wait":
    signal.signal(signal.SIGTERM, note)
    Path("pid").write_text(str(os.getpid()))
    time.sleep(0.3)
    while not Path("end").exists():
        time.sleep(0.01)
exec(sys.argv[2])
"""
PARENT = """
from benchmark.run import fork_server
server = fork_server.start(1)
print(server.pid, flush=True)
input()
"""
CLIENT = "import sys; from benchmark.run.fork_server import hand_over; sys.exit(hand_over('probe'))"


class Workflow:
    """A process that has started a server, and whose group its clients join."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = os.environ | {"PYTHONPATH": str(CONFIG_FOLDER.parent), "OWN": "ö"}
        self.process = self._start("-c", PARENT, group=0, stdin=subprocess.PIPE)
        self.server = int(self.process.stdout.readline())
        self.environment[ADDRESS] = f".snakemake/steps-{self.process.pid}.socket"

    def client(self, *words: str, **environment: str) -> subprocess.Popen:
        """Hand a command over."""
        self.environment |= environment
        return self._start("-c", CLIENT, *words, group=self.process.pid)

    def _start(self, *words: str, group: int, **streams) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=self.folder,
            env=self.environment,
            process_group=group,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **streams,
        )

    def waiting_job(self) -> tuple[subprocess.Popen, int]:
        """A job that waits for the file "end": its client, its own pid."""
        client = self.client("wait", "")
        file = self.folder / "pid"
        while not (file.exists() and file.read_text()):
            assert client.poll() is None
            time.sleep(0.01)
        return client, int(file.read_text())

    def end_job(self) -> None:
        (self.folder / "end").touch()


@pytest.fixture
def workflow(tmp_path) -> Iterator[Workflow]:
    (tmp_path / ".snakemake").mkdir()
    (tmp_path / "probe.py").write_text(PROBE)
    workflow = Workflow(tmp_path)
    yield workflow
    workflow.process.kill()
    workflow.process.wait()
    _wait_until(lambda: not list(tmp_path.glob(".snakemake/*")))  # the server has gone too


def _wait_until(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_its_folder_environment_output_and_exit_code_are_its_own(workflow):
    for statement, code, last in (
        ("", 0, ""),
        ("sys.exit(7)", 7, ""),
        ("print('unfinished', end='')", 0, "unfinished"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, ""),
        ("import nothing", 1, "ModuleNotFoundError: No module named 'nothing'\n"),
    ):
        client = workflow.client("do", statement)
        said = client.communicate()[0]
        assert client.returncode == code, said
        if code != 137:  # what it had not yet flushed
            assert f"{['do', statement]} {workflow.folder} ö None\n" in said
        assert "é\n" in said
        assert last in said


@pytest.mark.parametrize("whole_group", [True, False])
def test_a_signal_comes_once_whoever_it_was_sent_to(workflow, whole_group):
    client, _ = workflow.waiting_job()
    if whole_group:
        os.killpg(workflow.process.pid, signal.SIGTERM)
    else:
        client.terminate()
    time.sleep(0.3)
    workflow.end_job()
    said = client.communicate()[0]
    assert client.returncode == 0, said
    assert said.count(f"signal {int(signal.SIGTERM)}") == 1


def test_a_job_goes_with_its_client_and_outlives_its_workflow(workflow):
    client, pid = workflow.waiting_job()
    client.kill()
    _wait_until(lambda: not _is_alive(pid))
    (workflow.folder / "pid").unlink()
    client, pid = workflow.waiting_job()
    workflow.process.kill()
    time.sleep(0.3)
    assert _is_alive(pid)
    workflow.end_job()
    assert client.wait() == 0


def test_where_the_server_is_killed_its_jobs_fail(workflow):
    client, _ = workflow.waiting_job()
    os.kill(workflow.server, signal.SIGKILL)
    workflow.end_job()
    assert "the server of the steps was killed" in client.communicate()[0]
    assert client.returncode == 1
    next((workflow.folder / ".snakemake").iterdir()).unlink()


def test_without_a_server_a_command_runs_by_itself(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", "schema"],
        cwd=CONFIG_FOLDER.parent,
        env=os.environ | {ADDRESS: str(tmp_path / "gone")},
        capture_output=True,
        check=True,
    )
    assert done.stdout.startswith(b"{")

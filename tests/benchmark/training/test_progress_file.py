"""What a training says of itself while it runs."""

import json
import math
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from benchmark.training import progress_file
from benchmark.training.progress_file import Checkpoint, is_alive, read_progress, write_progress

SAID = {"update": 40, "updates": 100, "rate": 2.5, "values": {"loss": -3.5}}


def edit(folder: Path, **changes) -> None:
    path = folder / progress_file.PROGRESS
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_is_written_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(progress_file.time, "time", lambda: 1000.0)
    write_progress(tmp_path, **SAID, checkpoint=Checkpoint(update=30, written=990.0))
    found = read_progress(tmp_path)
    assert (found.update, found.updates, found.rate, found.values) == tuple(SAID.values())
    assert (found.checkpoint, found.written) == (Checkpoint(update=30, written=990.0), 1000.0)
    assert found.host == platform.node()
    assert found.seconds_left == 24.0
    write_progress(tmp_path, **SAID)
    assert read_progress(tmp_path).checkpoint is None
    assert {path.name for path in tmp_path.iterdir()} == {progress_file.PROGRESS}


def test_numbers_that_json_lacks_are_left_out(tmp_path):
    values = {"loss": math.nan, "ess": math.inf, "kl": 1.0}
    write_progress(tmp_path, **SAID | {"rate": math.inf, "values": values})
    found = read_progress(tmp_path)
    assert found.values == {"kl": 1.0}
    assert found.rate is found.seconds_left is None


def test_nothing_there_is_none_and_nothing_is_made(tmp_path):
    assert read_progress(tmp_path / "absent") is None
    assert not is_alive(tmp_path / "absent", None, 0.0)
    assert list(tmp_path.iterdir()) == []


def test_alive_is_who_holds_the_lock(tmp_path):
    write_progress(tmp_path, **SAID)
    progress = read_progress(tmp_path)
    assert not is_alive(tmp_path, progress, progress.written)  # no lock was ever taken
    hold = (
        "import sys; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    lock = tmp_path / progress_file.LOCK
    with subprocess.Popen(
        [sys.executable, "-c", hold, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        assert is_alive(tmp_path, progress, math.inf)  # however long it says nothing
        assert is_alive(tmp_path, None, 0.0)
        holder.kill()
        holder.wait()
    assert not is_alive(tmp_path, progress, progress.written)
    with FileLock(lock, timeout=0):  # asking has not kept it
        pass


@pytest.mark.parametrize(("age", "alive"), [(0, True), (59, True), (61, False), (-3600, False)])
def test_elsewhere_alive_is_who_wrote_of_late(tmp_path, age, alive):
    write_progress(tmp_path, **SAID)
    edit(tmp_path, host="another machine", written=1e9)
    assert is_alive(tmp_path, read_progress(tmp_path), 1e9 + age) == alive


def test_a_lock_that_one_may_not_take_says_nothing(tmp_path, monkeypatch):
    def refuse(*_arguments, **_options):
        raise PermissionError

    write_progress(tmp_path, **SAID)
    (tmp_path / progress_file.LOCK).touch()
    monkeypatch.setattr(progress_file, "FileLock", refuse)
    progress = read_progress(tmp_path)
    assert is_alive(tmp_path, progress, progress.written + 59)
    assert not is_alive(tmp_path, progress, progress.written + 61)
    assert not is_alive(tmp_path, None, 0.0)

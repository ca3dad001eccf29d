"""Folders that are built once: by one of several processes, and never by half."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.base.once import build_once, discard
from benchmark.base.paths import ROOT

# Says "started", builds slowly, and says what the folder holds in the end. Each build adds a line.
BUILDER = """
import sys, time
from pathlib import Path
from benchmark.base.once import build_once

folder, log, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])

def build(unfinished):
    with log.open("a") as handle:
        handle.write("built\\n")
    (unfinished / "first").write_text("first")
    print("half", flush=True)
    time.sleep(seconds)
    (unfinished / "second").write_text("second")

print("started", flush=True)
build_once(folder, build)
print(sorted(path.name for path in folder.iterdir()), flush=True)
"""
WHOLE = "['first', 'second']"


def start(folder: Path, log: Path, seconds: float) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(folder), str(log), str(seconds)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def write(unfinished: Path) -> None:
    (unfinished / "content").write_text("whole")


def visible(folder: Path) -> list[str]:
    """What lies in a folder, without the files of the locks, which stay."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_processes_that_want_the_same_folder_build_it_once(tmp_path):
    folder, log = tmp_path / "cache" / "made", tmp_path / "log"
    processes = [start(folder, log, 1.0) for _ in range(3)]
    outputs = [process.communicate(timeout=120)[0].splitlines() for process in processes]
    assert log.read_text() == "built\n"
    assert [lines[-1] for lines in outputs] == [WHOLE] * 3
    assert sum("half" in lines for lines in outputs) == 1
    assert visible(folder.parent) == ["made"]


def test_a_killed_build_is_built_anew(tmp_path):
    folder, log = tmp_path / "cache" / "made", tmp_path / "log"
    killed = start(folder, log, 60)
    lines = [killed.stdout.readline(), killed.stdout.readline()]
    killed.kill()
    killed.communicate(timeout=60)
    assert lines == ["started\n", "half\n"]
    assert not folder.exists()
    assert visible(folder.parent) != []  # what it left
    build_once(folder, write)
    assert visible(folder) == ["content"]
    assert visible(folder.parent) == ["made"]


def test_a_folder_that_is_there_is_not_built(tmp_path):
    folder = tmp_path / "made"
    assert build_once(folder, write) == folder
    assert build_once(folder, lambda _: pytest.fail("built again")) == folder


def test_it_is_not_there_before_it_is_whole(tmp_path):
    folder = tmp_path / "made"

    def build(unfinished):
        write(unfinished)
        assert not folder.exists()

    build_once(folder, build)
    assert (folder / "content").read_text() == "whole"


@pytest.mark.parametrize("error", [OSError, ValueError, KeyboardInterrupt])
def test_a_build_that_fails_leaves_nothing(tmp_path, error):
    folder = tmp_path / "made"

    def fail(unfinished):
        write(unfinished)
        raise error

    with pytest.raises(error):
        build_once(folder, fail)
    assert visible(tmp_path) == []
    build_once(folder, write)
    assert visible(folder) == ["content"]


def test_a_place_that_cannot_be_written(tmp_path):
    # A file where the folder should be refuses root too, which permissions do not.
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        build_once(tmp_path / "file" / "made", write)


def test_what_is_discarded_is_gone_and_can_be_built_again(tmp_path):
    folder = build_once(tmp_path / "made", write)
    discard(folder)
    assert visible(tmp_path) == []
    discard(folder)  # another job was faster
    build_once(folder, write)
    assert visible(tmp_path) == ["made"]

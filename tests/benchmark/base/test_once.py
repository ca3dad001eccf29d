"""Folders that are built once: by one of several processes, and never by half."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.base.once import build_once, discard
from benchmark.base.paths import ROOT

# Builds slowly, and prints what the folder holds in the end. Each build adds a line.
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

build_once(folder, build)
print(sorted(path.name for path in folder.iterdir()), flush=True)
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "cache" / "made"


def start(folder: Path, seconds: float) -> subprocess.Popen:
    arguments = [folder, folder.parents[1] / "log", seconds]
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def write(unfinished: Path) -> None:
    assert not (unfinished.parent / "made").exists()
    (unfinished / "content").write_text("whole")


def visible(folder: Path) -> list[str]:
    """What lies in a folder, without the files of the locks, which stay."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_processes_that_want_the_same_folder_build_it_once(folder, tmp_path):
    processes = [start(folder, 1.0) for _ in range(3)]
    outputs = [process.communicate(timeout=120)[0].splitlines() for process in processes]
    assert (tmp_path / "log").read_text() == "built\n"
    assert [lines[-1] for lines in outputs] == ["['first', 'second']"] * 3
    assert sum("half" in lines for lines in outputs) == 1
    assert visible(folder.parent) == ["made"]


def test_a_killed_build_is_built_anew(folder):
    killed = start(folder, 60)
    assert killed.stdout.readline() == "half\n"
    killed.kill()
    killed.communicate(timeout=60)
    assert not folder.exists()
    assert visible(folder.parent) != []  # what it left
    build_once(folder, write)
    assert visible(folder) == ["content"]
    assert visible(folder.parent) == ["made"]


@pytest.mark.parametrize("error", [OSError, ValueError, KeyboardInterrupt])
def test_a_build_that_fails_leaves_nothing(folder, error):
    def fail(unfinished):
        write(unfinished)
        raise error

    with pytest.raises(error):
        build_once(folder, fail)
    assert visible(folder.parent) == []
    build_once(folder, write)
    assert visible(folder) == ["content"]


def test_a_place_that_cannot_be_written(tmp_path):
    # A file where the folder should be refuses root too, which permissions do not.
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        build_once(tmp_path / "file" / "made", write)


def test_a_folder_is_built_again_only_after_it_was_discarded(folder):
    build_once(folder, write)
    build_once(folder, lambda _: pytest.fail("built again"))
    discard(folder)
    assert visible(folder.parent) == []
    discard(folder)  # another job was faster
    build_once(folder, write)
    assert visible(folder.parent) == ["made"]

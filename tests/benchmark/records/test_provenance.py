"""Where each result comes from: the source's state, versions, hardware."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from support.configs import loaded_by

from benchmark.base.devices import processor_name
from benchmark.records import provenance
from benchmark.records.provenance import SOURCE_FOLDERS, Provenance, source_digest, source_state

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def anew():
    """The state of the source is read again, before the test and after it."""
    reads = (source_state, source_digest)
    [read.cache_clear() for read in reads]
    yield
    [read.cache_clear() for read in reads]


def origin() -> Provenance:
    return Provenance(**provenance.provenance(CPU))


def test_a_result_says_what_made_it_and_nothing_of_the_person():
    found = origin()
    assert found.source_digest == source_digest()
    assert torch.__version__.startswith(found.packages["torch"])
    assert found.threads == torch.get_num_threads()
    assert (found.device, found.gpu, found.cuda) == ("cpu", None, None)
    assert found.created.endswith("+00:00")
    assert found.hardware.startswith(found.cpu)
    assert str(Path.home()) not in json.dumps(provenance.provenance(CPU))


@pytest.mark.parametrize(
    ("changes", "hardware"),
    [
        ({"threads": 1}, "X, 1 thread"),
        ({"threads": 8}, "X, 8 threads"),
        ({"gpu": "H", "threads": 8}, "H"),
    ],
)
def test_hardware_is_the_gpu_or_the_processor_and_its_threads(changes, hardware):
    assert origin().model_copy(update={"cpu": "X"} | changes).hardware == hardware


@pytest.mark.parametrize(
    "change",
    [{"cpu": "X"}, {"cpu_cores": 99}, {"threads": 99}, {"gpu": "H"}, {"packages": {"torch": "1"}}],
    ids=lambda change: next(iter(change)),
)
def test_another_machine_is_told_apart(change):
    assert origin().machine == origin().machine
    assert origin().model_copy(update=change).machine != origin().machine


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError("git"), subprocess.CalledProcessError(128, "git")],
    ids=["git is not installed", "not a checkout"],
)
def test_there_may_be_no_git(monkeypatch, error):
    def run(*_arguments, **_options):
        raise error

    monkeypatch.setattr(provenance.subprocess, "run", run)
    assert (origin().commit, origin().dirty) == (None, None)


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("no-such-package",))
    assert origin().packages == {"no-such-package": None}


@pytest.fixture
def source(tmp_path, monkeypatch) -> Path:
    """Another checkout, with a module in each folder."""
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    for folder in (*SOURCE_FOLDERS, "tests"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "module.py").write_text("x = 1\n")
    return tmp_path


def test_commit_and_dirty_flag_are_gits(source, monkeypatch):
    def run(*arguments):
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        command = [shutil.which("git"), *identity, *arguments]
        done = subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    run("init")
    run("add", ".")
    run("commit", "-m", "first")
    clean = origin()
    assert (clean.commit, clean.dirty) == (run("rev-parse", "HEAD"), False)
    (source / "kaem" / "module.py").write_text("x = 2\n")
    # A process goes on with the code that it has loaded.
    assert (origin().dirty, origin().source_digest) == (False, clean.source_digest)
    source_state.cache_clear()
    assert origin().dirty is True
    # An archive that was unpacked in somebody's checkout is not of its commit.
    source_state.cache_clear()
    monkeypatch.setattr(provenance, "ROOT", source / "kaem")
    assert (origin().commit, origin().dirty) == (None, None)


def test_the_source_digest_follows_the_code_that_computes_results(source):
    digest = source_digest.__wrapped__  # without its cache
    first = digest()
    (source / "tests" / "module.py").write_text("x = 2\n")
    assert digest() == first
    seen = {first}
    for folder in SOURCE_FOLDERS:
        (source / folder / "module.py").write_text("x = 2\n")
        seen.add(digest())
    (source / "kaem" / "module.py").rename(source / "kaem" / "renamed.py")
    seen.add(digest())
    assert len(seen) == 2 + len(SOURCE_FOLDERS)


def test_the_steps_note_the_source_as_they_are_loaded():
    loaded_by(
        "import benchmark.records.provenance as p; assert not p.source_state.cache_info().currsize;"
        "import benchmark.steps; assert p.source_state.cache_info().currsize"
    )


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
    assert processor_name(cpuinfo) == expected

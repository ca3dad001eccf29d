"""The release: whole, described, the same bytes for the same commit, and of nothing uncommitted."""

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest
from rocrate.rocrate import ROCrate

from benchmark.base.errors import BenchmarkError
from benchmark.base.paths import ROOT
from benchmark.run.archive import SUMS, TEXTS, archive


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def root(tmp_path) -> Path:
    """A committed repository with one published record, and a program."""
    root = tmp_path / "repository"
    (root / "results/published/tiny").mkdir(parents=True)
    (root / "results/published/tiny/record.json").write_text("{}")
    for name in (*TEXTS, "Snakefile"):
        (root / name).write_text(name)
    for name in ("CITATION.cff", "pyproject.toml"):
        (root / name).write_bytes((ROOT / name).read_bytes())
    (root / ".gitignore").write_text("/dist/\n")
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o755)
    git(root, "init")
    git(root, "add", ".")
    git(root, "commit", "-m", "first")
    return root


def unpacked(root: Path) -> Path:
    """Archive a repository, and unpack it elsewhere."""
    archive(root)
    (path,) = (root / "dist").glob("*.zip")
    with zipfile.ZipFile(path) as file:
        file.extractall(root.parent / "elsewhere")
    return root.parent / "elsewhere"


def test_an_archive_holds_what_it_lists_and_lists_what_it_holds(root):
    folder = unpacked(root)
    sums = dict(line.split("  ")[::-1] for line in (folder / SUMS).read_text().splitlines())
    files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    del files[SUMS]
    assert sums == {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in files.items()}


def test_an_archive_says_what_it_is_as_a_workflow_crate(root):
    folder = unpacked(root)
    crate = ROCrate(folder)
    described = {entity.id for entity in crate.data_entities}
    assert {"Snakefile", "results/published/tiny/", *TEXTS} == described
    assert all((folder / name).exists() for name in described)
    assert crate.mainEntity.id == "Snakefile"
    assert "ComputationalWorkflow" in crate.mainEntity.type
    assert crate.mainEntity["programmingLanguage"]["name"] == "Snakemake"
    for entity in (crate.root_dataset, crate.mainEntity):
        assert entity["license"]["name"] == "MIT"
        assert entity["author"]["name"] == "The KAEM reproduction authors"
        assert entity["version"] in next((root / "dist").glob("*.zip")).name


def test_the_same_commit_gives_the_same_bytes_in_every_time_zone(root, monkeypatch):
    first = archive(root)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert archive(root) == first
    assert hashlib.sha256(next((root / "dist").glob("*.zip")).read_bytes()).hexdigest() in first


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "new.txt").touch(), r"changed or new \(1\):\n  \?\? new.txt"),
        (lambda root: (root / "run").unlink(), r"changed or new \(1\):\n   D run"),
        (lambda root: (root / ".git").rename(root / "gone"), "git status: .*not a git repository"),
    ],
    ids=["a new file", "a removed one", "no checkout"],
)
def test_what_is_not_committed_is_refused(root, spoil, message):
    spoil(root)
    with pytest.raises(BenchmarkError, match=message):
        archive(root)
    assert not (root / "dist").exists()

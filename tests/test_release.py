"""Files that say the same say the same: versions, and the packages that are pinned."""

import os
import re
import subprocess
import tomllib
from itertools import chain

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from benchmark.base.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_version_and_date_are_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest.groups() == (PROJECT["version"], str(citation["date-released"]))
    assert citation["version"] == PROJECT["version"]


def test_what_is_pinned_is_what_the_project_asks_for():
    lock = (ROOT / "requirements.lock").read_text()
    pinned = dict(re.findall(r"^([\w.-]+)==([\w.+]+)", lock, re.MULTILINE))
    asked = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for requirement in map(Requirement, chain(*asked)):
        assert requirement.specifier.contains(pinned[requirement.name]), requirement
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert conda[0].startswith("python=")
    assert SpecifierSet(PROJECT["requires-python"]).contains(conda[0].removeprefix("python="))


def test_make_installs_nothing_where_an_environment_is_named(tmp_path):
    def planned(**names: str) -> str:
        make = ["make", "--always-make", "--dry-run", "lint"]
        environment = {"PATH": os.environ["PATH"], **names}
        return subprocess.run(
            make, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert "pip install" in planned()
    assert "pip install" not in planned(KAEM_VENV=str(tmp_path))

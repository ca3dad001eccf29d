"""What evaluators are told: commands that make the records anew on which the verdicts rest."""

import subprocess

import pytest

from benchmark.base.paths import ROOT
from benchmark.claims.claims import load_claims
from paper_figures.tables.experiments import MAIN, _missing, judged

PUBLISHED = ROOT / "results/published"
SOURCES = sorted(PUBLISHED.glob("*/config.yaml"))


@pytest.mark.parametrize("run", MAIN)
def test_a_command_names_the_records_of_its_verdicts(run):
    claims = judged(PUBLISHED / run / "config.yaml")
    assert claims
    for each in claims:
        records = {path for verdict in each.verdicts.values() for path in verdict["records"]}
        if each.claim.kind == "timing":
            assert f"in {' '.join(each.config.datasets)};" in each.command
            assert f"--device {each.device} " in each.command
            assert set(each.verdicts) <= set(each.config.datasets)
        else:
            expand = ["bash", "-c", f"printf '%s\\n' {each.command.splitlines()[0]}"]
            words = subprocess.run(expand, capture_output=True, text=True, check=True).stdout
            targets = {word for word in words.split() if word.startswith("results/")}
            assert targets == {path.replace("results/published/", "results/") for path in records}


def test_a_claim_is_judged_or_said_to_be_missing():
    rows = [row for row in _missing(SOURCES).splitlines() if row.startswith("|")]
    missing = {row.split("|")[1].strip() for row in rows[2:]}
    reached = {each.claim.claim for source in SOURCES for each in judged(source)}
    assert missing | reached == {claim.claim for claim in load_claims()}
    assert not missing & reached

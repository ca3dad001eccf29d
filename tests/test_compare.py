"""Comparing two folders of records: what is tested, what is only said, what is refused."""

import math
import shutil
from pathlib import Path

import pytest
from reference.records import (
    bits_and_nats,
    forge,
    mnist_config,
    write_quality,
    write_timing,
    write_training,
)
from scipy import stats

from benchmark import cli

LIKELIHOOD = {"split": "test", "images": 10_000, "passes": 100}
CONFIG = mnist_config(**{"evaluation.likelihood": LIKELIHOOD})
FD, BITS = "fd_classifier_test_10k", "bits_per_dimension_test_10k"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """An empty working directory, where results go."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def folder_of(name: str, write, *arguments) -> Path:
    """What `write` puts into the run's folder, moved to a folder of its own."""
    write(*arguments)
    return Path("results/tiny").rename(name)


def write_seeds(values, model="vae", **others):
    for seed, value in enumerate(values):
        write_quality(CONFIG, model, seed, fd_classifier=value, **others)


def compared(capsys, mine, published) -> tuple[dict[tuple, dict], str]:
    """The rows of both tables, by model or ratio and metric or time, and the whole text."""
    assert cli.main(["compare", str(mine), str(published)]) == 0
    text = capsys.readouterr().out
    rows, head = {}, None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            head = None
        elif head is None:
            head = cells
        elif not line.startswith("|:"):
            row = dict(zip(head, cells, strict=True))
            names = ("Model", "Metric") if "Metric" in row else ("Ratio", "Time")
            rows[tuple(row[name] for name in names)] = row
    return rows, text


MINE = [100.0, 103.0, 99.0]


@pytest.mark.parametrize(
    ("published", "finding"),
    [
        ([101.0, 99.5, 102.0], "equivalent"),
        ([140.0, 143.0, 138.0], "different"),
        ([106.0, 106.4, 105.5], "different, by less than the margin"),
        ([80.0, 130.0, 95.0], "undecided"),
    ],
)
def test_seeds_are_tested_for_difference_and_equivalence(published, finding, capsys):
    folders = [folder_of(n, write_seeds, v) for n, v in (("mine", MINE), ("theirs", published))]
    row = compared(capsys, *folders)[0]["vae", FD]
    assert (row["Finding"], row["Rests on"]) == (finding, "3 and 3 seeds")
    # The finding is what scipy's tests say.
    margin = 0.1 * sum(published) / 3
    different = stats.ttest_ind(MINE, published, equal_var=False)
    assert (different.pvalue < 0.05) == finding.startswith("different")
    inside = [
        stats.ttest_ind([m + s for m in MINE], published, equal_var=False, alternative=side)
        for s, side in ((margin, "greater"), (-margin, "less"))
    ]
    assert (max(t.pvalue for t in inside) < 0.05) == (finding not in ("different", "undecided"))
    assert float(row["Difference"]) == pytest.approx(sum(MINE) / 3 - sum(published) / 3, rel=0.01)


def test_with_one_seed_only_a_recorded_sampling_error_is_a_test(capsys):
    sides = {"mine": (500.0, 4.0), "theirs": (512.0, 3.0)}
    folders = [
        folder_of(name, lambda e: write_seeds([100.0], **bits_and_nats(*e)), evidence)
        for name, evidence in sides.items()
    ]
    rows, text = compared(capsys, *folders)
    assert rows["vae", FD]["Finding"] == "not tested: its error is not known"
    bits = rows["vae", BITS]
    # 12 nats apart with a standard error of 5, in bits of 784 dimensions.
    scale = 784 * math.log(2)
    assert float(bits["Difference"]) == pytest.approx(12 / scale, rel=0.01)
    assert bits["Finding"] == "different, by less than the margin"
    assert bits["Rests on"] == "sampling error alone, 1 and 1 seeds"
    assert bits["SD of sampling"] == f"{4 / scale:.2g} and {3 / scale:.2g}"
    assert bits["SD of training"] == "? and ?"
    assert "such a difference may be one of seeds" in text


def test_variances_of_training_and_of_sampling_are_told_apart(capsys):
    def write(shift):
        for seed, nats in enumerate([500.0, 530.0, 560.0]):
            evidence = bits_and_nats(nats + shift, 18.0)
            write_quality(CONFIG, "vae", seed, fd_classifier=nats + shift, **evidence)

    rows, _ = compared(capsys, folder_of("mine", write, 0.0), folder_of("theirs", write, 1.0))
    scale = 784 * math.log(2)
    between = (30**2 - 18**2) ** 0.5  # 24 nats
    assert rows["vae", BITS]["SD of training"] == " and ".join([f"{between / scale:.2g}"] * 2)
    assert rows["vae", BITS]["SD of sampling"] == " and ".join([f"{18 / scale:.2g}"] * 2)
    assert rows["vae", FD]["SD of training"] == "30 and 30"  # the sampling's share is not known


def test_times_are_compared_as_ratios_on_one_machine(capsys):
    def write(vae, kaem):
        for model, median in (("vae", vae), ("kaem_ula", kaem)):
            write_timing(CONFIG, model, {1: median, 4: 2 * median})
            for seed in CONFIG.seeds:
                write_training(CONFIG, model, seed, 10 * median + seed)

    folders = folder_of("mine", write, 1.0, 3.0), folder_of("theirs", write, 50.0, 100.0)
    rows, text = compared(capsys, *folders)
    row = rows["kaem_ula / vae", "1 images, cpu"]
    assert (row["Mine"], row["Published"], row["Mine / published"]) == ("3", "2", "1.5")
    low, high = map(float, row["Interval"].split(" to "))
    assert low < 1.5 / 1.1 < 1.5 * 1.1 < high
    assert ("kaem_ula / vae", "an update of training") in rows
    assert "vae / vae" not in text
    # A side whose two models were timed on different machines has no ratio.
    forge(folders[1] / "timing/cpu/mnist/vae.json", lambda r: r["provenance"].update(cpu="X"))
    row = compared(capsys, *folders)[0]["kaem_ula / vae", "1 images, cpu"]
    assert row["Mine / published"] == "the two were timed on different machines"
    assert row["Mine"] == ""


def test_missing_partial_foreign_and_copied_records_are_said(capsys):
    mine = folder_of("mine", write_seeds, MINE)
    theirs = folder_of("theirs", write_seeds, [90.0, 91.0])
    write_seeds([70.0], "kaem_is")
    write_seeds([71.0], "kaem_ula")
    Path("results/tiny/metrics/mnist/kaem_is").rename("theirs/metrics/mnist/kaem_is")
    shutil.copytree("results/tiny/metrics/mnist/kaem_ula", "mine/metrics/mnist/kaem_ula")
    Path("results/tiny/metrics/mnist/kaem_ula").rename("theirs/metrics/mnist/kaem_ula")
    rows, text = compared(capsys, mine, theirs)
    assert set(rows) == {("vae", FD)}
    assert "- Mine alone: mnist vae metrics seed 2" in text
    assert "- Published alone: mnist kaem_is metrics" in text
    assert "- Not compared, for a record is a copy, not a rerun: mnist kaem_ula metrics" in text


def test_other_settings_are_not_compared(capsys):
    mine = folder_of("mine", write_seeds, MINE)
    shutil.copytree("mine", "theirs")
    for path in Path("theirs").rglob("*.json"):
        forge(path, lambda record: record.update(config_hash="0" * 16))
    assert cli.main(["compare", str(mine), "theirs"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: mine and theirs have no comparable records in common")
    assert "for the settings differ: mnist vae metrics" in said
    assert cli.main(["compare", "mine", "nowhere"]) == 1
    assert "nowhere: no records are there" in capsys.readouterr().err

"""Comparing two folders of records: what is tested, what is only said, what is refused."""

import math
import shutil
from pathlib import Path

import pytest
from scipy import stats
from support.records import (
    bits_and_nats,
    forge,
    mnist_config,
    write_quality,
    write_timing,
    write_training,
)

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


def write_seeds(values, model="vae", first=0, **others):
    for seed, value in enumerate(values, first):
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
        ([106.0, 106.4, 105.5], "equivalent, though different"),
        ([80.0, 130.0, 95.0], "undecided"),
    ],
)
def test_other_seeds_are_tested_for_difference_and_equivalence(published, finding, capsys):
    mine = folder_of("mine", write_seeds, MINE)
    theirs = folder_of("theirs", lambda: write_seeds(published, first=3))
    row = compared(capsys, mine, theirs)[0]["vae", FD]
    assert (row["Finding"], row["Rests on"]) == (finding, "3 and 3 seeds")
    # The finding is what scipy's tests say.
    margin = 0.1 * sum(published) / 3
    different = stats.ttest_ind(MINE, published, equal_var=False)
    assert (different.pvalue < 0.05) == ("different" in finding)
    inside = [
        stats.ttest_ind([m + s for m in MINE], published, equal_var=False, alternative=side)
        for s, side in ((margin, "greater"), (-margin, "less"))
    ]
    assert (max(t.pvalue for t in inside) < 0.05) == finding.startswith("equivalent")
    assert float(row["Difference"]) == pytest.approx(sum(MINE) / 3 - sum(published) / 3, rel=0.01)


SPREAD = [60.0, 95.0, 150.0]


@pytest.mark.parametrize(
    ("shifts", "finding"),
    [
        ([1.0, -2.0, 0.5], "equivalent"),
        ([20.0, 21.0, 22.0], "different"),
        ([2.0, 2.2, 2.1], "equivalent, though different"),
        ([20.0, -20.0, 1.0], "undecided"),
        ([0.0, 0.0, 0.0], "equal"),
    ],
)
def test_the_same_seeds_are_compared_in_pairs(shifts, finding, capsys):
    """Although the seeds differ by far more than the margin, a rerun of each can be judged."""
    rerun = [value + shift for value, shift in zip(SPREAD, shifts, strict=True)]
    mine = folder_of("mine", write_seeds, [*rerun, 500.0])  # the fourth has no twin
    theirs = folder_of("theirs", write_seeds, SPREAD)
    for path in theirs.rglob("seed*.json"):
        forge(path, lambda record: record.update(wall_time_s=99.0))  # else it is a copy
    row = compared(capsys, mine, theirs)[0]["vae", FD]
    assert (row["Finding"], row["Rests on"]) == (finding, "3 pairs of seeds")
    if finding != "equal":
        margin = 0.1 * sum(SPREAD) / 3
        assert (stats.ttest_rel(rerun, SPREAD).pvalue < 0.05) == ("different" in finding)
        inside = [
            stats.ttest_1samp(shifts, -s, alternative=side).pvalue
            for s, side in ((margin, "greater"), (-margin, "less"))
        ]
        assert (max(inside) < 0.05) == finding.startswith("equivalent")
        interval = stats.ttest_rel(rerun, SPREAD).confidence_interval()
        assert row["Interval"] == f"{interval.low:.3g} to {interval.high:.3g}"


def test_a_rerun_of_one_seed_is_compared_with_that_seed(capsys):
    mine = folder_of("mine", lambda: write_seeds([96.0], first=1, **bits_and_nats(520.0, 4.0)))

    def write():
        for seed, (value, nats) in enumerate(zip(SPREAD, (400.0, 521.0, 600.0), strict=True)):
            write_quality(CONFIG, "vae", seed, fd_classifier=value, **bits_and_nats(nats, 3.0))

    rows, _ = compared(capsys, mine, folder_of("theirs", write))
    fd, bits = rows["vae", FD], rows["vae", BITS]
    assert (fd["Mine"], fd["Published"], fd["Difference"]) == ("96", "95", "+1")
    assert fd["Finding"] == "not tested: its error is not known"
    assert bits["Rests on"] == "sampling error alone, one seed of both"
    assert bits["Finding"] == "equivalent"
    assert bits["SD of training"].startswith("? and ")
    assert "?" not in bits["SD of training"].split(" and ")[1]  # of all the published seeds


def test_one_pair_does_not_stand_for_several_seeds(capsys):
    mine = folder_of("mine", lambda: write_seeds(MINE, first=2))
    row = compared(capsys, mine, folder_of("theirs", write_seeds, SPREAD))[0]["vae", FD]
    assert row["Rests on"] == "3 and 3 seeds"


def test_with_one_seed_only_a_recorded_sampling_error_is_a_test(capsys):
    sides = {"mine": (500.0, 4.0), "theirs": (512.0, 3.0)}
    folders = [
        folder_of(name, lambda e: write_seeds([e[0]], **bits_and_nats(*e)), evidence)
        for name, evidence in sides.items()
    ]
    rows, text = compared(capsys, *folders)
    assert rows["vae", FD]["Finding"] == "not tested: its error is not known"
    bits = rows["vae", BITS]
    # 12 nats apart with a standard error of 5, in bits of 784 dimensions.
    scale = 784 * math.log(2)
    assert float(bits["Difference"]) == pytest.approx(12 / scale, rel=0.01)
    assert bits["Finding"] == "equivalent, though different"
    assert bits["Rests on"] == "sampling error alone, one seed of both"
    assert bits["SD of sampling"] == f"{4 / scale:.2g} and {3 / scale:.2g}"
    assert bits["SD of training"] == "? and ?"
    assert "such a difference may be one of training" in text


def test_the_error_of_a_limit_has_the_degrees_of_freedom_of_its_fit(capsys):
    """Equivalent by a normal distribution, undecided by the t distribution with 4 and 4."""

    def write(limit, error):
        metrics = {"fd_classifier_infinity": limit, "fd_classifier_infinity_se": error}
        write_seeds([limit], **metrics)

    folders = folder_of("mine", write, 109.5, 3.6), folder_of("theirs", write, 106.9, 3.1)
    row = compared(capsys, *folders)[0]["vae", "fd_classifier_infinity_test_10k"]
    error, df = math.hypot(3.6, 3.1), (3.6**2 + 3.1**2) ** 2 / ((3.6**4 + 3.1**4) / 4)
    low, high = stats.t.interval(0.95, df, 2.6, error)
    assert (row["Interval"], row["Finding"]) == (f"{low:.3g} to {high:.3g}", "undecided")
    assert stats.norm.sf((10.69 - 2.6) / error) < 0.05 < stats.t.sf((10.69 - 2.6) / error, df)


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
            write_timing(CONFIG, model, {1: median, 4: 2 * median}, update=3 * median)
            for seed in CONFIG.seeds:
                write_training(CONFIG, model, seed, 10 * median + seed)

    folders = folder_of("mine", write, 1.0, 3.0), folder_of("theirs", write, 50.0, 100.0)
    rows, text = compared(capsys, *folders)
    row = rows["kaem_ula / vae", "1 images, cpu"]
    assert (row["Mine"], row["Published"], row["Mine / published"]) == ("3", "2", "1.5")
    low, high = map(float, row["Interval"].split(" to "))
    assert low < 1.5 / 1.1 < 1.5 * 1.1 < high
    row = rows["kaem_ula / vae", "an update of training, cpu"]
    assert (row["Mine"], row["Published"], row["Mine / published"]) == ("3", "2", "1.5")
    low, high = map(float, row["Interval"].split(" to "))
    assert 1.5 / 2 < low < 1.5 / 1.1 < 1.5 * 1.1 < high < 1.5 * 2
    # No two trainings take turns: a factor of two for each side.
    row = rows["kaem_ula / vae", "an update of training"]
    low, high = map(float, row["Interval"].split(" to "))
    middle = float(row["Mine / published"])
    assert low < middle / 4 < middle * 4 < high
    assert "vae / vae" not in text
    # Models that took no turns differ by more for no reason.
    of_the_vae = folders[1] / "timing/cpu/mnist/vae.json"
    forge(of_the_vae, lambda r: r["metrics"].update(session="f" * 16))
    row = compared(capsys, *folders)[0]["kaem_ula / vae", "1 images, cpu"]
    low, high = map(float, row["Interval"].split(" to "))
    assert low < 1.5 / 2 < 1.5 * 2 < high
    # A side whose two models were timed on different machines has no ratio.
    forge(of_the_vae, lambda r: r["provenance"].update(cpu="X"))
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
    assert "- Mine alone, metrics: mnist vae seed 2" in text
    assert "- Published alone, metrics: mnist kaem_is" in text
    assert "for a record is a copy, not a rerun, metrics: mnist kaem_ula" in text


@pytest.mark.parametrize(("theirs", "said"), [("a", False), ("b", True), (None, False)])
def test_another_classifier_is_said(theirs, said, capsys):
    folders = [folder_of(name, write_seeds, MINE) for name in ("mine", "theirs")]
    for folder, digit in zip(folders, ("a", theirs), strict=True):
        for path in folder.rglob("seed*.json"):
            if digit:
                forge(path, lambda r, d=digit: r["metrics"].update(classifier_sha256=d * 64))
            forge(path, lambda r, f=folder: r.update(wall_time_s=float(len(f.name))))
    _, text = compared(capsys, *folders)
    assert ("another training of the classifier" in text) == said
    assert not said or text.rstrip().endswith(": mnist vae")


def test_other_settings_are_not_compared(capsys):
    mine = folder_of("mine", write_seeds, MINE)
    shutil.copytree("mine", "theirs")
    for path in Path("theirs").rglob("*.json"):
        forge(path, lambda record: record.update(config_hash="0" * 16))
    assert cli.main(["compare", str(mine), "theirs"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: mine and theirs have no comparable records in common")
    assert "for the settings differ, metrics: mnist vae" in said
    assert cli.main(["compare", "mine", "nowhere"]) == 1
    assert "nowhere: no records are there" in capsys.readouterr().err

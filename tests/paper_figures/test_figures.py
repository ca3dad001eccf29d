"""Tables and figures from small made-up records: what is shown, what is left empty or refused."""

import csv
import json
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from support.configs import FACES, MODEL_SETTINGS, bars_dataset, changed, tiny_config
from support.records import (
    bits_and_nats,
    timing_metrics,
    timing_row,
    update_row,
    write_any,
    write_training,
)

import benchmark.records.record
from benchmark.base import paths
from benchmark.base.errors import BenchmarkError, RecordError
from benchmark.config.config import REAL, Config
from benchmark.config.jobs import job_of
from benchmark.evaluation.samples import save_samples
from benchmark.records.names import count_name, metric_name
from benchmark.records.provenance import Provenance, provenance
from benchmark.training.loop import History
from paper_figures.base import frames, style
from paper_figures.figures import (
    inductive_bias,
    loss_curves,
    prior_densities,
    sample_grids,
    tradeoff,
)
from paper_figures.tables import cost, quality, timing

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
MODELS = ("kaem_is", "vae")
VAE = MODEL_SETTINGS["vae"]
COUNT = 2048  # images from which a distance needs no dagger
LIKELIHOOD = {"evaluation.likelihood": {"split": "test", "images": 20, "passes": 100}}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """An empty working directory, where results go."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_config(changes: dict | None = None, real: int = COUNT) -> Config:
    """A configuration of a dataset with so many images in each split."""
    splits = {split: {"part": split, "count": real} for split in ("train", "test")}
    return tiny_config(
        {
            "datasets": ["shapes"],
            "own_datasets.shapes": FACES | {"title": "Shapes", "splits": splits},
            "seeds": [0, 1],
            "training.updates": 1500,
            "evaluation.references": {"test": COUNT},
            **(changes or {}),
        }
    )


def find(pattern: str, **names) -> Path:
    defaults = {"run": "tiny", "dataset": "shapes", "seed": 0, "device": "cpu"}
    return Path(pattern.format(**defaults | names))


def write_quality(config, model, seed, distance, images=COUNT, dataset="shapes", **others):
    (drawn,) = config.evaluation(dataset).references.values()
    name = metric_name("fd_classifier", "test", drawn)
    write_metrics(config, model, seed, {name: distance, **others}, images, dataset)


def write_metrics(config, model, seed, metrics, images=COUNT, dataset="shapes"):
    splits = config.facts(dataset).splits
    references = config.evaluation(dataset).references
    metrics |= {f"reference_count_{split}": splits[split].count for split in references}
    job = job_of(config, "metrics", dataset, model)
    path = find(paths.METRICS_RECORD, model=model, seed=seed, dataset=dataset)
    write_any(path, "metrics", metrics, job, seed=seed, sample_count=images)


def likelihood(bits: float, split: str = "test") -> dict:
    """What a record says of 20 images of 64 pixels."""
    nats = (math.log2(255) - bits) * 64 * math.log(2)
    values = bits_and_nats(nats, 1.0, dimension=64)
    return {f"{name}_{split}_20": value for name, value in values.items()}


def write_timing(config, model, device, medians, **changes):
    rows = [timing_row(batch_size, median) for batch_size, median in medians.items()]
    rows += changes.pop("rows", [])
    path = find(paths.TIMING_RECORD, model=model, device=device.type)
    job = job_of(config, "timing", "shapes", model)
    write_any(path, "timing", timing_metrics(rows, **changes), job, device=device)


def pretend(monkeypatch, **origin) -> None:
    """Records written from here on have this origin."""
    shown = provenance(CPU) | origin
    monkeypatch.setattr(
        benchmark.records.record, "provenance", lambda device: shown | device_of(device)
    )


def device_of(device: torch.device) -> dict:
    return {"device": device.type} if device == CPU else {"device": "cuda", "gpu": "GPU X"}


def read_csv(table: str) -> list[dict]:
    with find(paths.TABLE, table=table, format="csv").open() as handle:
        return list(csv.DictReader(handle))


def read_md(table: str) -> tuple[list[dict], str]:
    """The rows of a markdown table, and what stands below it."""
    text = find(paths.TABLE, table=table, format="md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rows = [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]
    return rows, text.rpartition("|\n")[2]


def read_tex(table: str) -> str:
    return find(paths.TABLE, table=table, format="tex").read_text()


# Quality ----------------------------------------------------------------------------------------

FD = "FD-classifier (test 2048)"


def test_quality_is_mean_and_interval_over_seeds():
    config = make_config()
    write_quality(config, REAL, 0, 2.6)
    for seed, (distance, seconds) in enumerate([(10.0, 30.0), (14.0, 40.0)]):
        write_quality(config, "vae", seed, distance)
        write_training(config, "vae", seed, seconds, "shapes")
    quality.render(config)

    values = {row["model"]: row for row in read_csv("quality")}
    assert list(values) == [REAL, *MODELS]
    name = f"fd_classifier_test_{COUNT}"
    vae, real, kaem = values["vae"], values[REAL], values["kaem_is"]
    assert (float(vae[f"{name}_mean"]), int(vae[f"{name}_n"])) == (12.0, 2)
    assert float(vae[f"{name}_std"]) == pytest.approx(8**0.5)  # n - 1 below
    assert float(vae["training_seconds_mean"]) == 35.0
    assert float(vae["training_seconds_std"]) == pytest.approx(50**0.5)
    assert vae["updates"] == "1500"
    assert (real[f"{name}_mean"], real[f"{name}_std"]) == ("2.6", "")  # one draw has no spread
    assert (real["updates"], real["training_seconds_mean"]) == ("", "")
    assert (kaem[f"{name}_mean"], kaem[f"{name}_n"], kaem["updates"]) == ("", "0", "")

    rows, below = read_md("quality")
    cells = {row["Model"]: row for row in rows}
    assert [row["Dataset"] for row in rows] == ["Shapes"] * 3
    assert cells["VAE"][FD] == "12.0 ± 25.4"
    assert (cells["VAE"]["Updates"], cells["VAE"]["Training, s"]) == ("1,500", "35 ± 64")
    assert cells["VAE"]["Seeds"] == "2"
    assert cells["real images"][FD] == "2.6"
    assert "†" not in below
    assert "it is not FID" in below


def test_seeds_are_those_that_were_measured():
    config = make_config()
    for seed in (0, 1):
        write_training(config, "vae", seed, 30.0, "shapes")
    for measured in (2, 1):
        quality.render(config)
        assert {row["Model"]: row["Seeds"] for row in read_md("quality")[0]}["VAE"] == str(measured)
        write_quality(config, "vae", 1, 10.0)


def test_an_empty_cell_where_nothing_was_measured():
    config = make_config()
    write_quality(config, "vae", 0, 10.0)
    quality.render(config)
    cells = {row["Model"]: row for row in read_md("quality")[0]}
    assert cells["VAE"][FD] == "10.0"
    assert {key: cells["KAEM-IS"][key] for key in (FD, "Updates", "Training, s", "Seeds")} == (
        dict.fromkeys((FD, "Updates", "Training, s", "Seeds"), "")
    )
    assert "nan" not in find(paths.TABLE, table="quality", format="md").read_text().lower()
    assert "nan" not in read_tex("quality").lower()


def test_tables_of_a_run_without_records():
    config = make_config()
    quality.render(config)
    timing.render(config)
    cost.render(config)
    assert [row["model"] for row in read_csv("quality")] == [REAL, *MODELS]
    assert read_csv("timing") == []
    assert [row["updates"] for row in read_csv("cost")] == [""] * len(MODELS)
    assert len(read_md("timing")[0]) == len(MODELS) * 2  # of batch sizes


@pytest.mark.parametrize(
    ("images", "reference", "dagger"),
    [(COUNT, COUNT, ""), (COUNT - 1, COUNT, "†"), (COUNT, COUNT - 1, "†"), (64, 360, "†")],
)
def test_a_dagger_below_2048_images(images, reference, dagger):
    config = make_config({"evaluation.references": {"test": images}}, reference)
    write_quality(config, REAL, 0, 2.6, images)
    write_quality(config, "vae", 0, 10.0, images)
    quality.render(config)
    rows, below = read_md("quality")
    column = f"FD-classifier (test {images})"
    shown = {row["Model"]: row[column] for row in rows}
    assert shown == {"real images": f"2.6{dagger}", "VAE": f"10.0{dagger}", "KAEM-IS": ""}
    assert (f"† from {min(images, reference):,} images" in below) == bool(dagger)
    assert (r"10.0$^\dagger$" in read_tex("quality")) == bool(dagger)


def test_each_dataset_has_its_rows_and_its_own_sample_count():
    config = make_config({"datasets": ["shapes", "mnist"]})
    config = Config(
        changed(config.values, {"per_dataset.mnist.evaluation.references.test": 5000}), ""
    )
    write_quality(config, "vae", 0, 10.0)
    write_quality(config, "vae", 0, 20.0, images=5000, dataset="mnist")
    quality.render(config)
    shown = {(row["Dataset"], row["Model"]): row for row in read_md("quality")[0]}
    assert len(shown) == 6
    other = FD.replace("2048", "5k")
    digits, mnist = (shown[title, "VAE"] for title in ("Shapes", "MNIST"))
    assert (digits[FD], digits[other]) == ("10.0", "")
    assert (mnist[FD], mnist[other]) == ("", "20.0")


# References, and features that were not to be had


MISSING_WEIGHTS = {"inception_missing": "no weights were there when this was measured"}
NO_WEIGHTS = "FID and KID are empty where Inception's weights were not there"


def test_each_reference_has_its_own_columns():
    references = {"train": 50_000, "test": 10_000}
    settings = {"evaluation.references": references, "evaluation.inception": True}
    config = make_config(settings, 60_000)
    values = {
        "fid": (11.0, 12.0),
        "fid_infinity": (9.0, 10.0),
        "fid_infinity_se": (0.5, 0.25),
        "kid": (0.01, 0.02),
        "fd_classifier": (3.0, 4.0),
        "precision_classifier": (0.6, 0.7),
    }
    metrics = {}
    for name, pair in values.items():
        for (split, count), value in zip(references.items(), pair, strict=True):
            metrics[metric_name(name, split, count)] = value
    write_metrics(config, "vae", 0, metrics)
    quality.render(config)
    rows, below = read_md("quality")
    cells = {row["Model"]: row for row in rows}["VAE"]
    # Columns of a metric stand together, in the order of the references. The second reference's
    # KID and precision, and the errors of the limit, are for the csv alone.
    shown = {
        "FID (train 50k)": "11.00",
        "FID (test 10k)": "12.00",
        "FID-infinity (train 50k)": "9.00",
        "FID-infinity (test 10k)": "10.00",
        "KID (train 50k)": "0.0100",
        "FD-classifier (train 50k)": "3.0",
        "FD-classifier (test 10k)": "4.0",
        "Precision (train 50k)": "0.60",
    }
    measured = [name for name in cells if "(" in name]
    assert {name: cells[name] for name in measured} == shown
    assert measured == list(shown)
    (row,) = (row for row in read_csv("quality") if row["model"] == "vae")
    for name, pair in values.items():
        found = [row[f"{name}_{tail}_mean"] for tail in ("train_50k", "test_10k")]
        assert tuple(map(float, found)) == pair
    assert NO_WEIGHTS not in below


def test_fid_stays_empty_with_the_reason_where_inception_weights_cannot_be_had():
    config = make_config({"evaluation.inception": True})
    for model in (REAL, *MODELS):
        write_quality(config, model, 0, 10.0 + len(model), **MISSING_WEIGHTS)
    quality.render(config)
    rows, below = read_md("quality")
    for row, model in zip(rows, (REAL, *MODELS), strict=True):
        assert (row["FID (test 2048)"], row["KID (test 2048)"]) == ("", "")
        assert row[FD] == f"{10.0 + len(model)}"
    assert NO_WEIGHTS in below
    assert NO_WEIGHTS in read_tex("quality")
    # Nothing else is called FID.
    assert [name for name in rows[0] if name.startswith("FID")] == ["FID (test 2048)"]
    assert "FD-classifier is a Frechet distance" in below
    assert "it is not FID" in below


def test_one_record_without_fid_is_reason_enough():
    config = make_config({"evaluation.inception": True})
    write_quality(config, "kaem_is", 0, 10.0, **MISSING_WEIGHTS)
    write_quality(config, "vae", 0, 10.0, fid_test_2048=30.0)
    quality.render(config)
    rows, below = read_md("quality")
    cells = {row["Model"]: row["FID (test 2048)"] for row in rows}
    assert cells == {"real images": "", "KAEM-IS": "", "VAE": "30.00"}
    assert NO_WEIGHTS in below


@pytest.mark.parametrize("asked", [False, True])
def test_no_weights_are_missed_by_who_measured_nothing_or_asked_for_none(asked):
    config = make_config({"evaluation.inception": asked})
    if not asked:
        write_quality(config, "vae", 0, 10.0)
    quality.render(config)
    rows, below = read_md("quality")
    assert NO_WEIGHTS not in below
    assert ("FID (test 2048)" in rows[0]) == asked


def test_a_frechet_distance_by_other_weights_is_not_called_fid():
    config = make_config(
        {"evaluation.inception": True, "evaluation.inception_sha256": "1234abcd" + "0" * 56}
    )
    others = {"frechet_1234abcd_test_2048": 20.0, "kid_1234abcd_test_2048": 0.5}
    write_quality(config, "vae", 0, 10.0, **others)
    quality.render(config)
    rows, below = read_md("quality")
    cells = {row["Model"]: row for row in rows}["VAE"]
    assert cells["Frechet distance, weights 1234abcd (test 2048)"] == "20.00"
    assert not any(name.startswith(("FID", "KID")) for name in cells)
    assert NO_WEIGHTS not in below
    assert read_csv("quality")[2]["kid_1234abcd_test_2048_mean"] == "0.5"


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("fid", "FID"),
        ("fid_infinity", "FID-infinity"),
        ("kid", "KID"),
        ("frechet_1234abcd", "Frechet distance, weights 1234abcd"),
        ("precision_classifier", None),
    ],
)
@pytest.mark.parametrize(("images", "reference"), [(2048, 2048), (2047, 5000), (5000, 2047)])
def test_distances_from_too_few_images_are_not_comparable(name, column, images, reference):
    config = make_config({"evaluation.references": {"test": images}}, reference)
    write_metrics(config, "vae", 0, {metric_name(name, "test", images): 0.5})
    quality.render(config)
    rows, below = read_md("quality")
    few = column is not None and min(images, reference) < 2048
    title = f"{column or 'Precision'} (test {count_name(images)})"
    assert {row["Model"]: row[title] for row in rows}["VAE"].endswith("†") == few
    assert ("† from 2,047 images, fewer than 2,048: not comparable." in below) == few


def test_a_likelihood_may_be_of_a_split_that_nothing_is_compared_with():
    config = make_config(LIKELIHOOD | {"evaluation.likelihood.split": "train"})
    write_quality(config, "vae", 0, 5.0, **likelihood(1.5, "train"))
    quality.render(config)
    cells = {row["Model"]: row for row in read_md("quality")[0]}
    assert cells["VAE"]["Bits per dimension (train 20)"] == "1.500"


def test_gates_look_at_the_first_reference():
    config = make_config({"evaluation.references": {"test": 2048, "train": 2048}})
    covered = {"class_coverage_test_2048": 0.9, "class_coverage_train_2048": 0.01}
    write_metrics(config, "vae", 0, covered)
    swapped = {"class_coverage_test_2048": 0.01, "class_coverage_train_2048": 0.9}
    write_metrics(config, "kaem_is", 0, swapped)
    quality.render(config)
    health = {row["Model"]: row["Health"] for row in read_md("quality")[0]}
    assert health["VAE"] == "passed"
    assert health["KAEM-IS"].startswith("FAILED: class_coverage 0.01")


def test_a_dataset_of_ones_own_is_called_by_its_title():
    config = make_config({"own_datasets.faces": FACES, "datasets": ["faces"]})
    write_metrics(config, "vae", 0, {}, dataset="faces")
    quality.render(config)
    rows, _ = read_md("quality")
    assert {row["Dataset"] for row in rows} == {"Faces"}


def test_latex_escapes_and_sets_its_symbols():
    config = make_config(
        {
            "models.vae_a": {"model": "vae"} | VAE,
            "models.vae.label": "VAE & co, 50%",
            "note": "A note.",
        }
    )
    for seed, distance in enumerate([10.0, 14.0]):
        write_quality(config, "vae", seed, distance)
    quality.render(config)
    text = read_tex("quality")
    assert r"VAE \& co, 50\%" in text
    assert r"vae\_a" in text
    assert r"12.0 $\pm$ 25.4" in text
    assert "% A note.\n" in text
    assert text.count(r"\\") == 1 + 4  # the head and four entries
    assert "A note." in read_md("quality")[1]


# Timing -----------------------------------------------------------------------------------------


def test_timing(monkeypatch):
    config = make_config()
    pretend(monkeypatch, cpu="CPU Y", threads=2)
    write_timing(config, "vae", CPU, {1: 0.5, 4: 2.0})
    write_timing(config, "vae", CUDA, {1: 0.25, 4: 0.5})
    write_timing(config, "kaem_is", CPU, {1: 1.0})
    timing.render(config)

    rows, below = read_md("timing")
    cells = {(row["Batch"], row["Model"]): row for row in rows}
    assert list(cells) == [("1", "KAEM-IS"), ("1", "VAE"), ("4", "KAEM-IS"), ("4", "VAE")]
    vae = cells["4", "VAE"]
    assert vae["CPU latency, ms"] == "2 [1, 4]"
    assert vae["CPU images/s"] == "2,000"
    assert (vae["GPU latency, ms"], vae["GPU images/s"]) == ("0.5 [0.25, 1]", "8,000")
    # Not timed on the GPU, and not with four images.
    assert cells["1", "KAEM-IS"]["CPU images/s"] == "1,000"
    assert cells["1", "KAEM-IS"]["GPU latency, ms"] == ""
    assert set(list(cells["4", "KAEM-IS"].values())[3:]) == {""}
    assert "U: not measured." not in below
    assert "CPU: CPU Y, 2 threads." in below
    assert "GPU: GPU X." in below
    assert "other work" not in below
    assert "fresh weights" not in below
    assert "Not timed" not in below

    values = {(row["model"], row["device"], row["batch_size"]): row for row in read_csv("timing")}
    assert len(values) == 5
    assert values["vae", "cuda", "4"]["p95"] == "1.5"
    assert values["vae", "cuda", "4"]["hardware"] == "GPU X"


def test_timing_says_what_is_missing_and_what_is_doubtful():
    config = make_config({"timing.modes": ["eager", "compiled"]})
    rows = [
        timing_row(1, 0.5, part="latents"),
        {"mode": "eager", "part": "images", "batch_size": 4, "left_out": "out of memory"},
        timing_row(1, 0.75, mode="compiled"),
    ]
    write_timing(config, "vae", CPU, {1: 1.0}, rows=rows, disturbed=True, trained=False)
    timing.render(config)
    table, below = read_md("timing")
    cells = {(row["Batch"], row["Model"], row["Mode"]): row for row in table}
    assert cells["1", "VAE", "eager"]["CPU latency, ms"] == "1 [0.5, 2] !"
    assert cells["1", "VAE", "eager"]["CPU prior alone, ms"] == "0.5"
    assert cells["4", "VAE", "eager"]["CPU latency, ms"] == "*"
    assert cells["1", "VAE", "compiled"]["CPU latency, ms"] == "0.75 [0.375, 1.5] !"
    assert "* not timed: out of memory." in below
    assert "! timed beside other work" in below
    assert "fresh weights" in below
    assert {row["Model"] for row in table} == {"VAE"}
    assert "Not timed, Shapes: KAEM-IS." in below
    assert "took turns, but for compiled ones, timed one after the other." in below
    config = make_config({"datasets": ["shapes", "mnist"], "timing.modes": ["eager", "compiled"]})
    write_timing(config, "kaem_is", CPU, {1: 1.0}, session="f" * 16)
    timing.render(config)
    assert "Not timed, MNIST: no model was timed." in read_md("timing")[1]
    assert ": timed in 2 sessions, and only the models of one session took" in read_md("timing")[1]


def test_inductive_bias(monkeypatch):
    entries = {
        f"{basis}_{reference}": MODEL_SETTINGS["kaem_is"]
        | {"model": "kaem_is", "prior": {"q": 2, "p": 1} | prior}
        for basis, reference, prior in (
            ("rbf", "gaussian", {}),
            ("rbf", "uniform", {"reference": "uniform"}),
            ("fourier", "gaussian", {"basis": "fourier"}),
        )
    }
    config = make_config({"models": entries | {"vae": VAE}})
    for number, model in enumerate(entries):
        write_quality(config, model, 0, 10.0 * number)
        write_quality(config, model, 1, 10.0 * number + 2)
    drawn = []
    monkeypatch.setattr(inductive_bias.sns, "heatmap", lambda cells, **_: drawn.append(cells))
    inductive_bias.render(config)
    cells, recall = drawn
    assert cells.loc["RBF"].to_dict() == {"Gaussian": 1.0, "uniform": 11.0}
    assert cells.loc["Fourier", "Gaussian"] == 21.0
    assert np.isnan(cells.loc["Fourier", "uniform"])
    assert recall.shape == cells.shape
    # A run in which only one of the two varies has no grid.
    inductive_bias.render(make_config())
    assert len(drawn) == 2


def test_records_that_do_not_say_their_classifier_are_named_beside_others():
    config = make_config()
    write_quality(config, "vae", 0, 5.0)
    quality.render(config)
    assert "which classifier" not in find(paths.TABLE, table="quality", format="md").read_text()
    write_quality(config, "kaem_is", 0, 6.0, classifier_sha256="a" * 64)
    quality.render(config)
    text = find(paths.TABLE, table="quality", format="md").read_text()
    assert "The records of these rows" in text
    assert "do not say which classifier" in text
    assert "of the same one: VAE (" in text
    # The shorter list: the one row that says it, of three.
    write_quality(config, "real", 0, 1.0)
    quality.render(config)
    text = find(paths.TABLE, table="quality", format="md").read_text()
    assert "The records of all rows but these" in text
    assert "of the same one: KAEM-IS (" in text


@pytest.mark.parametrize("render", [quality.render, timing.render, cost.render])
def test_every_number_names_the_records_it_rests_on(render):
    config = make_config()
    for seed in (0, 1):
        write_quality(config, "vae", seed, 10.0 + seed)
        write_training(config, "vae", seed, 30.0, "shapes")
    write_timing(config, "vae", CPU, {1: 0.5})
    render(config)
    name = render.__module__.rpartition(".")[2]
    rows = json.loads(find(paths.TABLE, table=name, format="files.json").read_text())
    numbers = 0
    for row in rows:
        for column, text in row["row"].items():
            if text and text[0].isdigit() and column != "Batch":
                numbers += 1
                assert row["files"][column]
                assert all(Path(file).exists() for file in row["files"][column])
    assert numbers >= 2
    seeds = [names for row in rows for names in row["files"].values() if len(names) == 2]
    assert seeds or name == "timing"


@pytest.mark.parametrize("measured", [True, False])
def test_tradeoff(monkeypatch, measured):
    config = make_config({"timing.batch_sizes": [1, 2, 4]})
    drawn = {}
    if measured:
        for seed, distance in enumerate([10.0, 30.0]):
            write_quality(config, "vae", seed, distance)
        write_quality(config, "kaem_is", 0, 5.0)
        # The largest batch that both were timed with is 2.
        write_timing(config, "vae", CPU, {1: 0.5, 2: 0.8, 4: 1.0})
        write_timing(config, "kaem_is", CPU, {1: 0.5, 2: 1.2})
    monkeypatch.setattr(
        tradeoff, "_draw", lambda _axis, _config, model, point: drawn.setdefault(model, point)
    )
    tradeoff.render(config, "cpu")
    assert find(paths.FIGURE, figure="tradeoff_cpu", format="png").stat().st_size > 1000
    found = {model: (time, sorted(values)) for model, (time, values) in drawn.items()}
    assert found == ({"vae": (0.4, [10, 30]), "kaem_is": (0.6, [5])} if measured else {})


def test_cost():
    config = make_config()
    for seed, seconds in enumerate([30.0, 60.0]):
        write_training(config, "vae", seed, seconds, "shapes")
    write_timing(config, "vae", CPU, {1: 0.5}, nfe=3, flops_per_image=2_500_000)
    write_timing(config, "kaem_is", CPU, {1: 0.5}, parameters=77)
    cost.render(config)
    assert not any("in turns" in column for column in read_md("cost")[0][0])
    missing = {"batch_size": 100, "left_out": "the dataset cannot be read"}
    update = update_row(1, 7.0, warmup=12)
    write_timing(config, "vae", CPU, {1: 0.5}, update=update, disturbed=True)
    write_timing(config, "kaem_is", CPU, {1: 0.5}, update=missing)
    cost.render(config)
    rows, below = read_md("cost")
    in_turns = {row["Model"]: row["CPU ms per update, in turns"] for row in rows}
    assert (in_turns["VAE"], in_turns["KAEM-IS"]) == ("7.0 !", "")
    assert "after 12 to 12 untimed ones" in below
    assert "! timed beside other work" in below
    # Times of sampling do not mix with them.
    timing.render(config)
    assert "7" not in "".join(cell for row in read_md("timing")[0] for cell in row.values())
    assert "cannot be read" not in read_md("timing")[1]
    write_timing(config, "vae", CPU, {1: 0.5}, nfe=3, flops_per_image=2_500_000)
    write_timing(config, "kaem_is", CPU, {1: 0.5}, parameters=77)
    cost.render(config)
    rows, below = read_md("cost")
    cells = {row["Model"]: list(row.values())[2:] for row in rows}
    assert cells["VAE"] == ["1,000", "3", "2.5", "1,500", "30.0", "0.8"]
    assert cells["KAEM-IS"] == ["77", "1", "0.0", "", "", ""]
    (vae,) = [row for row in read_csv("cost") if row["model"] == "vae"]
    assert (vae["training_seconds"], vae["training_seeds"]) == ("45.0", "2.0")
    assert "Trained on: " in below


# What is refused, and what is noted -------------------------------------------------------------


def test_a_record_of_other_settings_is_refused():
    config = make_config()
    write_quality(config, "vae", 0, 10.0)
    write_training(config, "vae", 0, 30.0, "shapes")
    write_timing(config, "vae", CPU, {1: 0.5})
    other = make_config({"models.vae.training.learning_rate": 0.1})
    for render, step in ((quality.render, "evaluation"), (timing.render, "timing")):
        render(config)
        with pytest.raises(RecordError, match="belongs to another job: config_hash") as caught:
            render(other)
        for each in (config, other):
            assert getattr(each, f"{step}_job")("shapes", "vae").config_hash in str(caught.value)
    # What depends on none of it is shown as before.
    relabelled = make_config({"models.vae.label": "A VAE", "note": "words"})
    quality.render(relabelled)
    assert "A VAE" in find(paths.TABLE, table="quality", format="md").read_text()


@pytest.mark.parametrize(("model", "seed"), [("kaem_is", 0), ("vae", 1)])
def test_a_record_in_the_place_of_another_is_refused(model, seed):
    config = make_config()
    write_quality(config, "vae", 0, 10.0)
    place = find(paths.METRICS_RECORD, model=model, seed=seed)
    place.parent.mkdir(parents=True, exist_ok=True)
    find(paths.METRICS_RECORD, model="vae", seed=0).rename(place)
    with pytest.raises(RecordError, match=r"holds the record that belongs at .*vae/seed0"):
        quality.render(config)


def test_an_edited_record_is_refused():
    config = make_config()
    write_quality(config, "vae", 0, 10.0)
    path = find(paths.METRICS_RECORD, model="vae")
    record = json.loads(path.read_text())
    record["metrics"][f"fd_classifier_test_{COUNT}"] = 1.0
    path.write_text(json.dumps(record))
    with pytest.raises(RecordError, match=f"{path}: .*edited or damaged"):
        quality.render(config)


def test_two_versions_of_the_source_are_noted(monkeypatch):
    config = make_config()
    for seed, source in enumerate(["a" * 16, "b" * 16]):
        pretend(monkeypatch, source_digest=source)
        write_quality(config, "vae", seed, 10.0 + seed)
        write_timing(config, MODELS[seed], CPU, {1: 0.5})
    note = f"Made by 2 versions of the source: {'a' * 16}, {'b' * 16}."
    for table, render in (("quality", quality.render), ("timing", timing.render)):
        render(config)
        assert note in read_md(table)[1]
        assert note in read_tex(table)
    write_quality(config, "vae", 0, 10.0)
    quality.render(config)
    assert "versions of the source" not in read_md("quality")[1]


def test_a_record_says_which_source_it_comes_from():
    config = make_config()
    write_training(config, "vae", 0, 30.0, "shapes")
    (row,) = frames.training_records(config).to_dict("records")
    assert row == {
        "dataset": "shapes",
        "model": "vae",
        "seed": 0,
        "source": provenance(CPU)["source_digest"],
        "updates": 1500,
        "parameters": 1000,
        "seconds": 30.0,
        "file": str(find(paths.TRAINING_RECORD, model="vae")),
        "hardware": Provenance(**provenance(CPU)).hardware,
        "final_loss": 30 / 7 + len("vae"),
    }


HEALTHY = {"class_coverage_test_2048": 0.9, "recall_classifier_test_2048": 0.7}


def test_a_model_that_fails_its_gate_is_marked_in_its_row():
    config = make_config()
    write_quality(config, "kaem_is", 0, 5.0, **HEALTHY)
    write_quality(config, "vae", 0, 6.0, **HEALTHY | {"class_coverage_test_2048": 0.01})
    quality.render(config)
    rows, below = read_md("quality")
    cells = {row["Model"]: row for row in rows}
    assert cells["KAEM-IS"]["Health"] == "passed"
    assert "✗" not in "".join(cells["KAEM-IS"].values())
    assert cells["VAE"]["Health"].startswith("FAILED: class_coverage 0.01, at least")
    assert cells["VAE"][FD] == "6.0 ✗"
    assert cells["VAE"]["Recall (test 2048)"] == "0.70 ✗"
    assert cells["real images"]["Health"] == ""
    assert "✗ failed a health gate" in below
    assert "$\\times$" in read_tex("quality")


def test_a_demo_budget_is_said_in_every_row():
    config = make_config({"budget": "demo"})
    write_quality(config, "kaem_is", 0, 5.0, **HEALTHY)
    write_quality(config, "vae", 0, 6.0, **HEALTHY | {"class_coverage_test_2048": 0.01})
    quality.render(config)
    health = {row["Model"]: row["Health"] for row in read_md("quality")[0]}
    assert health["KAEM-IS"] == "demo budget, not comparable"
    assert health["VAE"].startswith("FAILED")


@pytest.mark.parametrize(("share", "mark"), [(0.0, ""), (0.1, ""), (0.11, "‡")])
def test_a_loose_bound_is_marked(share, mark):
    config = make_config(LIKELIHOOD)
    bits = likelihood(1.5) | {"nats_low_ess_share_test_20": share}
    write_quality(config, "vae", 0, 5.0, **bits)
    quality.render(config)
    rows, below = read_md("quality")
    column = next(name for name in rows[0] if name.startswith("Bits"))
    assert {row["Model"]: row[column] for row in rows}["VAE"] == f"1.500{mark}"
    assert ("‡ for more than 10% of the images" in below) == bool(mark)


def test_the_quality_table_shows_bits_and_how_the_posterior_sampler_did():
    config = make_config(LIKELIHOOD | {"models.kaem_thermo": MODEL_SETTINGS["kaem_thermo"]})
    for seed in config.seeds:
        write_quality(config, "kaem_is", seed, 5.0, **likelihood(1.5 + seed))
        write_training(config, "kaem_is", seed, 30.0, "shapes", ess=1.25 + seed)
        write_training(
            config, "kaem_thermo", seed, 30.0, "shapes", swap_1=0.5, swap_2=0.125 + 0.25 * seed
        )
        write_training(config, "vae", seed, 30.0, "shapes")
    quality.render(config)
    table = find(paths.TABLE, table="quality", format="md").read_text()
    cells = {
        line.split("|")[2].strip(): [cell.strip() for cell in line.split("|")]
        for line in table.splitlines()
        if line.startswith("|")
    }
    column = {title: position for position, title in enumerate(cells["Model"])}
    bits, state = column["Bits per dimension (test 20)"], column["ESS or swap rates"]
    assert cells["KAEM-IS"][bits] == "2.000 ± 6.353"
    assert cells["KAEM-IS"][state] == "ESS 1.75"
    assert cells["KAEM-thermo"][bits] == ""
    assert cells["KAEM-thermo"][state] == "swaps 0.50, 0.25"
    assert cells["VAE"][state] == ""
    assert "nats" not in table
    values = pd.read_csv(find(paths.TABLE, table="quality", format="csv"))
    nats = values.set_index("model")["nats_test_20_mean"]["kaem_is"]
    assert nats == pytest.approx(likelihood(2.0)["nats_test_20"])


# Figures ----------------------------------------------------------------------------------------


def write_history(model: str, seed: int) -> None:
    path = find(paths.HISTORY, model=model, seed=seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        handle.write("update,seconds,loss\n")
        for update in range(1, 20):
            handle.write(f"{update},0.1,{100 / update + seed}\n")


def write_densities(shape: tuple[int, ...], stages: tuple[str, ...]) -> None:
    nodes = np.linspace(-3, 3, 30)
    arrays = {f"nodes_{stage}": nodes for stage in stages}
    for number, stage in enumerate(stages):
        density = np.exp(-((nodes - number) ** 2))
        arrays[f"density_{stage}"] = np.broadcast_to(density, (*shape, 30))
    path = find(paths.DIAGNOSTICS, model="kaem_is")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)


def write_samples(config: Config) -> None:
    images = bars_dataset(70).images["train"]
    for model in (REAL, "vae"):
        job = job_of(config, "sampling", "shapes", model)
        save_samples(find(paths.SAMPLES, model=model), [images], images.shape, job)


def render_loss(config: Config) -> str:
    for model in MODELS:
        for seed in config.seeds:
            write_history(model, seed)
    loss_curves.render(config, "shapes")
    return "loss_shapes"


def render_samples(config: Config) -> str:
    write_samples(config)
    sample_grids.render(config, "shapes")
    return "samples_shapes"


def render_prior(config: Config) -> str:
    write_densities((2,), tuple(prior_densities.STAGES))
    prior_densities.render(config, "shapes", "kaem_is")
    return "prior_shapes_kaem_is"


def render_prior_univariate(config: Config) -> str:
    # More latents than panels, and a training that stored nothing on the way.
    write_densities((3, 2), ("before", "after"))
    prior_densities.render(config, "shapes", "kaem_is")
    return "prior_shapes_kaem_is"


RENDERINGS = [render_loss, render_samples, render_prior, render_prior_univariate]


@pytest.mark.parametrize("render", RENDERINGS)
def test_figures_are_the_same_bytes_each_time(render, folder, monkeypatch):
    monkeypatch.setattr(style, "MOST_PANELS", 2)
    contents = []
    for _ in range(2):
        name = render(make_config())
        figures = [find(paths.FIGURE, figure=name, format=kind) for kind in ("pdf", "png")]
        contents.append([figure.read_bytes() for figure in figures])
    assert contents[0] == contents[1]
    pdf, png = contents[0]
    assert pdf.startswith(b"%PDF")
    assert png.startswith(b"\x89PNG")
    picture = plt.imread(figures[1])
    assert picture[..., :3].std() > 0.05  # something is drawn
    assert plt.get_fignums() == []
    # Nothing of the folder's name, the user or the date is in the files.
    assert str(folder).encode() not in pdf + png
    assert b"CreationDate" not in pdf
    assert {each.name for each in figures[0].parent.iterdir()} == {f.name for f in figures}


def test_losses_of_another_kind_have_panels_of_their_own(monkeypatch):
    config = make_config({"models.ddpm": MODEL_SETTINGS["ddpm"]})
    rows = [{"update": u, "seconds": 1.0, "loss": 1.0, "swap_1": 0.5} for u in (1, 2)]
    for model in ("vae", "ddpm"):
        History(rows).write(find(paths.HISTORY, model=model, seed=0))
    drawn = []
    with monkeypatch.context() as patched:
        patched.setattr(loss_curves, "save_figure", lambda figure, *_: drawn.append(figure))
        patched.setattr(plt, "close", lambda _figure: None)
        loss_curves.render(config, "shapes")
    labels = {
        axis.get_ylabel(): [line.get_label() for line in axis.get_lines()]
        for axis in drawn[0].axes
        if axis.get_visible()
    }
    assert labels["nats per image"] == ["VAE"]
    assert labels["loss"] == ["DDPM"]
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["VAE", "DDPM"]
    plt.close(drawn[0])


def test_loss_curves_show_every_model_and_seed(monkeypatch):
    drawn = []
    with monkeypatch.context() as patched:
        patched.setattr(loss_curves, "save_figure", lambda figure, *_: drawn.append(figure))
        patched.setattr(plt, "close", lambda _figure: None)
        render_loss(make_config())
    (loss,) = drawn[0].axes  # no model here has a loss of another kind
    lines = {line.get_label(): line.get_xydata() for line in loss.get_lines()}
    assert lines.keys() == {"KAEM-IS", "VAE"}
    for points in lines.values():
        # The mean of two seeds, one nat apart.
        np.testing.assert_allclose(points[:, 1], 100 / points[:, 0] + 0.5)
    plt.close(drawn[0])


def test_figures_without_data_are_empty_and_not_errors():
    config = make_config()
    loss_curves.render(config, "shapes")
    sample_grids.render(config, "shapes")
    for name in ("loss_shapes", "samples_shapes"):
        assert find(paths.FIGURE, figure=name, format="png").stat().st_size > 0


def test_prior_densities_need_a_model_that_has_them():
    with pytest.raises(BenchmarkError, match="vae"):
        prior_densities.render(make_config(), "shapes", "vae")


def test_samples_of_other_settings_are_not_shown():
    write_samples(make_config())
    with pytest.raises(RecordError, match="was drawn with other settings"):
        sample_grids.render(make_config({"models.vae.sigma": 0.9}), "shapes")


def test_colour_images_are_shown_in_colour():
    config = make_config({"own_datasets.faces": FACES, "datasets": ["faces"]})
    images = torch.zeros(64, 3, 4, 4, dtype=torch.uint8)
    images[:, 0], images[:, 2] = 200, 50
    job = job_of(config, "sampling", "faces", "vae")
    save_samples(find(paths.SAMPLES, model="vae", dataset="faces"), [images], images.shape, job)
    sample_grids.render(config, "faces")
    picture = plt.imread(find(paths.FIGURE, figure="samples_faces", format="png"))[..., :3]
    drawn = np.isclose(picture, np.array([200, 0, 50]) / 255, atol=0.01).all(-1)
    assert drawn.mean() > 0.2


def numbered(n: int, channels: int) -> torch.Tensor:
    """Images of 2 x 3 pixels, each of one level: 10, 20, 30, ..."""
    levels = torch.arange(10, 10 * (n + 1), 10, dtype=torch.uint8)
    return levels[:, None, None, None].expand(n, channels, 2, 3)


def test_mosaic_fills_row_by_row_with_white_lines_between():
    picture = sample_grids.mosaic(numbered(5, 1), side=2)
    white = 255
    expected = [
        [10, 10, 10, white, 20, 20, 20],
        [10, 10, 10, white, 20, 20, 20],
        [white] * 7,
        [30, 30, 30, white, 40, 40, 40],
        [30, 30, 30, white, 40, 40, 40],
    ]
    assert picture.tolist() == expected
    assert picture.dtype == np.uint8


def test_mosaic_of_colour_and_of_too_few():
    colour = torch.arange(2 * 3 * 2 * 3, dtype=torch.uint8).view(2, 3, 2, 3)
    picture = sample_grids.mosaic(colour, side=2, gap=3)
    assert picture.shape == (2 * 2 + 3, 2 * 3 + 3, 3)
    assert np.array_equal(picture[:2, :3], colour[0].permute(1, 2, 0))
    assert np.array_equal(picture[:2, 6:], colour[1].permute(1, 2, 0))
    assert (picture[2:] == 255).all()


# Names and colours ------------------------------------------------------------------------------


def test_labels_come_from_the_configuration_first():
    config = make_config({"models.vae.label": "A VAE", "models.v": {"model": "vae"} | VAE})
    labels = [style.model_label(config, each) for each in (REAL, "kaem_is", "vae", "v")]
    assert labels == ["real images", "KAEM-IS", "A VAE", "v"]


def test_a_model_has_its_colour_in_every_run():
    variants = {f"models.v{n}": {"model": "vae"} | VAE for n in range(4)}
    configs = [make_config(), make_config(variants)]
    colours = [style.model_colours(config) for config in configs]
    assert all(colours[0][model] == colours[1][model] for model in MODELS)
    shown = [colours[1][model] for model in configs[1].models]
    assert len(set(shown)) == len(configs[1].models) == 6

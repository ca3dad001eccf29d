"""The tables of times and cost, and the figures of quality against them, beside the golden run."""

import matplotlib.pyplot as plt
import pytest
from support.configs import MODEL_SETTINGS
from support.records import timing_row, update_row
from support.rendering import (
    pretended,
    read_md,
    shapes_config,
    write_quality,
    write_timing,
    write_training,
)

from benchmark.config.config import REAL
from paper_figures.base.frames import select, timing_records, training_records
from paper_figures.base.quality_panels import draw_panels
from paper_figures.figures import tradeoff, training_time
from paper_figures.tables import budgets, cost, timing

pytestmark = pytest.mark.usefixtures("folder")


def test_what_is_as_it_should_be_needs_no_notes():
    config = shapes_config()
    for model in config.models:
        write_timing(config, model, {1: 0.5, 4: 2.0})
    timing.render(config)
    rows, below = read_md("timing")
    assert "Mode" not in rows[0]
    assert "GPU latency, ms" not in rows[0]
    lines = [line for line in below.splitlines() if line]
    assert lines[1:3] == ["GPU: not measured.", "All models of a dataset took turns."]
    assert len(lines) == 4  # and the machine


def test_modes_that_took_no_turns_are_named():
    config = shapes_config({"timing.modes": ["eager", "compiled"]})
    write_timing(config, "vae", {1: 0.5}, rows=(timing_row(1, 0.75, mode="compiled"),))
    timing.render(config)
    assert "took turns, but for compiled ones, timed one after the other." in read_md("timing")[1]


def test_updates_that_were_not_timed_have_no_column_of_cost():
    config = shapes_config()
    missing = {"batch_size": 100, "left_out": "the dataset cannot be read"}
    write_training(config, "vae", 45.0)
    write_timing(config, "vae", {1: 0.5}, nfe=3, flops_per_image=2_500_000, update=missing)
    write_timing(config, "kaem_is", {1: 0.5}, parameters=77)
    cost.render(config)
    rows, below = read_md("cost")
    cells = {row["Model"]: list(row.values())[2:] for row in rows}
    assert cells["VAE"] == ["1,000", "3", "2.5", "1,500", "30.0", "0.8"]
    assert cells["KAEM-IS"] == ["77", "1", "0.0", "", "", ""]
    assert "in turns" not in below.lower()
    timing.render(config)  # an update's time, or its lack, is none of sampling
    assert "cannot be read" not in read_md("timing")[1]


def test_machines_whose_names_have_commas_are_told_apart():
    config = shapes_config()
    for seed, name in enumerate(("CPU Y", "CPU Z")):
        with pretended(cpu=name, threads=2):
            write_training(config, "vae", 45.0, seed)
    cost.render(config)
    assert "Trained on: CPU Y, 2 threads; CPU Z, 2 threads." in read_md("cost")[1]


def test_a_training_says_where_it_comes_from():
    config = shapes_config()
    record = write_training(config, "vae", 30.0)
    (row,) = training_records(config).to_dict("records")
    assert row == {
        "dataset": "shapes",
        "model": "vae",
        "seed": 0,
        "source": record.provenance.source_digest,
        "updates": 1500,
        "parameters": 1000,
        "seconds": 30.0,
        "file": str(record.path),
        "hardware": record.provenance.hardware,
        "final_loss": 30 / 7 + len("vae"),
    }


# Quality against them ----------------------------------------------------------------------------


def points(figure) -> list[tuple[float, float, float, float]]:
    """Of the first panel: cost, mean distance, and the ends of its range."""
    rows = []
    for marker, _caps, (bars,) in figure.axes[0].containers:
        (cost,), (mean,) = marker.get_data()
        ((low, high),) = (segment[:, 1] for segment in bars.get_segments())
        rows.append((cost, mean, low, high))
    return rows


def test_panels_show_means_ranges_and_the_floor():
    config = shapes_config({"models.sigma_vae": MODEL_SETTINGS["sigma_vae"]})
    for seed, distance in enumerate([10.0, 30.0]):
        write_quality(config, "vae", distance, seed)
    write_quality(config, "kaem_is", 5.0)
    write_quality(config, "sigma_vae", 6.0)
    write_quality(config, REAL, 2.0)

    def costs_of(dataset, models):
        assert (dataset, models) == ("shapes", ["kaem_is", "vae", "sigma_vae"])
        return {"kaem_is": 0.6, "vae": 0.4}, "ms"

    figure = draw_panels(config, "title", costs_of)
    assert points(figure) == [(0.6, 5, 5, 5), (0.4, 20, 10, 30)]
    axis = figure.axes[0]
    texts = {"KAEM-IS", "VAE", "real images", "without a time: sigma-VAE"}
    assert {text.get_text() for text in axis.texts} == texts
    assert any(list(line.get_ydata()) == [2.0, 2.0] for line in axis.get_lines())
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("ms", "FD-classifier, lower is better")
    plt.close(figure)


def test_a_sample_takes_what_the_largest_shared_batch_says():
    config = shapes_config({"timing.batch_sizes": [1, 2, 4]})
    write_timing(config, "vae", {1: 0.5, 2: 0.8, 4: 1.0})
    write_timing(config, "kaem_is", {1: 0.5, 2: 1.2})
    times = select(timing_records(config), part="images")
    costs, label = tradeoff.image_times(times, "shapes", config.models)
    assert (costs, label) == ({"vae": 0.4, "kaem_is": 0.6}, "ms per image, in batches of 2")


def test_training_takes_its_updates_times_the_median_of_one():
    ddim = {"weights_of": "ddpm", "sampler": {"kind": "ddim", "steps": 2}}
    config = shapes_config({"models.ddpm": MODEL_SETTINGS["ddpm"], "models.ddim": ddim})
    for model in ("vae", "ddpm", "kaem_is"):
        write_training(config, model, 3600.0)  # beside other work
        write_timing(config, model, {1: 0.5}, update=update_row(100, 7.0))
    write_timing(config, "kaem_is", {1: 0.5})
    updates, training = timing_records(config), training_records(config)
    updates = select(updates, part="update")
    times, _ = training_time.training_times(config, updates, training, "shapes", config.models)
    assert times == {"vae": 10.5, "ddpm": 10.5, "ddim": 10.5}


def test_tradeoff_and_training_time_without_records_say_so(folder):
    config = shapes_config()
    tradeoff.render(config, "cpu")
    training_time.render(config, "cpu")
    names = {path.name for path in (folder / "results/tiny/figures").iterdir()}
    figures = ("tradeoff_cpu", "training_time_cpu")
    assert names == {f"{figure}.{kind}" for figure in figures for kind in ("pdf", "png")}


# Budgets -----------------------------------------------------------------------------------------


def budgets_config():
    entry = MODEL_SETTINGS["vae"]
    more = {"models.vae_3000": entry | {"model": "vae", "training": {"updates": 3000}}}
    more["models.vae_other"] = entry | {"model": "vae", "training": {"learning_rate": 0.5}}
    return shapes_config(more)


def test_a_line_joins_what_differs_in_updates_alone():
    config = budgets_config()
    assert config.budgets() == {"vae": {1500: "vae", 3000: "vae_3000"}}
    for entry, distance in {"vae": 20.0, "vae_3000": 10.0, "vae_other": 5.0}.items():
        write_quality(config, entry, distance)
        write_training(config, entry, distance)
    figure = draw_panels(config, "title", lambda _d, models: (dict.fromkeys(models, 1.0), "s"))
    axis = figure.axes[0]
    assert list(axis.get_lines()[0].get_ydata()) == [20.0, 10.0]
    assert {text.get_text() for text in axis.texts} == {"VAE", "vae_other"}
    plt.close(figure)


def test_enough_is_where_doubling_brings_less_than_a_tenth():
    assert budgets.enough({750: 100.0, 1500: 90.0, 3000: 81.5}) == 1500
    # A pause, as at 750, is not enough.
    assert budgets.enough({750: 100.0, 1500: 99.0, 3000: 80.0, 6000: 79.0}) == 3000
    assert budgets.enough({750: 100.0, 1500: 95.0}) == 750
    assert budgets.enough({750: 100.0, 1500: 80.0}) is None
    assert budgets.enough({750: 100.0, 3000: 99.0}) is None
    assert budgets.enough({}) is None


def test_the_table_of_budgets_has_a_row_for_each_model():
    config = budgets_config()
    for entry, distance in {"vae": 20.0, "vae_3000": 19.0}.items():
        write_quality(config, entry, distance)
    budgets.render(config)
    rows, _ = read_md("budgets")
    assert [list(row.values()) for row in rows] == [
        ["Shapes", "VAE", "FD-classifier", "20.0", "19.0", "1,500"]
    ]

"""Figure `tradeoff_<device>`: sample quality against the time that a sample takes, by dataset."""

import matplotlib.pyplot as plt
import pandas as pd

from benchmark.config import REAL, Config
from benchmark.names import METRIC
from paper_figures.records import quality_records, timing_records
from paper_figures.style import (
    DEVICE_LABELS,
    FULL,
    dataset_label,
    model_colours,
    model_label,
    save_figure,
    use_style,
)
from paper_figures.timing import select

DISTANCES = {"fid": "FID", "fd_classifier": "FD-classifier"}  # the first that was measured
MOST_COLUMNS = 2
MARKERS = {"kaem": "o", "vae": "s", "ebm": "^", "diffusion": "D"}


def render(config: Config, device: str) -> None:
    """A point per model: median milliseconds per image at the largest batch that every model was
    timed with, and the mean distance with its range over the seeds. Both axes are logarithmic."""
    use_style()
    quality, timing = quality_records(config), timing_records(config)
    columns = min(len(config.datasets), MOST_COLUMNS)
    rows = -(-len(config.datasets) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(FULL, 3.2 * rows + 0.8), squeeze=False)
    handles = {}
    for axis, dataset in zip(axes.flat, config.datasets, strict=False):
        points, name, batch_size = _points(config, quality, timing, dataset, device)
        for model, point in points.items():
            handles.setdefault(model_label(config, model), _draw(axis, config, model, point))
        floor = _distances(quality, dataset, REAL, name)
        if points and len(floor):
            axis.axhline(floor.mean(), color="0.6", lw=1, ls=":", zorder=0)
            axis.annotate(
                "real images",
                (1, floor.mean()),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                fontsize="x-small",
                color="0.4",
            )
        _finish(axis, config, dataset, points, name, batch_size)
    for axis in axes.flat[len(config.datasets) :]:
        axis.set_visible(False)
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    figure.suptitle(f"Quality against time, {DEVICE_LABELS[device]}")
    save_figure(figure, config, f"tradeoff_{device}")
    plt.close(figure)


def _points(config, quality, timing, dataset: str, device: str):
    """{model: (ms per image, distances of the seeds)}, the distance's name and the batch size."""
    timed = select(timing, dataset=dataset, device=device, part="images", mode="eager")
    timed = timed[timed["left_out"] == ""] if len(timed) else timed
    name = next((n for n in DISTANCES if len(_distances(quality, dataset, None, n))), None)
    found = {}
    for model in config.evaluated_models:
        rows = select(timed, model=model)
        distances = _distances(quality, dataset, model, name)
        if len(rows) and len(distances):
            found[model] = (rows.set_index("batch_size")["median"], distances)
    sizes = [set(times.index) for times, _ in found.values()]
    shared = set.intersection(*sizes) if sizes else set()
    if not shared:
        return {}, name, None
    size = max(shared)
    points = {model: (times[size] / size, distances) for model, (times, distances) in found.items()}
    return points, name, size


def _distances(quality, dataset: str, model: str | None, name: str | None) -> pd.Series:
    """Of every seed, for the first reference that has them."""
    if not len(quality) or name is None:
        return pd.Series(dtype=float)
    chosen = quality[quality["dataset"] == dataset]
    if model is not None:
        chosen = chosen[chosen["model"] == model]
    of_name = chosen[[METRIC.fullmatch(metric)["name"] == name for metric in chosen["metric"]]]
    return (
        of_name[of_name["metric"] == of_name["metric"].iloc[0]]["value"]
        if len(of_name)
        else (pd.Series(dtype=float))
    )


def _family(config: Config, model: str) -> str:
    architecture = config.architecture(model)
    if architecture.startswith("kaem"):
        return "kaem"
    if "ebm" in architecture:
        return "ebm"
    return "vae" if "vae" in architecture else "diffusion"


def _draw(axis, config: Config, model: str, point):
    milliseconds, distances = point
    mean = distances.mean()
    return axis.errorbar(
        [milliseconds],
        [mean],
        yerr=[[mean - distances.min()], [distances.max() - mean]],
        fmt=MARKERS[_family(config, model)],
        ms=6,
        capsize=2,
        color=model_colours(config)[model],
        mec="white",
        mew=0.5,
    )


def _finish(axis, config: Config, dataset: str, points, name, batch_size) -> None:
    axis.set_title(dataset_label(config, dataset), fontsize="medium")
    if not points:
        axis.text(0.5, 0.5, "not measured", ha="center", transform=axis.transAxes, color="0.4")
        axis.set(xticks=[], yticks=[])
        return
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(f"ms per image, in batches of {batch_size:,}")
    axis.set_ylabel(f"{DISTANCES[name]}, lower is better")

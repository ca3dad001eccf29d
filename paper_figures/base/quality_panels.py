"""Panels of points: the quality of each model's samples against what it costs, by dataset."""

import textwrap
from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmark.config.config import REAL, Config
from paper_figures.base.frames import quality_records, values_of
from paper_figures.base.point_labels import name_points
from paper_figures.base.style import FULL, fix_layout, model_colours, model_label, narrow_label

# The first that was measured.
DISTANCES = {"fid": "FID", "fd_classifier": "FD-classifier", "fd_efficientnet": "FD-EfficientNet"}
MARGIN = 0.03  # of the range of costs, on either side beyond matplotlib's
LETTERS = 124  # of small text, side by side in all columns
MARKERS = {"kaem": "o", "vae": "s", "ebm": "^", "diffusion": "D"}

Costs = dict[str, float]


def draw_panels(
    config: Config,
    title: str,
    costs_of: Callable[[str, list[str]], tuple[Costs, str]],
    columns: int = 2,
) -> Figure:
    """Draw a panel per dataset, with a point per model: its cost, and the mean distance of its
    samples with the range over the seeds. Both axes are logarithmic. A line joins the points of
    entries that differ in their updates alone, with one name.

    Args:
        costs_of: dataset and the models whose distance was measured -> what it is drawn against,
            by model, and the label of that axis. A model without a cost has no point; a line says
            so.
        columns: the most panels beside each other.
    """
    quality = quality_records(config)
    columns = min(len(config.datasets), columns)
    rows = -(-len(config.datasets) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(FULL, 3.5 * rows), squeeze=False)
    named, drawn = {}, {}
    for axis, dataset in zip(axes.flat, config.datasets, strict=False):
        name, values = distances_of(config, quality, dataset)
        costs, label = costs_of(dataset, [model for model in values if model != REAL])
        axis.set_title(config.facts(dataset).title, fontsize="medium")
        if costs:
            without = [m for m in values if m not in (*costs, REAL)]
            _draw(axis, config, costs, values)
            axis.set(xlabel=label, ylabel=f"{DISTANCES[name]}, lower is better")
            _name_missing(axis, [model_label(config, m) for m in without], LETTERS // columns)
            marks = {m: (cost, values[m].mean()) for m, cost in costs.items()}
            named[axis] = {config.shortest(m): marks[m] for m in sorted(marks, key=costs.get)}
            drawn[axis] = [*marks.values(), *((x, y) for m, x in costs.items() for y in values[m])]
        else:
            axis.text(0.5, 0.5, "not measured", ha="center", transform=axis.transAxes, color="0.4")
            axis.set(xticks=[], yticks=[])
    _scale(list(named))
    for axis in axes.flat[len(config.datasets) :]:
        axis.set_visible(False)
    figure.suptitle(title)
    fix_layout(figure)
    for axis, places in named.items():
        names = [narrow_label(config, model) for model in places]
        name_points(axis, names, list(places.values()), drawn[axis])
    return figure


def distances_of(
    config: Config, quality: pd.DataFrame, dataset: str
) -> tuple[str | None, dict[str, pd.Series]]:
    """Return the distance that was measured, None without one, and model -> its seeds' values."""
    name = next((n for n in DISTANCES if len(values_of(quality, n, dataset=dataset))), None)
    values = {
        model: values_of(quality, name, dataset=dataset, model=model)
        for model in (*config.evaluated_models, REAL)
    }
    return name, {model: series for model, series in values.items() if len(series)}


def _draw(axis: Axes, config: Config, costs: Costs, values: dict[str, pd.Series]) -> None:
    colours = model_colours(config)
    for model, series in config.budgets().items():
        known = [m for m in series.values() if m in costs]
        means = [values[m].mean() for m in known]
        axis.plot([costs[m] for m in known], means, color=colours[model], lw=1, zorder=1)
    for model, cost in costs.items():
        distances = values[model]
        mean = distances.mean()
        axis.errorbar(
            [cost],
            [mean],
            yerr=[[mean - distances.min()], [distances.max() - mean]],
            fmt=MARKERS[config.spec(model).family],
            ms=6,
            capsize=2,
            color=colours[config.shortest(model)],
            mec="white",
            mew=0.5,
        )
    if REAL in values:
        floor = values[REAL].mean()
        axis.axhline(floor, color="0.6", lw=1, ls=":", zorder=0)
        axis.annotate(
            "real images",
            (1, floor),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize="x-small",
            color="0.4",
        )
    axis.set(xscale="log", yscale="log")


def _name_missing(axis: Axes, names: list[str], width: int) -> None:
    """Say below a panel's title which models have no point in it."""
    if names:
        text = textwrap.fill(f"without a time: {'; '.join(names)}", width)
        below = {"xycoords": "axes fraction", "ha": "center", "va": "bottom"}
        axis.annotate(text, (0.5, 1.01), fontsize="x-small", color="0.4", **below)
        axis.set_title(axis.get_title(), fontsize="medium", pad=12 + 8 * text.count("\n"))


def _scale(axes: list[Axes]) -> None:
    """Give all panels one range of costs, lest a spread of noise look like one of models."""
    if not axes:
        return
    lows, highs = zip(*(axis.get_xlim() for axis in axes), strict=True)
    low, high = min(lows), max(highs)
    # Of the whole range: the margin of a panel with a small one would cut its markers.
    margin = (high / low) ** MARGIN
    for axis in axes:
        axis.set_xlim(low / margin, high * margin)
        plain_ticks(axis.xaxis)
        plain_ticks(axis.yaxis)


def plain_ticks(scale: Axis) -> None:
    """Write numbers without powers of ten, which overlap where an axis spans a decade or less."""
    low, high = scale.get_view_interval()
    scale.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    scale.set_minor_formatter(NullFormatter())

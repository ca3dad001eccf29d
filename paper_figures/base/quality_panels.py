"""Panels of points: the quality of each model's samples against what it costs, by dataset."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmark.config.config import REAL, Config
from paper_figures.base.frames import quality_records, values_of
from paper_figures.base.point_labels import name_points
from paper_figures.base.style import FULL, fix_layout, model_colours, narrow_label

# The first that was measured.
DISTANCES = {"fid": "FID", "fd_classifier": "FD-classifier", "fd_efficientnet": "FD-EfficientNet"}
MOST_COLUMNS = 2
# Of the range of costs, on either side beyond matplotlib's; the second with names in it.
MARGIN, WIDE_MARGIN = 0.03, 0.45
MARKERS = {"kaem": "o", "vae": "s", "ebm": "^", "diffusion": "D"}

Costs = dict[str, float]


def draw_panels(
    config: Config,
    title: str,
    costs_of: Callable[[str, list[str]], tuple[Costs, str]],
    *,
    wide: bool = False,
) -> Figure:
    """Draw a panel per dataset, with a point per model: its cost, and the mean distance of its
    samples with the range over the seeds. Both axes are logarithmic. A line joins the points of
    entries that differ in their updates alone, with one name.

    Args:
        costs_of: dataset and the models whose distance was measured -> what it is drawn against,
            by model, and the label of that axis. A model without a cost has no point.
        wide: whether a panel takes the whole width, for costs that lie too close together for
            names between the points.
    """
    quality = quality_records(config)
    columns = 1 if wide else min(len(config.datasets), MOST_COLUMNS)
    rows = -(-len(config.datasets) // columns)
    height = 2.6 if wide else 3.5
    figure, axes = plt.subplots(rows, columns, figsize=(FULL, height * rows), squeeze=False)
    points = {}
    for axis, dataset in zip(axes.flat, config.datasets, strict=False):
        name, values = distances_of(config, quality, dataset)
        costs, label = costs_of(dataset, [model for model in values if model != REAL])
        axis.set_title(config.facts(dataset).title, fontsize="medium")
        if costs:
            _draw(axis, config, costs, values)
            axis.set(xlabel=label, ylabel=f"{DISTANCES[name]}, lower is better")
            points[axis] = _named(config, costs, values)
        else:
            axis.text(0.5, 0.5, "not measured", ha="center", transform=axis.transAxes, color="0.4")
            axis.set(xticks=[], yticks=[])
    _scale(list(points), WIDE_MARGIN if wide else MARGIN)
    for axis in axes.flat[len(config.datasets) :]:
        axis.set_visible(False)
    figure.suptitle(title)
    fix_layout(figure)
    for axis, places in points.items():
        names = [narrow_label(config, model) for model in places]
        name_points(axis, names, list(places.values()), outside=wide)
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


def _named(
    config: Config, costs: Costs, values: dict[str, pd.Series]
) -> dict[str, tuple[float, float]]:
    """Return the points that have a name: of a line its outer end."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for model, cost in costs.items():
        lines.setdefault(config.shortest(model), []).append((cost, values[model].mean()))
    order = sorted(lines, key=lambda model: np.mean(np.log(lines[model]), axis=0)[0])
    left = order[: (len(order) + 1) // 2]  # as the names are divided, where they stand outside
    return {model: min(line) if model in left else max(line) for model, line in lines.items()}


def _scale(axes: list[Axes], share: float) -> None:
    """Give all panels one range of costs, lest a spread of noise look like one of models."""
    if not axes:
        return
    lows, highs = zip(*(axis.get_xlim() for axis in axes), strict=True)
    low, high = min(lows), max(highs)
    # Of the whole range: the margin of a panel with a small one would cut its markers.
    margin = (high / low) ** share
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

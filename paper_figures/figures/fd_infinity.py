"""Figure `fd_infinity_<dataset>`: a Frechet distance's limit of infinitely many samples."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import t

from benchmark.config.config import Config
from benchmark.records.names import METRIC, count_name
from paper_figures.base.artefact import Figure, Need
from paper_figures.base.frames import select, subset_records
from paper_figures.base.quality_panels import DISTANCES
from paper_figures.base.style import FULL, model_colours, narrow_label, save_figure

FIGURE = Figure(
    "fd_infinity_{dataset}",
    needs=(Need("metrics", only=lambda config, job: job.seed == config.seeds[0]),),
    caption="The Frechet distance of disjoint subsets of each model's samples on {dataset} against "
    "1/N, N their size, and its limit of infinitely many with its 95% interval; first seed.",
    category="Samples",
)

COLUMNS = 4


def render(config: Config, dataset: str) -> None:
    """Draw a panel per model, of the first distance of `DISTANCES` whose subsets were measured."""
    rows = subset_records(config, dataset)
    name, rows = _chosen(rows)
    models = list(rows["model"].unique()) if len(rows) else []
    lines = max(-(-len(models) // COLUMNS), 1)
    figure, axes = plt.subplots(
        lines, COLUMNS, figsize=(FULL, 1.55 * lines + 0.5), squeeze=False, sharex=True
    )
    for axis in axes.flat[len(models) :]:
        axis.set_axis_off()
    for axis, model in zip(axes.flat, models, strict=False):
        limit = _panel(axis, select(rows, model=model), model_colours(config)[model])
        axis.set_title(f"{narrow_label(config, model, 25)}\n{limit}", fontsize="x-small")
    for number in range(len(models)):
        if number + COLUMNS >= len(models):  # nothing is below
            axes.flat[number].tick_params(labelbottom=True)
    title = f"{config.facts(dataset).title}: "
    if models:
        figure.supxlabel("number of samples $N$, at $1/N$", fontsize="small")
        figure.supylabel(DISTANCES[name], fontsize="small")
        title += f"{DISTANCES[name]} and its limit of infinitely many samples"
    figure.suptitle(title if models else f"{title}no distances of subsets are stored")
    save_figure(figure, FIGURE.paths(config.run, dataset=dataset))


def _chosen(rows: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """Return the distance that is shown, and its rows: against one reference."""
    for name in DISTANCES:
        metrics = (
            [m for m in rows["metric"] if METRIC.fullmatch(m)["name"] == name] if len(rows) else []
        )
        if metrics:
            return name, select(rows, metric=metrics[0])
    return "", pd.DataFrame()


def _panel(axis: plt.Axes, rows: pd.DataFrame, colour) -> str:
    """Draw the subsets' distances, and the line to the limit: through it and their mean; return
    the limit and half of its interval as text."""
    inverse, distance = 1 / rows["images"].to_numpy(float), rows["distance"].to_numpy()
    limit, error = rows[["value", "error"]].iloc[0]
    half = t.ppf(0.975, len(rows) - 2) * error
    weights = rows["images"].to_numpy(float)
    middle = [np.average(values, weights=weights) for values in (inverse, distance)]
    end = 1.1 * inverse.max()
    slope = (middle[1] - limit) / middle[0]
    axis.plot([0, end], [limit, limit + slope * end], color=colour, lw=1)
    axis.plot(inverse, distance, "o", ms=3, mfc="none", color=colour)
    axis.errorbar([0], [limit], yerr=[half], fmt="o", ms=4, capsize=2, color=colour)
    sizes = sorted(set(rows["images"]))
    axis.set_xticks([0, *(1 / n for n in sizes)], ["∞", *map(count_name, sizes)])
    axis.set_xlim(-0.08 * end, end)
    axis.tick_params(labelsize="x-small")
    digits = 2 - (half >= 1) - (half >= 10)
    return f"limit {limit:.{digits}f} ± {half:.{digits}f}"

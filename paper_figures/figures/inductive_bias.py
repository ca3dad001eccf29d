"""Figure `inductive_bias`: quality by basis of the edge functions and reference density."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from benchmark.config.config import Config
from paper_figures.base.artefact import Figure, Need
from paper_figures.base.frames import quality_records, values_of
from paper_figures.base.style import FULL, save_figure

FIGURE = Figure(
    "inductive_bias",
    needs=(Need("metrics"),),
    caption="Sample quality by basis of KAEM's edge functions and reference density: FD-classifier "
    "(lower is better) and recall (higher is better), means over the seeds.",
    category="Quality",
    applies=lambda config: any(map(config.prior_grid, config.datasets)),
)

# A distance alone hides a model that draws few of the modes well.
METRICS = {
    "fd_classifier": ("FD-classifier ↓", ".0f", "crest"),
    "recall_classifier": ("recall ↑", ".2f", "crest_r"),
}
BASES = {"rbf": "RBF", "bspline": "B-spline", "fourier": "Fourier", "chebyshev": "Chebyshev"}
REFERENCES = {"gaussian": "Gaussian", "lognormal": "log-normal"}


def render(config: Config) -> None:
    """Write the figure; nothing for a run that has no grid of priors."""
    grids = {dataset: config.prior_grid(dataset) for dataset in config.datasets}
    grids = {dataset: entries for dataset, entries in grids.items() if entries}
    if grids:
        save_figure(draw(config, grids), FIGURE.paths(config.run))


def draw(config: Config, grids: dict[str, dict[str, tuple[str, str]]]) -> plt.Figure:
    """Draw a heat map per dataset and metric: means over the seeds.

    Args:
        grids: dataset -> entry -> (basis, reference density).
    """
    quality = quality_records(config)
    size = (len(METRICS), len(grids))
    figure, axes = plt.subplots(*size, figsize=(FULL, 2.1 * len(METRICS)), squeeze=False)
    for row, (metric, (label, form, colours)) in zip(axes, METRICS.items(), strict=True):
        for axis, (dataset, entries) in zip(row, grids.items(), strict=True):
            cells = _cells(quality, metric, dataset, entries)
            look = {"annot": True, "fmt": form, "cmap": colours, "cbar": False, "linewidths": 1}
            sns.heatmap(cells, vmin=0, ax=axis, **look)  # colours in proportion to the values
            axis.set(title=f"{config.facts(dataset).title}: {label}")
            axis.tick_params(length=0)
            axis.tick_params(axis="y", rotation=0)
    for axis in axes[-1]:
        axis.set_xlabel("reference density")
    for axis in axes[:, 0]:
        axis.set_ylabel("basis")
    return figure


def _cells(quality: pd.DataFrame, metric: str, dataset: str, entries: dict) -> pd.DataFrame:
    """Return bases x references; NaN, drawn empty, where nothing was measured."""
    bases, references = (
        list(dict.fromkeys(names)) for names in zip(*entries.values(), strict=True)
    )
    cells = pd.DataFrame(index=bases, columns=references, dtype=float)
    for model, (basis, reference) in entries.items():
        cells.loc[basis, reference] = values_of(
            quality, metric, dataset=dataset, model=model
        ).mean()
    return cells.rename(index=BASES, columns=REFERENCES)

"""Figure `inductive_bias`: quality by basis of the edge functions and reference density."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from benchmark.config import Config
from paper_figures.records import quality_records, values_of
from paper_figures.style import FULL, dataset_label, save_figure, use_style

METRIC = "fd_classifier"


def render(config: Config) -> None:
    """A heat map per dataset: mean FD-classifier over the seeds; nothing where there is no grid."""
    grids = {dataset: config.prior_grid(dataset) for dataset in config.datasets}
    grids = {dataset: entries for dataset, entries in grids.items() if entries}
    if not grids:
        return
    use_style()
    quality = quality_records(config)
    figure, axes = plt.subplots(1, len(grids), figsize=(FULL, 3.0), squeeze=False)
    for axis, (dataset, entries) in zip(axes.flat, grids.items(), strict=True):
        cells = _cells(quality, dataset, entries)
        sns.heatmap(cells, annot=True, fmt=".1f", cmap="crest", cbar=False, ax=axis, linewidths=1)
        axis.set(title=dataset_label(config, dataset), xlabel="reference density", ylabel="basis")
        axis.tick_params(length=0)
    figure.suptitle("FD-classifier by basis and reference, lower is better")
    save_figure(figure, config, "inductive_bias")
    plt.close(figure)


def _cells(quality: pd.DataFrame, dataset: str, entries: dict) -> pd.DataFrame:
    """Bases x references; NaN, drawn empty, where nothing was measured."""
    bases, references = (list(dict.fromkeys(each)) for each in zip(*entries.values(), strict=True))
    cells = pd.DataFrame(index=bases, columns=references, dtype=float)
    for model, (basis, reference) in entries.items():
        cells.loc[basis, reference] = values_of(
            quality, METRIC, dataset=dataset, model=model
        ).mean()
    return cells

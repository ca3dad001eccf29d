"""Figure `loss_<dataset>`: training losses."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from benchmark.config.config import Config
from benchmark.config.registry import MODELS
from paper_figures.base.artefact import Figure, Need
from paper_figures.base.frames import histories
from paper_figures.base.style import FULL, model_colours, narrow_label, save_figure, seed_line

FIGURE = Figure(
    "loss_{dataset}",
    needs=(Need("training", ("history",)),),
    caption="Training losses on {dataset}; mean over seeds, their range as a band.",
    category="Training",
)

COLUMNS = 3


def render(config: Config, dataset: str) -> None:
    """Write the figure of one dataset."""
    save_figure(draw(config, dataset), FIGURE.paths(config.run, dataset=dataset))


def draw(config: Config, dataset: str) -> plt.Figure:
    """Draw means over seeds, with the range of the seeds as a band, in a panel per kind of loss."""
    history = histories(config, dataset)
    panels: dict[str | None, list[str]] = {}  # what the loss is -> models with a history
    for model in config.trained_models:
        if len(history) and model in set(history["model"]):
            panels.setdefault(config.spec(model).loss, []).append(model)
    kinds = [
        loss for loss in dict.fromkeys(spec.loss for spec in MODELS.values()) if loss in panels
    ]
    columns = min(max(len(panels), 1), COLUMNS)
    rows = max(-(-len(panels) // columns), 1)
    figure, axes = plt.subplots(rows, columns, figsize=(FULL, 2.3 * rows + 0.6), squeeze=False)
    handles = {}
    for axis, loss in zip(axes.flat, kinds, strict=False):
        _draw(axis, loss, panels[loss], history, config)
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    # One legend for all, below: inside it would lie on the curves of some run.
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    figure.suptitle(f"{config.facts(dataset).title}: training")
    return figure


def _draw(
    axis: plt.Axes, loss: str | None, models: list[str], history: pd.DataFrame, config: Config
) -> None:
    colours = model_colours(config)
    for model in models:
        own = history[history["model"] == model]
        seed_line(axis, own, "loss", colours[model], narrow_label(config, model))
    axis.set(xlabel="update", ylabel="loss" if loss else "nats per image")
    axis.set_title(loss or "loss (each model's own)", fontsize="small")
    axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    _zoom(axis, history.loc[history["model"].isin(models), "loss"])


def _zoom(axis, losses) -> None:
    """Leave out the first steep fall, so that the models can be told apart."""
    low, high = np.min(losses), np.quantile(losses, 0.95)
    if high > low:
        axis.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low))

"""Figure `loss_<dataset>`: training losses."""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import MaxNLocator

from benchmark.config.config import Config
from paper_figures.base.artefact import Figure, Need
from paper_figures.base.frames import histories
from paper_figures.base.style import (
    FULL,
    dataset_label,
    model_colours,
    model_label,
    save_figure,
)

FIGURE = Figure(
    "loss_{dataset}",
    needs=(Need("training", ("history",)),),
    caption="Training losses on {dataset}; mean over seeds, their range as a band.",
    category="Training",
)

COLUMNS = 3

# Whose loss is no bound of the evidence in nats.
OTHER_LOSSES = {"ddpm": "squared error of the noise", "pixel_ebm": "gap of energies"}


@dataclass(frozen=True)
class Panel:
    """The losses of one kind."""

    title: str
    ylabel: str
    architectures: tuple[str, ...] | None = None  # None: all but those with other losses

    def models(self, config: Config, history: pd.DataFrame) -> list[str]:
        """Those that have a history."""
        trained = set(history["model"]) if len(history) else set()
        return [
            model
            for model in config.trained_models
            if model in trained and self._shows(config.architecture(model))
        ]

    def _shows(self, architecture: str) -> bool:
        if self.architectures is None:
            return architecture not in OTHER_LOSSES
        return architecture in self.architectures


PANELS = [
    Panel("loss (each model's own)", "nats per image"),
    *[Panel(name, "loss", (kind,)) for kind, name in OTHER_LOSSES.items()],
]


def render(config: Config, dataset: str) -> None:
    """Mean over seeds, with the range of the seeds as a band; panels without data are left out."""
    history = histories(config, dataset)
    panels = [(panel, panel.models(config, history)) for panel in PANELS]
    panels = [(panel, models) for panel, models in panels if models]
    columns = min(max(len(panels), 1), COLUMNS)
    rows = max(-(-len(panels) // columns), 1)
    figure, axes = plt.subplots(rows, columns, figsize=(FULL, 2.3 * rows + 0.6), squeeze=False)
    handles = {}
    for axis, (panel, models) in zip(axes.flat, panels, strict=False):
        _draw(axis, panel, models, history, config)
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
        axis.get_legend().remove()
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    # One legend for all, below: inside it would lie on the curves of some run.
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    figure.suptitle(f"{dataset_label(config, dataset)}: training")
    save_figure(figure, FIGURE.paths(config.run, dataset=dataset))


def _draw(axis, panel: Panel, models: list[str], history: pd.DataFrame, config: Config) -> None:
    colours = model_colours(config)
    for model in models:
        sns.lineplot(
            data=history[history["model"] == model],
            x="update",
            y="loss",
            ax=axis,
            errorbar=("pi", 100),
            lw=1.2,
            color=colours[model],
            label=model_label(config, model),
        )
    axis.set(xlabel="update", ylabel=panel.ylabel)
    axis.set_title(panel.title, fontsize="small")
    axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    _zoom(axis, history.loc[history["model"].isin(models), "loss"])


def _zoom(axis, losses) -> None:
    """Leave out the first steep fall, so that the models can be told apart."""
    low, high = np.min(losses), np.quantile(losses, 0.95)
    if high > low:
        axis.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low))

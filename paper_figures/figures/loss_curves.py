"""Figure `loss_<dataset>`: training losses."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from benchmark.config.config import Config
from paper_figures.base.artefact import Figure, Need
from paper_figures.base.frames import histories, select
from paper_figures.base.style import (
    FULL,
    PANEL_COLUMNS,
    model_colours,
    narrow_label,
    save_figure,
    seed_line,
)

FIGURE = Figure(
    "loss_{dataset}",
    needs=(Need("training", ("history",)),),
    caption="Training losses on {dataset}, each on a scale of its own: mean over the seeds, their "
    "range as a band, without the first steep fall.",
    category="Training",
)


def render(config: Config, dataset: str) -> None:
    """Write the figure of one dataset."""
    save_figure(draw(config, dataset), FIGURE.paths(config.run, dataset=dataset))


def draw(config: Config, dataset: str) -> plt.Figure:
    """Draw a panel per model: the mean over its seeds, and their range as a band."""
    history = histories(config, dataset)
    models = [m for m in config.trained_models if len(history) and m in set(history["model"])]
    lines = max(-(-len(models) // PANEL_COLUMNS), 1)
    size = (FULL, 1.6 * lines + 0.5)
    figure, axes = plt.subplots(lines, PANEL_COLUMNS, figsize=size, squeeze=False)
    for axis in axes.flat[len(models) :]:
        axis.set_axis_off()
    for axis, model in zip(axes.flat, models, strict=False):
        own, label = select(history, model=model), narrow_label(config, model, 25)
        seed_line(axis, own, "loss", model_colours(config)[model], label)
        kind = config.spec(model).loss or "nats per image"
        axis.set_title(f"{label}\n{kind}", fontsize="x-small")
        axis.set_xlabel("update", fontsize="small")
        axis.set_ylabel("")
        axis.tick_params(labelsize="x-small")
        axis.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        _zoom(axis, own["loss"])
    title = f"{config.facts(dataset).title}: training losses"
    figure.suptitle(title if models else f"{title}: none are stored")
    return figure


def _zoom(axis, losses) -> None:
    """Leave out the first steep fall, so that what comes after it can be seen."""
    low, high = np.min(losses), np.quantile(losses, 0.95)
    if high > low:
        axis.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low))

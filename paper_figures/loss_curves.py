"""Figure `loss_<dataset>`: training losses, and how the posterior samplers did meanwhile."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import MaxNLocator

from benchmark.config import Config
from paper_figures.records import histories
from paper_figures.style import (
    FULL,
    dataset_label,
    model_colours,
    model_label,
    save_figure,
    use_style,
)

DASHES = ("-", "--", ":", "-.")


def render(config: Config, dataset: str) -> None:
    """Mean over seeds, with the range of the seeds as a band."""
    use_style()
    history = histories(config, dataset)
    figure, (loss, ess, swaps) = plt.subplots(1, 3, figsize=(FULL, 2.9))
    colours = model_colours(config)
    for model in config.models:
        chosen = history[history["model"] == model] if len(history) else history
        look = {"color": colours[model], "label": model_label(config, model)}
        _lines(loss, chosen, ["loss"], look)
        _lines(ess, chosen, ["ess"], look)
        _lines(swaps, chosen, [key for key in chosen if key.startswith("swap_")], look)
    if len(history):
        _zoom(loss, history["loss"])
    loss.set(xlabel="update", ylabel="nats per image")
    loss.set_title("loss (each model's own)", fontsize="small")
    ess.set(xlabel="update", ylabel="effective sample size")
    ess.set_title("importance sampling", fontsize="small")
    swaps.set(xlabel="update", ylabel="swap acceptance", ylim=(0, 1))
    swaps.set_title("population: each gap", fontsize="small")
    # One legend for all, below: inside it would lie on the curves of some run.
    handles, labels = loss.get_legend_handles_labels()
    for axis in (loss, ess, swaps):
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        if axis.get_legend():
            axis.get_legend().remove()
        if not axis.has_data():
            axis.set_visible(False)
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    figure.suptitle(f"{dataset_label(dataset)}: training")
    save_figure(figure, config, f"loss_{dataset}")
    plt.close(figure)


def _lines(axis, history: pd.DataFrame, keys: list[str], look: dict) -> None:
    """One line per logged quantity of one model, in dashes that tell them apart."""
    for key, dashes in zip(keys, cycle(DASHES), strict=False):
        if key in history and history[key].notna().any():
            sns.lineplot(
                data=history,
                x="update",
                y=key,
                ax=axis,
                errorbar=("pi", 100),
                lw=1.2,
                linestyle=dashes,
                **look,
            )


def _zoom(axis, losses) -> None:
    """Leave out the first steep fall, so that the models can be told apart."""
    low, high = np.min(losses), np.quantile(losses, 0.95)
    axis.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low))

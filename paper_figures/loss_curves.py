"""Figure `loss_<dataset>`: training loss of every model, and the ESS of importance sampling."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

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


def render(config: Config, dataset: str) -> None:
    """Mean over seeds, with the range of the seeds as a band."""
    use_style()
    history = histories(config, dataset)
    figure, (loss, ess) = plt.subplots(1, 2, figsize=(FULL, 2.9))
    colours = model_colours(config)
    for model in config.models:
        chosen = history[history["model"] == model] if len(history) else history
        for axis, key in ((loss, "loss"), (ess, "ess")):
            if len(chosen) and key in chosen and chosen[key].notna().any():
                sns.lineplot(
                    data=chosen,
                    x="update",
                    y=key,
                    ax=axis,
                    color=colours[model],
                    label=model_label(config, model),
                    errorbar=("pi", 100),
                    lw=1.2,
                )
    if len(history):
        _zoom(loss, history["loss"])
    loss.set(xlabel="update", ylabel="loss, nats per image")
    loss.set_title("negative log-likelihood (KAEM: estimate, VAE: bound)", fontsize="small")
    ess.set(xlabel="update", ylabel="effective sample size")
    ess.set_title("importance sampling", fontsize="small")
    # One legend for both, below: inside it would lie on the curves of some run.
    handles, labels = loss.get_legend_handles_labels()
    for axis in (loss, ess):
        if axis.get_legend():
            axis.get_legend().remove()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    if not ess.has_data():
        ess.set_axis_off()
    figure.suptitle(f"{dataset_label(dataset)}: training")
    save_figure(figure, config, f"loss_{dataset}")
    plt.close(figure)


def _zoom(axis, losses) -> None:
    """Leave out the first steep fall, so that the models can be told apart."""
    low, high = np.min(losses), np.quantile(losses, 0.95)
    axis.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low))

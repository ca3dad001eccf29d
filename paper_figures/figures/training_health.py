"""Figure `health_<dataset>`: how the posterior samplers of KAEM did during training."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.ticker import MaxNLocator

from benchmark.config.config import Config
from paper_figures.base.artefact import Figure, Need
from paper_figures.base.frames import histories
from paper_figures.base.style import (
    FULL,
    model_colours,
    narrow_label,
    save_figure,
    seed_line,
)

FIGURE = Figure(
    "health_{dataset}",
    needs=(
        Need(
            "training",
            ("history",),
            only=lambda config, job: job.model in config.kaem_models,
        ),
    ),
    caption="How the posterior samplers did during training on {dataset}: effective sample size of "
    "the importance weights, Langevin proposals outside the prior's domain, draws near its walls, "
    "step size times the largest curvature, and the acceptance of a population's swaps. t_0, t_1 "
    "and so on: swaps between these two temperatures.",
    category="Training",
)

COLUMNS = 3
# Column of the history -> title and label of the panel that all models share.
SHARED = {
    "ess": ("importance sampling", "effective sample size"),
    "acceptance": ("Metropolis adjustment", "acceptance"),
    "outside": ("Langevin proposals outside", "share of coordinates"),
    "walls": ("draws near the walls", "share of coordinates"),
    "stiffness": ("stiffness", r"step size $\times$ curvature"),
}


def render(config: Config, dataset: str) -> None:
    """Draw means over seeds, with their range as a band; a panel of swap rates for each population.

    Panels without data are left out; without any the figure says so.
    """
    history = histories(config, dataset)
    present = [key for key in SHARED if key in history and history[key].notna().any()]
    swaps = [key for key in history if key.startswith("swap_")]
    populations = [
        model
        for model in config.kaem_models
        if swaps and history.loc[history["model"] == model, swaps].notna().any(axis=None)
    ]
    panels = len(present) + len(populations)
    columns = 2 if panels == 4 else min(max(panels, 1), COLUMNS)
    rows = max(-(-panels // columns), 1)
    figure, axes = plt.subplots(rows, columns, figsize=(FULL, 2.1 * rows + 0.6), squeeze=False)
    flat = iter(axes.flat)
    handles = {}
    for key in present:
        handles |= _shared(next(flat), config, history, key)
    for model in populations:
        _swaps(next(flat), config, history[history["model"] == model], model, swaps)
    for axis in flat:
        axis.set_axis_off()
    if panels == 0:
        figure.text(0.5, 0.5, "no posterior sampler was logged", ha="center", va="center")
    else:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    figure.suptitle(f"{config.facts(dataset).title}: posterior sampling during training")
    save_figure(figure, FIGURE.paths(config.run, dataset=dataset))


def _shared(axis, config: Config, history: pd.DataFrame, key: str) -> dict:
    """Draw one line per model that has the quantity; return label -> line."""
    colours = model_colours(config)
    lines = {}
    for model in config.kaem_models:
        own = history[history["model"] == model]
        if own[key].notna().any():
            label = narrow_label(config, model)
            seed_line(axis, own, key, colours[model], label)
            lines[label] = axis.get_lines()[-1]
    if key == "ess":
        axis.set_ylim(bottom=1)  # what one proposal alone has
    _finish(axis, *SHARED[key])
    return lines


def _swaps(axis, config: Config, own: pd.DataFrame, model: str, keys: list[str]) -> None:
    keys = [key for key in keys if own[key].notna().any()]
    colours = sns.color_palette("flare", len(keys))
    for number, (key, colour) in enumerate(zip(keys, colours, strict=True), 1):
        seed_line(axis, own, key, colour, f"$t_{number - 1}, t_{number}$")
    top = axis.get_ylim()[1]
    ticks = [tick for tick in axis.get_yticks() if 0 <= tick <= top]
    axis.set(ylim=(0, 1.5 * top), yticks=ticks)  # room for the legend
    axis.legend(handlelength=1, fontsize="x-small", ncols=3, loc="upper right", columnspacing=1)
    _finish(axis, narrow_label(config, model, 28), "acceptance of swaps")


def _finish(axis, title: str, label: str) -> None:
    axis.set_xlabel("update", fontsize="small")
    axis.set_ylabel(label, fontsize="small")
    axis.set_title(title, fontsize="small")
    axis.tick_params(labelsize="small")
    axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))

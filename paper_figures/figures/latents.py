"""Figures `latents_<dataset>_<model>`: which latents matter, what they tell, and their formulas."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from benchmark.config.config import Config
from paper_figures.base.artefact import Figure, Need
from paper_figures.base.frames import inspected_models, inspection
from paper_figures.base.style import (
    FULL,
    latent_symbol,
    model_colours,
    model_label,
    save_figure,
    set_title,
)

FIGURE = Figure(
    "latents_{dataset}_{model}",
    needs=(Need("inspection", ("record", "arrays")),),
    caption="Latents on {dataset}: share of the decoded images' variance, share of the posterior "
    "means' variance between classes, posterior draws by class, and a formula for the log density "
    "ratio.",
    category="Latents",
)

FORMULAS = 4  # panels
MOST_BARS = 24
SEEN = 1e-3  # of the largest density: below, a curve is left out


def render(config: Config, dataset: str) -> None:
    """Draw a figure for each KAEM entry that was inspected, first seed."""
    for model in inspected_models(config, dataset):
        _draw(config, dataset, model)


def _draw(config: Config, dataset: str, model: str) -> None:
    metrics, arrays = inspection(config, dataset, model)
    colour = model_colours(config)[model]
    order = np.argsort(metrics["sobol_total"])[::-1][:MOST_BARS]
    figure = plt.figure(figsize=(FULL, 4.5))
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.15, 1])
    sobol, classes, densities = top.subplots(1, 3)
    _sobol(sobol, metrics, order, colour)
    if "eta_squared" in metrics:
        _classes(classes, metrics, order, colour)
        _class_densities(densities, metrics, arrays, f"${latent_symbol(config, model)}_q$")
    else:
        for axis in (classes, densities):
            axis.set_axis_off()
        classes.text(0.5, 0.5, "no labels", ha="center", va="center", color="0.4")
    axes = bottom.subplots(1, FORMULAS, squeeze=False)[0]
    for axis, row in zip(axes, _shown_formulas(metrics, order), strict=False):
        _formula(axis, metrics["formulas"][row], arrays, row, colour)
    for axis in axes[len(_shown_formulas(metrics, order)) :]:
        axis.set_axis_off()
    axes[0].set_ylabel(r"$\log\, \pi / \pi_0$, nats")
    set_title(figure, f"{config.facts(dataset).title}, {model_label(config, model)}: latents")
    save_figure(figure, FIGURE.paths(config.run, dataset=dataset, model=model))


def _sobol(axis, metrics: dict, order: np.ndarray, colour) -> None:
    total, error = (np.array(metrics[f"sobol_{name}"]) for name in ("total", "error"))
    places = np.arange(len(order))
    axis.bar(places, total[order], yerr=2 * error[order], color=colour, error_kw={"lw": 0.8})
    _number(axis, order)
    axis.set_ylabel("total Sobol index")
    axis.set_title(f"decoded variance (sum {total.sum():.2f})", fontsize="small")


def _classes(axis, metrics: dict, order: np.ndarray, colour) -> None:
    places = np.arange(len(order))
    axis.bar(places, np.array(metrics["eta_squared"])[order], color=colour)
    axis.axhline(metrics["eta_squared_chance"], color="black", lw=0.9, ls="--", label="chance")
    axis.legend(fontsize="x-small", loc="upper right")
    axis.set_ylim(0, 1.2 * max(metrics["eta_squared"]))  # room for the legend
    _number(axis, order)
    axis.set_ylabel(r"$\eta^2$")
    axis.set_title("posterior means between classes", fontsize="small")


def _number(axis, order: np.ndarray) -> None:
    size = "x-small" if len(order) <= 10 else "xx-small"
    turned = 90 if len(order) > 16 else 0  # else numbers of two digits run into each other
    axis.set_xticks(np.arange(len(order)), order + 1, fontsize=size, rotation=turned)
    axis.tick_params(axis="x", length=0)
    axis.set_xlabel("latent $q$")


def _class_densities(axis, metrics: dict, arrays: dict, symbol: str) -> None:
    """Draw the posterior draws of each class, of the latent that tells most about it."""
    q = int(np.argmax(metrics["eta_squared"]))
    draws, labels = arrays["posterior_draws"][..., q], arrays["labels"]
    names = np.unique(labels)
    for name, colour in zip(names, sns.color_palette("husl", len(names)), strict=True):
        own = draws[:, labels == name].ravel()
        if own.std() > 0:
            sns.kdeplot(x=own, ax=axis, color=colour, lw=1, cut=0, label=str(name))
    axis.set(yticks=[], ylabel="", xlabel=f"{symbol}, $q = {q + 1}$")
    axis.set_title("posterior draws by class", fontsize="small")
    axis.legend(
        fontsize="xx-small", handlelength=0.6, ncols=5, columnspacing=0.5, loc="upper center"
    )
    low, high = axis.get_ylim()
    axis.set_ylim(low, high * 1.35)  # room for the legend


def _shown_formulas(metrics: dict, order: np.ndarray) -> list[int]:
    """Return the rows of the latents that matter most, of the univariate prior all z_qp in them."""
    latents = [row["latent"] for row in metrics["formulas"]]
    rows = [k for q in order for k, latent in enumerate(latents) if latent[0] == q]
    return rows[:FORMULAS]


def _formula(axis, formula: dict, arrays: dict, row: int, colour) -> None:
    z, density = arrays["nodes"], arrays["node_density"][row]
    values, fitted = (arrays[name][row] for name in ("log_ratio", "fitted"))
    seen = density > SEEN * density.max()
    axis.plot(z, np.where(seen, values, np.nan), color=colour, lw=2)
    axis.plot(z, np.where(seen, fitted, np.nan), color="black", lw=0.9, ls="--")
    place = ",".join(str(number + 1) for number in formula["latent"])
    axis.set_title(
        f"$z_{{{place}}}$: {formula['form']}, error {formula['relative_error']:.0%}\n"
        + textwrap.fill(formula["formula"], 25),
        fontsize=6.5,
    )
    axis.set_xlabel("$z$")

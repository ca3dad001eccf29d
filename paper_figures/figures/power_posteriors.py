"""Figure `power_posteriors`: how a population of temperatures crosses between two modes."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from benchmark.config.config import Config
from paper_figures.base.artefact import Figure, Need
from paper_figures.base.frames import power_comparison
from paper_figures.base.style import FULL, model_colours, save_figure

FIGURE = Figure(
    "power_posteriors",
    needs=(Need("power", ("record", "arrays")),),
    caption="A posterior with two modes: power posteriors, temperature schedule, and a population "
    "against ULA at equal numbers of decoder passes.",
    category="Latents",
    applies=lambda config: bool(config.inspected_models),
)

NAMES = {"ula": "ULA alone", "population": "population"}
OVERLAP = 1.6  # of the rows of densities


def render(config: Config) -> None:
    """Draw the power posteriors, the schedule, and both samplers at equal decoder passes."""
    metrics, arrays = power_comparison(config)
    palette = model_colours(config)
    colours = {"ula": palette["kaem_ula"], "population": palette["kaem_thermo"]}
    figure = plt.figure(figsize=(FULL, 4.4))
    grid = figure.add_gridspec(2, 3, width_ratios=[1.15, 1, 1])
    shades = sns.blend_palette(["0.6", colours["population"]], len(arrays["temperatures"]))
    _densities(figure.add_subplot(grid[:, 0]), arrays, shades)
    _schedule(figure.add_subplot(grid[0, 1]), arrays, shades)
    _traces(figure.add_subplot(grid[0, 2]), arrays, colours)
    _masses(figure.add_subplot(grid[1, 1]), metrics, arrays, colours)
    _correlations(figure.add_subplot(grid[1, 2]), arrays, colours)
    handles = [plt.Line2D([], [], color=colours[name]) for name in NAMES]
    figure.legend(handles, NAMES.values(), loc="outside lower center", ncols=2)
    figure.suptitle("A posterior with two modes")
    save_figure(figure, FIGURE.paths(config.run))


def _densities(axis, arrays: dict, shades: list) -> None:
    """Draw one row per temperature: the truth as a line, the population filled."""
    middles = 0.5 * (arrays["bin_edges"][1:] + arrays["bin_edges"][:-1])
    height = OVERLAP / arrays["densities"].max()
    for k, density in enumerate(arrays["densities"]):
        order = {"zorder": len(arrays["temperatures"]) - k}
        axis.plot(arrays["grid"], k + height * density, color=shades[k], lw=1.2, **order)
        if k > 0:  # at t = 0 the population is the prior itself
            filled = k + height * arrays["histograms"][k - 1]
            axis.fill_between(middles, k, filled, color=shades[k], alpha=0.35, lw=0, **order)
    rows = np.arange(len(arrays["temperatures"]))
    axis.set_yticks(rows, [f"{t:.2g}" for t in arrays["temperatures"]])
    axis.tick_params(axis="y", length=0)
    axis.set(xlim=(-3.5, 3.5), xlabel="$z$", ylabel="temperature $t$")
    axis.spines["left"].set_visible(False)
    axis.set_title("$p_t(z|x)$, truth and population", fontsize="small")


def _schedule(axis, arrays: dict, shades: list) -> None:
    progress = np.linspace(0, 1, len(arrays["schedules"]))
    for temperatures, shade in zip(arrays["schedules"].T, shades, strict=True):
        axis.plot(progress, temperatures, color=shade, lw=1.2)
    axis.set(xlabel="progress of a training", ylabel="$t_k$", xlim=(0, 1))
    axis.set_title("temperatures, power annealed", fontsize="small")


def _traces(axis, arrays: dict, colours: dict) -> None:
    for name, colour in colours.items():
        axis.plot(arrays["passes"], arrays[f"trace_{name}"][:, 0], color=colour, lw=0.9)
    axis.axhline(0, color="0.8", lw=0.8, zorder=0)
    axis.set(xlabel="decoder passes", ylabel="$z$ at $t = 1$")
    axis.set_title("one chain of each", fontsize="small")


def _masses(axis, metrics: dict, arrays: dict, colours: dict) -> None:
    for name, colour in colours.items():
        mass = arrays[f"mass_{name}"]
        axis.plot(arrays["passes"], mass, color=colour, lw=1.2)
        error = 2 * metrics[f"mass_{name}_error"]
        axis.fill_between(arrays["passes"], mass - error, mass + error, color=colour, alpha=0.2)
    axis.axhline(metrics["mass_true"], color="black", lw=0.9, ls="--")
    axis.set(xlabel="decoder passes", ylabel="chains at $z > 0$")
    axis.set_title("right mode (dashed: truth)", fontsize="small")


def _correlations(axis, arrays: dict, colours: dict) -> None:
    for name, colour in colours.items():
        correlation = arrays[f"autocorrelation_{name}"]
        axis.plot(arrays["passes"][: len(correlation)], correlation, color=colour, lw=1.2)
    axis.axhline(0, color="0.8", lw=0.8, zorder=0)
    axis.set(xlabel="lag, decoder passes", ylabel="autocorrelation", ylim=(-0.1, 1.05))
    axis.set_title("autocorrelation of $z$", fontsize="small")

"""Figures `dependence_<dataset>_<model>`: how the latents of a KAEM with a copula depend."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import SubFigure

from benchmark.config.config import Config
from paper_figures.base.artefact import Figure, Need, has_copula
from paper_figures.base.frames import inspected_models, inspection
from paper_figures.base.style import (
    FULL,
    PRIOR_BEFORE,
    latent_symbol,
    model_colours,
    model_label,
    save_figure,
)

FIGURE = Figure(
    "dependence_{dataset}_{model}",
    needs=(Need("inspection", ("record", "arrays"), only=has_copula),),
    caption="How the latents depend on {dataset}: rank correlations of posterior draws, and of the "
    "prior with its copula (this suite's extension) and without; the pairs that tell most about "
    "one another, the prior as a density and posterior draws as points.",
    category="Latents",
)

SHARES, GREYS = (0.95, 0.8, 0.5), ("0.93", "0.82", "0.68")


def render(config: Config, dataset: str) -> None:
    """Draw a figure for each entry with a copula that was inspected, first seed."""
    for model in inspected_models(config, dataset, copula=True):
        _draw(config, dataset, model)


def _draw(config: Config, dataset: str, model: str) -> None:
    metrics, arrays = inspection(config, dataset, model)
    colour = model_colours(config)[model]
    figure = plt.figure(figsize=(FULL, 5))
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.2, 1])
    matrix, scatter = top.subplots(1, 2)
    _matrix(matrix, arrays)
    _scatter(scatter, arrays, metrics["dependence"], colour)
    _pairs(bottom, arrays, latent_symbol(config, model), colour)
    figure.suptitle(
        f"{config.facts(dataset).title}, {model_label(config, model)}", fontsize="medium"
    )
    save_figure(figure, FIGURE.paths(config.run, dataset=dataset, model=model))


def _matrix(axis: plt.Axes, arrays: dict) -> None:
    """Show the rank correlations, below the diagonal the posterior's, above it the copula's."""
    both = np.tril(arrays["rank_posterior"], -1) + np.triu(arrays["rank_copula"], 1)
    limit = np.abs(both).max()
    shown = axis.imshow(both, cmap="RdBu_r", vmin=-limit, vmax=limit)
    numbers = np.arange(0, len(both), -(-len(both) // 12))
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_ticks(numbers, numbers + 1, fontsize="x-small")
    axis.set(xlabel="latent $q$", ylabel="latent $q$")
    axis.set_title("rank correlations\nabove: copula; below: posterior draws", fontsize="small")
    axis.figure.colorbar(shown, ax=axis).ax.tick_params(labelsize="small")


def _scatter(axis: plt.Axes, arrays: dict, metrics: dict, colour) -> None:
    """Show each pair's rank correlation under both priors against the posterior's."""
    pairs = np.triu_indices(len(arrays["rank_copula"]), k=1)
    posterior, copula = (arrays[f"rank_{name}"][pairs] for name in ("posterior", "copula"))
    limit = 1.1 * max(np.abs(posterior).max(), np.abs(copula).max())
    ends = np.array([-limit, limit])
    error = 2 * metrics["rank_error"]
    band = {"color": "0.92", "lw": 0, "label": "two standard errors"}
    axis.fill_between(ends, ends - error, ends + error, **band)
    rows = {
        f"without the copula: rms difference {metrics['rank_rms']:.2f}": (0 * copula, PRIOR_BEFORE),
        f"with it: {metrics['rank_rms_difference']:.2f}": (copula, colour),
    }
    for label, (values, shade) in rows.items():
        axis.scatter(posterior, values, s=8, color=shade, label=label, lw=0)
    axis.set(xlabel="posterior draws", ylabel="prior", xlim=ends, ylim=ends * [1, 1.5])
    axis.set_title("rank correlations of all pairs", fontsize="small")
    axis.legend(fontsize="x-small", handletextpad=0.3, loc="upper left")


def _pairs(figure: SubFigure, arrays: dict, symbol: str, colour) -> None:
    """Show the density of pairs of latents by its smallest regions, and a posterior draw of each
    image."""
    pairs = arrays["pairs"]
    draws = arrays["posterior_draws"][-1]
    axes = figure.subplots(1, len(pairs), squeeze=False)[0]
    for axis, (i, j), density in zip(axes, pairs, arrays["pair_density"], strict=True):
        x, y = arrays["points"][i], arrays["points"][j]
        axis.contourf(x, y, density.T, [*_levels(density), np.inf], colors=GREYS)
        axis.scatter(draws[:, i], draws[:, j], s=3, lw=0, color=colour)
        axis.set(xlabel=f"${symbol}_{{{i + 1}}}$", ylabel=f"${symbol}_{{{j + 1}}}$")
        axis.set_title(f"mutual information {arrays['information'][i, j]:.2f}", fontsize="small")
    regions = ", ".join(f"{share:.0%}" for share in SHARES)
    figure.supxlabel(f"regions with {regions} of the prior, and posterior draws", fontsize="small")


def _levels(density: np.ndarray) -> list[float]:
    """Return the densities, on an even grid, above which `SHARES` of the mass lie."""
    falling = np.sort(density, axis=None)[::-1]
    mass = falling.cumsum() / falling.sum()
    return [float(falling[np.searchsorted(mass, share)]) for share in SHARES]

"""Figures `paths_<dataset>_<model>`: images on the way from one draw of the prior to another."""

import matplotlib.pyplot as plt
import numpy as np

from benchmark.config.config import Config
from paper_figures.base.artefact import Figure, Need
from paper_figures.base.frames import inspected_models, inspection
from paper_figures.base.style import (
    APART,
    FULL,
    GAP,
    model_label,
    save_figure,
    set_title,
    show_picture,
    spaced,
    tiled,
)

FIGURE = Figure(
    "paths_{dataset}_{model}",
    needs=(Need("inspection", ("record", "arrays")),),
    caption="Decoded images on {dataset} between pairs of prior draws: on an arc about the origin "
    "(slerp), which may leave the densities; with each latent evenly through its quantiles "
    "u = F(z), which stays on its density; and, with a copula (this suite's extension), evenly "
    "through its quantiles given the latents before it, which keeps their dependence too.",
    category="Latents",
)

WAYS = {
    "path_arc": "slerp",
    "path_quantiles": "quantiles",
    "path_conditional": "conditional\nquantiles",
}


def render(config: Config, dataset: str) -> None:
    """Draw a figure for each KAEM entry that was inspected, first seed.

    Raises:
        MissingError: an inspection by an earlier version went no such ways.
    """
    for model in inspected_models(config, dataset):
        _draw(config, dataset, model)


def _draw(config: Config, dataset: str, model: str) -> None:
    arrays = inspection(config, dataset, model, "path_arc")[1]
    ways = {name: label for name, label in WAYS.items() if name in arrays}
    pairs = np.stack([arrays[name] for name in ways], axis=1)  # (pairs, ways, k, C, H, W)
    pictures = [tiled(images) for images in pairs]
    picture = spaced(pictures, axis=0)
    tops = [(len(pictures[0]) + APART) * k for k in range(len(pictures))]
    height, width = pairs.shape[-2:]
    size = FULL * 0.88 * picture.shape[0] / picture.shape[1]
    figure, axis = plt.subplots(figsize=(FULL, size + 0.75))
    show_picture(axis, picture)
    rows = [top + (height + GAP) * k + height / 2 for top in tops for k in range(len(ways))]
    axis.set_yticks(rows, list(ways.values()) * len(tops), fontsize="small")
    columns = (width + GAP) * np.arange(pairs.shape[2]) + width / 2
    axis.set_xticks(columns[[0, -1]], ["a draw", "another"])
    title = (
        f"{config.facts(dataset).title}, {model_label(config, model)}: from a prior draw to another"
    )
    set_title(figure, title)
    save_figure(figure, FIGURE.paths(config.run, dataset=dataset, model=model))

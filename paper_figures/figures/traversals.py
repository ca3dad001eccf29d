"""Figures `traversals_<dataset>_<model>`: images along single latents, all others held."""

import matplotlib.pyplot as plt
import numpy as np

from benchmark.config.config import Config
from paper_figures.base.artefact import Figure, Need
from paper_figures.base.frames import inspected_models, inspection
from paper_figures.base.style import (
    FULL,
    GAP,
    model_label,
    save_figure,
    set_title,
    show_picture,
    tiled,
)

FIGURE = Figure(
    "traversals_{dataset}_{model}",
    needs=(Need("inspection", ("record", "arrays")),),
    caption="Decoded images on {dataset} as one latent moves through the quantiles of its prior, "
    "the others held at a prior draw; the latents that matter most, with their total Sobol index.",
    category="Latents",
)


def render(config: Config, dataset: str) -> None:
    """Draw a figure for each KAEM entry that was inspected, first seed and first prior draw."""
    for model in inspected_models(config, dataset):
        _draw(config, dataset, model)


def _draw(config: Config, dataset: str, model: str) -> None:
    metrics, arrays = inspection(config, dataset, model)
    images, moved = arrays["images"][0], arrays["moved"]  # (m, k, C, H, W), (m,)
    picture = tiled(images)
    rows, columns = images.shape[:2]
    height = FULL * 0.88 * picture.shape[0] / picture.shape[1]
    figure, axis = plt.subplots(figsize=(FULL, height + 0.75))
    show_picture(axis, picture)
    step_y, step_x = (side + GAP for side in images.shape[-2:])
    labels = [f"$q = {q + 1}$  ({metrics['sobol_total'][q]:.0%})" for q in moved]
    axis.set_yticks(step_y * np.arange(rows) + images.shape[-2] / 2, labels)
    shown = [0, columns // 2, columns - 1]
    axis.set_xticks(
        [step_x * k + images.shape[-1] / 2 for k in shown],
        [f"{quantile:.0%}" for quantile in arrays["quantiles"][shown]],
    )
    axis.set_xlabel("quantile of the latent's prior")
    set_title(
        figure,
        f"{config.facts(dataset).title}, {model_label(config, model)}: one latent moves, the "
        "others stay at a prior draw",
    )
    save_figure(figure, FIGURE.paths(config.run, dataset=dataset, model=model))

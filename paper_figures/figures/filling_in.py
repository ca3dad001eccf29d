"""Figures `filling_in_<dataset>_<model>`: images of which some latents are known."""

import matplotlib.pyplot as plt
import numpy as np

from benchmark.config.config import Config
from paper_figures.base.artefact import Figure, Need, has_copula
from paper_figures.base.frames import inspected_models, inspection
from paper_figures.base.style import (
    FULL,
    GAP,
    model_label,
    save_figure,
    show_picture,
    spaced,
    tiled,
)

FIGURE = Figure(
    "filling_in_{dataset}_{model}",
    needs=(Need("inspection", ("record", "arrays"), only=has_copula),),
    caption="Images of {dataset} of which the most telling latents are known, and the others drawn "
    "by the copula (this suite's extension) given these.",
    category="Latents",
)


def render(config: Config, dataset: str) -> None:
    """Draw a figure for each entry with a copula that was inspected, first seed."""
    for model in inspected_models(config, dataset, copula=True):
        _draw(config, dataset, model)


def _draw(config: Config, dataset: str, model: str) -> None:
    metrics, arrays = inspection(config, dataset, model)
    rows = _rows(arrays)
    picture = spaced([tiled(rows[:, image]) for image in range(rows.shape[1])], axis=1)
    height = FULL * 0.85 * picture.shape[0] / picture.shape[1]
    figure, axis = plt.subplots(figsize=(FULL, height + 0.6))
    show_picture(axis, picture)
    count = len(metrics["sobol_total"])
    labels = ["image", *(f"{number} known" for number in arrays["held"]), f"all {count}"]
    step = rows.shape[-2] + GAP
    axis.set_xticks([])
    axis.set_yticks(step * np.arange(len(rows)) + rows.shape[-2] / 2, labels)
    figure.suptitle(
        f"{config.facts(dataset).title}, {model_label(config, model)}\n"
        "the latents that matter most are known, the others drawn given these",
        fontsize="medium",
    )
    save_figure(figure, FIGURE.paths(config.run, dataset=dataset, model=model))


def _rows(arrays: dict) -> np.ndarray:
    """Return the images, the fillings for ever more known latents, and the posterior draws, in
    rows of as many drawings for each image: (rows, b, n, C, H, W)."""
    filled = arrays["filled"]
    single = np.full((2, *filled.shape[1:]), 255, np.uint8)  # of the others there is one each
    single[:, :, filled.shape[2] // 2] = arrays["filled_images"], arrays["filled_from"]
    return np.concatenate([single[:1], filled, single[1:]])

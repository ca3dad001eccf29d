"""Figures `components_<dataset>_<model>`: the components of a copula, decoded."""

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
    "components_{dataset}_{model}",
    needs=(Need("inspection", ("record", "arrays"), only=has_copula),),
    caption="The components of the copula (this suite's extension) on {dataset}, by weight: the "
    "decoded centre of each with the class that it holds most of, and draws from it alone.",
    category="Latents",
)

MOST, BLOCKS, DRAWS = 60, 3, 5  # components, side by side, draws of each


def render(config: Config, dataset: str) -> None:
    """Draw a figure for each entry with a copula that was inspected, first seed."""
    for model in inspected_models(config, dataset, copula=True):
        _draw(config, dataset, model)


def _draw(config: Config, dataset: str, model: str) -> None:
    _, arrays = inspection(config, dataset, model)
    weights = arrays["component_weights"]
    order = np.argsort(weights)[::-1][:MOST]
    rows = -(-len(order) // BLOCKS)
    figure, axes = plt.subplots(1, BLOCKS, figsize=(FULL, 0.29 * rows + 0.6))
    for axis, start in zip(axes, range(0, BLOCKS * rows, rows), strict=True):
        _block(axis, arrays, order[start : start + rows], rows)
    of = "" if len(order) == len(weights) else f", {len(order)} of {len(weights)} components"
    label = "weight and most frequent class" if "component_classes" in arrays else "weight"
    figure.suptitle(
        f"{config.facts(dataset).title}, {model_label(config, model)}{of}\n"
        f"{label}; the component's centre; draws from it alone",
        fontsize="medium",
    )
    save_figure(figure, FIGURE.paths(config.run, dataset=dataset, model=model))


def _block(axis: plt.Axes, arrays: dict, components: np.ndarray, rows: int) -> None:
    """Show some components below each other, each in a row, with room for so many rows."""
    images = [arrays["component_images"][:, None], arrays["component_draws"][:, :DRAWS]]
    height = images[0].shape[-2]
    shown = np.full((rows, 1 + DRAWS, *images[0].shape[2:]), 255, np.uint8)
    shown[: len(components)] = np.concatenate(images, axis=1)[components]
    show_picture(axis, spaced([tiled(shown[:, :1]), tiled(shown[:, 1:])], axis=1))
    axis.set_xticks([])
    places = (height + GAP) * np.arange(len(components)) + height / 2
    axis.set_yticks(places, [_label(arrays, k) for k in components], fontsize="x-small")


def _label(arrays: dict, k: int) -> str:
    weight = f"{arrays['component_weights'][k]:.1%}"
    classes = arrays.get("component_classes")
    if classes is None or not classes[k].any():  # no labels, or no image in this component
        return weight
    most, share = np.argmax(classes[k]), classes[k].max() / classes[k].sum()
    return f"{weight}\n{np.unique(arrays['labels'])[most]}: {share:.0%}"

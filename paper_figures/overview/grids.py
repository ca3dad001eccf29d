"""Samples of a run's models side by side, for its page."""

import base64
import io

import pandas as pd
from markupsafe import Markup
from PIL import Image

from benchmark.config.config import REAL, Config
from paper_figures.base.frames import values_of
from paper_figures.base.html import fill
from paper_figures.base.quality_panels import DISTANCES
from paper_figures.base.style import model_label
from paper_figures.figures.sample_grids import SIDE, first_samples, mosaic


def grids(config: Config, quality: pd.DataFrame) -> Markup:
    """Return a picture for each dataset and model, and what chooses those to see; at first the
    real images and of each family the model with the least distance."""
    pictures, models = [], {}
    for dataset in config.datasets:
        title = config.facts(dataset).title
        for model, images in first_samples(config, dataset, SIDE**2).items():
            label = models.setdefault(model, model_label(config, model))
            distance = _distance(quality, dataset, model)
            pictures.append(
                {
                    "dataset": title,
                    "model": model,
                    "label": label,
                    "distance": distance[1] if distance else "",
                    "alt": f"The first {len(images)} samples of {label}, {title}",
                    "png": _png(mosaic(images, SIDE)),
                }
            )
    return fill(
        "overview/grids.html",
        pictures=pictures,
        datasets=list(dict.fromkeys(picture["dataset"] for picture in pictures)),
        models=models,
        first=_first(config, quality, models),
        seed=config.seeds[0],
    )


def _distance(quality: pd.DataFrame, dataset: str, model: str) -> tuple[float, str] | None:
    """Return a model's mean distance, of the kind that was measured first, and its text."""
    for name, label in DISTANCES.items():
        values = values_of(quality, name, dataset=dataset, model=model)
        if len(values):
            return values.mean(), f"{label} {values.mean():.1f}"
    return None


def _first(config: Config, quality: pd.DataFrame, models: dict[str, str]) -> list[str]:
    """Return the models to see at first, judged by the first dataset."""
    best: dict[str, tuple[float, str]] = {}
    for model in models:
        if model != REAL:
            distance = _distance(quality, config.datasets[0], model)
            own = (distance[0] if distance else float("inf"), model)
            family = config.spec(model).family
            best[family] = min(best.get(family, own), own)
    return [REAL, *(model for _, model in best.values())]


def _png(picture) -> str:
    held = io.BytesIO()
    Image.fromarray(picture).save(held, "PNG", optimize=True)
    return base64.b64encode(held.getvalue()).decode()

"""Quality against time of a run's models, as a Vega-Lite plot for its page."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from benchmark.base.devices import DEVICE_LABELS
from benchmark.config.config import REAL, Config
from paper_figures.base.frames import select, values_of
from paper_figures.base.point_labels import apart
from paper_figures.base.quality_panels import DISTANCES
from paper_figures.base.style import model_colours, model_label

SPECIFICATION = Path(__file__).with_suffix(".json")
CHOICES = {
    "dataset": "Dataset",
    "device": "Device",
    "distance": "Distance",
    "batch": "Images in a batch",
}
LINES = 24  # of names that the plot's height has room for
SPAN = 0.3  # of the plot's width, that a name takes


def chart(config: Config, quality: pd.DataFrame, timing: pd.DataFrame) -> dict | None:
    """Return the plot's specification; None where no model was both timed and measured."""
    points = _points(config, quality, timing)
    if not points:
        return None
    models = list(dict.fromkeys(point["model"] for point in points))
    colours = {model_label(config, m): to_hex(c) for m, c in model_colours(config).items()}
    chosen = " && ".join(f"datum.{name} === {name}" for name in CHOICES)
    plot = json.loads(SPECIFICATION.read_text(encoding="utf-8"))
    scale = {"domain": models, "range": [colours[model] for model in models]}
    plot["encoding"]["color"]["scale"] = scale
    return plot | {
        "data": {"values": points},
        "params": [_choice(name, label, points) for name, label in CHOICES.items()],
        "transform": [{"filter": chosen}],
    }


def untimed(config: Config, quality: pd.DataFrame, timing: pd.DataFrame) -> list[str]:
    """Return the models that were measured, but not timed."""
    timed = set(timing["model"]) if len(timing) else set()
    measured = set(quality["model"]) if len(quality) else set()
    return [model_label(config, m) for m in config.models if m in measured - timed]


def _choice(name: str, label: str, points: list[dict]) -> dict:
    """Return a parameter with a list to choose from; at first the first, and of batches the largest
    of those that most models were timed with."""
    counts = Counter(point[name] for point in points)
    first = next(iter(counts))
    if name == "batch":
        first = max(counts, key=lambda size: (counts[size], size))
    bind = {"input": "select", "options": list(counts), "name": label, "element": "#chart-choices"}
    return {"name": name, "value": first, "bind": bind}


def _points(config: Config, quality: pd.DataFrame, timing: pd.DataFrame) -> list[dict]:
    """Return a point for each model, dataset, device, distance and size of batch."""
    times = select(timing, part="images", mode="eager", left_out="")
    points = []
    for (dataset, model), rows in (
        times.groupby(["dataset", "model"], sort=False) if len(times) else ()
    ):
        for name, label in DISTANCES.items():
            values = values_of(quality, name, dataset=dataset, model=model)
            real = values_of(quality, name, dataset=dataset, model=REAL)
            if len(values):
                point = {
                    "dataset": config.facts(dataset).title,
                    "distance": label,
                    "model": model_label(config, model),
                    "family": config.spec(model).family,
                    "mean": values.mean(),
                    "low": values.min(),
                    "high": values.max(),
                    "real": real.mean() if len(real) else None,
                }
                points += [point | _time(row) for row in rows.to_dict("records")]
    for _, together in pd.DataFrame(points).groupby(list(CHOICES)) if points else ():
        for place, height in _spread(together):
            points[place]["label"] = float(height)
    return points


def _time(row: dict) -> dict:
    device, size = DEVICE_LABELS[row["device"]], row["batch_size"]
    return {"device": device, "batch": size, "ms": row["median"] / size}


def _spread(points: pd.DataFrame) -> Iterator[tuple[int, float]]:
    """Give how high the name of each point stands: as near to its point as the names of its
    neighbours to the left and right leave room."""
    x, y = np.log(points["ms"]), np.log(points["mean"])
    seen = np.log(points[["low", "high", "real"]].astype(float).stack())
    line = (seen.max() - seen.min()) / LINES
    alone = x.sort_values().diff() > SPAN * (x.max() - x.min())
    for _, neighbours in alone.groupby(alone.cumsum()):
        own = y[neighbours.index]
        heights = apart(own.to_numpy(), line, -np.inf, np.inf)
        yield from zip(own.index, np.exp(heights), strict=True)

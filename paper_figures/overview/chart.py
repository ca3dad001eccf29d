"""Quality against time of a run's models, as a Vega-Lite plot for its page."""

from collections import Counter

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from benchmark.base.devices import DEVICE_LABELS
from benchmark.config.config import REAL, Config
from paper_figures.base.frames import select, values_of
from paper_figures.base.quality_panels import DISTANCES
from paper_figures.base.style import model_colours, model_label

SHAPES = {"kaem": "circle", "vae": "square", "ebm": "triangle-up", "diffusion": "diamond"}
CHOICES = {
    "dataset": "Dataset",
    "device": "Device",
    "distance": "Distance",
    "batch": "Images in a batch",
}
LINES = 24  # of names that the plot's height has room for
SPAN = 0.3  # of the plot's width, that a name takes
NARROW = 620  # pixels, below which names beside the points would overlap


def chart(config: Config, quality: pd.DataFrame, timing: pd.DataFrame) -> dict | None:
    """Return the plot's specification; None where no model was both timed and measured."""
    points = _points(config, quality, timing)
    if not points:
        return None
    models = list(dict.fromkeys(point["model"] for point in points))
    colours = {model_label(config, m): to_hex(c) for m, c in model_colours(config).items()}
    params = [_choice(name, label, points) for name, label in CHOICES.items()]
    chosen = " && ".join(f"datum.{name} === {name}" for name in CHOICES)
    legend = {"columns": {"expr": f"width < {NARROW} ? 2 : 4"}, "orient": "bottom", "title": None}
    colour = {
        "field": "model",
        "type": "nominal",
        "scale": {"domain": models, "range": [colours[model] for model in models]},
        "legend": legend | {"labelLimit": {"expr": f"width < {NARROW} ? 130 : 260"}},
    }
    faded = {"condition": {"param": "named", "value": 1}, "value": 0.15}
    log = {"type": "quantitative", "scale": {"type": "log", "nice": False, "padding": 24}}
    few = {"axis": {"tickCount": 6}}
    x = log | few | {"field": "ms", "title": "ms per image"}
    y = log | few | {"title": "distance to real images, lower is better"}
    tooltip = [
        {"field": "model", "title": "Model"},
        {"field": "ms", "title": "ms per image", "format": ".3g"},
        {"field": "mean", "title": "Distance, mean of the seeds", "format": ".4g"},
        {"field": "low", "title": "least", "format": ".4g"},
        {"field": "high", "title": "most", "format": ".4g"},
    ]
    return {
        "description": "Distance of samples against the time of an image, a point for each model. "
        "The tables of quality and of times hold the same numbers.",
        "width": "container",
        "height": 420,
        "autosize": {"type": "fit", "contains": "padding"},
        "background": None,
        "data": {"values": points},
        "params": params,
        "transform": [{"filter": chosen}],
        "encoding": {"x": x, "opacity": faded},
        "layer": [
            {
                "mark": {"type": "rule", "strokeDash": [3, 3], "color": "currentColor"},
                "encoding": {
                    "x": {},
                    "y": y | {"field": "real", "aggregate": "mean"},
                    "opacity": {"value": 0.6},
                },
            },
            {
                "mark": {"type": "rule", "strokeWidth": 1.5},
                "encoding": {"y": y | {"field": "low"}, "y2": {"field": "high"}, "color": colour},
            },
            {
                "params": [
                    {
                        "name": "named",
                        "select": {"type": "point", "fields": ["model"]},
                        "bind": "legend",
                    }
                ],
                "mark": {
                    "type": "point",
                    "filled": True,
                    "size": 90,
                    "stroke": "currentColor",
                    "strokeWidth": 0.6,
                },
                "encoding": {
                    "y": y | {"field": "mean"},
                    "color": colour,
                    "shape": {
                        "field": "family",
                        "type": "nominal",
                        "scale": {"domain": list(SHAPES), "range": list(SHAPES.values())},
                        "legend": None,
                    },
                    "tooltip": tooltip,
                },
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 12, "fontSize": 11},
                "transform": [{"filter": f"width >= {NARROW}"}],
                "encoding": {
                    "y": y | {"field": "label"},
                    "text": {"field": "model"},
                    "color": {"value": "currentColor"},
                },
            },
        ],
        "config": {
            "font": "system-ui, sans-serif",
            "axis": {
                "labelColor": "currentColor",
                "titleColor": "currentColor",
                "domainColor": "currentColor",
                "tickColor": "currentColor",
                "gridColor": "#88888844",
            },
            "legend": {"labelColor": "currentColor", "symbolType": "circle"},
            "view": {"stroke": None},
        },
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
        for place, height in _spread(together).items():
            points[place]["label"] = height
    return points


def _time(row: dict) -> dict:
    device, size = DEVICE_LABELS[row["device"]], row["batch_size"]
    return {"device": device, "batch": size, "ms": row["median"] / size}


def _spread(points: pd.DataFrame) -> dict[int, float]:
    """Return how high the name of each point stands: at the point, or just above the name below it
    where the two would overlap."""
    x, y = np.log(points["ms"]), np.log(points["mean"])
    seen = np.log(points[["low", "high", "real"]].stack())
    line = (seen.max() - seen.min()) / LINES
    heights: dict[int, float] = {}
    for place in y.sort_values().index:
        width = SPAN * (x.max() - x.min())
        below = [height for other, height in heights.items() if abs(x[other] - x[place]) <= width]
        heights[place] = max([y[place], *(height + line for height in below)])
    return {place: float(np.exp(height)) for place, height in heights.items()}

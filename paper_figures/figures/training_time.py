"""Figure `training_time`: sample quality against the time that training took, by dataset."""

from functools import partial

import pandas as pd

from benchmark.config.config import Config
from paper_figures.base.artefact import Figure, Need
from paper_figures.base.frames import select, training_records
from paper_figures.base.quality_panels import draw_panels
from paper_figures.base.style import save_figure

FIGURE = Figure(
    "training_time",
    needs=(Need("training"), Need("metrics")),
    caption="Sample quality against the seconds of training, as it ran beside whatever else the "
    "machine did. Points are means over the seeds, bars their range; a line joins numbers of "
    "updates of one model; the dotted line is that of real images.",
    category="Quality",
)


def render(config: Config) -> None:
    """Draw distances against seconds of training."""
    costs_of = partial(training_seconds, training_records(config))
    figure = draw_panels(config, "Quality against training time", costs_of, wide=True)
    save_figure(figure, FIGURE.paths(config.run))


def training_seconds(
    training: pd.DataFrame, dataset: str, models: list[str]
) -> tuple[dict[str, float], str]:
    """Return the seconds of each model that was trained, means over the seeds; and their name."""
    rows = {model: select(training, dataset=dataset, model=model) for model in models}
    means = {model: frame["seconds"].mean() for model, frame in rows.items() if len(frame)}
    return means, "seconds of training"

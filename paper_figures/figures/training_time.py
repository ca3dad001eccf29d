"""Figure `training_time_<device>`: sample quality against the time of training, by dataset."""

from functools import partial

import pandas as pd

from benchmark.base.devices import DEVICE_LABELS
from benchmark.config.config import Config
from paper_figures.base.artefact import Figure, Need
from paper_figures.base.frames import select, timing_records, training_records
from paper_figures.base.quality_panels import draw_panels
from paper_figures.base.style import save_figure

FIGURE = Figure(
    "training_time_{device}",
    needs=(Need("timing"), Need("training"), Need("metrics")),
    caption="Sample quality against the time of training: the number of updates times the median "
    "time of one, for which all models took turns on one machine. Points are means over the seeds, "
    "bars their range; a line joins numbers of updates of one model; the dotted line is that of "
    "real images. Circles are KAEM, squares VAEs, triangles energy-based, diamonds diffusion.",
    category="Quality",
)


def render(config: Config, device: str) -> None:
    """Draw distances against seconds of training."""
    updates = select(timing_records(config), device=device, part="update", left_out="")
    times = partial(training_times, config, updates, training_records(config))
    title = f"Quality against training time, {DEVICE_LABELS[device]}"
    figure = draw_panels(config, title, times, columns=1)
    save_figure(figure, FIGURE.paths(config.run, device=device))


def training_times(
    config: Config, updates: pd.DataFrame, training: pd.DataFrame, dataset: str, models: list[str]
) -> tuple[dict[str, float], str]:
    """Return the seconds of the updates of each model that was trained and whose update was timed,
    and what to call them; an entry that uses the weights of another has that one's."""
    times = {}
    for model in models:
        trained = select(training, dataset=dataset, model=model)
        timed = select(updates, dataset=dataset, model=config.trained_entry(model))
        if len(trained) and len(timed):
            times[model] = trained["updates"].iloc[0] * timed["median"].iloc[0] / 1000
    return times, "seconds: updates times the median time of one"

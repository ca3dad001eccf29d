"""Figure `tradeoff_<device>`: sample quality against the time that a sample takes, by dataset."""

from functools import partial

import pandas as pd

from benchmark.base.devices import DEVICE_LABELS
from benchmark.config.config import Config
from paper_figures.base.artefact import Figure, Need
from paper_figures.base.frames import select, timing_records
from paper_figures.base.quality_panels import draw_panels
from paper_figures.base.style import save_figure

FIGURE = Figure(
    "tradeoff_{device}",
    needs=(Need("timing"), Need("metrics")),
    caption="Sample quality against the time per image. Points are means over the seeds, bars "
    "their range; the dotted line is that of real images. Circles are KAEM, squares VAEs, "
    "triangles energy-based, diamonds diffusion.",
    category="Quality",
)


def render(config: Config, device: str) -> None:
    """Draw distances against median milliseconds per image."""
    timing = select(timing_records(config), device=device, part="images", mode="eager", left_out="")
    title = f"Quality against time, {DEVICE_LABELS[device]}"
    figure = draw_panels(config, title, partial(image_times, timing))
    save_figure(figure, FIGURE.paths(config.run, device=device))


def image_times(
    timing: pd.DataFrame, dataset: str, models: list[str]
) -> tuple[dict[str, float], str]:
    """Return the milliseconds per image of each model that was timed, at the largest batch that
    all of them were timed with; and what to call them."""
    rows = {model: select(timing, dataset=dataset, model=model) for model in models}
    medians = {
        model: frame.set_index("batch_size")["median"]
        for model, frame in rows.items()
        if len(frame)
    }
    sizes = [set(times.index) for times in medians.values()]
    shared = set.intersection(*sizes) if sizes else set()
    if not shared:
        return {}, ""
    size = max(shared)
    times = {model: series[size] / size for model, series in medians.items()}
    return times, f"ms per image, in batches of {size:,}"

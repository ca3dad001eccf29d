"""Figure `tradeoff_<device>`: sample quality against the time that a sample takes, by dataset."""

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmark.base.devices import DEVICE_LABELS
from benchmark.config.config import REAL, Config
from paper_figures.base.artefact import Figure, Need
from paper_figures.base.frames import quality_records, select, timing_records, values_of
from paper_figures.base.point_labels import name_points
from paper_figures.base.style import (
    FULL,
    dataset_label,
    fix_layout,
    model_colours,
    model_label,
    save_figure,
)

FIGURE = Figure(
    "tradeoff_{device}",
    needs=(Need("timing"), Need("metrics")),
    caption="Sample quality against the time per image. Points are means over the seeds, bars "
    "their range; the dotted line is that of real images.",
    category="Quality",
)

DISTANCES = {"fid": "FID", "fd_classifier": "FD-classifier"}  # the first that was measured
MOST_COLUMNS = 2
MARGIN = 0.03  # of the axis of times on either side, beyond matplotlib's
MARKERS = {"kaem": "o", "vae": "s", "ebm": "^", "diffusion": "D"}


def render(config: Config, device: str) -> None:
    """A point per model: median milliseconds per image at the largest batch that every model was
    timed with, and the mean distance with its range over the seeds. Both axes are logarithmic."""
    quality, timing = quality_records(config), timing_records(config)
    columns = min(len(config.datasets), MOST_COLUMNS)
    rows = -(-len(config.datasets) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(FULL, 3.5 * rows), squeeze=False)
    named = {}
    for axis, dataset in zip(axes.flat, config.datasets, strict=False):
        points, name, batch_size = _points(config, quality, timing, dataset, device)
        for model, point in points.items():
            _draw(axis, config, model, point)
        named[axis] = (
            [model_label(config, model) for model in points],
            [(milliseconds, distances.mean()) for milliseconds, distances in points.values()],
        )
        floor = values_of(quality, name, dataset=dataset, model=REAL)
        if points and len(floor):
            axis.axhline(floor.mean(), color="0.6", lw=1, ls=":", zorder=0)
            axis.annotate(
                "real images",
                (1, floor.mean()),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                fontsize="x-small",
                color="0.4",
            )
        _finish(axis, config, dataset, points, name, batch_size)
    _scale([axis for axis in axes.flat if axis.get_xscale() == "log"])
    for axis in axes.flat[len(config.datasets) :]:
        axis.set_visible(False)
    figure.suptitle(f"Quality against time, {DEVICE_LABELS[device]}")
    fix_layout(figure)
    for axis, (names, places) in named.items():
        name_points(axis, names, places)
    save_figure(figure, FIGURE.paths(config.run, device=device))


def _points(config, quality, timing, dataset: str, device: str):
    """{model: (ms per image, distances of the seeds)}, the distance's name and the batch size."""
    timed = select(timing, dataset=dataset, device=device, part="images", mode="eager")
    timed = timed[timed["left_out"] == ""] if len(timed) else timed
    name = next((n for n in DISTANCES if len(values_of(quality, n, dataset=dataset))), None)
    found = {}
    for model in config.evaluated_models:
        rows = select(timed, model=model)
        distances = values_of(quality, name, dataset=dataset, model=model)
        if len(rows) and len(distances):
            found[model] = (rows.set_index("batch_size")["median"], distances)
    sizes = [set(times.index) for times, _ in found.values()]
    shared = set.intersection(*sizes) if sizes else set()
    if not shared:
        return {}, name, None
    size = max(shared)
    points = {model: (times[size] / size, distances) for model, (times, distances) in found.items()}
    return points, name, size


def _draw(axis, config: Config, model: str, point) -> None:
    milliseconds, distances = point
    mean = distances.mean()
    axis.errorbar(
        [milliseconds],
        [mean],
        yerr=[[mean - distances.min()], [distances.max() - mean]],
        fmt=MARKERS[config.spec(model).family],
        ms=6,
        capsize=2,
        color=model_colours(config)[model],
        mec="white",
        mew=0.5,
    )


def _finish(axis, config: Config, dataset: str, points, name, batch_size) -> None:
    axis.set_title(dataset_label(config, dataset), fontsize="medium")
    if not points:
        axis.text(0.5, 0.5, "not measured", ha="center", transform=axis.transAxes, color="0.4")
        axis.set(xticks=[], yticks=[])
        return
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(f"ms per image, in batches of {batch_size:,}")
    axis.set_ylabel(f"{DISTANCES[name]}, lower is better")


def _scale(measured: list) -> None:
    """One range of times for all panels, lest a spread of noise look like one of speed."""
    if not measured:
        return
    lows, highs = zip(*(axis.get_xlim() for axis in measured), strict=True)
    low, high = min(lows), max(highs)
    # Of the whole range: the margin of a panel with a small one would cut its markers.
    margin = (high / low) ** MARGIN
    for axis in measured:
        axis.set_xlim(low / margin, high * margin)
        _plain_ticks(axis.xaxis)
        _plain_ticks(axis.yaxis)


def _plain_ticks(scale) -> None:
    """Numbers without powers of ten, which overlap where an axis spans a decade or less."""
    low, high = scale.get_view_interval()
    scale.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    scale.set_minor_formatter(NullFormatter())

"""Table and figure `scaling`: how cost grows, from what `make scaling` measured; and figure
`cost_of_size`: what four models cost at the same numbers of latents, and a population."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from benchmark.base.devices import DEVICE_LABELS
from paper_figures.base.artefact import Figure, Table
from paper_figures.base.devices import machine_notes
from paper_figures.base.quality_panels import plain_ticks
from paper_figures.base.style import FULL, LOOKS, Contents, save_figure

FIGURE = Figure("scaling")
COSTS = Figure("cost_of_size")
TABLE = Table("scaling", formats=("csv", "md", "tex"))

UPPER = 3  # values at the upper end, where the fixed cost counts least
COLUMNS = 4
SMALLEST_RANGE = 30  # of an axis, so that a flat line looks flat
SIZES = {"Q": "number of latents $Q$", "N_t": "temperatures $N_t$"}
STYLES = {"cpu": "-", "cuda": "--"}
MARKERS = dict(
    zip(("kaem_is", "kaem_ula", "kaem_thermo", "vae", "latent_ebm"), "ov^sD", strict=True)
)


def exponent(values: list[float], seconds: list[float]) -> float:
    """Return k of cost ~ size^k over the largest values, by least squares of the logarithms."""
    return float(np.polyfit(np.log(values[-UPPER:]), np.log(seconds[-UPPER:]), 1)[0])


def render(records: dict[str, dict]) -> None:
    """Write tables/scaling.{csv,md,tex}, figures/scaling.{pdf,png} and, where models were measured
    beside one another, figures/cost_of_size.{pdf,png}.

    Args:
        records: what `benchmark.timing.scaling` measured, by device; at least one.
    """
    rows = [
        sweep | {"device": device, "exponent": exponent(sweep["values"], _costs(sweep))}
        for device, record in records.items()
        for sweep in record["sweeps"]
    ]
    _write_table(rows, records)
    _draw([row for row in rows if not row.get("model")])
    compared = [row for row in rows if row.get("model")]
    if compared:
        _draw_costs(compared)


def _costs(sweep: dict) -> list[float]:
    return sweep["seconds"] if "seconds" in sweep else sweep["bytes"]


def _write_table(rows: list[dict], records: dict[str, dict]) -> None:
    values, cells = [], {}
    for row in rows:
        unit = "seconds" if "seconds" in row else "bytes"
        for value, cost in zip(row["values"], row[unit], strict=True):
            names = {key: row[key] for key in ("device", "what", "size", "expected", "exponent")}
            values.append(names | {"value": value, unit: cost})
        cell = cells.setdefault(
            (row["what"], row["size"]),
            {
                "What": row["what"],
                "Grows": row["size"],
                "From, to": f"{row['values'][0]:,} to {row['values'][-1]:,}",
                "Expected": str(row["expected"]),
                **dict.fromkeys(DEVICE_LABELS.values(), ""),
                "Why": row["why"],
            },
        )
        cell[DEVICE_LABELS[row["device"]]] = f"{row['exponent']:.2f}"
    notes = [
        "Exponents k of cost ~ size^k: expected for large sizes, and fitted to the three largest "
        "measured ones. Empty: not measured."
    ]
    notes += machine_notes(records)
    contents = Contents(pd.DataFrame(values), pd.DataFrame(cells.values()), notes)
    contents.save(TABLE.paths("scaling"))


def _draw(rows: list[dict]) -> None:
    panels = list(dict.fromkeys((row["what"], row["size"]) for row in rows))
    lines = -(-len(panels) // COLUMNS)
    figure, axes = plt.subplots(lines, COLUMNS, figsize=(FULL, 1.6 * lines), squeeze=False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        _panel(axis, [row for row in rows if (row["what"], row["size"]) == panel])
    for axis in axes[:, 0]:
        axis.set_ylabel("ms", fontsize="small", labelpad=1)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    save_figure(figure, FIGURE.paths("scaling"))


def _panel(axis, rows: list[dict]) -> None:
    """Draw measured times, and dotted the expected slope through the last of them."""
    colours = dict(zip(DEVICE_LABELS, sns.color_palette("colorblind"), strict=False))
    for row in rows:
        values, times = np.array(row["values"], float), 1e3 * np.array(row["seconds"])
        label = f"{DEVICE_LABELS[row['device']]}: {row['exponent']:.2f}"
        colour = colours[row["device"]]
        axis.plot(values, times, "o-", ms=3, lw=1, color=colour, label=label)
        slope = times[-1] * (values / values[-1]) ** row["expected"]
        axis.plot(values, slope, ":", lw=1, color="0.5", zorder=0)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    centre, half = np.sqrt(low * high), max(np.sqrt(high / low), SMALLEST_RANGE**0.5)
    axis.set_ylim(centre / half, centre * half)
    axis.yaxis.set_minor_formatter(NullFormatter())
    shown = values if len(values) < 5 else values[::2]
    axis.set_xticks(shown, [f"{value:g}" for value in shown])
    axis.tick_params(labelsize="x-small")
    what, size = rows[0]["what"], rows[0]["size"]
    axis.set_title(what.replace(", ", ",\n"), fontsize="x-small")
    axis.set_xlabel(size, fontsize="small", labelpad=1)
    axis.legend(fontsize="x-small", handlelength=1, borderpad=0.1, loc="best")


def _draw_costs(rows: list[dict]) -> None:
    """Draw a column per cost, and a row per size that grows, with a line per model and device."""
    costs = list(dict.fromkeys(row["cost"] for row in rows))
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    shape = {"figsize": (FULL, 1.9 * len(sizes) + 0.7), "squeeze": False}
    figure, axes = plt.subplots(len(sizes), len(costs), **shape)
    for line, size in zip(axes, sizes, strict=True):
        for axis, cost in zip(line, costs, strict=True):
            _cost_panel(axis, [row for row in rows if (row["size"], row["cost"]) == (size, cost)])
            axis.set_title(cost, fontsize="small")
            axis.set_xlabel(SIZES[size], fontsize="small")
    handles = {
        LOOKS[model].label: plt.Line2D(
            [], [], color=LOOKS[model].colour, marker=MARKERS[model], ms=4, lw=1
        )
        for model in dict.fromkeys(row["model"] for row in rows)
    }
    devices = list(dict.fromkeys(row["device"] for row in rows))
    for device in devices if len(devices) > 1 else []:
        handles[DEVICE_LABELS[device]] = plt.Line2D([], [], color="0.4", ls=STYLES[device], lw=1)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
    save_figure(figure, COSTS.paths("scaling"))


def _cost_panel(axis: Axes, rows: list[dict]) -> None:
    in_bytes = "bytes" in rows[0]
    for row in rows:
        costs = np.array(_costs(row)) * (1e-6 if in_bytes else 1e3)
        look = {"color": LOOKS[row["model"]].colour, "ls": STYLES[row["device"]]}
        axis.plot(row["values"], costs, marker=MARKERS[row["model"]], ms=4, lw=1, **look)
    if len({row["model"] for row in rows}) > 1:
        axis.set_yscale("log")
        plain_ticks(axis.yaxis)
    else:
        axis.set_ylim(0, 1.1 * axis.dataLim.y1)
    axis.set_xticks(rows[0]["values"])
    axis.set_ylabel("MB" if in_bytes else "ms", fontsize="small", labelpad=1)
    axis.tick_params(labelsize="x-small")

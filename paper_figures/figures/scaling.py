"""Table and figure `scaling`: how cost grows, from what `make scaling` measured."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import NullFormatter

from benchmark.base.devices import DEVICE_LABELS
from paper_figures.base.artefact import Figure, Table
from paper_figures.base.devices import machine_notes
from paper_figures.base.style import FULL, save_figure, save_table

FIGURE = Figure("scaling")
TABLE = Table("scaling", formats=("csv", "md", "tex"))

UPPER = 3  # values at the upper end, where the fixed cost counts least
COLUMNS = 4
SMALLEST_RANGE = 30  # of an axis, so that a flat line looks flat


def exponent(values: list[float], seconds: list[float]) -> float:
    """Return k of cost ~ size^k over the largest values, by least squares of the logarithms."""
    return float(np.polyfit(np.log(values[-UPPER:]), np.log(seconds[-UPPER:]), 1)[0])


def render(records: dict[str, dict]) -> None:
    """Write tables/scaling.{csv,md,tex} and figures/scaling.{pdf,png}.

    Args:
        records: what `benchmark.timing.scaling` measured, by device; at least one.
    """
    rows = [
        sweep | {"device": device, "exponent": exponent(sweep["values"], sweep["seconds"])}
        for device, record in records.items()
        for sweep in record["sweeps"]
    ]
    _write_table(rows, records)
    _draw(rows)


def _write_table(rows: list[dict], records: dict[str, dict]) -> None:
    values, cells = [], {}
    for row in rows:
        for value, seconds in zip(row["values"], row["seconds"], strict=True):
            names = {key: row[key] for key in ("device", "what", "size", "expected", "exponent")}
            values.append(names | {"value": value, "seconds": seconds})
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
    save_table(pd.DataFrame(values), pd.DataFrame(cells.values()), notes, TABLE.paths("scaling"))


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
        label, colour = (
            f"{DEVICE_LABELS[row['device']]}: {row['exponent']:.2f}",
            colours[row["device"]],
        )
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

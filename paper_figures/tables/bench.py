"""Tables `bench` and `gains`: what `make bench` measured beside what was promised or predicted."""

import sys
from collections.abc import Callable

import pandas as pd

from benchmark.base.devices import DEVICE_LABELS
from benchmark.base.process import exit_code
from paper_figures.base.devices import machine_notes, read_by_device
from paper_figures.base.style import write_table

RUN = "bench"


def render(records: dict[str, dict]) -> None:
    """Write tables/bench.{csv,md,tex} and tables/gains.{csv,md,tex}.

    Args:
        records: what `benchmark.timing.bench` measured, by device; at least one.
    """
    judged = ("at_least", "promised", "met")
    _write("bench", "promises", records, {"Target": _target}, _judged, judged)
    predicted = {"Predicted": lambda row: f"{row['target']:g}"}
    _write("gains", "gains", records, predicted, lambda row: f"{row['ratio']:.3g}")


def _write(
    table: str,
    kind: str,
    records: dict[str, dict],
    columns: dict,
    cell: Callable[[dict], str],
    numbers: tuple[str, ...] = (),
) -> None:
    """Rows of several devices are matched by what they are.

    Args:
        columns: by heading, the text of a row before the devices' cells.
        numbers: what the csv has beside what every kind has.
    """
    rows = {
        device: {row["what"]: row for row in record[kind]} for device, record in records.items()
    }
    kinds = {what: row for each in rows.values() for what, row in each.items()}
    cells = []
    for what, row in kinds.items():
        line = {"What": what} | {name: text(row) for name, text in columns.items()}
        for device, label in DEVICE_LABELS.items():
            measured = rows.get(device, {}).get(what, {})
            absent = "" if device in rows else f"no {label}"
            line[label] = cell(measured) if "ratio" in measured else absent
        cells.append(line)
    kept = ("what", "target", "ratio", "quartiles", "turns", "seconds", "bytes", *numbers)
    values = [
        {"device": device} | {name: row[name] for name in kept if name in row}
        for device, each in rows.items()
        for row in each.values()
        if "ratio" in row
    ]
    write_table(pd.DataFrame(values), pd.DataFrame(cells), RUN, table, machine_notes(records))


def _target(row: dict) -> str:
    return f"{'>=' if row['at_least'] else '<='} {row['target']:g}"


def _judged(row: dict) -> str:
    judged = ("met" if row["met"] else "MISSED") if row["promised"] else "no target here"
    spread = " ({:.3g} to {:.3g})".format(*row["quartiles"]) if "quartiles" in row else ""
    return f"{row['ratio']:.3g}{spread}, {judged}"


if __name__ == "__main__":
    sys.exit(exit_code(lambda: render(read_by_device(RUN))))

"""Table `bench`: what `make bench` measured beside what was promised."""

import sys

import pandas as pd

from benchmark.base.devices import DEVICE_LABELS
from benchmark.base.process import exit_code
from paper_figures.base.devices import machine_notes, read_by_device
from paper_figures.base.style import write_table

RUN = "bench"
MEASURED = ("what", "target", "ratio", "quartiles", "turns", "seconds", "bytes")
COLUMNS = (*MEASURED, "at_least", "promised", "met")


def render(records: dict[str, dict]) -> None:
    """Write tables/bench.{csv,md,tex}; rows of several devices are matched by what they are.

    Args:
        records: what `benchmark.timing.bench` measured, by device; at least one.
    """
    rows = {
        device: {row["what"]: row for row in record["promises"]}
        for device, record in records.items()
    }
    promises = {what: row for each in rows.values() for what, row in each.items()}
    cells = []
    for what, row in promises.items():
        line = {"What": what, "Target": f"{'>=' if row['at_least'] else '<='} {row['target']:g}"}
        for device, label in DEVICE_LABELS.items():
            measured = rows.get(device, {}).get(what, {})
            absent = "" if device in rows else f"no {label}"
            line[label] = _judged(measured) if "ratio" in measured else absent
        cells.append(line)
    values = [
        {"device": device} | {name: row[name] for name in COLUMNS if name in row}
        for device, each in rows.items()
        for row in each.values()
        if "ratio" in row
    ]
    write_table(pd.DataFrame(values), pd.DataFrame(cells), RUN, "bench", machine_notes(records))


def _judged(row: dict) -> str:
    judged = ("met" if row["met"] else "MISSED") if row["promised"] else "no target here"
    spread = " ({:.3g} to {:.3g})".format(*row["quartiles"]) if "quartiles" in row else ""
    return f"{row['ratio']:.3g}{spread}, {judged}"


if __name__ == "__main__":
    sys.exit(exit_code(lambda: render(read_by_device(RUN))))

"""Table `bench`: what `make bench` measured beside what was promised."""

import pandas as pd

from benchmark.base.devices import DEVICE_LABELS
from paper_figures.base.artefact import Table
from paper_figures.base.devices import machine_notes
from paper_figures.base.style import Contents

TABLE = Table("bench", formats=("csv", "md", "tex"))

MEASURED = ("what", "target", "ratio", "quartiles", "turns", "seconds", "bytes", "operations")
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
    promises: dict[str, dict] = {}
    for own in rows.values():
        promises |= {what: row for what, row in own.items() if what not in promises}
    cells = []
    for what, row in promises.items():
        line = {"What": what, "Target": f"{'>=' if row['at_least'] else '<='} {row['target']:g}"}
        for device, label in DEVICE_LABELS.items():
            measured = rows.get(device, {}).get(what, {})
            absent = "" if device in rows else f"no {label}"
            line[label] = _judged(measured) if "met" in measured else absent
        cells.append(line)
    values = [
        {"device": device} | {name: row[name] for name in COLUMNS if name in row}
        for device, own in rows.items()
        for row in own.values()
        if "met" in row
    ]
    notes = machine_notes(records)
    Contents(pd.DataFrame(values), pd.DataFrame(cells), notes).save(TABLE.paths("bench"))


def _judged(row: dict) -> str:
    judged = ("met" if row["met"] else "MISSED") if row["promised"] else "no target here"
    spread = " ({:.3g} to {:.3g})".format(*row["quartiles"]) if "quartiles" in row else ""
    value = f"{row['operations']} operations" if "operations" in row else f"{row['ratio']:.3g}"
    return f"{value}{spread}, {judged}"

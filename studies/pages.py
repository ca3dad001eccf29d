"""Writes what a study found, for the pages."""

import pandas as pd

from benchmark.base.files import atomic, write_json
from benchmark.base.markdown import markdown_table
from benchmark.base.paths import RESULTS, ROOT

FOLDER = ROOT / RESULTS / "studies"


def write_page(study: str, table: pd.DataFrame, note: str = "", rows: list | None = None) -> None:
    """Write the table as results/studies/<study>.md and print it.

    Args:
        note: a line below the table.
        rows: what <study>.json then holds.
    """
    text = markdown_table(table) + "\n" + (note and f"\n{note}\n")
    if rows is not None:
        write_json(FOLDER / f"{study}.json", rows)
    with atomic(FOLDER / f"{study}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text, end="")

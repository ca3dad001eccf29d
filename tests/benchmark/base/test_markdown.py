"""Tables as Markdown: as many cells in each row as in the head, whatever the texts."""

import re

import pandas as pd

from benchmark.base.markdown import markdown_table


def cells(line: str) -> list[str]:
    """The cells of a row, as GitHub finds them: a character behind a backslash ends none."""
    parts = re.findall(r"(?:\\.|[^|\\])+", line.strip("|"))
    return [re.sub(r"\\(.)", r"\1", part).strip() for part in parts]


def test_no_text_ends_its_cell_or_its_row():
    texts = ["a | b", "\\|", "two\nlines", "a\\", 3.5]
    head, _, *rows = markdown_table(pd.DataFrame({"x|y": texts, "z": "last"})).splitlines()
    assert cells(head) == ["x|y", "z"]
    shown = ["a | b", "\\|", "two lines", "a\\", "3.5"]
    assert [cells(row) for row in rows] == [[text, "last"] for text in shown]

"""Web pages that hold all that they show: one look for them, and tables to sort and filter.

`document` makes a page, `sortable_table` a table in it. Both are readable without JavaScript;
DataTables, as the package `itables` carries it, adds sorting, filters and a choice of columns.
"""

import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parents[1]),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
# At the head of a cell; dates and digests that begin with a digit are none.
NUMBER = re.compile(r"-?[\d,]*\.?\d+(e[-+]?\d+)?(?![\w-])", re.IGNORECASE)
SHORT = 20  # letters
PAGED = 40  # rows, from which on a table shows them in parts


def document(title: str, body: str, *, styles: str = "", scripts: Iterable[str] = ()) -> str:
    """Return a whole page with the project's look.

    Args:
        title: of the window; a heading is the body's.
        body: HTML, `Markup` of `fill` and `sortable_table`.
        styles: CSS beside the project's.
        scripts: JavaScript to run after the body, in this order.
    """
    bundle = files("itables") / "html"
    return fill(
        "base/document.html",
        title=title,
        body=Markup(body),
        library_styles=_text(bundle / "dt_bundle.css"),
        styles=Markup(styles),
        library=script(_text(bundle / "dt_bundle.js")),
        scripts=[script(text) for text in scripts],
    )


def fill(template: str, **values) -> Markup:
    """Fill in a template of `paper_figures/`; texts that are no `Markup` are escaped."""
    return Markup(TEMPLATES.get_template(template).render(values))


def script(text: str) -> Markup:
    """Return JavaScript as an element may hold it: no text in it opens or ends a script."""
    return Markup(re.sub(r"<(?=!--|/?script)", r"\\x3C", text, flags=re.IGNORECASE))


def sortable_table(
    cells: pd.DataFrame,
    name: str,
    caption: str,
    *,
    head: str = "",
    shown: int = 6,
    filters: Sequence[str] = (),
    details: Sequence[Markup] = (),
) -> Markup:
    """Return a table that a reader can sort by each column, filter and add columns to.

    Columns of numbers are aligned to the right and sorted by the first number of each cell,
    whatever follows it; empty cells and lone marks, such as *, come last.

    Args:
        cells: texts, or `Markup` that stays as it is.
        name: of the element, unique in its page.
        head: the column that names the rows, and stays in sight; the first by default.
        shown: how many columns are to be seen at first, of those that are not empty.
        filters: columns with a list of their values to choose from.
        details: HTML for each row, opened by a button in its head.
    """
    texts = cells.map(lambda cell: escape(cell).striptags())
    numbers = {column: _orders(texts[column]) for column in cells}
    seen = [column for column in cells if (texts[column] != "").any()][:shown]
    columns = [
        {
            "name": column,
            "hidden": column not in seen,
            "kind": _kind(texts[column], numbers[column]),
            "is_filter": column in filters,
            "is_head": column == (head or cells.columns[0]),
        }
        for column in cells
    ]
    rows = [
        [
            {
                "html": cell,
                "text": texts.iloc[row, place],
                "order": (numbers[column] or texts[column].tolist())[row],
            }
            for place, (column, cell) in enumerate(cells.iloc[row].items())
        ]
        for row in range(len(cells))
    ]
    return fill(
        "base/table.html",
        name=name,
        caption=caption,
        columns=columns,
        rows=rows,
        details=details or [None] * len(rows),
        paged=len(rows) > PAGED,
    )


def _orders(texts: pd.Series) -> list[str] | None:
    """Return what a column of numbers is sorted by; None for a column of words."""
    matches = [NUMBER.match(text) for text in texts]
    if not any(matches) or any(NUMBER.match(text) is None for text in texts if len(text) > 1):
        return None
    return [match[0].replace(",", "") if match else "" for match in matches]


def _kind(texts: pd.Series, numbers: list[str] | None) -> str:
    """Return the class of a column's cells; those of a few short words stay on one line."""
    if numbers is not None:
        return "number"
    return "short" if texts.map(len).max() <= SHORT else ""


def _text(file) -> Markup:
    return Markup(file.read_text(encoding="utf-8"))

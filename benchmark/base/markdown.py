"""Tables as Markdown, in which no text ends its cell or its row."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # who reads no table need not wait for it
    import pandas as pd


def markdown_table(frame: "pd.DataFrame") -> str:
    """Return a data frame as a Markdown table; texts stay as they are written."""
    escaped = frame.rename(columns=_cell).map(_cell)
    return escaped.to_markdown(index=False, disable_numparse=True)


def _cell(value: object) -> str:
    text = re.sub(r"\s*[\r\n]\s*", " ", str(value))
    return re.sub(r"([\\|])", r"\\\1", text)

"""Table `reported`: what the author and the field report on a run's datasets, with sources."""

from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field

from benchmark.base.paths import ROOT
from benchmark.base.typed import Number, Strict, load_yaml
from benchmark.config.config import Config
from paper_figures.base.artefact import Need, Table
from paper_figures.base.style import save_table

REPORTED_FILE = ROOT / "config" / "reported.yaml"

TABLE = Table(
    "reported",
    needs=(Need("data"),),  # it uses none; but a run that lacks some is to end before
    caption="What the author and the field report on this run's datasets, with source and "
    "convention. None of it was measured here.",
    formats=("csv", "md", "tex"),  # it rests on no record
    sources=("config/reported.yaml",),
)

COLUMNS = ["dataset", "metric", "model", "value", "by", "source", "convention"]


class Report(Strict):
    """What one source reports of one quantity.

    Attributes:
        values: dataset -> model -> value.
    """

    source: str
    by: Literal["author", "field"]
    metric: str
    convention: str
    values: Annotated[
        dict[str, Annotated[dict[str, Number], Field(min_length=1)]], Field(min_length=1)
    ]


def reported(path: Path = REPORTED_FILE) -> pd.DataFrame:
    """Return `config/reported.yaml`, one row per value.

    Raises:
        ConfigError: the file has a wrong key or value.
    """
    rows = [
        dict(report) | {"dataset": dataset, "model": model, "value": value}
        for report in load_yaml(path, list[Report])
        for dataset, values in report.values.items()
        for model, value in values.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def render(config: Config) -> None:
    """Write tables/reported.{csv,md,tex}: one row per dataset, quantity and model."""
    rows = reported()
    rows = rows[rows["dataset"].isin(config.datasets)].reset_index(drop=True)
    cells = pd.DataFrame(
        {
            "Dataset": [config.facts(name).title for name in rows["dataset"]],
            "Quantity": rows["metric"],
            "Model": rows["model"],
            "Value": [f"{value:,g}" for value in rows["value"]],
            "Source": rows["source"],
            "Convention": rows["convention"],
        }
    )
    notes = [
        "Reported elsewhere, not measured here; comparable to a value of this run only where "
        "quantity and convention are the same. FD-classifier is never "
        "comparable to FID."
    ]
    save_table(rows, cells, notes, TABLE.paths(config.run))

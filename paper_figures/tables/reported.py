"""Table `reported`: what the author and the field report on a run's datasets, with sources."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field

from benchmark.base.paths import ROOT
from benchmark.base.typed import Number, Strict, load_yaml
from benchmark.config.config import Config
from paper_figures.base.artefact import Need, Table
from paper_figures.base.style import Contents

REPORTED_FILE = ROOT / "config" / "reported.yaml"

TABLE = Table(
    "reported",
    needs=(Need("data"),),  # it uses none; but a run that lacks some is to end before
    caption="What the author and the field report on this run's datasets, with source and "
    "convention. None of it was measured here.",
    formats=("csv", "md", "tex"),  # it rests on no record
    sources=("config/reported.yaml",),
)

COLUMNS = ["dataset", "metric", "model", "value", "by", "source", "convention", "contradicts"]


class Contradicted(Strict):
    """A sentence of the author's by which one model's value is below another's.

    Attributes:
        source: where the sentence is.
        datasets: that it is about.
        less, than: the two models.
    """

    sentence: str
    source: str
    datasets: list[str]
    less: str
    than: str

    @property
    def text(self) -> str:
        return f"“{self.sentence}” ({self.source})"


class Report(Strict):
    """What one source reports of one quantity.

    Attributes:
        values: dataset -> model -> value.
        contradicts: sentences that values of some dataset contradict.
    """

    source: str
    by: Literal["author", "field"]
    metric: str
    convention: str
    values: Annotated[
        dict[str, Annotated[dict[str, Number], Field(min_length=1)]], Field(min_length=1)
    ]
    contradicts: list[Contradicted] = []

    def contradicted(self, dataset: str) -> Iterator[Contradicted]:
        """Give the sentences that a dataset's values contradict."""
        values = self.values[dataset]
        for said in self.contradicts:
            pair = values.get(said.less), values.get(said.than)
            if dataset in said.datasets and None not in pair and pair[0] >= pair[1]:
                yield said


def reported(path: Path = REPORTED_FILE) -> pd.DataFrame:
    """Return `config/reported.yaml`, one row per value.

    Raises:
        ConfigError: the file has a wrong key or value.
    """
    rows = [
        dict(report) | {"dataset": dataset, "model": model, "value": value, "contradicts": said}
        for report in load_yaml(path, list[Report], _idle)
        for dataset, values in report.values.items()
        for model, value in values.items()
        for said in [_against(report, dataset, model)]
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _idle(reports: list[Report]) -> Iterator[str]:
    """Name sentences that no value contradicts."""
    for report in reports:
        found = [said for dataset in report.values for said in report.contradicted(dataset)]
        for said in report.contradicts:
            if said not in found:
                yield f"{report.source}, {report.metric}: its values do not contradict {said.text}"


def _against(report: Report, dataset: str, model: str) -> str:
    said = [s.text for s in report.contradicted(dataset) if model in (s.less, s.than)]
    return "; ".join(said)


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
    said = [text for text in dict.fromkeys(rows["contradicts"]) if text]
    if said:
        marks = {text: f"({number})" for number, text in enumerate(said, 1)}
        cells["Against"] = [marks.get(text, "") for text in rows["contradicts"]]
    notes = [
        "Reported elsewhere, not measured here; comparable to a value of this run only where "
        "quantity and convention are the same. FD-classifier is never "
        "comparable to FID.",
        *(f"({number}) Against the author's words: {text}." for number, text in enumerate(said, 1)),
    ]
    Contents(rows, cells, notes).save(TABLE.paths(config.run))

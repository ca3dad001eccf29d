"""Table `summary`: each model of a demo in six columns, as wide as a terminal."""

import pandas as pd

from benchmark.config.config import REAL, Config
from benchmark.records.names import rate_text
from paper_figures.base.artefact import Need, Table
from paper_figures.base.frames import (
    quality_records,
    select,
    timing_records,
    training_records,
    values_of,
)
from paper_figures.base.style import Contents, model_label

TABLE = Table(
    "summary",
    needs=(Need("metrics"), Need("training"), Need("timing")),
    caption="Each model in a line: quality of its samples, how fast they are drawn, and the time "
    "that its training took.",
    formats=("md",),
    applies=lambda config: config.demo,
)

METRICS = {
    "Distance": ("fd_classifier", ".0f"),
    "Precision": ("precision_classifier", ".2f"),
    "Recall": ("recall_classifier", ".2f"),
}
NOTE = (
    "Distance: Frechet distance to {title}'s test images in features of a classifier, lower is "
    "better. Precision: share of samples that look real; recall: share of real images that samples "
    "come near to. Images/s: as many as this machine draws at its best. Too little training to "
    "compare models by."
)
EMPTY = pd.Series(dtype=float)


def render(config: Config) -> None:
    """Write tables/summary.md: means over the seeds, of the first dataset."""
    quality, training, timing = (
        quality_records(config),
        training_records(config),
        timing_records(config),
    )
    dataset = config.datasets[0]
    rows = []
    for model in (REAL, *config.evaluated_models):
        names = {"dataset": dataset, "model": model}
        times = select(timing, **names, part="images")
        rates = times.get("images_per_second", EMPTY).dropna()
        row = {"Model": model_label(config, model)}
        for title, (name, form) in METRICS.items():
            row[title] = _mean(values_of(quality, name, **names), form)
        row["Images/s"] = rate_text(rates.max()) if len(rates) else ""
        row["Training, s"] = _mean(select(training, **names).get("seconds", EMPTY), ".0f")
        rows.append(row)
    cells = pd.DataFrame(rows)
    note = NOTE.format(title=config.facts(dataset).title)
    Contents(cells, cells, [note]).save(TABLE.paths(config.run))


def _mean(values: pd.Series, form: str) -> str:
    return f"{values.mean():{form}}" if len(values) else ""

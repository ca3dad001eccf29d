"""Table `budgets`: how many updates each model needs."""

from itertools import product

import pandas as pd

from benchmark.config.config import Config
from paper_figures.base.artefact import Need, Table
from paper_figures.base.frames import quality_records, run_note, select, source_note
from paper_figures.base.quality_panels import DISTANCES, distances_of
from paper_figures.base.style import Contents, model_label

TABLE = Table(
    "budgets",
    needs=(Need("metrics"),),
    caption="Distance of the samples by number of updates, and how many are enough.",
    applies=lambda config: bool(config.budgets()),
)

GAIN = 0.1  # of the distance: less is not worth twice the updates


def render(config: Config) -> None:
    """Write tables/budgets.{csv,md,tex}."""
    contents(config).save(TABLE.paths(config.run))


def contents(config: Config) -> Contents:
    """Return what the table says: a row for each dataset and model."""
    quality = quality_records(config)
    budgets = sorted({n for series in config.budgets().values() for n in series})
    values, cells, files = [], [], []
    for dataset, (model, series) in product(config.datasets, config.budgets().items()):
        name, measured = distances_of(config, quality, dataset)
        known = {n: measured[m].mean() for n, m in series.items() if m in measured}
        last = enough(known)
        names = {"dataset": dataset, "model": model, "enough": last}
        values += [names | {"updates": n, "distance": known[n]} for n in known]
        row = {"Dataset": config.facts(dataset).title, "Model": model_label(config, model)}
        row["Distance"] = DISTANCES.get(name, "")
        row |= {f"{n:,} updates": f"{known[n]:.1f}" if n in known else "" for n in budgets}
        cells.append(row | {"Enough": f"{last:,}" if last else "not reached"})
        records = {n: select(quality, dataset=dataset, model=series[n])["file"] for n in known}
        files.append({f"{n:,} updates": list(records[n].unique()) for n in known})
    notes = run_note(config)
    notes += [
        "The entries of a row differ in their number of updates alone; each has a schedule of its "
        "own. Enough: the fewest after which no doubling lowers the distance by "
        f"{GAIN:.0%} or more.",
        *source_note(quality),
    ]
    return Contents(pd.DataFrame(values), pd.DataFrame(cells), notes, files)


def enough(distances: dict[int, float]) -> int | None:
    """Return the fewest updates after which no doubling lowers the distance by `GAIN` or more.

    Args:
        distances: updates -> distance of the samples.

    Returns:
        None where no doubling shows it: the last one measured still lowers the distance as much.
    """
    doublings = [n for n in sorted(distances) if 2 * n in distances]
    helped = [n for n in doublings if distances[2 * n] <= (1 - GAIN) * distances[n]]
    needed = 2 * helped[-1] if helped else min(doublings, default=None)
    return needed if needed in doublings else None

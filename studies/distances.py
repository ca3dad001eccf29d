"""`python -m studies.distances FOLDER ...`: how FD-EfficientNet orders models beside FD-classifier.

Of the records in folders such as results/cpu it takes those that hold both, of all models and
seeds; real images are none of them.
"""

import sys
from collections.abc import Iterable

import pandas as pd
from scipy.stats import spearmanr

from benchmark.base.errors import RecordError
from benchmark.claims.gates import FEWEST_IMAGES
from benchmark.config.config import REAL
from benchmark.records.folder import read_folder
from benchmark.records.record import Record
from studies.pages import write_page

DISTANCES = ["fd_classifier", "fd_efficientnet"]
SET = ["dataset", "split", "images"]


def both_distances(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per model, seed and reference: run, dataset, split, images (the smaller number
    of drawn and real ones), model, seed, fd_classifier, fd_efficientnet.

    Raises:
        RecordError: no record holds both.
    """
    rows: dict[tuple, dict] = {}
    for record in records:
        for value in record.metrics.values if record.kind == "metrics" else ():
            if record.model != REAL and value.name in DISTANCES:
                images = min(value.count, record.metrics.reference_count(value.split))
                names = (record.run, record.dataset, value.split, images, record.model, record.seed)
                rows.setdefault(names, {})[value.name] = value.value
    columns = ["run", *SET, "model", "seed"]
    held = [dict(zip(columns, names, strict=True)) | both for names, both in rows.items()]
    frame = pd.DataFrame(held, columns=[*columns, *DISTANCES]).dropna()
    if not len(frame):
        raise RecordError(
            "no record holds both distances: give folders of runs with evaluation.efficientnet"
        )
    return frame


def correlations(frame: pd.DataFrame) -> list[str]:
    """Write Spearman's rank correlation over the models and seeds of each dataset."""
    return [
        f"{dataset}, {split} split, {images:,} images a side: rank correlation (Spearman) "
        f"{spearmanr(*(rows[name] for name in DISTANCES)).statistic:.2f} over {len(rows)} models "
        "and seeds."
        for (dataset, split, images), rows in frame.groupby(SET, sort=False)
    ]


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table: means over the seeds, and each model's rank by either distance."""
    means = frame.groupby([*SET, "run", "model"], sort=False)[DISTANCES].mean().reset_index()
    ranks = means.groupby(SET)[DISTANCES].rank().astype(int).add_suffix("_rank")
    table = means.join(ranks).sort_values([*SET, "fd_classifier"])
    return pd.DataFrame(
        {
            "Dataset": table["dataset"],
            "Run": table["run"],
            "Model": table["model"],
            "FD-classifier": table["fd_classifier"].map("{:.1f}".format),
            "Rank": table["fd_classifier_rank"],
            "FD-EfficientNet": table["fd_efficientnet"].map("{:.1f}".format),
            "Its rank": table["fd_efficientnet_rank"],
        }
    )


def main(folders: list[str]) -> None:
    """Compare the records of these folders and write the table."""
    frame = both_distances(record for folder in folders for record in read_folder(folder))
    notes = correlations(frame)
    if frame["images"].min() < FEWEST_IMAGES:
        notes.append(f"Below {FEWEST_IMAGES:,} images distances say little beyond their own order.")
    write_page("distances", shown(frame), "\n\n".join(notes))


if __name__ == "__main__":
    main(sys.argv[1:] or ["results/cpu"])

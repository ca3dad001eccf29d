"""Table `quality`: sample quality, health and training cost by dataset and model."""

import re

import pandas as pd

from benchmark.config import REAL, Config
from benchmark.gates import Means, failures
from paper_figures.records import quality_records, source_note, training_records
from paper_figures.style import dataset_label, model_label, save_table

FEWEST_IMAGES = 2048  # below, a Frechet distance says little beyond its own table
LOOSE_SHARE = 0.1  # of the images with weights of hardly any effective sample size

METRIC = re.compile(r"(?P<name>\w+)_(?P<split>train|validation|test)_(?P<count>\d+)")

# Columns of the metrics that the text shows, and how; the csv has all of them.
COLUMNS = {
    "fd_classifier": ("FD-classifier ({count:,} samples, {split} split)", ".1f"),
    "precision_classifier": ("Precision", ".2f"),
    "recall_classifier": ("Recall", ".2f"),
    "bits_per_dimension": ("Bits per dimension ({count:,} {split} images)", ".3f"),
}


def render(config: Config) -> None:
    """Write tables/quality.{csv,md,tex}: mean and standard deviation over seeds."""
    quality, training = quality_records(config), training_records(config)
    metrics = list(dict.fromkeys(quality["metric"])) if len(quality) else []
    means = _means(quality)
    values, cells = [], []
    for dataset in config.datasets:
        for model in (REAL, *config.evaluated_models):
            row = {"dataset": dataset, "model": model}
            cell = {"Dataset": dataset_label(dataset), "Model": model_label(config, model)}
            failed = [] if model == REAL else failures(config, means, dataset, model)
            measured = _select(quality, dataset, model)
            for metric in metrics:
                chosen = measured[measured["metric"] == metric] if len(measured) else measured
                row |= _summary(metric, chosen.get("value", pd.Series(dtype=float)))
            for metric in metrics:
                name, label, form = _column(metric)
                if label:
                    cell[label] = _cell(row, metric, form)
                if label and cell[label]:
                    cell[label] += _marks(name, measured, row, bool(failed))
            trained = _select(training, dataset, model)
            row |= _summary("training_seconds", trained.get("seconds", pd.Series(dtype=float)))
            row["updates"] = trained["updates"].iloc[0] if len(trained) else None
            row["posterior"] = _posterior(trained)
            row["health"] = _health(config, measured, model, failed)
            cell["Health"] = row["health"]
            cell["ESS or swap rates"] = row["posterior"]
            cell["Updates"] = f"{row['updates']:,}" if len(trained) else ""
            cell["Training, s"] = _cell(row, "training_seconds", ".0f")
            cell["Seeds"] = str(len(trained)) if len(trained) else ""
            values.append(row)
            cells.append(cell)
    frame = pd.DataFrame(values).astype({"updates": "Int64"})
    cells = pd.DataFrame(cells).fillna("")
    if not cells["ESS or swap rates"].any():
        cells = cells.drop(columns="ESS or swap rates")
    save_table(frame, cells, config, "quality", _notes(config, quality, training, cells))


def _means(quality: pd.DataFrame) -> Means:
    """What the health gates look at."""
    means: Means = {}
    if len(quality):
        for (dataset, model, metric), values in quality.groupby(["dataset", "model", "metric"]):
            found = METRIC.fullmatch(metric)
            means.setdefault((dataset, model), {})[found["name"]] = values["value"].mean()
    return means


def _health(config: Config, measured: pd.DataFrame, model: str, failed: list[str]) -> str:
    if model == REAL or not len(measured):
        return ""
    if failed:
        return "FAILED: " + "; ".join(failed)
    return "demo budget, not comparable" if config.demo else "passed"


def _marks(name: str, measured: pd.DataFrame, row: dict, failed: bool) -> str:
    """What the notes below the table explain."""
    marks = ""
    if name == "fd_classifier" and measured["images"].min() < FEWEST_IMAGES:
        marks += "†"
    if name == "bits_per_dimension" and _loose_share(row) > LOOSE_SHARE:
        marks += "‡"
    return marks + (" ✗" if failed else "")


def _loose_share(row: dict) -> float:
    shares = [v for k, v in row.items() if re.fullmatch(r"nats_low_ess_share_.*_mean", k)]
    return max((share for share in shares if share is not None), default=0.0)


def _posterior(training: pd.DataFrame) -> str:
    """How the posterior sampler did at the end of training, from what was logged."""
    means = training.filter(regex="^final_").mean() if len(training) else pd.Series(dtype=float)
    if pd.notna(means.get("final_ess")):
        return f"ESS {means['final_ess']:.2f}"
    swaps = means.filter(regex="^final_swap_").dropna()
    return "swaps " + ", ".join(f"{rate:.2f}" for rate in swaps) if len(swaps) else ""


def _select(frame: pd.DataFrame, dataset: str, model: str) -> pd.DataFrame:
    if not len(frame):
        return frame
    return frame[(frame["dataset"] == dataset) & (frame["model"] == model)]


def _summary(name: str, values: pd.Series) -> dict:
    """Mean, standard deviation (from two values on) and count; None where there are none."""
    return {
        f"{name}_mean": values.mean() if len(values) else None,
        f"{name}_std": values.std() if len(values) > 1 else None,
        f"{name}_n": len(values),
    }


def _cell(row: dict, name: str, form: str) -> str:
    mean, std = row[f"{name}_mean"], row[f"{name}_std"]
    if mean is None:
        return ""
    return f"{mean:{form}}" if std is None else f"{mean:{form}} ± {std:{form}}"


def _column(metric: str) -> tuple[str, str | None, str]:
    """A metric's plain name, its column and how to write its values; no column: the csv alone."""
    found = METRIC.fullmatch(metric)
    label, form = COLUMNS.get(found["name"], (None, ""))
    label = label and label.format(count=int(found["count"]), split=found["split"])
    return found["name"], label, form


def _notes(
    config: Config, quality: pd.DataFrame, training: pd.DataFrame, cells: pd.DataFrame
) -> list[str]:
    notes = [config.note] if config.note else []
    notes.append(
        "Mean ± standard deviation over training seeds. FD-classifier is a Frechet distance over "
        "the features of a classifier trained on the same training split, lower is better; it is "
        "not FID. Precision and recall are the shares of samples near real images and of real "
        "images near samples, in the same features. The real images are drawn from the training "
        "split: the floor."
    )
    names = {METRIC.fullmatch(metric)["name"] for metric in quality.get("metric", [])}
    if "bits_per_dimension" in names:
        notes.append(
            "Bits per dimension: of 8-bit values, lower is better. The evidence is estimated by "
            "importance sampling, from a Laplace approximation of the posterior for KAEM and from "
            "the encoder for VAEs, with as many decoder passes per image, those for the "
            "approximation included. Both err towards more bits."
        )
    if len(training) and training.filter(regex="^final_(ess|swap_)").size:
        notes.append(
            "ESS: effective sample size of the importance weights. Swaps: acceptance of replica "
            "exchange across each gap, from the prior to the posterior. Over the last 5% of the "
            "updates."
        )
    text = " ".join(cells.astype(str).to_numpy().flatten())
    if "‡" in text:
        notes.append(
            f"‡ for more than {LOOSE_SHARE:.0%} of the images hardly any weight counts (effective "
            "sample size below 2): the true value is lower, by how much is not known."
        )
    if "✗" in text:
        notes.append("✗ failed a health gate of config/gates.yaml: see its row.")
    if "†" in text:
        fewest = quality["images"].min()
        notes.append(f"† from {fewest:,} images, fewer than {FEWEST_IMAGES:,}: not comparable.")
    return notes + source_note(quality, training)

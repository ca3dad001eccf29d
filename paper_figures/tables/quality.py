"""Table `quality`: sample quality, health and training cost by dataset and model."""

import re

import pandas as pd
from scipy.stats import t

from benchmark.claims.gates import FEWEST_IMAGES, failures, first_reference, is_distance, means_of
from benchmark.config.config import REAL, Config
from benchmark.config.settings import OFFICIAL_SHA256
from benchmark.records.names import METRIC, metric_name
from paper_figures.base.artefact import Need, Table
from paper_figures.base.frames import quality_records, select, training_records
from paper_figures.base.quality_notes import CONSTANT, LOOSE_SHARE, notes_of
from paper_figures.base.style import Contents, model_label

TABLE = Table(
    "quality",
    needs=(Need("metrics"), Need("training")),
    caption="Sample quality by dataset and model: mean and half of its 95% t interval over "
    "seeds, the number of seeds, training cost and health. FD-classifier is not FID.",
    sources=("config/gates.yaml", "benchmark/claims/gates.py"),
)

# Columns of the metrics that the text shows, and how; the csv has all of them.
COLUMNS = {
    "fid": ("FID ({split} {count})", ".2f"),
    "fid_infinity": ("FID-infinity ({split} {count})", ".2f"),
    "kid": ("KID ({split} {count})", ".4f"),
    "fd_classifier": ("FD-classifier ({split} {count})", ".1f"),
    "fd_efficientnet": ("FD-EfficientNet ({split} {count})", ".1f"),
    "precision_classifier": ("Precision ({split} {count})", ".2f"),
    "recall_classifier": ("Recall ({split} {count})", ".2f"),
    "bits_per_dimension": ("Bits per dimension ({split} {count})", ".3f"),
    "bits_per_dimension_fitted": ("Bits per dimension, fitted sigma ({split} {count})", ".3f"),
}
INCEPTION = ("fid", "kid")
ONCE = ("kid", "precision_classifier", "recall_classifier")  # for the first reference alone


def render(config: Config) -> None:
    """Write tables/quality.{csv,md,tex}."""
    contents(config).save(TABLE.paths(config.run))


def contents(config: Config) -> Contents:
    """Return what the table says: mean and its 95% confidence interval over seeds."""
    quality, training = _with_constant(quality_records(config)), training_records(config)
    metrics = _metrics(config, quality)
    means = means_of(config, quality)
    values, cells, files = [], [], []
    for dataset in config.datasets:
        for model in (REAL, CONSTANT, *config.evaluated_models):
            names = {"dataset": dataset, "model": model}
            measured, trained = select(quality, **names), select(training, **names)
            if model == CONSTANT and not len(measured):
                continue
            failed = failures(config, means, dataset, model) if model in config.models else []
            row, cell, origins = _measured(config, metrics, measured, bool(failed))
            of_training, training_cell, training_origins = _trained(measured, trained)
            health = _health(config, measured, model, failed)
            titles = {
                "Dataset": config.facts(dataset).title,
                "Model": "constant image" if model == CONSTANT else model_label(config, model),
            }
            values.append(names | row | of_training | {"health": health})
            cells.append(titles | cell | {"Health": health} | training_cell)
            files.append(origins | training_origins)
    frame = pd.DataFrame(values).astype({"updates": "Int64"})
    cells = pd.DataFrame(cells).fillna("")
    if not cells["ESS or swap rates"].any():
        cells = cells.drop(columns="ESS or swap rates")
    notes = notes_of(config, quality, training, cells)
    return Contents(frame, cells, notes, files)


def _with_constant(quality: pd.DataFrame) -> pd.DataFrame:
    """Give the constant image, which the records of real images hold, rows of its own."""
    if not len(quality):
        return quality
    constant = quality["metric"].str.contains("_constant_")
    metric = quality["metric"].str.replace("_constant_", "_fitted_")
    model = quality["model"].mask(constant, CONSTANT)
    return quality.assign(metric=metric, model=model)


Row = tuple[dict, dict, dict]  # values, and by column: cells, and the files they rest on


def _measured(config: Config, metrics: list[str], measured: pd.DataFrame, failed: bool) -> Row:
    """Return what a row says of the images."""
    row, cell, origins = {}, {}, {}
    chosen = {m: measured[measured["metric"] == m] if len(measured) else measured for m in metrics}
    for metric, frame in chosen.items():
        row |= _summary(metric, frame.get("value", pd.Series(dtype=float)))
    for metric, frame in chosen.items():
        name, label, form = _column(config, metric)
        if label:
            cell[label] = _cell(row, metric, form)
        if label and cell[label]:
            cell[label] += _marks(name, frame["images"].min(), row, failed)
            origins[label] = list(frame["file"])
    return row, cell, origins


def _trained(measured: pd.DataFrame, trained: pd.DataFrame) -> Row:
    """Return what a row says of the training."""
    row = _summary("training_seconds", trained.get("seconds", pd.Series(dtype=float)))
    row["updates"] = trained["updates"].iloc[0] if len(trained) else None
    row["posterior"] = _posterior(trained)
    # Of what was measured: a control may be sampled from fewer than were trained.
    seen = measured if len(measured) else trained
    cell = {
        "ESS or swap rates": row["posterior"],
        "Updates": f"{row['updates']:,}" if len(trained) else "",
        "Training, s": _cell(row, "training_seconds", ".0f"),
        "Seeds": str(seen["seed"].nunique()) if len(trained) else "",
    }
    if not len(trained):
        return row, cell, {}
    origins = {column: list(trained["file"]) for column, text in cell.items() if text}
    return row, cell, origins | {"Seeds": list(seen["file"])}


def _metrics(config: Config, quality: pd.DataFrame) -> list[str]:
    """List what was measured, and what should be: FID keeps its column where it was not to be had.

    In the order of the columns of the text, and of the configuration's references.
    """
    metrics = dict.fromkeys(quality["metric"]) if len(quality) else {}
    for dataset in config.datasets:
        if config.inception_sha256(dataset) == OFFICIAL_SHA256:
            references = config.evaluation(dataset).references
            for split, count in references.items():
                metrics |= dict.fromkeys(metric_name(name, split, count) for name in INCEPTION)
    order = list(COLUMNS)
    names = {metric: METRIC.fullmatch(metric)["name"] for metric in metrics}
    return sorted(metrics, key=lambda m: order.index(names[m]) if names[m] in order else len(order))


def _health(config: Config, measured: pd.DataFrame, model: str, failed: list[str]) -> str:
    if model not in config.models or not len(measured):
        return ""
    if failed:
        return "FAILED: " + "; ".join(failed)
    return "demo budget, not comparable" if config.demo else "passed"


def _marks(name: str, images: int, row: dict, failed: bool) -> str:
    """Return the marks that the notes below the table explain."""
    marks = ""
    if is_distance(name) and images < FEWEST_IMAGES:
        marks += "†"
    if name.startswith("bits") and _loose_share(row, name) > LOOSE_SHARE:
        marks += "‡"
    return marks + (" ✗" if failed else "")


def _loose_share(row: dict, bits: str) -> float:
    name = bits.replace("bits_per_dimension", "nats_low_ess_share")
    shares = [v for k, v in row.items() if re.fullmatch(rf"{name}_[a-z]+_\d+k?_mean", k)]
    return max((share for share in shares if share is not None), default=0.0)


def _posterior(training: pd.DataFrame) -> str:
    """Say how the posterior sampler did at the end of training, from what was logged."""
    means = training.filter(regex="^final_").mean() if len(training) else pd.Series(dtype=float)
    if pd.notna(means.get("final_ess")):
        return f"ESS {means['final_ess']:.2f}"
    swaps = means.filter(regex="^final_swap_").dropna()
    return "swaps " + ", ".join(f"{rate:.2f}" for rate in swaps) if len(swaps) else ""


def _summary(name: str, values: pd.Series) -> dict:
    """Return mean, standard deviation, half the 95% t interval of the mean, and count.

    The middle two from two values on; None where there are none.
    """
    n, several = len(values), len(values) > 1
    return {
        f"{name}_mean": values.mean() if n else None,
        f"{name}_std": values.std() if several else None,
        f"{name}_ci": t.ppf(0.975, n - 1) * values.std() / n**0.5 if several else None,
        f"{name}_n": n,
    }


def _cell(row: dict, name: str, form: str) -> str:
    mean, half = row[f"{name}_mean"], row[f"{name}_ci"]
    if mean is None:
        return ""
    return f"{mean:{form}}" if half is None else f"{mean:{form}} ± {half:{form}}"


def _column(config: Config, metric: str) -> tuple[str, str | None, str]:
    """Return a metric's plain name, its column (None for the csv alone) and its values' format."""
    match = METRIC.fullmatch(metric)
    name, split = match["name"], match["split"]
    label, form = COLUMNS.get(name, (None, ""))
    firsts = {first_reference(config, dataset) for dataset in config.datasets}
    if name.startswith("frechet_") and "infinity" not in name:
        label, form = f"Frechet distance, weights {name.split('_')[1]} ({{split}} {{count}})", ".2f"
    if name in ONCE and split not in firsts:
        label = None
    return name, label and label.format(split=split, count=match["count"]), form

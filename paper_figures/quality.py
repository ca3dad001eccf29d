"""Table `quality`: sample quality and training cost by dataset and model."""

import re

import pandas as pd

from benchmark.config import REAL, Config
from paper_figures.records import quality_records, source_note, training_records
from paper_figures.style import dataset_label, model_label, save_table

FEWEST_IMAGES = 2048  # below, a Frechet distance says little beyond its own table


def render(config: Config) -> None:
    """Write tables/quality.{csv,md,tex}: mean and standard deviation over seeds."""
    quality, training = quality_records(config), training_records(config)
    metrics = list(dict.fromkeys(quality["metric"])) if len(quality) else []
    values, cells = [], []
    for dataset in config.datasets:
        for model in (REAL, *config.models):
            row = {"dataset": dataset, "model": model}
            cell = {"Dataset": dataset_label(dataset), "Model": model_label(config, model)}
            measured = _select(quality, dataset, model)
            for metric in metrics:
                chosen = measured[measured["metric"] == metric] if len(measured) else measured
                row |= _summary(metric, chosen.get("value", pd.Series(dtype=float)))
                label, form = _column(metric)
                if label:
                    few = label.startswith("FD") and len(chosen)
                    few = few and chosen["images"].min() < FEWEST_IMAGES
                    cell[label] = _cell(row, metric, form) + ("†" if few else "")
            trained = _select(training, dataset, model)
            row |= _summary("training_seconds", trained.get("seconds", pd.Series(dtype=float)))
            row["updates"] = trained["updates"].iloc[0] if len(trained) else None
            row["posterior"] = _posterior(trained)
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
    save_table(frame, cells, config, "quality", _notes(config, quality, training))


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


def _column(metric: str) -> tuple[str | None, str]:
    """The column that shows a metric and how to write its values; None for the csv alone."""
    name, split, count = re.fullmatch(r"(\w+)_(train|validation|test)_(\d+)", metric).groups()
    if name == "fd_classifier":
        return f"FD-classifier ({int(count):,} samples, {split} split)", ".1f"
    if name == "bits_per_dimension":
        return f"Bits per dimension ({int(count):,} {split} images)", ".3f"
    return None, ""


def _notes(config: Config, quality: pd.DataFrame, training: pd.DataFrame) -> list[str]:
    notes = [config.note] if config.note else []
    notes.append(
        "Mean ± standard deviation over training seeds; lower is better. FD-classifier is a "
        "Frechet distance over the features of a classifier trained on the same training split; "
        "it is not FID. The real images are drawn from the training split: the floor."
    )
    if len(quality) and quality["metric"].str.startswith("bits_per_dimension").any():
        notes.append(
            "Bits per dimension: of 8-bit values, lower is better; the evidence is estimated by "
            "annealed importance sampling for KAEM and by importance sampling from the encoder for "
            "VAEs, from as many decoder passes per image. KAEM's carry a gradient, and the search "
            "for its step sizes comes on top. Both err towards more bits."
        )
    if len(training) and training.filter(regex="^final_(ess|swap_)").size:
        notes.append(
            "ESS: effective sample size of the importance weights. Swaps: acceptance of replica "
            "exchange across each gap, from the prior to the posterior. Over the last 5% of the "
            "updates."
        )
    if len(quality) and quality["images"].min() < FEWEST_IMAGES:
        fewest = quality["images"].min()
        notes.append(f"† from {fewest:,} images, fewer than {FEWEST_IMAGES:,}: not comparable.")
    return notes + source_note(quality, training)

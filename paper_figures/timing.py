"""Table `timing`: latency and throughput of sampling by dataset, model, device and batch size."""

import pandas as pd

from benchmark.config import Config
from paper_figures.records import DEVICES, source_note, timing_records
from paper_figures.style import dataset_label, model_label, save_table

COLUMNS = [
    "dataset",
    "model",
    "device",
    "hardware",
    "nfe",
    "batch_size",
    "median",
    "q25",
    "q75",
    "p95",
    "images_per_second",
    "repetitions",
]


def render(config: Config) -> None:
    """Write tables/timing.{csv,md,tex}: median and quartiles, an empty cell where not timed."""
    timing = timing_records(config)
    values, cells = [], []
    for dataset in config.datasets:
        for batch_size in config.timing["batch_sizes"]:
            for model in config.models:
                cell = {
                    "Dataset": dataset_label(config, dataset),
                    "Batch": f"{batch_size:,}",
                    "Model": model_label(config, model),
                }
                for device in DEVICES:
                    row = _row(timing, dataset, batch_size, model, device)
                    cell |= _cells(device, row)
                    if row is not None:
                        values.append(row[COLUMNS])
                cells.append(cell)
    frame = pd.DataFrame(values, columns=COLUMNS)
    save_table(frame, pd.DataFrame(cells), config, "timing", _notes(timing))


def _row(timing: pd.DataFrame, dataset: str, batch_size: int, model: str, device: str):
    if not len(timing):
        return None
    chosen = timing[
        (timing["dataset"] == dataset)
        & (timing["batch_size"] == batch_size)
        & (timing["model"] == model)
        & (timing["device"] == device)
    ]
    return chosen.iloc[0] if len(chosen) else None


def _cells(device: str, row) -> dict[str, str]:
    name = {"cpu": "CPU", "cuda": "GPU"}[device]
    latency, rate = f"{name} latency, ms", f"{name} images/s"
    if row is None:
        return {latency: "", rate: ""}
    spread = f"[{row['q25']:.3g}, {row['q75']:.3g}]"
    return {latency: f"{row['median']:.3g} {spread}", rate: f"{row['images_per_second']:,.0f}"}


def _notes(timing: pd.DataFrame) -> list[str]:
    notes = [
        "Latency of one call, from random numbers to images: median [quartiles]; images per "
        "second at the median. Empty: not measured."
    ]
    if len(timing):
        machines = timing.groupby("device")["hardware"].unique()
        notes += [f"{device}: {', '.join(names)}." for device, names in machines.items()]
    return notes + source_note(timing)

"""Table `timing`: latency and throughput of sampling by dataset, batch size, model and device."""

import itertools

import pandas as pd

from benchmark.config import Config
from benchmark.names import DEVICE_LABELS, rate_text
from paper_figures.records import DEVICES, select, source_note, timing_records
from paper_figures.style import dataset_label, model_label, save_table

COLUMNS = [
    "dataset",
    "model",
    "device",
    "hardware",
    "mode",
    "part",
    "batch_size",
    "left_out",
    "median",
    "q25",
    "q75",
    "p95",
    "images_per_second",
    "joules",
    "peak_memory_bytes",
    "repetitions",
    "trained",
    "disturbed",
    "session",
]


def render(config: Config) -> None:
    """Write tables/timing.{csv,md,tex}: median and quartiles, an empty cell where not timed; models
    that were not timed at all are named below."""
    timing = timing_records(config)
    modes = config.timing["modes"]
    devices = [name for name in DEVICES if len(select(timing, device=name))] or DEVICES[:1]
    cells, files = [], []
    for dataset, batch_size, model, mode in itertools.product(
        config.datasets, config.timing["batch_sizes"], config.models, modes
    ):
        if len(timing) and not len(select(timing, dataset=dataset, model=model)):
            continue
        cell = {
            "Dataset": dataset_label(config, dataset),
            "Batch": f"{batch_size:,}",
            "Model": model_label(config, model),
        }
        if len(modes) > 1:
            cell["Mode"] = mode
        keys = {"dataset": dataset, "batch_size": batch_size, "model": model, "mode": mode}
        origins = {}
        for device in devices:
            chosen = select(timing, device=device, **keys)
            shown = _cells(device, chosen)
            cell |= shown
            origins |= {name: list(chosen["file"]) for name in shown if shown[name]}
        cells.append(cell)
        files.append(origins)
    values = timing if len(timing) else pd.DataFrame(columns=COLUMNS)
    cells = pd.DataFrame(cells)
    save_table(values[COLUMNS], cells, config, "timing", _notes(config, timing, cells), files)


def _untimed(config: Config, timing: pd.DataFrame) -> list[str]:
    """A line for each dataset with models that were not timed."""
    notes = []
    for dataset in config.datasets:
        found = set(select(timing, dataset=dataset)["model"])
        missing = [model_label(config, model) for model in config.models if model not in found]
        who = "; ".join(missing) if found else "no model was timed"
        notes += [f"Not timed, {dataset_label(config, dataset)}: {who}."] if missing else []
    return notes


def _untaken(modes: list[str]) -> str:
    """What to add for modes in which models are timed one after the other."""
    others = [mode for mode in modes if mode != "eager"]
    return f", but for {' and '.join(others)} ones, timed one after the other" if others else ""


def _cells(device: str, rows: pd.DataFrame) -> dict[str, str]:
    name = DEVICE_LABELS[device]
    latency, latents, rate = (
        f"{name} {what}" for what in ("latency, ms", "prior alone, ms", "images/s")
    )
    images, prior = (_first(rows, part) for part in ("images", "latents"))
    if images is None:
        return {latency: "", latents: "", rate: ""}
    if images["left_out"]:
        return {latency: "*", latents: "", rate: ""}
    spread = f"[{images['q25']:.3g}, {images['q75']:.3g}]"
    mark = " !" if images["disturbed"] else ""
    return {
        latency: f"{images['median']:.3g} {spread}{mark}",
        latents: "" if prior is None or prior["left_out"] else f"{prior['median']:.3g}",
        rate: rate_text(images["images_per_second"]),
    }


def _first(rows: pd.DataFrame, part: str) -> pd.Series | None:
    chosen = select(rows, part=part)
    return chosen.iloc[0] if len(chosen) else None


def _notes(config: Config, timing: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    notes = [
        "Latency of one call, from random numbers to 8-bit images on the device: median "
        "[quartiles]; images per second at the median. Prior alone: the part of a call that draws "
        "what the decoder is given, for models that have such a part. Empty: not measured."
    ]
    if not len(timing):
        return notes
    missing = [DEVICE_LABELS[name] for name in DEVICES if name not in set(timing["device"])]
    notes += [f"{name}: not measured." for name in missing]
    notes += _untimed(config, timing)
    text = cells.astype(str).to_numpy().flatten()
    left_out = set(timing["left_out"]) - {""}
    if "*" in text:
        notes.append(f"* not timed: {'; '.join(sorted(left_out))}.")
    if any(cell.endswith(" !") for cell in text):
        notes.append("! timed beside other work on the machine: too slow by an unknown amount.")
    if not timing["trained"].all():
        who = "Some" if timing["trained"].any() else "All"
        notes.append(f"{who} were timed with fresh weights, on which the cost does not depend.")
    sessions = timing.groupby(["device", "dataset"], sort=False)["session"].nunique()
    notes += [
        f"{DEVICE_LABELS[device]}, {dataset_label(config, dataset)}: timed in {count} sessions, "
        "and only the models of one session took turns: ratios of others are less certain."
        for (device, dataset), count in sessions.items()
        if count > 1
    ] or ["All models of a dataset took turns" + _untaken(config.timing["modes"]) + "."]
    machines = timing.groupby("device")["hardware"].unique()
    notes += [f"{DEVICE_LABELS[name]}: {', '.join(found)}." for name, found in machines.items()]
    return notes + source_note(timing)

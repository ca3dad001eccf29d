"""Table `timing`: latency and throughput of sampling by dataset, batch size, model and device."""

import itertools

import pandas as pd

from benchmark.base.devices import DEVICE_LABELS
from benchmark.config.config import Config
from benchmark.records.names import rate_text
from paper_figures.base.artefact import Need, Table
from paper_figures.base.frames import (
    DEVICES,
    DISTURBED,
    disturbed_mark,
    machines,
    select,
    source_note,
    timing_records,
)
from paper_figures.base.style import Contents, model_label

TABLE = Table(
    "timing",
    needs=(Need("timing"),),
    caption="Latency of sampling by dataset, model, device and batch size: median and quartiles.",
)

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
    """Write tables/timing.{csv,md,tex}."""
    contents(config).save(TABLE.paths(config.run))


def contents(config: Config) -> Contents:
    """Return what the table says: median and quartiles, an empty cell where not timed; models that
    were not timed at all are named below."""
    timing = timing_records(config)
    modes = config.timing.modes
    devices = [name for name in DEVICES if len(select(timing, device=name))] or DEVICES[:1]
    untimed = _untimed(config, timing)
    cells, files = [], []
    for dataset, batch_size, model, mode in itertools.product(
        config.datasets, config.timing.batch_sizes, config.models, modes
    ):
        if model in untimed[dataset]:
            continue
        cell = {
            "Dataset": config.facts(dataset).title,
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
    notes = _notes(config, timing, cells, untimed)
    return Contents(values[COLUMNS], cells, notes, files)


def _untimed(config: Config, timing: pd.DataFrame) -> dict[str, list[str]]:
    """Return dataset -> the models that were not timed; none at all where nothing was."""
    if not len(timing):
        return {dataset: [] for dataset in config.datasets}
    timed = {dataset: set(rows["model"]) for dataset, rows in timing.groupby("dataset")}
    return {
        dataset: [model for model in config.models if model not in timed.get(dataset, ())]
        for dataset in config.datasets
    }


def _untimed_note(config: Config, dataset: str, models: list[str]) -> str:
    who = "; ".join(model_label(config, model) for model in models)
    if len(models) == len(config.models):
        who = "no model was timed"
    return f"Not timed, {config.facts(dataset).title}: {who}."


def _untaken(modes: list[str]) -> str:
    """Say what to add for modes in which models are timed one after the other."""
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
    return {
        latency: f"{images['median']:.3g} {spread}{disturbed_mark(images)}",
        latents: "" if prior is None or prior["left_out"] else f"{prior['median']:.3g}",
        rate: rate_text(images["images_per_second"]),
    }


def _first(rows: pd.DataFrame, part: str) -> pd.Series | None:
    chosen = select(rows, part=part)
    return chosen.iloc[0] if len(chosen) else None


def _notes(
    config: Config, timing: pd.DataFrame, cells: pd.DataFrame, untimed: dict[str, list[str]]
) -> list[str]:
    notes = [
        "Latency of one call, from random numbers to 8-bit images on the device: median "
        "[quartiles]; images per second at the median. Prior alone: the part of a call that draws "
        "what the decoder is given, for models that have such a part. Empty: not measured."
    ]
    if not len(timing):
        return notes
    missing = [DEVICE_LABELS[name] for name in DEVICES if name not in set(timing["device"])]
    notes += [f"{name}: not measured." for name in missing]
    notes += [_untimed_note(config, *names) for names in untimed.items() if names[1]]
    text = cells.astype(str).to_numpy().flatten()
    reasons = set(select(timing, part="images")["left_out"]) - {""}
    if "*" in text:
        notes.append(f"* not timed: {'; '.join(sorted(reasons))}.")
    if any(cell.endswith(" !") for cell in text):
        notes.append(DISTURBED)
    if not timing["trained"].all():
        who = "Some" if timing["trained"].any() else "All"
        notes.append(f"{who} were timed with fresh weights, on which the cost does not depend.")
    sessions = timing.groupby(["device", "dataset"], sort=False)["session"].nunique()
    notes += [
        f"{DEVICE_LABELS[device]}, {config.facts(dataset).title}: timed in {count} sessions, "
        "and only the models of one session took turns: ratios of others are less certain."
        for (device, dataset), count in sessions.items()
        if count > 1
    ] or ["All models of a dataset took turns" + _untaken(config.timing.modes) + "."]
    notes += [f"{machine}." for machine in machines(timing)]
    return notes + source_note(timing)

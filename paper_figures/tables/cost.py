"""Table `cost`: size, arithmetic and training time by dataset and model."""

import pandas as pd

from benchmark.base.devices import DEVICE_LABELS
from benchmark.config.config import Config
from paper_figures.base.artefact import Need, Table
from paper_figures.base.frames import (
    DEVICES,
    DISTURBED,
    disturbed_mark,
    machines,
    run_note,
    select,
    source_note,
    timing_records,
    training_records,
)
from paper_figures.base.style import Contents, model_label

TABLE = Table(
    "cost",
    needs=(Need("timing"), Need("training")),
    caption="What a sample and a training of each model cost: parameters, network evaluations, "
    "floating-point operations, time.",
)

COLUMNS = [
    "dataset",
    "model",
    "parameters",
    "nfe",
    "flops_per_image",
    "updates",
    "seconds_per_update",
    "training_seconds",
    "training_seeds",
    *(f"update_ms_{device}" for device in DEVICES),
]


def render(config: Config) -> None:
    """Write tables/cost.{csv,md,tex}."""
    contents(config).save(TABLE.paths(config.run))


def contents(config: Config) -> Contents:
    """Return what the table says: means over the seeds; empty cells where not measured."""
    timing, training = timing_records(config), training_records(config)
    updates = select(timing, part="update", left_out="")
    devices = [name for name in DEVICES if len(select(updates, device=name))]
    values, cells, files = [], [], []
    for dataset in config.datasets:
        for model in config.models:
            timed = select(timing, dataset=dataset, model=model)
            trained = select(training, dataset=dataset, model=model)
            row = {"dataset": dataset, "model": model}
            for frame, names in ((timed, ("nfe", "flops_per_image")), (trained, ("updates",))):
                row |= {name: frame[name].iloc[0] if len(frame) else None for name in names}
            sized = trained if len(trained) else timed
            row["parameters"] = sized["parameters"].iloc[0] if len(sized) else None
            if len(trained):
                row["training_seconds"] = trained["seconds"].mean()
                row["seconds_per_update"] = row["training_seconds"] / row["updates"]
                row["training_seeds"] = len(trained)
            in_turns = {
                device: select(updates, dataset=dataset, model=model, device=device)
                for device in devices
            }
            for device, times in in_turns.items():
                row[f"update_ms_{device}"] = times["median"].iloc[0] if len(times) else None
            values.append(row)
            cells.append(
                {
                    "Dataset": config.facts(dataset).title,
                    "Model": model_label(config, model),
                    "Parameters": _text(row, "parameters", ",.0f"),
                    "Network evaluations": _text(row, "nfe", ",.0f"),
                    "MFLOP per image": _text(row, "flops_per_image", ",.1f", 1e-6),
                    "Updates": _text(row, "updates", ",.0f"),
                    "ms per update": _text(row, "seconds_per_update", ",.1f", 1e3),
                    "Training, min": _text(row, "training_seconds", ",.1f", 1 / 60),
                    **{_column(device): _cell(times) for device, times in in_turns.items()},
                }
            )
            of_timing, of_training = (list(frame.get("file", [])) for frame in (timed, trained))
            origins = {"Parameters": list(sized.get("file", []))}
            origins |= dict.fromkeys(("Network evaluations", "MFLOP per image"), of_timing)
            origins |= dict.fromkeys(("Updates", "ms per update", "Training, min"), of_training)
            origins |= {_column(device): list(times["file"]) for device, times in in_turns.items()}
            files.append({column: names for column, names in origins.items() if names})
    frame = pd.DataFrame(values, columns=COLUMNS)
    notes = _notes(config, timing, training, updates)
    return Contents(frame, pd.DataFrame(cells), notes, files)


def _column(device: str) -> str:
    return f"{DEVICE_LABELS[device]} ms per update, in turns"


def _cell(times: pd.DataFrame) -> str:
    if not len(times):
        return ""
    row = times.iloc[0]
    return f"{row['median']:,.1f}{disturbed_mark(row)}"


def _text(row: dict, name: str, form: str, scale: float = 1.0) -> str:
    value = row.get(name)
    return "" if value is None else f"{scale * value:{form}}"


def _notes(
    config: Config, timing: pd.DataFrame, training: pd.DataFrame, updates: pd.DataFrame
) -> list[str]:
    notes = run_note(config)
    notes.append(
        "Network evaluations and floating-point operations of one sample: matrix products and "
        "convolutions, two operations for each multiply-add. Training: mean over the seeds, as it "
        "ran, beside whatever else the machine did."
    )
    if len(training):
        notes.append(f"Trained on: {'; '.join(sorted(training['hardware'].unique()))}.")
    if len(updates):
        fewest, most = updates["warmup"].min(), updates["warmup"].max()
        notes.append(
            "In turns: the median over updates of a fresh training with all cores, after "
            f"{fewest:.0f} to {most:.0f} untimed ones. {'; '.join(machines(updates))}."
        )
        if updates["disturbed"].any():
            notes.append(DISTURBED)
    return notes + source_note(timing, training)

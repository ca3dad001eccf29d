"""What the records of a run say, as data frames."""

from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.base import paths
from benchmark.base.arrays import read_arrays
from benchmark.base.devices import DEVICE_LABELS
from benchmark.base.errors import MissingError, RecordError
from benchmark.base.files import file_digest
from benchmark.base.foreign import LARGEST_TEXT, check_size
from benchmark.config.config import REAL, Config
from benchmark.config.jobs import Job, job
from benchmark.records.names import METRIC, count_of
from benchmark.records.record import read_record

DEVICES = ("cpu", "cuda")


def training_records(config: Config) -> pd.DataFrame:
    """One row per finished training: dataset, model, seed, updates, seconds, hardware, parameters,
    source, file, and what was logged over its last updates, as final_<name>."""
    rows = []
    for dataset, model, seed in _jobs(config, config.models):
        # An entry that uses the weights of another shows that one's training.
        job = config.training_job(dataset, model)
        record = _read(paths.TRAINING_RECORD, config, job, seed=seed)
        if record:
            metrics = record["metrics"]
            rows.append(
                _names(record)
                | {
                    "model": model,
                    "updates": metrics["updates"],
                    "parameters": metrics["parameters"],
                    "seconds": record["wall_time_s"],
                    "hardware": hardware(record),
                }
                | {f"final_{name}": value for name, value in metrics["final"].items()}
            )
    return pd.DataFrame(rows)


def quality_records(config: Config) -> pd.DataFrame:
    """One row per metric value: dataset, model, seed, metric, value, source, file, images (the
    smaller number of drawn and real ones), and classifier, the digest of its weights."""
    rows = []
    for dataset, model, seed in _jobs(config, [REAL, *config.evaluated_models]):
        job = config.evaluation_job(dataset, model)
        record = _read(paths.METRICS_RECORD, config, job, seed=seed)
        if record:
            values = record["metrics"]
            for name, value in values.items():
                found = METRIC.fullmatch(name)
                if found:
                    drawn = count_of(found["count"])
                    # A likelihood may be of a split that nothing is compared with.
                    images = min(drawn, values.get(f"reference_count_{found['split']}", drawn))
                    found_with = {"images": images, "classifier": values.get("classifier_sha256")}
                    rows.append(_names(record) | {"metric": name, "value": value} | found_with)
    return pd.DataFrame(rows)


def timing_records(config: Config) -> pd.DataFrame:
    """One row per time: dataset, model, device, hardware, nfe, ..., mode, part ("images",
    "latents", "update"), batch_size, median, ...; those left out say why in `left_out`."""
    rows = []
    for device in DEVICES:
        for dataset in config.datasets:
            for model in config.models:
                job = config.timing_job(dataset, model)
                record = _read(paths.TIMING_RECORD, config, job, device=device)
                if not record:
                    continue
                metrics = record["metrics"]
                shared = _names(record) | {"device": device, "hardware": hardware(record)}
                for name in (
                    "nfe",
                    "parameters",
                    "flops_per_image",
                    "trained",
                    "disturbed",
                    "session",
                ):
                    shared[name] = metrics[name]
                update = metrics.get("update")
                updates = [{"mode": "eager", "part": "update"} | update] if update else []
                for row in metrics["sampling"] + updates:
                    flat = {key: value for key, value in row.items() if key != "latency_ms"}
                    rows.append(shared | {"left_out": ""} | flat | row.get("latency_ms", {}))
    return pd.DataFrame(rows)


DISTURBED = "! timed beside other work on the machine: too slow by an unknown amount."


def disturbed_mark(row: pd.Series) -> str:
    """What follows a time in a cell that `DISTURBED` explains below the table."""
    return " !" if row["disturbed"] else ""


def machines(timing: pd.DataFrame) -> list[str]:
    """Each device of these times, and the hardware that it was."""
    found = timing.groupby("device")["hardware"].unique()
    return [f"{DEVICE_LABELS[name]}: {', '.join(names)}" for name, names in found.items()]


def select(frame: pd.DataFrame, **keys) -> pd.DataFrame:
    """The rows with these values in these columns."""
    if not len(frame):
        return frame
    return frame[(frame[list(keys)] == pd.Series(keys)).all(axis=1)]


def values_of(quality: pd.DataFrame, name: str, **keys) -> pd.Series:
    """A metric's values in the rows with these keys, of the first reference that has any.

    Args:
        name: the metric's plain name.
    """
    chosen = select(quality, **keys)
    if not len(chosen):
        return pd.Series(dtype=float)
    named = chosen[[METRIC.fullmatch(metric)["name"] == name for metric in chosen["metric"]]]
    return named[named["metric"].isin(named["metric"].iloc[:1])]["value"]


def histories(config: Config, dataset: str) -> pd.DataFrame:
    """The loss histories of one dataset: model, seed, update, seconds, loss, ..."""
    frames = []
    for _, model, seed in _jobs(config, config.trained_models, [dataset]):
        path = paths.fill(paths.HISTORY, config.run, dataset=dataset, model=model, seed=seed)
        if path.exists():
            frames.append(read_history(path).assign(model=model, seed=seed))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def read_history(path: Path) -> pd.DataFrame:
    """A training's history, a row per stretch: update, seconds, loss, ...

    Raises:
        RecordError: it is damaged.
    """
    try:
        check_size(path, LARGEST_TEXT)
        frame = pd.read_csv(path, dtype=float)
    except (OSError, ValueError) as error:  # what pandas raises are ValueErrors
        raise RecordError(f"{path}: cannot be read as a loss history: {error}") from error
    missing = {"update", "seconds", "loss"} - set(frame)
    if missing:
        raise RecordError(f"{path}: is no loss history: it has no {', '.join(sorted(missing))}")
    return frame


def diagnostics(config: Config, dataset: str, model: str, seed: int) -> dict[str, np.ndarray]:
    """The arrays that show what a model learned; empty where there are none."""
    path = paths.fill(paths.DIAGNOSTICS, config.run, dataset=dataset, model=model, seed=seed)
    if not path.exists():
        return {}
    return read_arrays(path, "diagnostics")


def inspected_models(config: Config, dataset: str) -> list[str]:
    """The entries of KAEM whose latents were looked into, of the first seed.

    Raises:
        MissingError: none were.
    """
    names = {"dataset": dataset, "seed": config.seeds[0]}
    paths_of = {
        model: paths.fill(paths.INSPECTION_RECORD, config.run, model=model, **names)
        for model in config.inspected_models
    }
    found = [model for model, path in paths_of.items() if path.exists()]
    if not found:
        raise MissingError(
            f"{config.run}: no latents of {dataset} were looked into\n"
            f"  Run `python -m benchmark {_inspect(config, dataset, config.inspected_models[0])}` "
            "with this configuration."
        )
    return found


def inspection(config: Config, dataset: str, model: str) -> tuple[dict, dict[str, np.ndarray]]:
    """What was found in the first seed's latents: the record's metrics, and the arrays.

    Raises:
        MissingError: nobody has looked yet; RecordError: at another model.
    """
    command, job = _inspect(config, dataset, model), config.inspection_job(dataset, model)
    patterns = paths.INSPECTION_RECORD, paths.INSPECTION
    return _with_arrays(*patterns, config, job, command, seed=config.seeds[0])


def independence_records(config: Config) -> pd.DataFrame:
    """One row per KAEM of the first seed of which it was measured: dataset, model, seed, source,
    file, and the distances of `benchmark.inspection.independence`."""
    rows = []
    for dataset in filter(config.measures_independence, config.datasets):
        for model in config.inspected_models:
            job = config.inspection_job(dataset, model)
            record = _read(paths.INSPECTION_RECORD, config, job, seed=config.seeds[0])
            if record:
                rows.append(_names(record) | record["metrics"]["independence"])
    return pd.DataFrame(rows)


def _inspect(config: Config, dataset: str, model: str) -> str:
    return f"inspect --dataset {dataset} --model {model} --seed {config.seeds[0]}"


def power_comparison(config: Config) -> tuple[dict, dict[str, np.ndarray]]:
    """How the population and ULA sampled two modes: the record, and the arrays.

    Raises:
        MissingError: they were not compared yet.
    """
    return _with_arrays(paths.POWER_RECORD, paths.POWER, config, job(config, "power"), "power")


def samples_path(config: Config, dataset: str, model: str, seed: int) -> Path:
    """Where the drawn images of one job lie."""
    return paths.fill(paths.SAMPLES, config.run, dataset=dataset, model=model, seed=seed)


def source_note(*frames: pd.DataFrame) -> list[str]:
    """A line that says so when the records were made by different versions of the code."""
    sources = {source for frame in frames if len(frame) for source in frame["source"]}
    if len(sources) < 2:
        return []
    return [f"Made by {len(sources)} versions of the source: {', '.join(sorted(sources))}."]


def _jobs(config: Config, models: list[str], datasets: list[str] | None = None):
    for dataset in datasets or config.datasets:
        for model in models:
            for seed in config.seeds_of(model):
                yield dataset, model, seed


def hardware(record: dict) -> str:
    """What a record was made on: the GPU, or the CPU and how many threads."""
    origin = record["provenance"]
    if origin["gpu"]:
        return origin["gpu"]
    threads = "1 thread" if origin["threads"] == 1 else f"{origin['threads']} threads"
    return f"{origin['cpu']}, {threads}"


def _names(record: dict) -> dict:
    names = {key: record[key] for key in ("dataset", "model", "seed")}
    return names | {"source": record["provenance"]["source_digest"], "file": record["file"]}


def _with_arrays(
    record_pattern: str, pattern: str, config: Config, job: Job, command: str, **names
) -> tuple[dict, dict[str, np.ndarray]]:
    record = _read(record_pattern, config, job, **names)
    advice = f"\n  Run `python -m benchmark {command}` with this configuration."
    if record is None:
        path = paths.fill(record_pattern, config.run, dataset=job.dataset, model=job.model, **names)
        raise MissingError(f"{path}: is not there{advice}")
    path = paths.fill(pattern, config.run, dataset=job.dataset, model=job.model, **names)
    if not path.exists() or file_digest(path) != record["metrics"]["arrays_sha256"]:
        raise RecordError(f"{path}: is missing or not what its record describes{advice}")
    return record["metrics"], read_arrays(path, "arrays of a figure")


def _read(pattern: str, config: Config, job: Job, **names) -> dict | None:
    """The job's record with its "file"; None when it was not measured, RecordError when it is of
    another job."""
    path = paths.fill(pattern, config.run, dataset=job.dataset, model=job.model, **names)
    if not path.exists():
        return None
    record = read_record(path)
    found = {key: record[key] for key in ("run", "dataset", "model", "config_hash")}
    wanted = {
        "run": job.run,
        "dataset": job.dataset,
        "model": job.model,
        "config_hash": job.config_hash,
    }
    if "seed" in names:
        found["seed"], wanted["seed"] = record["seed"], names["seed"]
    if found != wanted:
        differing = ", ".join(
            f"{k} {found[k]} (now {wanted[k]})" for k in wanted if found[k] != wanted[k]
        )
        raise RecordError(
            f"{path}: belongs to another job: {differing}\n  Run the workflow again to replace it."
        )
    return record | {"file": str(path)}

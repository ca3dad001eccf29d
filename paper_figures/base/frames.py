"""What the records of a run say, as data frames."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.base import paths
from benchmark.base.arrays import arrays_digest, read_arrays
from benchmark.base.devices import DEVICE_LABELS
from benchmark.base.errors import MissingError, RecordError
from benchmark.base.foreign import LARGEST_TEXT, check_size
from benchmark.config.config import REAL, Config
from benchmark.config.jobs import Job, job_of, jobs
from benchmark.records.folder import own_record, own_records
from benchmark.records.measurements import LeftOut, Time
from benchmark.records.names import METRIC
from benchmark.records.record import Record, Subject

DEVICES = tuple(DEVICE_LABELS)
# What a timing record says of a model, whatever the batch.
OF_A_MODEL = ("nfe", "parameters", "flops_per_image", "trained", "disturbed", "session")


def training_records(config: Config) -> pd.DataFrame:
    """Return a row per finished training: dataset, model, seed, updates, seconds, hardware,
    parameters, source, file, and what was logged over its last updates, as final_<name>."""
    records = {(r.dataset, r.model, r.seed): r for r in own_records(config, "training")}
    rows = []
    for dataset, model, seed in _jobs(config, config.models):
        # An entry that uses the weights of another shows that one's training.
        record = records.get((dataset, config.trained_entry(model), seed))
        if record:
            metrics = record.metrics
            row = {
                "model": model,
                "updates": metrics.updates,
                "parameters": metrics.parameters,
                "seconds": record.wall_time_s,
                "hardware": record.provenance.hardware,
            }
            final = {f"final_{name}": value for name, value in metrics.final.items()}
            rows.append(_names(record) | row | final)
    return pd.DataFrame(rows)


def quality_records(config: Config) -> pd.DataFrame:
    """Return a row per metric value: dataset, model, seed, metric, value, source, file, images (the
    smaller number of drawn and real ones), and classifier, the digest of its weights."""
    records = own_records(config, "metrics", "training", "classifier")
    records = {(r.dataset, r.model, r.seed): r for r in records if r.kind == "metrics"}
    rows = []
    for job in _jobs(config, [REAL, *config.evaluated_models]):
        record = records.get(job)
        for measured in record.metrics.values if record else ():
            # A likelihood may be of a split that nothing is compared with.
            real = record.metrics.reference_count(measured.split)
            row = {
                "metric": measured.key,
                "value": measured.value,
                "images": min(measured.count, real or measured.count),
                "classifier": record.metrics.classifier_sha256,
            }
            rows.append(_names(record) | row)
    return pd.DataFrame(rows)


def subset_records(config: Config, dataset: str) -> pd.DataFrame:
    """Return a row per subset of the first seed's samples: model, metric, value (the limit that was
    extrapolated), error, images, distance; none of records by earlier versions."""
    rows = []
    for model in config.evaluated_models:
        record = own_record(job_of(config, "metrics", dataset, model, config.seeds_of(model)[0]))
        metrics = record.metrics if record else None
        for name, subsets in (metrics.subsets if metrics and metrics.subsets else {}).items():
            plain, split, count = METRIC.fullmatch(name).groups()
            shared = {
                "model": model,
                "metric": name,
                "value": metrics.get(f"{plain}_infinity_{split}_{count}"),
                "error": metrics.get(f"{plain}_infinity_se_{split}_{count}"),
            }
            rows += [shared | dict(subset) for subset in subsets]
    return pd.DataFrame(rows)


def timing_records(config: Config) -> pd.DataFrame:
    """Return a row per time: dataset, model, device, hardware, nfe, ..., mode, part ("images",
    "latents", "update"), batch_size, median, ...; those left out say why in `left_out`."""
    records = {r.subject: r for r in own_records(config, "timing", "training")}
    rows = []
    for device, dataset, model in product(DEVICES, config.datasets, config.models):
        record = records.get(Subject("timing", dataset, model, device))
        if not record:
            continue
        metrics = record.metrics
        shared = _names(record) | {"device": device, "hardware": record.provenance.hardware}
        shared |= {name: getattr(metrics, name) for name in OF_A_MODEL} | {"left_out": ""}
        rows += [shared | _flat(time) for time in metrics.sampling]
        if metrics.update:
            rows.append(shared | {"mode": "eager", "part": "update"} | _flat(metrics.update))
    return pd.DataFrame(rows)


def _flat(time: Time | LeftOut) -> dict:
    values = dict(time)
    return values | dict(values.pop("latency_ms", {}))


DISTURBED = "! timed beside other work on the machine: too slow by an unknown amount."


def disturbed_mark(row: pd.Series) -> str:
    """Return what follows a time in a cell; `DISTURBED` explains it below the table."""
    return " !" if row["disturbed"] else ""


def machines(timing: pd.DataFrame) -> list[str]:
    """Return a line for each device of these times, and the hardware that it was."""
    hardware = timing.groupby("device")["hardware"].unique()
    return [f"{DEVICE_LABELS[name]}: {', '.join(names)}" for name, names in hardware.items()]


def select(frame: pd.DataFrame, **keys) -> pd.DataFrame:
    """Return the rows with these values in these columns."""
    if not len(frame):
        return frame
    return frame[(frame[list(keys)] == pd.Series(keys)).all(axis=1)]


def values_of(quality: pd.DataFrame, name: str, **keys) -> pd.Series:
    """Return a metric's values in the rows with these keys, of the first reference that has any.

    Args:
        name: the metric's plain name.
    """
    chosen = select(quality, **keys)
    if not len(chosen):
        return pd.Series(dtype=float)
    named = chosen[[METRIC.fullmatch(metric)["name"] == name for metric in chosen["metric"]]]
    return named[named["metric"].isin(named["metric"].iloc[:1])]["value"]


def histories(config: Config, dataset: str) -> pd.DataFrame:
    """Read the loss histories of one dataset: model, seed, update, seconds, loss, ..."""
    frames = []
    for _, model, seed in _jobs(config, config.trained_models, [dataset]):
        path = paths.fill(paths.HISTORY, config.run, dataset=dataset, model=model, seed=seed)
        if path.exists():
            frames.append(read_history(path).assign(model=model, seed=seed))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def read_history(path: Path) -> pd.DataFrame:
    """Read a training's history, a row per stretch: update, seconds, loss, ...

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
    """Read the arrays that show what a model learned; empty where there are none."""
    path = paths.fill(paths.DIAGNOSTICS, config.run, dataset=dataset, model=model, seed=seed)
    if not path.exists():
        return {}
    return read_arrays(path, "diagnostics")


def kept_samples(config: Config, dataset: str, model: str) -> dict[int, np.ndarray]:
    """Read the samples that the first seed's training kept: update -> uint8 (n, C, H, W), in order;
    empty for a training by an earlier version, and for models that take long to sample."""
    arrays = diagnostics(config, dataset, model, config.seeds[0])
    kept = {name.removeprefix("samples_"): images for name, images in arrays.items()}
    return {int(update): kept[update] for update in sorted(filter(str.isdigit, kept), key=int)}


def inspected_models(config: Config, dataset: str, *, copula: bool = False) -> list[str]:
    """Return the entries of KAEM whose latents were looked into, of the first seed.

    Args:
        copula: whether those with a copula alone.

    Raises:
        MissingError: none were.
    """
    names = {"dataset": dataset, "seed": config.seeds[0]}
    wanted = [m for m in config.inspected_models if config.has_copula(m) or not copula]
    pattern = paths.INSPECTION_RECORD
    models = [m for m in wanted if paths.fill(pattern, config.run, model=m, **names).exists()]
    if not models:
        advice = _advice(_inspect(config, dataset, wanted[0])) if wanted else ""
        raise MissingError(f"{config.run}: no latents of {dataset} were looked into{advice}")
    return models


def inspection(
    config: Config, dataset: str, model: str, *needed: str
) -> tuple[dict, dict[str, np.ndarray]]:
    """Read what was learned of the first seed's latents: the record's metrics, and the arrays.

    Args:
        needed: arrays that looking by earlier versions did not give.

    Raises:
        MissingError: nobody has looked yet; RecordError: at another model.
    """
    job = job_of(config, "inspection", dataset, model)
    return _with_arrays(job, _inspect(config, dataset, model), *needed)


def independence_records(config: Config) -> pd.DataFrame:
    """Return a row per KAEM of the first seed of which it was measured: dataset, model, seed,
    source, file, and the distances of `benchmark.inspection.independence`."""
    records = filter(None, (own_record(job) for job in jobs(config, "inspection")))
    return pd.DataFrame(
        [_names(r) | dict(r.metrics.independence) for r in records if r.metrics.independence]
    )


def _inspect(config: Config, dataset: str, model: str) -> str:
    return f"inspect --dataset {dataset} --model {model} --seed {config.seeds[0]}"


def power_comparison(config: Config, *needed: str) -> tuple[dict, dict[str, np.ndarray]]:
    """Read how the population and ULA sampled two modes: the record's metrics, and the arrays.

    Raises:
        MissingError: they were not compared yet, or by a version without an array that is needed.
    """
    return _with_arrays(job_of(config, "power"), "power", *needed)


def run_note(config: Config) -> list[str]:
    """Return the configuration's own note, where it has one."""
    return [config.note] if config.note else []


def source_note(*frames: pd.DataFrame) -> list[str]:
    """Return a line that says so when different versions of the code made the records."""
    sources = {source for frame in frames if len(frame) for source in frame["source"]}
    if len(sources) < 2:
        return []
    return [f"Made by {len(sources)} versions of the source: {', '.join(sorted(sources))}."]


def _jobs(config: Config, models: list[str], datasets: list[str] | None = None):
    for dataset in datasets or config.datasets:
        for model in models:
            for seed in config.seeds_of(model):
                yield dataset, model, seed


def _names(record: Record) -> dict:
    names = {"dataset": record.dataset, "model": record.model, "seed": record.seed}
    return names | {"source": record.provenance.source_digest, "file": str(record.path)}


def _advice(command: str) -> str:
    return f"\n  Run `python -m benchmark {command}` with this configuration."


def _with_arrays(job: Job, command: str, *needed: str) -> tuple[dict, dict[str, np.ndarray]]:
    """Return the metrics of a job's record, and the arrays beside it."""
    record = own_record(job)
    advice = _advice(command)
    if record is None:
        raise MissingError(f"{job.path()}: is not there{advice}")
    path = job.path("arrays")
    if not path.exists() or arrays_digest(path) != record.metrics.arrays_sha256:
        raise RecordError(f"{path}: is missing or not what its record describes{advice}")
    arrays = read_arrays(path, "arrays of a figure")
    for name in set(needed) - set(arrays):
        raise MissingError(f"{path}: has no {name}, which earlier versions did not store{advice}")
    return record.metrics.model_dump(exclude_unset=True), arrays

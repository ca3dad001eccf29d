"""`python -m benchmark publish`: copy a run's records to results/published/, to be committed.

What is copied is small and is all that tables and figures need: every record, the loss histories
and the arrays beside them, and the first images of each samples file. Weights and datasets are not.
"""

import shutil
from pathlib import Path

import yaml

from benchmark import paths
from benchmark.config import REAL, Config
from benchmark.errors import RecordError
from benchmark.files import atomic
from benchmark.records import read_record
from benchmark.sample import open_samples, save_samples

FOLDERS = ("data", "classifier", "training", "metrics", "timing", "inspection", "power")
KINDS = (".json", ".csv", ".npz")
SHOWN = 64  # images of each samples file


def publish(config: Config) -> str:
    """Copy the run's files; those of an earlier publication of the run are replaced.

    Raises:
        RecordError: a record is damaged, or there is none; then nothing was changed.
    """
    source = paths.fill(paths.RUN, config.run)
    files = [
        path
        for folder in FOLDERS
        for path in sorted((source / folder).rglob("*"))
        if path.suffix in KINDS
    ]
    records = [path for path in files if path.suffix == ".json" and path.parts[-2] != "data"]
    for path in records:
        read_record(path)
    if not records:
        raise RecordError(f"{source}: there are no records to publish\n  Run the workflow first.")
    target = Path(paths.PUBLISHED) / config.run
    unfinished = target.with_name(f".{target.name}.publishing")
    shutil.rmtree(unfinished, ignore_errors=True)
    for path in files:
        copy = unfinished / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    _copy_samples(config, source, unfinished)
    with atomic(unfinished / "config.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(config.values, sort_keys=False))
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)
    return f"published {len(records)} records of {source} in {target}"


def _copy_samples(config: Config, source: Path, target: Path) -> None:
    """The first images of the first seed, which the figures show."""
    for dataset in config.datasets:
        for model in (REAL, *config.evaluated_models):
            names = {"dataset": dataset, "model": model, "seed": config.seeds[0]}
            path = paths.fill(paths.SAMPLES, config.run, **names)
            if path.exists():
                job = config.sampling_job(dataset, model)
                images = open_samples(path, job).first(SHOWN)
                save_samples(target / path.relative_to(source), [images], images.shape, job)

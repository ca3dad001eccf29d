"""`python -m benchmark publish`: a run's results, to be committed; `restore`: its weights, back.

What is published is small: all that tables and figures need (every record, the loss histories and
the arrays beside them, the first images of each samples file) and, where it is asked for, what it
takes to draw and measure the images again: the classifiers, and small weights of the first seed.

Records of the same configuration that were made again, on another machine say, may lie in a folder
`repeat/` of the run. They are published with it, and `snakemake figures` compares them.
"""

import filecmp
import shutil
from pathlib import Path

import yaml

from benchmark.base import paths
from benchmark.base.errors import RecordError
from benchmark.base.files import atomic
from benchmark.base.paths import REPEAT
from benchmark.config.config import Config
from benchmark.config.jobs import jobs
from benchmark.evaluation.samples import open_samples, save_samples
from benchmark.records.record import read_record

FOLDERS = ("data", "classifier", "training", "metrics", "timing", "inspection", "power", REPEAT)
SUFFIXES = (".json", ".csv", ".npz")
SHOWN = 64  # images of each samples file
LARGEST_WEIGHTS = 4 * 2**20  # bytes of a model's weights that are published


def publish(config: Config, *, weights: bool = False) -> str:
    """Copy the run's files; those of an earlier publication of the run are replaced.

    Args:
        weights: also those of the classifiers and of the first seed.

    Raises:
        RecordError: a record is damaged, or there is none; then nothing was changed.
    """
    source = paths.fill(paths.RUN, config.run)
    files = [
        path
        for folder in FOLDERS
        for path in sorted((source / folder).rglob("*"))
        if path.suffix in SUFFIXES
    ]
    files += _small_weights(config) if weights else []
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
        temporary.write_text(yaml.safe_dump(config.values, sort_keys=False), encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)
    return f"published {len(records)} records of {source} in {target}"


def restore(config: Config) -> str:
    """Copy the published weights of the run, and of its classifiers, to where the steps look for
    them. Files that are there already stay.

    Raises:
        RecordError: no weights are published, or another file is in the way; then nothing was
            changed.
    """
    source, target = Path(paths.PUBLISHED) / config.run, paths.fill(paths.RUN, config.run)
    files = [
        path.relative_to(source)
        for folder in ("classifier", "weights")
        for path in sorted((source / folder).rglob("*"))
        if path.is_file()
    ]
    if not any(path.suffix == ".safetensors" for path in files):
        raise RecordError(f"{source}: no weights are published there")
    missing = [path for path in files if not (target / path).exists()]
    for path in set(files).difference(missing):
        if not filecmp.cmp(source / path, target / path, shallow=False):
            raise RecordError(
                f"{target / path}: is there already, and is not what was published"
                f"\n  Move {target} away and restore again."
            )
    for path in missing:
        with atomic(target / path) as temporary:
            shutil.copyfile(source / path, temporary)
    trained = [f"{d}/{m}" for d in config.datasets for m in config.trained_models]
    absent = [name for name in trained if not (source / "weights" / name).exists()]
    note = f"\n  No weights are published of {', '.join(absent)}: train them." if absent else ""
    return f"restored {len(missing)} files of {source} in {target}{note}"


def _small_weights(config: Config) -> list[Path]:
    """Return the classifiers, without which nothing can be measured again, and the first seed's
    weights, where they are small."""
    classifiers = [job.path("weights") for job in jobs(config, "classifier")]
    trained = [job.path("weights") for job in jobs(config, "training", seed=config.seeds[0])]
    small = [p for p in trained if p.is_file() and p.stat().st_size <= LARGEST_WEIGHTS]
    return [path for path in classifiers if path.is_file()] + small


def _copy_samples(config: Config, source: Path, target: Path) -> None:
    """Copy the first images of the first seed, which the figures show."""
    for job in jobs(config, "sampling", seed=config.seeds[0]):
        path = job.path("samples")
        if path.exists():
            images = open_samples(path, job).first(SHOWN)
            save_samples(target / path.relative_to(source), [images], images.shape, job)

"""`python -m benchmark publish`: a run's results, to be committed; `restore`: its weights, back.

What is published is small: every record; the loss histories, and of the first seed the arrays and
the first images, as far as tables and figures show them. Where it is asked for also what it takes
to draw and measure images again: the classifiers, the small weights of the first seed without their
encoders, and the features of the real images. `verify` checks all of it.

Records of the same configuration that were made again, on another machine say, may lie in a folder
`repeat/` of the run. They are published with it, and `snakemake figures` compares them.
"""

import filecmp
import shutil
from pathlib import Path

import yaml

from benchmark.base import paths
from benchmark.base.devices import use_device
from benchmark.base.errors import RecordError
from benchmark.base.files import atomic
from benchmark.base.paths import REPEAT
from benchmark.claims.gates import first_reference
from benchmark.config.config import Config
from benchmark.config.jobs import Job, jobs
from benchmark.data.dataset import load_data
from benchmark.evaluation.evaluate import classifier_features, split_features
from benchmark.evaluation.reference import save_reference
from benchmark.evaluation.samples import open_samples, save_samples
from benchmark.records.record import read_record
from benchmark.run.checksums import write_checksums
from benchmark.run.thinning import thin_arrays, thin_history
from benchmark.training.weights import publish_weights

FOLDERS = ("data", "classifier", "training", "metrics", "timing", "inspection", "power", REPEAT)
COPIES = {".json": shutil.copyfile, ".csv": thin_history, ".npz": thin_arrays}
SHOWN = 25  # images of each samples file
LARGEST_WEIGHTS = 3_000_000  # bytes of a file of weights that is published


def publish(config: Config, *, weights: bool = False) -> str:
    """Copy the run's files; those of an earlier publication of the run are replaced.

    Args:
        weights: also those of the classifiers and of the first seed, and the features of the
            real images, for which the dataset is needed.

    Raises:
        RecordError: a file is damaged, or there is no record; DataError: the dataset is missing;
            then nothing was changed.
    """
    source = config.folder
    files = [
        path
        for folder in FOLDERS
        for path in sorted((source / folder).rglob("*"))
        if path.suffix in COPIES and not _is_of_later_seed(path, config)
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
        COPIES[path.suffix](path, _place(unfinished / path.relative_to(source)))
    _copy_samples(config, unfinished)
    if weights:
        _copy_weights(config, unfinished)
    with atomic(unfinished / "config.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(config.values, sort_keys=False), encoding="utf-8")
    write_checksums(unfinished)
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)
    return f"published {len(records)} records of {source} in {target}"


def _place(path: Path) -> Path:
    """Return a path whose folder is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _is_of_later_seed(path: Path, config: Config) -> bool:
    """Say whether a file holds arrays of another seed than the first, which no figure shows."""
    return path.suffix == ".npz" and path.stem not in (f"seed{config.seeds[0]}", "power")


def restore(config: Config) -> str:
    """Copy the published weights of the run, and of its classifiers, to where the steps look for
    them. Files that are there already stay.

    Raises:
        RecordError: no weights are published, or another file is in the way; then nothing was
            changed.
    """
    source, target = Path(paths.PUBLISHED) / config.run, config.folder
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


def _copy_weights(config: Config, target: Path) -> None:
    """Copy the classifiers, what draws the first seed's images where it is small, and the features
    of the real images."""
    trained = jobs(config, "training", seed=config.seeds[0])
    for job in filter(lambda each: each.path("weights").is_file(), trained):
        copy = job.path("weights", target)
        publish_weights(job.path("weights"), copy)
        if copy.stat().st_size > LARGEST_WEIGHTS:
            copy.unlink()
            copy.parent.rmdir()
    for job in jobs(config, "classifier"):
        path = job.path("weights")
        if path.is_file():
            shutil.copyfile(path, _place(job.path("weights", target)))
            _copy_reference(config, job, target)


def _copy_reference(config: Config, classifier: Job, target: Path) -> None:
    """Copy the features of the real images that were published before, or extract them."""
    path = paths.fill(paths.REFERENCE, config.run, dataset=classifier.dataset)
    copy = _place(target / path.relative_to(config.folder))
    if path.exists():
        shutil.copyfile(path, copy)
        return
    device = use_device(config.device, config.threads)
    extractor = classifier_features(config, classifier.dataset, device)
    data = load_data(config, classifier.dataset)
    split = first_reference(config, classifier.dataset)
    save_reference(copy, split_features(config, data, split, extractor), extractor.digest)


def _copy_samples(config: Config, target: Path) -> None:
    """Copy the first images of the first seed, which the figures show."""
    for job in jobs(config, "sampling", seed=config.seeds[0]):
        path = job.path("samples")
        if path.exists():
            images = open_samples(path, job).first(SHOWN)
            save_samples(job.path("samples", target), [images], images.shape, job)

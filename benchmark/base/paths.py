"""Where each file lies: the one place that knows, for the commands and the workflow.

The patterns hold {run}, {dataset}, {model} (the entry's name in the configuration), {seed} and
{device}; `fill` fills them here, Snakemake's wildcards in `workflow/rules`.
"""

import os
from pathlib import Path

from benchmark.base.errors import BenchmarkError, DataError

ROOT = Path(__file__).resolve().parent.parent.parent  # of the repository


def _filled_in(path: str) -> str:
    return os.path.expanduser(os.path.expandvars(path))  # noqa: PTH111 (pathlib's raises)


RESULTS = _filled_in(os.environ.get("KAEM_RESULTS") or "results")
PUBLISHED = "results/published"
CHECKSUMS = "checksums.sha256"  # in a published run's folder, of its files, as sha256sum has them
REPEAT = "repeat"  # in a run's folder, the records of a rerun

RUN = RESULTS + "/{run}"

DATA = RUN + "/data/{dataset}.json"
CLASSIFIER = RUN + "/classifier/{dataset}.safetensors"
REFERENCE = RUN + "/reference/{dataset}.npz"  # of a published run, in place of the real images
CLASSIFIER_RECORD = RUN + "/classifier/{dataset}.json"

_JOB = "/{dataset}/{model}/seed{seed}"
WEIGHTS = RUN + "/weights" + _JOB + ".safetensors"
TRAINING_RECORD = RUN + "/training" + _JOB + ".json"
HISTORY = RUN + "/training" + _JOB + ".csv"
DIAGNOSTICS = RUN + "/training" + _JOB + ".npz"
CHECKPOINTS = RUN + "/checkpoints" + _JOB + "-{config_hash}"
SAMPLES = RUN + "/samples" + _JOB + ".npz"
METRICS_RECORD = RUN + "/metrics" + _JOB + ".json"

INSPECTION = RUN + "/inspection" + _JOB + ".npz"
INSPECTION_RECORD = RUN + "/inspection" + _JOB + ".json"
POWER = RUN + "/power/power.npz"
POWER_RECORD = RUN + "/power/power.json"

TIMING_RECORD = RUN + "/timing/{device}/{dataset}/{model}.json"

BENCH = RUN + "/{name}"

CLAIMS = RUN + "/claims.{format}"
VERDICTS = RUN + "/verdicts.md"
LOG = RUN + "/logs/{step}.log"
DRAWN = RUN + "/drawn/{step}.json"


def fill(pattern: str, run: str, **names: str | int) -> Path:
    """Fill a pattern into a path relative to the working directory."""
    return Path(pattern.format(run=run, **names))


def made_again(path: str | Path) -> str:
    """Say in a line how a damaged file of a run comes back: a published one is not made here."""
    if Path(PUBLISHED) in (Path(path), *Path(path).parents):
        return "\n  Get it back: git checkout results/published, or unpack the archive again."
    return "\n  Delete it and run the workflow again."


def check_places() -> None:
    """Refuse a working directory that was deleted, and results where no folder can be.

    Raises:
        BenchmarkError: one of them.
    """
    try:
        folder = Path.cwd() / RESULTS
    except FileNotFoundError as error:
        raise BenchmarkError("the working directory is gone\n  Go to one that is there.") from error
    if set("{}") & set(RESULTS):
        raise BenchmarkError(f"KAEM_RESULTS: {RESULTS} has braces\n  Name a folder without.")
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise BenchmarkError(
            f"{there} is a file, and results are to go into {folder}\n"
            "  Move it away, or name another folder in KAEM_RESULTS."
        )


def _expanded(path: str) -> Path:
    """Fill in `~` and `$NAME`, which no shell has filled in where a file names a path.

    Raises:
        DataError: the user or the variable is not known.
    """
    full = _filled_in(path)
    if full.startswith("~") or "$" in full:  # a folder of that name would be made
        raise DataError(f"{path} names a variable or a user that is not known here")
    return Path(full)


def data_root(configured: str) -> Path:
    """Return the folder of the datasets: KAEM_DATA_ROOT, else the configured one."""
    return _expanded(os.environ.get("KAEM_DATA_ROOT") or configured)


def cache_root(configured: str) -> Path:
    """Return the folder of prepared images and features of real images.

    It is KAEM_CACHE_ROOT, else below the configured data folder, also where KAEM_DATA_ROOT names
    another one to read from.
    """
    return _expanded(os.environ.get("KAEM_CACHE_ROOT") or str(Path(configured, "cache")))


def inception_weights(data: Path) -> Path:
    """Return the place of Inception's weights: KAEM_INCEPTION_WEIGHTS, else in the data root."""
    named = os.environ.get("KAEM_INCEPTION_WEIGHTS")
    return _expanded(named) if named else data / "weights-inception-2015-12-05-6726825d.pth"

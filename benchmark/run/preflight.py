"""What a run needs before it starts: time, data, weights, disk space, a device.

All that is missing is said in one message, each with its size and the way to get it.
"""

import shutil
from contextlib import suppress
from pathlib import Path

from benchmark.base import paths
from benchmark.base.devices import use_device
from benchmark.base.errors import BenchmarkError, DataError
from benchmark.base.progress import duration
from benchmark.claims.machine import measure_trainings, whole_time
from benchmark.config.config import Config
from benchmark.config.jobs import jobs
from benchmark.config.registry import build_entry
from benchmark.data.dataset import Dataset, load_dataset, mend_cache, note_images
from benchmark.data.distributions import find_source
from benchmark.data.prepared import prepared_name
from benchmark.data.sources import Source
from benchmark.evaluation import efficientnet
from benchmark.evaluation.inception import fetch_weights, find_weights

LOOK = 15.0  # seconds in which trainings are measured
LONG = 24 * 3600  # seconds of training after which shorter runs are named


def preflight(config: Config, dataset: str | None = None, whole: bool = False) -> list[str]:
    """Fetch and check what a run needs, or one dataset; returns lines of what is ready. How long
    the run will take is printed before, but for a demo.

    Args:
        whole: all that the run needs before the dataset. Of the workflow's jobs, one of each
            dataset, all are to fail where something is missing; the first one not done says what.

    Raises:
        DataError: all that is wrong or missing, in one message.
    """
    waiting = [job for job in jobs(config, "data") if not job.path().exists()]
    first = dataset is None or (whole and waiting and waiting[0].dataset == dataset)
    if first and not config.demo:  # which would take longer by the look
        print(how_long(config), flush=True)
    if dataset is None:
        return check_all(config)
    try:
        ready = check_all(config) if whole else []
    except DataError as error:
        if waiting and waiting[0].dataset != dataset:
            log = paths.fill(paths.LOG, config.run, step=waiting[0].log)
            raise DataError(f"{dataset}: waits for what {log} asks for") from error
        raise
    return list(dict.fromkeys([*ready, check_dataset(config, dataset)]))


def how_long(config: Config) -> str:
    """Return a line about the time of the trainings that are not done, and where less is to be
    had."""
    left = [job for job in jobs(config, "training") if not job.path().exists()]
    measured = {}
    with suppress(BenchmarkError, ValueError):  # said elsewhere
        measured = measure_trainings(config, left, LOOK)
    if left and not measured:
        return f"{config.run}: how long {len(left)} trainings take cannot be measured here"
    seconds, models = whole_time(left, measured) or 0, len({(j.dataset, j.model) for j in left})
    text = (
        f"{config.run}: {len(left)} trainings, about {duration(seconds)} one after the other, by "
        f"updates of {len(measured)} of {models} models"
    )
    if seconds < LONG:
        return text
    small = "" if config.run == "cpu" else "config/cpu.yaml (made for two CPU cores), "
    return (
        f"{text}. Shorter: {small}config/demo.yaml (minutes), or fewer with --config "
        "datasets='[mnist]' seeds='[0]'"
    )


def check_all(config: Config) -> list[str]:
    """Fetch what is missing, check everything, and prepare the datasets.

    Returns:
        One line per thing that is ready, or that the run does without.

    Raises:
        DataError: all that is wrong or missing, in one message.
    """
    problems = _data_problems(config) + _model_problems(config)
    problems += _disk_problems(config) + _device_problems(config) + _efficientnet_problems(config)
    notices, wrong = _inception(config)
    problems += wrong
    notices += _unmeasured(config)
    ready = []
    for dataset in [] if problems else config.datasets:
        try:
            ready.append(_summary(*_prepared(config, dataset)))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems + notices))
    return ready + notices


def check_dataset(config: Config, dataset: str) -> str:
    """Fetch, check and prepare one dataset and write its summary; returns a line about it."""
    prepared, source = _prepared(config, dataset)
    note_images(config, prepared)
    return _summary(prepared, source)


def _summary(dataset: Dataset, source: Source) -> str:
    counts = ", ".join(f"{len(images)} {split}" for split, images in dataset.images.items())
    repeated = dataset.repeated()
    leak = f"\n  {repeated} images of other splits are training images too" if repeated else ""
    return f"{dataset.name}: ready, {counts}{source.omissions()}{leak}"


def _prepared(config: Config, dataset: str) -> tuple[Dataset, Source]:
    facts, root = config.facts(dataset), paths.data_root(config.data_root)
    cache = paths.cache_root(config.data_root)
    source = find_source(facts, root, download=True)
    mend_cache(facts, root, cache)
    return load_dataset(facts, root, cache), source


def _data_problems(config: Config) -> list[str]:
    problems = []
    for dataset in config.datasets:
        try:
            find_source(config.facts(dataset), paths.data_root(config.data_root), download=True)
        except DataError as error:
            problems.append(str(error))
    return problems


def _inception(config: Config) -> tuple[list[str], list[str]]:
    """Return (what the run does without, what is wrong) of the Inception weights it asks for."""
    root, notices = paths.data_root(config.data_root), []
    for sha256 in {config.inception_sha256(dataset) for dataset in config.datasets} - {None}:
        try:
            found = find_weights(root, sha256)
        except DataError as error:
            return notices, [str(error)]
        if found is None:
            try:
                fetch_weights(root, sha256)
            except DataError as error:
                notices.append(str(error))
    return notices, []


def _unmeasured(config: Config) -> list[str]:
    """Name datasets of whose samples the run measures no distance."""
    return [
        f"{name}: no distance will be measured: its images have no `classes`, and neither "
        "evaluation.efficientnet nor evaluation.inception is true"
        for name in config.datasets
        if not (
            config.has_classifier(name)
            or config.evaluation(name).efficientnet
            or config.inception_sha256(name)
        )
    ]


def _efficientnet_problems(config: Config) -> list[str]:
    """Name what EfficientNet lacks, where the run asks for it."""
    if any(config.evaluation(dataset).efficientnet for dataset in config.datasets):
        try:
            efficientnet.find_weights()
        except DataError as error:
            return [str(error)]
    return []


def _disk_problems(config: Config) -> list[str]:
    """Name where there is less room than the prepared data and the results will take."""
    cache, results = paths.cache_root(config.data_root), config.folder
    needed: dict[int, tuple[Path, int]] = {}
    for folder, size in ((cache, _cache_bytes(config)), (results, _result_bytes(config))):
        whole = folder.absolute()
        existing = next(path for path in (whole, *whole.parents) if path.exists())
        device = existing.stat().st_dev
        needed[device] = (existing, needed.get(device, (existing, 0))[1] + size)
    problems = []
    for folder, size in needed.values():
        free = shutil.disk_usage(folder).free
        if free < size:
            problems.append(
                f"disk: about {_gb(size)} are needed in {folder} and {_gb(free)} are free\n"
                "  Make room, or name other folders: KAEM_CACHE_ROOT for prepared data, "
                "`snakemake --directory` for results."
            )
    return problems


def _cache_bytes(config: Config) -> int:
    """Count datasets not prepared yet, each twice: in the order of the source and in splits."""
    total = 0
    for dataset in config.datasets:
        facts = config.facts(dataset)
        try:
            name = prepared_name(facts, find_source(facts, paths.data_root(config.data_root)))
        except DataError:  # said elsewhere
            name = ""
        if not name or not (paths.cache_root(config.data_root) / name).is_dir():
            total += 2 * facts.cache_bytes
    return total


def _result_bytes(config: Config) -> int:
    """Count weights and drawn images of all jobs, were none there; compressed, these take less."""
    total = 0
    for dataset in config.datasets:
        channels, height, width = config.facts(dataset).image_shape
        images = max(config.evaluation(dataset).references.values())
        drawn = images * channels * height * width * (len(config.evaluated_models) + 1)
        weights = 0
        for model in config.trained_models:
            with suppress(ValueError):  # said elsewhere
                state = build_entry(config, dataset, model).state_dict()
                weights += sum(value.nbytes for value in state.values())
        total += len(config.seeds) * (drawn + weights)
    return total


def _model_problems(config: Config) -> list[str]:
    """Name models that cannot be built for a dataset, such as for sides that they cannot halve, or
    whose likelihood takes more passes than the configuration has for it."""
    problems = []
    for dataset in config.datasets:
        likelihood = config.evaluation(dataset).likelihood
        for model in config.trained_models:
            try:
                fewest = getattr(build_entry(config, dataset, model), "fewest_passes", 0)
            except ValueError as error:
                problems.append(f"{dataset} · {model}: {error}")
                continue
            if likelihood and likelihood.passes < fewest:
                problems.append(
                    f"{dataset} · {model}: evaluation.likelihood.passes is {likelihood.passes}; an "
                    f"estimate of its likelihood takes at least {fewest}"
                )
    return problems


def _device_problems(config: Config) -> list[str]:
    """Say that the device of the run is not there."""
    try:
        use_device(config.device, config.threads)
    except BenchmarkError as error:
        return [str(error)]
    return []


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"

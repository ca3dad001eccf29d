"""The jobs of a run in one table: which there are, where their files lie, what each depends on.

The workflow's rules, the steps, `status`, `publish`, `plan`, the claims, tables and figures all
read `KINDS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from pathlib import Path

from benchmark.base import paths
from benchmark.base.typed import Strict
from benchmark.config import job_settings as s
from benchmark.config.config import CLASSIFIER, REAL, Config


@dataclass(frozen=True)
class Kind:
    """One kind of job.

    Attributes:
        step: the command of `python -m benchmark` that does it.
        files: name -> pattern of `benchmark.base.paths`, of what it writes.
        log: pattern of its log's name; jobs with one log are done by one command.
        settings: what its result depends on, of a configuration, dataset and entry.
        entries: of a configuration and dataset.
        seeds: of a configuration and an entry.
    """

    step: str
    files: dict[str, str]
    log: str
    settings: Callable[[Config, str, str], Strict]
    entries: Callable[[Config, str], list[str]]
    seeds: Callable[[Config, str], list[int]]


def _first_seed(config: Config, _model: str) -> list[int]:
    return config.seeds[:1]


def _drawn(config: Config, _dataset: str) -> list[str]:
    return [REAL, *config.evaluated_models]


KINDS = {
    "data": Kind(
        step="preflight",
        files={"record": paths.DATA},
        log="data/{dataset}",
        settings=s.data_settings,
        entries=lambda _config, _dataset: ["data"],
        seeds=lambda _config, _model: [0],
    ),
    "classifier": Kind(
        step="train",
        files={"record": paths.CLASSIFIER_RECORD, "weights": paths.CLASSIFIER},
        log="classifier/{dataset}",
        settings=s.classifier_settings,
        entries=lambda config, dataset: [CLASSIFIER] if config.has_classifier(dataset) else [],
        seeds=lambda _config, _model: [0],
    ),
    "training": Kind(
        step="train",
        files={
            "record": paths.TRAINING_RECORD,
            "weights": paths.WEIGHTS,
            "history": paths.HISTORY,
            "diagnostics": paths.DIAGNOSTICS,
        },
        log="train/{dataset}/{model}/{seed}",
        settings=s.training_settings,
        entries=lambda config, _dataset: config.trained_models,
        seeds=lambda config, _model: config.seeds,
    ),
    "sampling": Kind(
        step="sample",
        files={"samples": paths.SAMPLES},
        log="sample/{dataset}/{model}/{seed}",
        settings=s.sampling_settings,
        entries=_drawn,
        seeds=Config.seeds_of,
    ),
    "metrics": Kind(
        step="evaluate",
        files={"record": paths.METRICS_RECORD},
        log="evaluate/{dataset}/{model}/{seed}",
        settings=s.metrics_settings,
        entries=_drawn,
        seeds=Config.seeds_of,
    ),
    "inspection": Kind(
        step="inspect",
        files={"record": paths.INSPECTION_RECORD, "arrays": paths.INSPECTION},
        log="inspect/{dataset}/{model}/{seed}",
        settings=s.inspection_settings,
        entries=lambda config, _dataset: config.inspected_models,
        seeds=_first_seed,
    ),
    "timing": Kind(
        step="time",
        files={"record": paths.TIMING_RECORD},
        log="time/{device}/{dataset}",
        settings=s.timing_settings,
        entries=lambda config, _dataset: config.models,
        seeds=_first_seed,
    ),
    "power": Kind(
        step="power",
        files={"record": paths.POWER_RECORD, "arrays": paths.POWER},
        log="power",
        settings=lambda _config, _dataset, _model: s.POWER,
        entries=lambda _config, _dataset: ["population"],
        seeds=lambda _config, _model: [0],
    ),
}

JUDGED = ("training", "metrics", "timing")  # kinds on whose records verdicts rest


@dataclass(frozen=True)
class Job:
    """One thing to compute and everything its result depends on.

    Attributes:
        run, kind, dataset, model: names; `model` is the entry's name in the configuration.
        seed: of its random numbers.
        settings: resolved for this dataset and this entry.
        device: of a timing.
    """

    run: str
    kind: str
    dataset: str
    model: str
    seed: int
    settings: Strict
    device: str = ""

    @cached_property
    def config_hash(self) -> str:
        """16 hex digits that change when any setting does."""
        return s.settings_hash(self.dataset, self.model, self.settings)

    @property
    def title(self) -> str:
        """What progress and messages call it."""
        names = [self.dataset, self.model]
        return " · ".join(names if self.kind == "classifier" else [*names, f"seed {self.seed}"])

    @property
    def advice(self) -> str:
        """The line that says how to make its files."""
        step = KINDS[self.kind].step
        names = f"--dataset {self.dataset} --model {self.model} --seed {self.seed}"
        return f"\n  Make it with these settings: python -m benchmark {step} --config FILE {names}"

    def path(self, name: str = "record", folder: Path | None = None) -> Path:
        """Return where one of its files lies: in the run's folder, or in another one like it."""
        path = self._filled(KINDS[self.kind].files[name])
        return folder / path.relative_to(paths.fill(paths.RUN, self.run)) if folder else path

    @property
    def paths(self) -> list[Path]:
        """All its files, the record first."""
        return [self.path(name) for name in KINDS[self.kind].files]

    @property
    def checkpoints(self) -> Path:
        """The folder of a training's checkpoints, which belongs to these settings alone."""
        pattern = paths.CHECKPOINTS.replace("{config_hash}", self.config_hash)
        return self._filled(pattern)

    @property
    def log(self) -> str:
        """The name of its log, which jobs of one command share."""
        return KINDS[self.kind].log.format(**self._names)

    def _filled(self, pattern: str) -> Path:
        return Path(pattern.format(run=self.run, **self._names))

    @property
    def _names(self) -> dict[str, str | int]:
        names = ("dataset", "model", "seed", "device")
        return {name: getattr(self, name) for name in names}


def job_of(
    config: Config,
    kind: str,
    dataset: str = "",
    model: str = "",
    seed: int | None = None,
    device: str = "cpu",
) -> Job:
    """Return one job of a configuration.

    Args:
        model: the entry; the training of one that uses another's weights is that one's.
        seed: the configuration's first by default.
    """
    row = KINDS[kind]
    if kind == "power":
        dataset = "two_modes"
    model = config.trained_entry(model) if kind == "training" else model
    model = model or next(iter(row.entries(config, dataset)))
    seed = next(iter(row.seeds(config, model))) if seed is None else seed
    device = device if kind == "timing" else ""
    settings = _settings(config, kind, dataset, model, *config.found_digests(dataset).items())
    return Job(config.run, kind, dataset, model, seed, settings, device)


@cache
def _settings(config: Config, kind: str, dataset: str, model: str, *_found: tuple) -> Strict:
    """Return what jobs of all seeds have in common; made once for the same images, since a workflow
    asks often."""
    return KINDS[kind].settings(config, dataset, model)


def jobs(
    config: Config,
    kind: str,
    *,
    dataset: str | None = None,
    seed: int | None = None,
    device: str | None = None,
    gpu: bool = False,
) -> list[Job]:
    """Return the jobs of one kind that a run has: all, or those with these names.

    Args:
        device: of timings; by default those of the configuration.
        gpu: whether there is one, for timings on "auto" devices.
    """
    row = KINDS[kind]
    devices = [""]
    if kind == "timing":
        devices = [device] if device else config.timing_devices(gpu)
    datasets = ["two_modes"] if kind == "power" else config.datasets
    return [
        job_of(config, kind, place, entry, number, name)
        for name, place in product(devices, datasets)
        if dataset in (None, place)
        for entry in row.entries(config, place)
        for number in row.seeds(config, entry)
        if seed in (None, number)
    ]


def judged_jobs(config: Config, gpu: bool = True) -> list[Job]:
    """Return the jobs on whose records the verdicts of a run rest."""
    return [job for kind in JUDGED for job in jobs(config, kind, gpu=gpu)]


def inputs(config: Config, of: Job) -> list[Path]:
    """Return the files of other jobs that a job reads."""
    if of.kind == "data":
        return []
    if of.kind == "power":  # it reads none; but a run that lacks some data is to end before it
        return [job_of(config, "data", config.datasets[0]).path()]
    data = job_of(config, "data", of.dataset).path()
    if of.kind in ("classifier", "training") or (of.kind == "sampling" and of.model == REAL):
        return [data]
    if of.kind == "timing":
        trained = jobs(config, "training", dataset=of.dataset, seed=of.seed)
        return [*(each.path("weights") for each in trained), data]
    needed = []
    if of.model != REAL:
        needed.append(job_of(config, "training", of.dataset, of.model, of.seed).path("weights"))
    if of.kind == "metrics":
        needed.append(job_of(config, "sampling", of.dataset, of.model, of.seed).path("samples"))
    if getattr(of.settings, "classifier", None):
        needed.append(job_of(config, "classifier", of.dataset).path("weights"))
    return needed

"""The jobs of a run in one table: which there are, where their files lie, what each depends on.

The workflow's rules, the steps, `status`, `publish`, `plan`, the claims, tables and figures all
read `KINDS`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from benchmark.base import paths
from benchmark.base.files import settings_digest
from benchmark.base.typed import Strict
from benchmark.config.config import CLASSIFIER, REAL, Config
from benchmark.config.entries import Training
from benchmark.config.facts import Images
from benchmark.config.settings import Evaluation, Timing
from benchmark.config.validation import merge

# What each job's result depends on ----------------------------------------------------------------


class DataSettings(Strict):
    """Preparing a dataset."""

    data: Images


class TrainingSettings(DataSettings):
    """Training a model.

    Attributes:
        architecture: the registered model.
        model: what it is built from.
    """

    threads: int
    architecture: str
    model: dict[str, Any]
    training: Training


class ClassifierSettings(DataSettings):
    """Training a dataset's classifier."""

    threads: int
    architecture: str
    classes: int
    updates: int
    batch_size: int
    learning_rate: float
    features: int


class SamplingSettings(Strict):
    """Drawing the images that are measured.

    Attributes:
        training: hash of the training whose weights are used; None for real images.
        variant: in which the sampled model differs from the trained one.
    """

    training: str | None
    samples: int
    variant: dict[str, Any] = {}


class MetricsSettings(Strict):
    """Measuring the images that were drawn; `classifier` is the hash of its training."""

    sampling: SamplingSettings
    evaluation: Evaluation
    classifier: str | None


class InspectionSettings(Strict):
    """Looking into a trained KAEM.

    Attributes:
        images: of the split, whose posteriors are sampled.
        chains: of the posterior of each image, from independent prior draws.
        annealing: passes from the prior to the posterior, to find the mode of each image.
        bases: prior draws from which single latents depart.
        positions: of a latent that is moved.
        moved: latents at most, those that matter most.
        decoded: training images whose posterior draws are decoded and measured.
    """

    training: str
    split: str
    images: int
    chains: int
    annealing: int
    burn_in: int
    kept: int
    sobol_draws: int
    bases: int
    positions: int
    moved: int
    decoded: int
    classifier: str = ""
    reference: str = ""


class TimingSettings(Strict):
    """Timing a model."""

    training: str
    timing: Timing
    variant: dict[str, Any] = {}


class PowerSettings(Strict):
    """Comparing samplers on a posterior with two modes."""

    datum: float
    sigma: float
    chains: int
    temperatures: int
    power_start: float
    power_end: float
    steps: int
    sweeps: int
    step_size: float
    prior_step_size: float


INSPECTION = {
    "images": 400,
    "chains": 2,
    "annealing": 300,
    "burn_in": 100,
    "kept": 400,
    "sobol_draws": 1000,
    "bases": 4,
    "positions": 15,
    "moved": 8,
    "decoded": 2048,
}

POWER = PowerSettings(
    datum=1.5,
    sigma=0.2,
    chains=500,
    temperatures=6,
    power_start=4.0,
    power_end=2.0,
    steps=5,
    sweeps=80,
    step_size=0.002,
    prior_step_size=0.1,
)


def _data(config: Config, dataset: str, _model: str) -> DataSettings:
    return DataSettings(data=config.facts(dataset).images)


def _classifier(config: Config, dataset: str, _model: str) -> ClassifierSettings:
    facts, classifier = config.facts(dataset), config.resolved(dataset).classifier
    return ClassifierSettings(
        data=facts.images,
        threads=config.threads,
        architecture=CLASSIFIER,
        classes=facts.classes,
        **classifier.plain(),
    )


def _training(config: Config, dataset: str, model: str) -> TrainingSettings:
    shared, own = config.resolved(dataset).training, config.entry(model, dataset).training
    return TrainingSettings(
        data=config.facts(dataset).images,
        threads=config.threads,
        architecture=config.architecture(model),
        model=config.model_settings(dataset, model),
        training=Training.model_validate(merge(shared.plain(), own.plain() if own else {})),
    )


def _sampling(config: Config, dataset: str, model: str) -> SamplingSettings:
    """As many images as the largest comparison takes."""
    return SamplingSettings(
        training=None if model == REAL else _training_hash(config, dataset, model),
        samples=max(config.evaluation(dataset).references.values()),
        **_variant(config, dataset, model),
    )


def _metrics(config: Config, dataset: str, model: str) -> MetricsSettings:
    evaluation = {"inception": False} | config.evaluation(dataset).plain()
    return MetricsSettings(
        sampling=_sampling(config, dataset, model),
        evaluation=Evaluation.model_validate(evaluation),
        classifier=_classifier_hash(config, dataset),
    )


def _inspection(config: Config, dataset: str, model: str) -> InspectionSettings:
    """On images of the test split where there is one."""
    references = config.evaluation(dataset).references
    split = "test" if "test" in config.facts(dataset).splits else next(iter(references))
    measured = {}
    if measures_independence(config, dataset):
        classifier = _classifier_hash(config, dataset)
        measured = {"classifier": classifier, "reference": next(iter(references))}
    training = _training_hash(config, dataset, model)
    return InspectionSettings(training=training, split=split, **INSPECTION, **measured)


def _timing(config: Config, dataset: str, model: str) -> TimingSettings:
    training = _training_hash(config, dataset, model)
    variant = _variant(config, dataset, model)
    return TimingSettings(training=training, timing=config.timing, **variant)


def _variant(config: Config, dataset: str, model: str) -> dict[str, dict]:
    if config.trained_entry(model) == model:
        return {}
    return {"variant": config.variant(dataset, model)}


def _training_hash(config: Config, dataset: str, model: str) -> str:
    return job(config, "training", dataset, model).config_hash


def _classifier_hash(config: Config, dataset: str) -> str | None:
    if not config.has_classifier(dataset):
        return None
    return job(config, "classifier", dataset).config_hash


def measures_independence(config: Config, dataset: str) -> bool:
    """Say whether inspecting a KAEM asks what the independence of its latents costs, which takes a
    classifier and images enough."""
    enough = config.facts(dataset).splits["train"].count >= INSPECTION["decoded"]
    return config.has_classifier(dataset) and enough


# The table ----------------------------------------------------------------------------------------


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
        settings=_data,
        entries=lambda _config, _dataset: ["data"],
        seeds=lambda _config, _model: [0],
    ),
    "classifier": Kind(
        step="train",
        files={"record": paths.CLASSIFIER_RECORD, "weights": paths.CLASSIFIER},
        log="classifier/{dataset}",
        settings=_classifier,
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
        settings=_training,
        entries=lambda config, _dataset: config.trained_models,
        seeds=lambda config, _model: config.seeds,
    ),
    "sampling": Kind(
        step="sample",
        files={"samples": paths.SAMPLES},
        log="sample/{dataset}/{model}/{seed}",
        settings=_sampling,
        entries=_drawn,
        seeds=Config.seeds_of,
    ),
    "metrics": Kind(
        step="evaluate",
        files={"record": paths.METRICS_RECORD},
        log="evaluate/{dataset}/{model}/{seed}",
        settings=_metrics,
        entries=_drawn,
        seeds=Config.seeds_of,
    ),
    "inspection": Kind(
        step="inspect",
        files={"record": paths.INSPECTION_RECORD, "arrays": paths.INSPECTION},
        log="inspect/{dataset}/{model}/{seed}",
        settings=_inspection,
        entries=lambda config, _dataset: config.inspected_models,
        seeds=_first_seed,
    ),
    "timing": Kind(
        step="time",
        files={"record": paths.TIMING_RECORD},
        log="time/{device}/{dataset}",
        settings=_timing,
        entries=lambda config, _dataset: config.models,
        seeds=_first_seed,
    ),
    "power": Kind(
        step="power",
        files={"record": paths.POWER_RECORD, "arrays": paths.POWER},
        log="power",
        settings=lambda _config, _dataset, _model: POWER,
        entries=lambda _config, _dataset: ["population"],
        seeds=lambda _config, _model: [0],
    ),
}


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
        settings = self.settings.plain()
        return settings_digest({"dataset": self.dataset, "entry": self.model, "settings": settings})

    @property
    def title(self) -> str:
        """What progress and messages call it."""
        names = [self.dataset, self.model]
        return " · ".join(names if self.kind == "classifier" else [*names, f"seed {self.seed}"])

    def path(self, name: str = "record") -> Path:
        """Return where one of its files lies, relative to the working directory."""
        return self._filled(KINDS[self.kind].files[name])

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


def job(
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
    return Job(config.run, kind, dataset, model, seed, row.settings(config, dataset, model), device)


def jobs(config: Config, kind: str, *, gpu: bool = False, **where: Any) -> list[Job]:
    """Return the jobs of one kind that a run has.

    Args:
        gpu: whether there is one, for timings on "auto" devices.
        where: values that the jobs shall have: dataset=, model=, seed=, device=.
    """
    return [
        job(config, kind, *names)
        for names in _names(config, kind, gpu)
        if all(
            dict(zip(("dataset", "model", "seed", "device"), names, strict=True))[key] == value
            for key, value in where.items()
        )
    ]


def _names(config: Config, kind: str, gpu: bool) -> Iterator[tuple[str, str, int, str]]:
    row = KINDS[kind]
    devices = config.timing_devices(gpu) if kind == "timing" else ["cpu"]
    datasets = ["two_modes"] if kind == "power" else config.datasets
    for device, dataset in product(devices, datasets):
        for model in row.entries(config, dataset):
            for seed in row.seeds(config, model):
                yield dataset, model, seed, device

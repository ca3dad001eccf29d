"""What the result of each kind of job depends on, as typed settings of which a job's hash is made.

Nothing here imports torch.
"""

from typing import Any

from benchmark.base.files import settings_digest
from benchmark.base.typed import Strict
from benchmark.config.config import CLASSIFIER, REAL, Config
from benchmark.config.entries import Training
from benchmark.config.facts import Images
from benchmark.config.settings import Evaluation, Timing
from benchmark.config.validation import merge


class DataSettings(Strict):
    """Preparing a dataset; a training's also has the digests that were found."""

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
        images: digests of the real ones, where they are not known beforehand.
        variant: in which the sampled model differs from the trained one.
    """

    training: str | None
    samples: int
    images: dict[str, str] = {}
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

FEW_IMAGES = 100  # of a demo, whose time goes else into their posteriors

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


def data_settings(config: Config, dataset: str, _model: str) -> DataSettings:
    return DataSettings(data=config.facts(dataset).images)


def classifier_settings(config: Config, dataset: str, _model: str) -> ClassifierSettings:
    facts, classifier = config.facts(dataset), config.resolved(dataset).classifier
    return ClassifierSettings(
        data=config.images(dataset),
        threads=config.threads,
        architecture=CLASSIFIER,
        classes=facts.classes,
        **classifier.plain(),
    )


def training_settings(config: Config, dataset: str, model: str) -> TrainingSettings:
    shared, own = config.resolved(dataset).training, config.entry(model, dataset).training
    return TrainingSettings(
        data=config.images(dataset),
        threads=config.threads,
        architecture=config.architecture(model),
        model=config.model_settings(dataset, model),
        training=Training.model_validate(merge(shared.plain(), own.plain() if own else {})),
    )


def sampling_settings(config: Config, dataset: str, model: str) -> SamplingSettings:
    """Return the settings of drawing as many images as the largest comparison takes."""
    found = config.found_digests(dataset) if model == REAL else {}
    return SamplingSettings(
        training=None if model == REAL else _training_hash(config, dataset, model),
        samples=max(config.evaluation(dataset).references.values()),
        **_variant(config, dataset, model),
        **({"images": found} if found else {}),
    )


def metrics_settings(config: Config, dataset: str, model: str) -> MetricsSettings:
    evaluation = {"inception": False} | config.evaluation(dataset).plain()
    if not config.evaluation(dataset).efficientnet:  # asked for or not, it is the same job
        evaluation.pop("efficientnet", None)
    return MetricsSettings(
        sampling=sampling_settings(config, dataset, model),
        evaluation=Evaluation.model_validate(evaluation),
        classifier=_classifier_hash(config, dataset),
    )


def inspection_settings(config: Config, dataset: str, model: str) -> InspectionSettings:
    """Return the settings of looking at the test split, where there is one."""
    references = config.evaluation(dataset).references
    split = "test" if "test" in config.facts(dataset).splits else next(iter(references))
    classifier, measured = _classifier_hash(config, dataset), {}
    # What the independence of the latents costs takes a classifier and images enough to tell.
    if classifier and config.facts(dataset).splits["train"].count >= INSPECTION["decoded"]:
        measured = {"classifier": classifier, "reference": next(iter(references))}
    training = _training_hash(config, dataset, model)
    settings = INSPECTION | measured | ({"images": FEW_IMAGES} if config.demo else {})
    return InspectionSettings(training=training, split=split, **settings)


def timing_settings(config: Config, dataset: str, model: str) -> TimingSettings:
    training = _training_hash(config, dataset, model)
    variant = _variant(config, dataset, model)
    return TimingSettings(training=training, timing=config.timing, **variant)


def _variant(config: Config, dataset: str, model: str) -> dict[str, dict]:
    if config.trained_entry(model) == model:
        return {}
    return {"variant": config.variant(dataset, model)}


def _training_hash(config: Config, dataset: str, model: str) -> str:
    model = config.trained_entry(model)
    return settings_hash(dataset, model, training_settings(config, dataset, model))


def _classifier_hash(config: Config, dataset: str) -> str | None:
    if not config.has_classifier(dataset):
        return None
    return settings_hash(dataset, CLASSIFIER, classifier_settings(config, dataset, CLASSIFIER))


def settings_hash(dataset: str, model: str, settings: Strict) -> str:
    """Return 16 hex digits that change when any setting of a job does."""
    return settings_digest({"dataset": dataset, "entry": model, "settings": settings.plain()})

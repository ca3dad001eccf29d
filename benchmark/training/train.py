"""Training: one model on one dataset with one seed."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmark.base.seeding import derive_seed, generator
from benchmark.config.jobs import Job
from benchmark.config.registry import build
from benchmark.data.dataset import Dataset
from benchmark.data.pixels import to_float, to_uint8
from benchmark.training.batches import Batches
from benchmark.training.checkpoint import Checkpoints
from benchmark.training.loop import Training
from benchmark.training.memory import split_rows, with_less_memory
from kaem.normal_mixture import NormalMixture

SHOWN = 8  # samples that are kept of each moment of a training
MOST_PASSES = 100  # of a sample that is kept: those of long samplers would cost more than training


def train_model(
    job: Job,
    dataset: Dataset,
    device: torch.device,
    progress: str = "auto",
    checkpoints: Checkpoints | None = None,
    *,
    build: Callable[..., nn.Module] = build,
) -> Training:
    """Train the job's model; return the finished training.

    Args:
        checkpoints: the states of a training that may be interrupted.
        build: (architecture, settings, image shape) -> the model with its initial weights.

    Raises:
        TrainingError: the loss is no longer finite, or one image at a time needs too much memory.
    """

    def run(parts: int) -> Training:
        training = _prepare(job, dataset, device, parts, build)
        training.run(progress, checkpoints)
        return training

    return with_less_memory(run, job.settings.training.batch_size, job.title)


def update_call(job: Job, dataset: Dataset, device: torch.device) -> Callable[[], None]:
    """Return a function that makes one update of `train_model`, from the first on.

    A copula is fitted before, as it is for most of a training: chains feel it only then.
    """
    training = _prepare(job, dataset, device)
    fit = getattr(training.model, "copula_fit", None)
    if fit and fit.first < training.updates:
        prior = training.model.prior
        prior.fit(prior.sample_features(20 * prior.mixture.components), iterations=1)
    return training.make_update


def _prepare(
    job: Job,
    dataset: Dataset,
    device: torch.device,
    parts: int = 1,
    build: Callable[..., nn.Module] = build,
) -> Training:
    """Return the training before its first update.

    The initial weights, the order of the data, the model's own noise, and that of the samples that
    are kept have a stream each.
    """
    settings = job.settings.training.plain()
    torch.manual_seed(derive_seed("weights", job.dataset, job.model, job.seed))
    model = build(job.settings.architecture, job.settings.model, dataset.image_shape)
    if parts > 1:
        split_rows(model, parts)
    model.to(device)
    noise = generator("noise", job.dataset, job.model, job.seed, device=device)
    images = dataset.images["train"]
    batches = Batches(images, settings.pop("batch_size"), job.dataset, job.seed)

    def loss() -> tuple[Tensor, dict]:
        images, _, rows = next(batches)
        # Models with a Markov chain for every datum ask which data these are.
        which = {"index": rows} if getattr(model, "needs_index", False) else {}
        return model.loss(to_float(images.to(device)), noise, **which)

    def draw() -> Tensor:
        # The same noise at every moment: what changes is the model.
        same = generator("kept", job.dataset, job.model, job.seed, device=device)
        images = to_uint8(model.eval().sample(SHOWN, same))
        model.train()
        return images

    return Training(
        model,
        loss,
        title=job.title,
        streams={"noise": noise, "order": batches},
        draw=draw if model.nfe <= MOST_PASSES else None,
        **settings,
    )


def parameter_count(model: nn.Module) -> int:
    """Count the trained parameters, a copula's among them: a moving average of them is none."""
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return learned + sum(m.parameter_count for m in model.modules() if isinstance(m, NormalMixture))

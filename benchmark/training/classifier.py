"""The small classifier whose features FD-classifier compares.

It is trained by the workflow on the dataset's own training split, so grey digits are measured
in a feature space that knows digits. Its Frechet distance is called FD-classifier, never FID.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmark.base.seeding import derive_seed
from benchmark.config.jobs import Job
from benchmark.data.dataset import Dataset
from benchmark.data.pixels import to_float
from benchmark.training.batches import Batches
from benchmark.training.checkpoint import Checkpoints
from benchmark.training.loop import Training


class Classifier(nn.Module):
    """A network of two convolutions and two linear layers; `features` feeds the last one."""

    def __init__(self, image_shape: tuple[int, int, int], features: int, classes: int):
        super().__init__()
        channels, height, width = image_shape
        self.features = nn.Sequential(
            nn.Conv2d(channels, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * (height // 4) * (width // 4), features),
            nn.ReLU(),
        )
        self.head = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, classes) of images (n, C, H, W) in [0, 1]."""
        return self.head(self.features(x))


def build_classifier(job: Job, image_shape: tuple[int, int, int]) -> Classifier:
    """Build the classifier that the job describes, initialised from torch's global generator."""
    return Classifier(image_shape, job.settings.features, job.settings.classes)


def train_classifier(
    job: Job,
    dataset: Dataset,
    device: torch.device,
    progress: str = "auto",
    checkpoints: Checkpoints | None = None,
) -> tuple[Classifier, float]:
    """Train on the training split with Adam; one seed per dataset, the same in every run.

    Returns:
        The classifier, and the seconds that its updates took.
    """
    torch.manual_seed(derive_seed("weights", job.dataset, job.model))
    model = build_classifier(job, dataset.image_shape).to(device)
    batches = Batches(
        dataset.images["train"],
        job.settings.batch_size,
        job.dataset,
        seed=0,
        labels=dataset.labels["train"],
    )

    def loss() -> tuple[Tensor, dict]:
        images, labels, _ = next(batches)
        logits = model(to_float(images.to(device)))
        labels = labels.to(device)
        accuracy = (logits.argmax(1) == labels).float().mean().item()
        return cross_entropy(logits, labels), {"accuracy": accuracy}

    training = Training(
        model,
        loss,
        updates=job.settings.updates,
        learning_rate=job.settings.learning_rate,
        title=job.title,
        streams={"order": batches},
    )
    training.run(progress, checkpoints)
    return model, training.seconds


@torch.no_grad()
def accuracy(model: Classifier, images: Tensor, labels: Tensor, batch_size: int = 500) -> float:
    """Return the fraction of uint8 images (n, C, H, W) whose most probable class is the label."""
    device = next(model.parameters()).device
    logits = [model(to_float(batch.to(device))) for batch in images.split(batch_size)]
    return (torch.cat(logits).argmax(1).cpu() == labels).double().mean().item()

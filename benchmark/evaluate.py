"""Sample quality in the feature space of the dataset's classifier, and what classes are drawn.

torch-fidelity computes FD-classifier (a Frechet distance), precision and recall, with the
classifier registered as its feature extractor.
"""

from pathlib import Path

import torch
import torch_fidelity
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from benchmark.classifier import build_classifier, predictions
from benchmark.config import Job, dataset_facts
from benchmark.data import to_float
from benchmark.weights import load_weights

EXTRACTOR = "kaem-classifier"
LAYER = "features"
DISTANCES = 1000  # images a side whose distances precision and recall hold in memory at once


class FidelityImages(TorchDataset):
    """uint8 images in the form that torch-fidelity takes: three channels each, grey repeated."""

    def __init__(self, images: Tensor):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        image = self.images[index]
        return image.expand(3, -1, -1).contiguous() if len(image) == 1 else image


class ClassifierFeatures(FeatureExtractorBase):
    """torch-fidelity's view of a trained classifier.

    torch-fidelity builds the extractor itself, from a name and the path of the weights; `job`
    holds what the path cannot say and is set by `classifier_metrics` right before.
    """

    job: Job

    def __init__(self, name, features_list, feature_extractor_weights_path=None, **_options):
        super().__init__(name, features_list)
        self.image_shape = tuple(dataset_facts(self.job.dataset)["image_shape"])
        classifier = build_classifier(self.job, self.image_shape)
        path = Path(feature_extractor_weights_path)
        self.classifier = load_weights(path, classifier, self.job, torch.device("cpu"))

    @staticmethod
    def get_provided_features_list():
        return (LAYER,)

    @staticmethod
    def get_default_feature_layer_for_metric(metric):  # noqa: ARG004
        return LAYER

    @staticmethod
    def can_be_compiled():
        return False

    @staticmethod
    def get_dummy_input_for_compile():
        return torch.zeros((1, 3, 32, 32), dtype=torch.uint8)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 (n, 3, H, W) -> ((n, features),)."""
        images = images[:, : self.image_shape[0]]  # grey came in as three equal channels
        # float64, so that means and covariances of many features lose nothing.
        return (self.classifier.features(to_float(images)).double(),)


def classifier_metrics(
    samples: Tensor,
    reference: Tensor,
    classifier_path: str | Path,
    classifier_job: Job,
    *,
    batch_size: int,
    device: torch.device,
) -> dict[str, float]:
    """Two sets of uint8 images (n, C, H, W) compared.

    Returns:
        "fd_classifier", the Frechet distance between Gaussians fitted to the features;
        "precision_classifier" and "recall_classifier", the shares of samples near the reference and
        the other way round (Kynkaanniemi et al. 2019, arXiv 1904.06991, with 3 neighbours);
        "class_coverage", see `class_coverage`.
    """
    if EXTRACTOR not in torch_fidelity.registry.FEATURE_EXTRACTORS_REGISTRY:
        torch_fidelity.register_feature_extractor(EXTRACTOR, ClassifierFeatures)
    ClassifierFeatures.job = classifier_job
    measured = torch_fidelity.calculate_metrics(
        input1=FidelityImages(samples),
        input2=FidelityImages(reference),
        fid=True,
        prc=True,
        prc_batch_size=DISTANCES,
        feature_extractor=EXTRACTOR,
        feature_extractor_weights_path=str(classifier_path),
        batch_size=batch_size,
        cuda=device.type == "cuda",
        cache=False,
        save_cpu_ram=True,  # loads in this process: the images are in memory already
        verbose=False,
    )
    path = Path(classifier_path)
    shape = tuple(samples.shape[1:])
    classifier = load_weights(path, build_classifier(classifier_job, shape), classifier_job, device)
    return {
        "fd_classifier": float(measured["frechet_inception_distance"]),
        "precision_classifier": measured["precision"],
        "recall_classifier": measured["recall"],
        "class_coverage": class_coverage(classifier, samples, reference, batch_size),
    }


def class_coverage(
    classifier: torch.nn.Module, samples: Tensor, reference: Tensor, batch_size: int
) -> float:
    """How well the rarest class is covered: the smallest ratio of a class's share of the samples
    to its share of the reference, by the classifier's verdict on both.

    0 where a class is never drawn, about 1 for real images; never much more.
    """
    ours, theirs = (predictions(classifier, x, batch_size) for x in (samples, reference))
    classes = classifier.head.out_features
    ours, theirs = (torch.bincount(y, minlength=classes) / len(y) for y in (ours, theirs))
    seen = theirs > 0
    return (ours[seen] / theirs[seen]).min().item()

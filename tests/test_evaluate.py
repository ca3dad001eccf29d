"""The classifier's metrics against independent implementations, and what is no matter to them."""

import pytest
import torch
import torch_fidelity
from reference.configs import tiny_config
from reference.frechet import classifier_features, frechet
from reference.precision_recall import covered
from torch import nn

from benchmark.classifier import build_classifier
from benchmark.config import CLASSIFIER
from benchmark.errors import RecordError
from benchmark.evaluate import EXTRACTOR, FidelityImages, class_coverage, classifier_metrics
from benchmark.weights import save_weights

CPU = torch.device("cpu")
SHAPE = (1, 16, 16)  # of the digits, whose facts say how many channels a classifier sees
FEATURES = 12


@pytest.fixture
def job():
    return tiny_config({"classifier.features": FEATURES}).training_job("digits", CLASSIFIER)


@pytest.fixture
def classifier(job, tmp_path):
    """An untrained classifier and its file: any features will do."""
    return make_classifier(job, tmp_path / "classifier.safetensors", seed=0)


def make_classifier(job, path, seed):
    torch.manual_seed(seed)
    model = build_classifier(job, SHAPE)
    save_weights(path, model, job)
    return model, path


def images(n: int, seed: int) -> torch.Tensor:
    """Smooth random images, so that the features differ between images."""
    draws = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 1, 4, 4, generator=draws)
    fine = torch.nn.functional.interpolate(coarse, SHAPE[1:], mode="bilinear")
    return (255 * fine).round().to(torch.uint8)


def perturbed(x: torch.Tensor, amount: float) -> torch.Tensor:
    """Everything darker by a factor."""
    return (x * (1 - amount)).round().to(torch.uint8)


def measure_all(classifier, job, samples, reference, batch_size=50) -> dict[str, float]:
    return classifier_metrics(
        samples, reference, classifier[1], job, batch_size=batch_size, device=CPU
    )


def measure(*args, **kwargs) -> float:
    return measure_all(*args, **kwargs)["fd_classifier"]


@pytest.mark.parametrize(("n", "m"), [(300, 300), (180, 250)])
@pytest.mark.parametrize("amount", [0.02, 0.5])
def test_it_is_the_frechet_distance_of_the_classifiers_features(classifier, job, n, m, amount):
    a, b = perturbed(images(n, 0), amount), images(m, 1)
    expected = frechet(*(classifier_features(classifier[0], x.numpy()) for x in (a, b)))
    assert measure(classifier, job, a, b) == pytest.approx(expected, rel=1e-5)


def test_identical_sets_are_at_distance_zero(classifier, job):
    a = images(300, 0)
    scale = measure(classifier, job, a, perturbed(a, 0.5))
    assert abs(measure(classifier, job, a, a.flip(0))) < 1e-6 * scale


def test_it_grows_with_the_perturbation(classifier, job):
    a = images(200, 0)
    distances = [measure(classifier, job, perturbed(a, k), a) for k in (0.0, 0.1, 0.2, 0.4, 0.8)]
    assert distances == sorted(distances)
    # Features are nearly linear in the brightness here, so distances grow with its square.
    assert distances[-1] > 20 * distances[1]


def test_it_is_symmetric_and_knows_no_order(classifier, job):
    a, b = images(150, 0), perturbed(images(200, 1), 0.3)
    distance = measure(classifier, job, a, b)
    assert measure(classifier, job, b, a) == pytest.approx(distance, rel=1e-7)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0))
    assert measure(classifier, job, a[order], b) == pytest.approx(distance, rel=1e-7)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_it_does_not_depend_on_the_batch_size(classifier, job, batch_size):
    a, b = images(100, 0), perturbed(images(90, 1), 0.3)
    expected = measure(classifier, job, a, b, 50)
    assert measure(classifier, job, a, b, batch_size) == pytest.approx(expected, rel=1e-6)


def test_a_second_classifier_takes_the_place_of_the_first(classifier, job, tmp_path):
    # torch-fidelity keeps extractors by name: ours is registered once and stays no older one.
    a, b = images(150, 0), perturbed(images(150, 1), 0.3)
    other_job = tiny_config({"classifier.features": 7}).training_job("digits", CLASSIFIER)
    other = make_classifier(other_job, tmp_path / "other.safetensors", seed=1)
    for (model, path), its_job in ((classifier, job), (other, other_job), (classifier, job)):
        expected = frechet(*(classifier_features(model, x.numpy()) for x in (a, b)))
        found = measure((model, path), its_job, a, b)
        assert found == pytest.approx(expected, rel=1e-5)
    registered = torch_fidelity.registry.FEATURE_EXTRACTORS_REGISTRY
    assert list(registered).count(EXTRACTOR) == 1


def test_the_classifier_of_another_job_is_refused(classifier, tmp_path):
    other = tiny_config({"classifier.updates": 99}).training_job("digits", CLASSIFIER)
    with pytest.raises(RecordError, match="was trained with other settings"):
        measure(classifier, other, images(20, 0), images(20, 1))
    with pytest.raises(RecordError, match=r"absent\.safetensors: cannot be read as weights"):
        measure((None, tmp_path / "absent.safetensors"), other, images(20, 0), images(20, 1))


# --- precision and recall ------------------------------------------------------------------------


def test_precision_and_recall_of_the_classifiers_features(classifier, job):
    # A few samples on the reference, the others bunched in one corner of it.
    reference = images(120, 0)
    samples = torch.cat([reference[:30], perturbed(images(60, 1), 0.2)])
    found = measure_all(classifier, job, samples, reference)
    a, b = (classifier_features(classifier[0], x.numpy()) for x in (samples, reference))
    assert found["precision_classifier"] == pytest.approx(covered(a, b), abs=1e-6)
    assert found["recall_classifier"] == pytest.approx(covered(b, a), abs=1e-6)
    assert 0 < found["recall_classifier"] != found["precision_classifier"] < 1


def test_one_image_alone_has_no_recall(classifier, job):
    reference = images(100, 0)
    collapsed = reference[:1].expand(50, -1, -1, -1)
    found = measure_all(classifier, job, collapsed, reference)
    assert found["precision_classifier"] == 1
    assert found["recall_classifier"] == pytest.approx(0.01)


# --- class coverage ------------------------------------------------------------------------------


class Brightness(nn.Module):
    """Says that an image's class is its first pixel, of three."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(1, 3)

    def forward(self, x):
        return nn.functional.one_hot((255 * x[:, 0, 0, 0]).round().long(), 3).float()


def of_classes(*labels: int) -> torch.Tensor:
    return torch.tensor(labels, dtype=torch.uint8).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ((0, 0, 1, 2), 1.0),  # as the reference
        ((0, 0, 0, 1, 1, 2, 2, 2), 1.0 * (3 / 8) / (1 / 2)),  # the first is the rarest
        ((1, 2, 1, 2), 0.0),
        ((0, 0, 0, 0), 0.0),
    ],
)
def test_class_coverage_by_hand(samples, expected):
    reference = of_classes(0, 0, 1, 2)
    for batch_size in (1, 3, 100):
        found = class_coverage(Brightness(), of_classes(*samples), reference, batch_size)
        assert found == pytest.approx(expected)


def test_a_class_that_the_reference_lacks_is_no_matter():
    assert class_coverage(Brightness(), of_classes(0, 1), of_classes(0, 1), 10) == 1
    assert class_coverage(Brightness(), of_classes(0, 1, 2), of_classes(0, 1), 10) < 1


def test_grey_images_get_three_equal_channels_and_colour_stays():
    grey, colour = images(3, 0), torch.randint(0, 256, (3, 3, 4, 4), dtype=torch.uint8)
    wrapped = FidelityImages(grey)
    assert len(wrapped) == 3
    assert wrapped[1].shape == (3, 16, 16)
    assert wrapped[1].dtype == torch.uint8
    assert all(torch.equal(channel, grey[1, 0]) for channel in wrapped[1])
    assert torch.equal(FidelityImages(colour)[2], colour[2])

"""FD-classifier against an independent implementation, and what it must not depend on."""

import pytest
import torch
import torch_fidelity
from reference.configs import tiny_config
from reference.frechet import classifier_features, frechet

from benchmark.classifier import build_classifier
from benchmark.config import CLASSIFIER
from benchmark.errors import RecordError
from benchmark.evaluate import EXTRACTOR, FidelityImages, frechet_distance
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


def measure(classifier, job, samples, reference, batch_size=50) -> float:
    return frechet_distance(
        samples, reference, classifier[1], job, batch_size=batch_size, device=CPU
    )


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


def test_grey_images_get_three_equal_channels_and_colour_stays():
    grey, colour = images(3, 0), torch.randint(0, 256, (3, 3, 4, 4), dtype=torch.uint8)
    wrapped = FidelityImages(grey)
    assert len(wrapped) == 3
    assert wrapped[1].shape == (3, 16, 16)
    assert wrapped[1].dtype == torch.uint8
    assert all(torch.equal(channel, grey[1, 0]) for channel in wrapped[1])
    assert torch.equal(FidelityImages(colour)[2], colour[2])

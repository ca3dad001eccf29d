"""Measuring drawn images: which samples meet which real images, in which spaces of features."""

import numpy as np
import pytest
import torch
import torch_fidelity
from reference.efficientnet import efficientnet_features
from reference.faulty_metrics import always_the_test_split, training_split_alone
from reference.frechet import classifier_features, frechet, frechet_by_sqrtm
from reference.inception import write_random_weights
from reference.precision_recall import covered
from support.configs import tiny_config
from support.extractors import Images, Pixels, darker, smooth_images
from torch import Tensor

import benchmark.evaluation.evaluate
from benchmark.base import paths
from benchmark.base.errors import DataError, RecordError
from benchmark.base.files import file_digest
from benchmark.config.config import REAL, Config
from benchmark.config.jobs import job_of
from benchmark.config.registry import build
from benchmark.data.dataset import load_data
from benchmark.evaluation.efficientnet import SHA256, EfficientNetFeatures
from benchmark.evaluation.evaluate import evaluate_samples
from benchmark.evaluation.inception import OFFICIAL_SHA256
from benchmark.evaluation.samples import open_samples, save_samples
from benchmark.records.measurements import QualityMetrics
from benchmark.training.classifier import build_classifier
from benchmark.training.weights import save_weights

CPU = torch.device("cpu")
SHAPE = (1, 16, 16)  # of the digits
FEATURES = 12
DRAWN = 150  # samples in the file
PICTURES = 8  # images of a side that Inception sees


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A cache for the tests that do not look into it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch, prepared):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KAEM_CACHE_ROOT", str(prepared))
    monkeypatch.setenv("KAEM_DATA_ROOT", str(tmp_path))
    monkeypatch.delenv("KAEM_INCEPTION_WEIGHTS", raising=False)


def config_of(references: dict[str, int] | None = None, **changes) -> Config:
    return tiny_config(
        {
            "classifier.features": FEATURES,
            "evaluation.references": references or {"test": DRAWN},
        }
        | {key.replace("__", "."): value for key, value in changes.items()}
    )


def save_classifier(config: Config, seed: int = 0, level: bool = False) -> torch.nn.Module:
    """An untrained classifier, where the workflow puts it: any features will do.

    Args:
        level: two classes are about as probable as each other, and the others are never found.
    """
    torch.manual_seed(seed)
    job = job_of(config, "classifier", "digits")
    classifier = build_classifier(job, SHAPE)
    if level:
        _level(classifier)
    save_weights(paths.fill(paths.CLASSIFIER, config.run, dataset="digits"), classifier, job)
    return classifier


@torch.no_grad()
def _level(classifier: torch.nn.Module) -> None:
    logits = classifier(drawn() / 255)
    classifier.head.bias -= logits.median(0).values
    classifier.head.bias[2:] = -1e3


def drawn() -> Tensor:
    """What a model drew, of which the first third differs from the others."""
    images = smooth_images(DRAWN, SHAPE, 0)
    return torch.cat([darker(images[: DRAWN // 3], 0.5), images[DRAWN // 3 :]])


def measured(config: Config, samples: Tensor, dataset: str = "digits", model: str = "vae") -> dict:
    job = job_of(config, "sampling", dataset, model)
    path = paths.fill(paths.SAMPLES, config.run, dataset=dataset, model=model, seed=0)
    save_samples(path, [samples], tuple(samples.shape), job)
    return evaluate_samples(config, dataset, model, 0, open_samples(path, job), CPU)


def real(config: Config, *splits: str) -> np.ndarray:
    images = load_data(config, "digits").images
    return torch.cat([images[split] for split in splits]).numpy()


# --- the classifier's metrics against independent implementations --------------------------------


@pytest.mark.parametrize("seed", [0, 1])  # another classifier in the same place
def test_every_reference_is_compared_with_its_number_of_samples(seed):
    config = config_of({"train": DRAWN, "test": 50, "validation": 60})
    classifier, samples = save_classifier(config, seed), drawn()
    found = measured(config, samples)
    ours = classifier_features(classifier, samples.numpy())
    for name, count, splits in (
        ("train_150", 150, ["train", "validation"]),
        ("test_50", 50, ["test"]),
        ("validation_60", 60, ["validation"]),
    ):
        theirs = classifier_features(classifier, real(config, *splits))
        expected = frechet(ours[:count], theirs)
        assert found[f"fd_classifier_{name}"] == pytest.approx(expected, rel=1e-5)
    precision, recall = covered(ours[:60], theirs), covered(theirs, ours[:60])  # of the last
    assert found["precision_classifier_validation_60"] == pytest.approx(precision, abs=1e-6)
    assert found["recall_classifier_validation_60"] == pytest.approx(recall, abs=1e-6)
    assert found["reference_count_train"] == 1257 + 180
    assert found["reference_count_validation"] == 180
    assert found["reference_count_test"] == 360


def test_the_distances_that_a_limit_rests_on_are_recorded():
    config = config_of(classifier__features=7)
    classifier, samples = save_classifier(config), drawn()
    found = measured(config, samples)
    subsets = found["subsets"]["fd_classifier_test_150"]
    assert [subset["images"] for subset in subsets] == [60, 30, *[15] * 4]
    ours = classifier_features(classifier, samples.numpy())
    expected = frechet(ours[:60], classifier_features(classifier, real(config, "test")))
    assert subsets[0]["distance"] == pytest.approx(expected, rel=1e-4)
    QualityMetrics.model_validate(found)


@pytest.mark.parametrize("wrong", [training_split_alone, always_the_test_split])
def test_a_wrong_split_would_be_seen(wrong, monkeypatch):
    config = config_of({"train": DRAWN})
    classifier, samples = save_classifier(config), drawn()
    theirs = classifier_features(classifier, real(config, "train", "validation"))
    expected = frechet(classifier_features(classifier, samples.numpy()), theirs)
    right = measured(config, samples)["fd_classifier_train_150"]
    monkeypatch.setattr(benchmark.evaluation.evaluate, "reference_splits", wrong)
    found = measured(config, samples)
    assert right == pytest.approx(expected, rel=1e-5)
    assert found["fd_classifier_train_150"] != pytest.approx(expected, rel=1e-4)
    assert found["reference_count_train"] != 1257 + 180


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_it_does_not_depend_on_the_batch_size(batch_size):
    config = config_of()
    save_classifier(config)
    expected = measured(config, drawn())
    found = measured(config_of(evaluation__batch_size=batch_size), drawn())
    assert found.pop("classifier_sha256") == expected.pop("classifier_sha256")
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_rarest_class_is_counted_by_the_classifiers_labels():
    config, samples = config_of(), drawn()
    classifier = save_classifier(config, level=True)

    def shares(images):
        labels = classifier(torch.as_tensor(images) / 255).argmax(1)
        return torch.bincount(labels, minlength=10) / len(labels)

    ours, theirs = shares(samples), shares(real(config, "test"))
    frequent = theirs > 0
    expected = (ours[frequent] / theirs[frequent]).min().item()
    assert 0 < expected < 1
    assert measured(config, samples)["class_coverage_test_150"] == pytest.approx(expected)


def test_the_classifier_of_another_job_is_refused():
    with pytest.raises(RecordError, match="cannot be read as weights"):
        measured(config_of(), drawn())
    save_classifier(config_of(classifier__updates=99))
    with pytest.raises(RecordError, match="was trained with other settings"):
        measured(config_of(), drawn())


# --- what is computed once, and what is left behind ----------------------------------------------


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """The images that the classifier's features are extracted of; an empty cache."""
    monkeypatch.setenv("KAEM_CACHE_ROOT", str(tmp_path / "cache"))
    seen = []

    class Counted(benchmark.evaluation.evaluate.ClassifierFeatures):
        def __call__(self, images):
            seen.append(len(images))
            return super().__call__(images)

    monkeypatch.setattr(benchmark.evaluation.evaluate, "ClassifierFeatures", Counted)
    return seen


def test_images_are_looked_at_once_whatever_the_number_of_models_and_references(counted):
    config = config_of({"train": DRAWN, "test": 50})
    save_classifier(config)
    for model in ("vae", "kaem_is", REAL):
        measured(config, drawn(), model=model)
    assert sum(counted) == 1257 + 180 + 360 + 3 * DRAWN


def test_nothing_is_left_beside_the_samples(monkeypatch):
    def fails(*_args):
        raise RuntimeError("cannot be measured")

    config = config_of()
    save_classifier(config)
    folder = paths.fill(paths.SAMPLES, config.run, dataset="digits", model="vae", seed=0).parent
    measured(config, drawn())
    assert [path.name for path in folder.iterdir()] == ["seed0.npz"]
    monkeypatch.setattr(benchmark.evaluation.evaluate, "feature_metrics", fails)
    with pytest.raises(RuntimeError):
        measured(config, drawn())
    assert [path.name for path in folder.iterdir()] == ["seed0.npz"]


# --- EfficientNet -------------------------------------------------------------------------------


LIVE = [2, 9, 17, 29]  # features that differ between the pictures


class LiveFeatures(EfficientNetFeatures):
    """So few that the covariances of a few images have full rank."""

    dimension = len(LIVE)

    def __call__(self, images):
        return super().__call__(images)[:, LIVE]


def test_images_without_labels_have_a_distance_that_is_not_called_fid(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark.evaluation.evaluate, "EfficientNetFeatures", LiveFeatures)
    config = pictures(tmp_path, efficientnet=True)
    found = measured(config, dark_pictures(), "pictures")
    sides = dark_pictures(), load_data(config, "pictures").images["test"]
    expected = frechet_by_sqrtm(*(efficientnet_features(x.numpy())[:, LIVE] for x in sides))
    assert found.pop("fd_efficientnet_test_8") == pytest.approx(expected, rel=1e-3)
    assert found.pop("efficientnet_sha256") == SHA256
    names = {"precision_efficientnet_test_8", "recall_efficientnet_test_8"}
    assert found.keys() == names | {"reference_count_test"}


# --- Inception -----------------------------------------------------------------------------------


def pictures(tmp_path, **evaluation) -> Config:
    """A run on a small dataset of one's own without labels, whose files are written too."""
    real_images = smooth_images(2 * PICTURES, SHAPE, 1).permute(0, 2, 3, 1).numpy()
    parts = {"train_images": real_images[:PICTURES], "test_images": real_images[PICTURES:]}
    np.savez(tmp_path / "pictures.npz", **parts)
    splits = {part: {"part": part, "count": PICTURES} for part in ("train", "test")}
    return tiny_config(
        {
            "own_datasets": {"pictures": {"image_shape": list(SHAPE), "splits": splits}},
            "datasets": ["pictures"],
            "evaluation.references": {"test": PICTURES},
        }
        | {f"evaluation.{key}": value for key, value in evaluation.items()}
    )


def dark_pictures() -> Tensor:
    return darker(smooth_images(PICTURES, SHAPE, 2), 0.3)


def test_a_run_measures_what_torch_fidelity_does_with_the_same_weights(tmp_path, monkeypatch):
    weights = write_random_weights(tmp_path / "random.pth")
    monkeypatch.setenv("KAEM_INCEPTION_WEIGHTS", str(weights))
    sha256 = file_digest(weights)
    config = pictures(tmp_path, inception=True, inception_sha256=sha256)
    found = measured(config, dark_pictures(), "pictures")
    expected = torch_fidelity.calculate_metrics(
        input1=Images(dark_pictures()),
        input2=Images(load_data(config, "pictures").images["test"]),
        fid=True,
        feature_extractor_weights_path=str(weights),
        cuda=False,
        cache=False,
        save_cpu_ram=True,  # no processes that read ahead
        verbose=False,
    )
    fid = expected["frechet_inception_distance"]
    assert found[f"frechet_{sha256[:8]}_test_8"] == pytest.approx(fid, rel=1e-4)
    assert not [name for name in found if "fid" in name or "classifier" in name]


@pytest.fixture
def pixels_for_inception(monkeypatch, tmp_path):
    """digest -> a space of pixels in place of Inception's, from weights with that digest."""

    def replace(digest: str):
        space = Pixels(256, digest)
        monkeypatch.setattr(benchmark.evaluation.evaluate, "find_weights", lambda *_args: tmp_path)
        monkeypatch.setattr(
            benchmark.evaluation.evaluate, "InceptionFeatures", lambda *_args: space
        )
        return space

    return replace


def test_both_spaces_are_measured_side_by_side(pixels_for_inception):
    pixels_for_inception(OFFICIAL_SHA256)
    config = config_of({"test": 40}, evaluation__inception=True)
    save_classifier(config)
    samples = drawn()[:40]
    found = measured(config, samples)
    assert {"fid_test_40", "precision_test_40", "recall_test_40"} <= found.keys()
    assert "inception_missing" not in found
    theirs = real(config, "test").reshape(360, -1)
    expected = frechet(samples.flatten(1).numpy(), theirs)
    # Pixels that are always 0 leave roots of rounding errors.
    assert found["fid_test_40"] == pytest.approx(expected, rel=1e-4)
    assert "fd_classifier_test_40" in found
    path = paths.fill(paths.CLASSIFIER, config.run, dataset="digits")
    assert found["classifier_sha256"] == file_digest(path)


def test_without_weights_the_record_says_so(tmp_path):
    found = measured(pictures(tmp_path, inception=True), dark_pictures(), "pictures")
    assert found == {
        "reference_count_test": PICTURES,
        "inception_missing": "no weights were there when this was measured",
    }


def test_damaged_weights_are_an_error(tmp_path):
    paths.inception_weights(tmp_path).write_bytes(b"half of the weights")
    with pytest.raises(DataError, match="is damaged or another network's"):
        measured(pictures(tmp_path, inception=True), dark_pictures(), "pictures")


@pytest.mark.parametrize("settings", [{}, {"inception": False}], ids=["silent", "off"])
def test_a_run_that_wants_no_inception_does_not_miss_it(settings, tmp_path, pixels_for_inception):
    space = pixels_for_inception(OFFICIAL_SHA256)
    found = measured(pictures(tmp_path, **settings), dark_pictures(), "pictures")
    assert found == {"reference_count_test": PICTURES}
    assert space.seen == 0


# --- likelihood ----------------------------------------------------------------------------------

LIKELIHOOD = {"split": "test", "images": 3, "passes": 200}
NATS = {"nats_test_3", "nats_low_ess_share_test_3"}
FITTED = {"nats_fitted_test_3", "bits_per_dimension_fitted_test_3", "sigma_fitted_validation_100"}
CONSTANT = {"bits_per_dimension_constant_test_3", "sigma_constant_validation_180"}


@pytest.fixture
def trained():
    """A run that wants the likelihood, and an untrained model's weights."""
    config = config_of(evaluation__likelihood=LIKELIHOOD)
    save_classifier(config)
    job = job_of(config, "training", "digits", "vae")
    model = build(job.settings.architecture, job.settings.model, SHAPE)
    save_weights(
        paths.fill(paths.WEIGHTS, config.run, dataset="digits", model="vae", seed=0), model, job
    )
    return config


def test_the_likelihood_is_measured_where_the_run_and_the_model_have_one(trained, monkeypatch):
    found = measured(trained, drawn())
    assert found.keys() > NATS | FITTED
    assert (
        found["nats_fitted_test_3"] > found["nats_test_3"]
    )  # an untrained decoder's sigma is poor
    assert measured(trained, drawn()) == found  # reproducible
    assert not NATS & measured(config_of(), drawn()).keys()
    real = measured(trained, drawn(), model=REAL)
    assert real.keys() > CONSTANT
    assert not (NATS | FITTED) & real.keys()
    without = torch.nn.Identity()
    monkeypatch.setattr(benchmark.evaluation.evaluate, "load_model", lambda *_args: without)
    found = measured(trained, drawn())
    assert not [name for name in found if name.startswith(("nats", "bits", "sigma"))]
    assert "fd_classifier_test_150" in found

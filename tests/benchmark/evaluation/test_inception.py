"""Inception with random weights: its features, weights that are refused, and the download."""

import gzip
from hashlib import sha256
from pathlib import Path

import pytest
import torch
import torch_fidelity.feature_extractor_inceptionv3
from reference.frechet import frechet
from reference.inception import LIVE, write_random_weights
from support.extractors import darker, smooth_images
from support.server import FAILURES, serving, whole

import benchmark.evaluation.inception
from benchmark.base.errors import DataError
from benchmark.base.files import file_digest
from benchmark.base.paths import inception_weights
from benchmark.evaluation.features import RealFeatures, extract
from benchmark.evaluation.frechet import fit_gaussian
from benchmark.evaluation.inception import (
    OFFICIAL_SHA256,
    InceptionFeatures,
    fetch_weights,
    find_weights,
)
from benchmark.evaluation.metrics import feature_metrics

CPU = torch.device("cpu")
IMAGES = 8  # more than live features: their covariances have full rank


@pytest.fixture(autouse=True)
def _no_weights_of_the_user(monkeypatch):
    monkeypatch.delenv("KAEM_INCEPTION_WEIGHTS", raising=False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_random_weights(tmp_path_factory.mktemp("weights") / "random.pth")


@pytest.fixture(scope="module")
def inception(weights) -> InceptionFeatures:
    return InceptionFeatures(weights, CPU)


@pytest.fixture(scope="module")
def two_sets() -> tuple[torch.Tensor, torch.Tensor]:
    shape = (1, 20, 20)
    return darker(smooth_images(IMAGES, shape, 0), 0.3), smooth_images(IMAGES, shape, 1)


@pytest.fixture(scope="module")
def extracted(inception, two_sets, tmp_path_factory) -> list[torch.Tensor]:
    folder = tmp_path_factory.mktemp("features")
    return [
        extract(images.split(6), len(images), inception, folder / str(i))
        for i, images in enumerate(two_sets)
    ]


# --- features -----------------------------------------------------------------------------------


def test_an_independent_distance_of_its_features_agrees(extracted):
    samples, real = extracted
    live = (real != 0).any(0)
    assert live.sum() == LIVE
    expected = frechet(samples[:, live].numpy(), real[:, live].numpy())
    distance = feature_metrics(samples, RealFeatures(real, fit_gaussian(real)))["frechet"]
    assert distance == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_features_do_not_depend_on_the_batch_size(batch_size, inception, two_sets, extracted):
    features = torch.cat([inception(batch) for batch in two_sets[0][:4].split(batch_size)])
    torch.testing.assert_close(features, extracted[0][:4], rtol=1e-4, atol=1e-5)
    # That is far below what tells two images apart.
    assert (extracted[0][:4].std(0).max() > 1e-2).all()


def test_grey_images_are_seen_as_three_equal_channels(inception, two_sets, extracted):
    colour = two_sets[0][:2].expand(-1, 3, -1, -1)
    torch.testing.assert_close(inception(colour), extracted[0][:2], rtol=1e-4, atol=1e-5)
    tinted = colour.clone()
    tinted[:, 0] = 0
    assert (inception(tinted) - extracted[0][:2]).abs().max() > 1e-2


def test_what_describes_the_features(inception, weights, extracted):
    assert inception.dimension == extracted[0].shape[1] == 2048
    assert inception.digest == file_digest(weights)
    assert extracted[0].dtype == torch.float32
    assert not extracted[0].requires_grad


# --- files that are refused ----------------------------------------------------------------------


WRONG = {
    "another network": {"weight": torch.zeros(3)},
    "a tensor": torch.zeros(3),
    "numbers for keys": {1: torch.zeros(3)},
    "numbers for tensors": {"fc.bias": 1},
    "nothing": b"",
    "text": b"no weights at all",
    "an archive": gzip.compress(b"no weights"),
    "half of the weights": None,
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_files_that_hold_no_such_network(content, weights, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    if not isinstance(content, dict | torch.Tensor):
        path.write_bytes(weights.read_bytes()[:1_000_000] if content is None else content)
    with pytest.raises(DataError, match=r"Inception weights: .*weights\.pth cannot be loaded"):
        InceptionFeatures(path, CPU)


def test_no_weights_are_no_error(tmp_path):
    assert find_weights(tmp_path) is None


def test_weights_are_found_by_their_digest(tmp_path):
    path = inception_weights(tmp_path)
    path.write_bytes(b"weights")
    assert find_weights(tmp_path, file_digest(path)) == path
    with pytest.raises(DataError, match="is damaged or another network's") as caught:
        find_weights(tmp_path)
    assert f"expected sha256 {OFFICIAL_SHA256}" in str(caught.value)
    assert f"found           {file_digest(path)}" in str(caught.value)


def test_a_file_of_ones_own_goes_first(tmp_path, monkeypatch):
    inception_weights(tmp_path).write_bytes(b"weights")
    own = tmp_path / "own.pth"
    own.write_bytes(b"my weights")
    monkeypatch.setenv("KAEM_INCEPTION_WEIGHTS", str(own))
    assert find_weights(tmp_path, file_digest(own)) == own


# --- the download --------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 4000  # a megabyte


@pytest.fixture
def server(monkeypatch):
    with serving({"weights.pth": CONTENT}) as server:
        extractor = torch_fidelity.feature_extractor_inceptionv3
        monkeypatch.setattr(extractor, "URL_INCEPTION_V3", f"{server.url}weights.pth")
        yield server


@pytest.fixture
def digest(monkeypatch) -> str:
    """Of what the server holds, in place of the official digest."""
    digest = sha256(CONTENT).hexdigest()
    monkeypatch.setattr(benchmark.evaluation.inception, "OFFICIAL_SHA256", digest)
    return digest


@pytest.mark.parametrize("failure", FAILURES)
def test_a_download_that_fails_leaves_nothing_and_a_second_run_recovers(
    failure, server, digest, tmp_path
):
    server.answer = failure
    with pytest.raises(DataError, match="The download failed") as caught:
        fetch_weights(tmp_path, digest)
    assert f"{inception_weights(tmp_path)} is missing (96 MB)" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert find_weights(tmp_path, digest) is None
    server.answer = whole
    path = fetch_weights(tmp_path, digest)
    assert path == find_weights(tmp_path, digest)
    assert path.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_network_it_says_what_to_do(server, digest, tmp_path):
    server.http.server_close()  # nobody listens there any more
    with pytest.raises(DataError, match="KAEM_INCEPTION_WEIGHTS"):
        fetch_weights(tmp_path, digest)
    assert list(tmp_path.iterdir()) == []


def test_weights_of_ones_own_are_not_downloaded(server, digest, tmp_path):  # noqa: ARG001
    with pytest.raises(DataError, match="is missing"):
        fetch_weights(tmp_path, "0" * 64)
    assert server.requests == 0

"""Inception with random weights: its features, weights that are refused, and the download."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import torch_fidelity.feature_extractor_inceptionv3
from reference.frechet import frechet
from reference.inception import LIVE, random_state, write_random_weights
from support.extractors import darker, smooth_images

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
    found = feature_metrics(samples, RealFeatures(real, fit_gaussian(real)))["frechet"]
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_features_do_not_depend_on_the_batch_size(batch_size, inception, two_sets, extracted):
    found = torch.cat([inception(batch) for batch in two_sets[0][:4].split(batch_size)])
    torch.testing.assert_close(found, extracted[0][:4], rtol=1e-4, atol=1e-5)
    # That is far below what tells two images apart.
    assert (extracted[0][:4].std(0).max() > 1e-2).all()


def test_grey_images_are_seen_as_three_equal_channels(inception, two_sets, extracted):
    colour = two_sets[0][:2].expand(-1, 3, -1, -1)
    torch.testing.assert_close(inception(colour), extracted[0][:2], rtol=1e-4, atol=1e-5)
    tinted = colour.clone()
    tinted[:, 0] = 0
    assert (inception(tinted) - extracted[0][:2]).abs().max() > 1e-2


def test_they_are_torch_fidelitys(weights, two_sets, extracted):
    extractor = torch_fidelity.feature_extractor_inceptionv3.FeatureExtractorInceptionV3
    network = extractor("theirs", ["2048"], feature_extractor_weights_path=str(weights))
    (expected,) = network(two_sets[0][:2].repeat(1, 3, 1, 1))
    torch.testing.assert_close(extracted[0][:2], expected, rtol=1e-4, atol=1e-5)


def test_what_describes_the_features(inception, weights, extracted):
    assert inception.dimension == extracted[0].shape[1] == 2048
    assert inception.digest == file_digest(weights)
    assert extracted[0].dtype == torch.float32
    assert not extracted[0].requires_grad


# --- files that are refused ----------------------------------------------------------------------


class Code:
    """Runs when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_holds_more_than_tensors_is_refused_and_does_not_run(tmp_path):
    path, proof = tmp_path / "weights.pth", tmp_path / "it ran"
    torch.save(random_state() | {"fc.bias": Code(proof)}, path)
    with pytest.raises(DataError, match=r"weights\.pth cannot be loaded"):
        InceptionFeatures(path, CPU)
    assert not proof.exists()
    torch.load(path, weights_only=False)
    assert proof.exists()  # it would have run


def save_as(content):
    return lambda path: torch.save(content, path)


WRONG = {
    "another network": save_as({"weight": torch.zeros(3)}),
    "a tensor": save_as(torch.zeros(3)),
    "numbers for keys": save_as({1: torch.zeros(3)}),
    "numbers for tensors": save_as({"fc.bias": 1}),
    "nothing": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(b"no weights at all"),
    "an archive": lambda path: path.write_bytes(gzip.compress(b"no weights")),
}


@pytest.mark.parametrize("write", WRONG.values(), ids=WRONG)
def test_files_that_hold_no_such_network(write, tmp_path):
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(DataError, match=r"Inception weights: .*weights\.pth"):
        InceptionFeatures(path, CPU)


def test_half_a_weights_file(weights, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(weights.read_bytes()[:1_000_000])
    with pytest.raises(DataError, match=r"weights\.pth cannot be loaded"):
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


class Server:
    """Serves `CONTENT` on this machine; `answer` says how."""

    def __init__(self):
        self.answer, self.asked = whole, 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked += 1
                outer.answer(self)
                self.close_connection = True

            def log_message(self, *_args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/weights.pth"


def send(handler: BaseHTTPRequestHandler, content: bytes, **headers: str) -> None:
    handler.send_response(200)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def whole(handler):
    send(handler, CONTENT, Content_Length=str(len(CONTENT)))


def cut_in_half(handler):
    send(handler, CONTENT[: len(CONTENT) // 2], Content_Length=str(len(CONTENT)))


def cut_in_half_without_a_length(handler):
    send(handler, CONTENT[: len(CONTENT) // 2])


def cut_in_the_middle_of_a_chunk(handler):
    handler.protocol_version = "HTTP/1.1"
    send(handler, b"f4240\r\n" + CONTENT[: len(CONTENT) // 2], Transfer_Encoding="chunked")


def no_answer(handler):
    handler.wfile.write(b"this is no HTTP\r\n\r\n")


def hung_up(_handler):
    pass


def another_file(handler):
    send(handler, CONTENT[::-1], Content_Length=str(len(CONTENT)))


def not_found(handler):
    handler.send_error(404)


@pytest.fixture
def server(monkeypatch):
    served = Server()
    thread = threading.Thread(target=served.http.serve_forever, args=(0.01,))
    thread.start()
    extractor = torch_fidelity.feature_extractor_inceptionv3
    monkeypatch.setattr(extractor, "URL_INCEPTION_V3", served.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield served
    served.http.shutdown()
    served.http.server_close()
    thread.join()


@pytest.fixture
def digest(tmp_path_factory, monkeypatch) -> str:
    """Of what the server holds, in place of the official digest."""
    path = tmp_path_factory.mktemp("content") / "whole"
    path.write_bytes(CONTENT)
    found = file_digest(path)
    monkeypatch.setattr(benchmark.evaluation.inception, "OFFICIAL_SHA256", found)
    return found


@pytest.mark.parametrize(
    "failure",
    [
        cut_in_half,
        cut_in_half_without_a_length,
        cut_in_the_middle_of_a_chunk,
        no_answer,
        hung_up,
        another_file,
        not_found,
    ],
)
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
    assert server.asked == 0

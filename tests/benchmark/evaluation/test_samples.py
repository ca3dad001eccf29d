"""The images that are evaluated: independent of the batch, reproducible, and stored whole."""

import errno
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from reference.faulty_metrics import to_uint8_truncating
from support.configs import tiny_config

from benchmark.base.errors import RecordError
from benchmark.config.config import REAL
from benchmark.config.jobs import job_of
from benchmark.config.registry import build
from benchmark.evaluation.samples import draw_images, open_samples, real_images, save_samples
from kaem.random import rand

CPU = torch.device("cpu")
ENTRIES = ("kaem_is", "vae")


def sampling_job(model: str = "vae", samples: int = 10, changes: dict | None = None, seed: int = 0):
    config = tiny_config({"evaluation.references": {"test": samples}, **(changes or {})})
    return job_of(config, "sampling", "digits", model, seed)


def draw(model: str = "vae", samples: int = 10, seed: int = 0, **options) -> torch.Tensor:
    torch.manual_seed(0)  # of the weights
    settings = job_of(tiny_config(), "training", "digits", model).settings
    network = build(settings.architecture, settings.model, (1, 8, 8))
    torch.manual_seed(samples)  # the state of the global generator is no matter
    job = sampling_job(model, samples, seed=seed)
    return torch.cat(list(draw_images(network, job, CPU, **options)))


def real(images: torch.Tensor, samples: int, seed: int = 0) -> torch.Tensor:
    return torch.cat(list(real_images(images, sampling_job(REAL, samples, seed=seed))))


def most_difference(a: torch.Tensor, b: torch.Tensor) -> int:
    return (a.int() - b.int()).abs().max().item()


@pytest.mark.parametrize("model", ENTRIES)
@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_an_image_does_not_depend_on_its_batch(model, batch_size):
    expected = draw(model)
    assert expected.shape == (10, 1, 8, 8)
    assert expected.dtype == torch.uint8
    # A value at the border of two levels may fall to either side.
    assert most_difference(draw(model, batch_size=batch_size), expected) <= 1


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
        def sample(self, n, generator):
            assert not self.training
            assert not torch.is_grad_enabled()
            assert rand(n, (), generator, torch.zeros(())).shape == (n,)
            return torch.full((n, 1, 2, 2), 0.5)

    (images,) = draw_images(Model().train(), sampling_job(), CPU)
    assert images.unique().tolist() == [128]  # 127.5, rounded to even


@pytest.mark.parametrize("batch_size", [3, 10, 256])
def test_images_come_in_batches(batch_size):
    drawn = []

    class Model(torch.nn.Module):
        def sample(self, n, _):
            drawn.append(n)
            return torch.rand(n, 1, 2, 2)

    batches = draw_images(Model(), sampling_job(), CPU, batch_size)
    assert drawn == []
    first = next(batches)
    assert drawn == [len(first)] == [min(batch_size, 10)]  # the others are not drawn yet
    assert len(first) + sum(map(len, batches)) == sum(drawn) == 10


class EveryLevel(torch.nn.Module):
    """Draws every level of grey and what is less than half a level around it."""

    levels = torch.arange(256)

    def sample(self, n, generator):
        away = rand(n, (256,), generator, torch.zeros(())) - 0.5
        return ((self.levels + 0.98 * away) / 255).clamp(0, 1).view(n, 1, 16, 16)


def test_levels_are_rounded_and_not_truncated(seeded):
    def brightness(images):
        return (images.flatten(1).double() - EveryLevel.levels).mean().item()

    (images,) = draw_images(EveryLevel(), sampling_job(), CPU)
    assert brightness(images) == 0
    wrong = to_uint8_truncating(EveryLevel().sample(10, seeded()))
    assert brightness(wrong) < -0.4


def numbered(n: int) -> torch.Tensor:
    """Different images, (n, 1, 1, 2)."""
    return torch.arange(2 * n, dtype=torch.uint8).view(n, 1, 1, 2)


def test_real_images_repeat_only_where_there_are_too_few():
    images = numbered(30)
    chosen = real(images, 20)
    assert torch.equal(chosen, real(images, 20))
    assert not torch.equal(chosen, real(images, 20, seed=1))
    assert len(chosen.flatten(1).unique(dim=0)) == 20
    repeated = real(images[:10], 100)
    assert repeated.shape == (100, 1, 1, 2)
    assert torch.equal(repeated.flatten(1).unique(dim=0), images[:10].flatten(1))
    everything = real(images, 30)
    assert torch.equal(everything.flatten(1).unique(dim=0), images.flatten(1))
    assert not torch.equal(everything, images)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_real_images_do_not_depend_on_the_batches(batch_size):
    images = numbered(30)
    expected = real(images, 20)
    batches = list(real_images(images, sampling_job(REAL, 20), batch_size))
    assert max(map(len, batches)) == batch_size
    assert torch.equal(torch.cat(batches), expected)


# Files ------------------------------------------------------------------------------------------


SHAPE = (10, 1, 8, 8)


@pytest.fixture(scope="module")
def drawn() -> torch.Tensor:
    return draw()


@pytest.fixture
def saved(tmp_path, drawn):
    path = tmp_path / "samples" / "seed0.npz"
    save_samples(path, drawn.split(4), SHAPE, sampling_job())
    return path


def read(path, job=None) -> torch.Tensor:
    """All that the file holds."""
    return torch.cat(list(open_samples(path, job).batches(7)))


@pytest.mark.parametrize("size", [1, 3, 10, 256])
def test_round_trip(size, saved, drawn):
    for samples in (open_samples(saved, sampling_job(), SHAPE[1:]), open_samples(saved)):
        assert len(samples) == 10
        assert samples.shape == SHAPE
        batches = list(samples.batches(size))
        assert max(map(len, batches)) == min(size, 10)
        assert torch.equal(torch.cat(batches), drawn)
        assert batches[0].dtype == torch.uint8
        assert torch.equal(samples.first(size), drawn[:size])  # from the beginning again
        assert torch.equal(torch.cat(list(samples.batches(2, size))), drawn[:size])
    assert [path.name for path in saved.parent.iterdir()] == ["seed0.npz"]


def test_numpy_reads_the_same_and_its_own_files_are_read_too(saved, drawn):
    held = dict(np.load(saved))
    assert np.array_equal(held["images"], drawn)
    assert held["config_hash"] == sampling_job().config_hash
    np.savez_compressed(saved, **held)
    assert torch.equal(read(saved, sampling_job()), drawn)


FOUR = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)


@pytest.mark.parametrize(
    "batches",
    [
        [FOUR] * 2,
        [FOUR] * 3,
        [torch.zeros(10, 1, 9, 8, dtype=torch.uint8)],
        [torch.zeros(10, 3, 8, 8, dtype=torch.uint8)],
        [torch.zeros(10, 1, 8, 8)],
        [],
    ],
    ids=["too few", "too many", "larger", "colour", "floats", "none"],
)
def test_no_file_of_other_images_than_announced(batches, tmp_path):
    with pytest.raises(ValueError, match="announced"):
        save_samples(tmp_path / "seed0.npz", batches, SHAPE, sampling_job())
    assert list(tmp_path.iterdir()) == []


def failing_after_one_batch(error):
    yield FOUR
    raise error


@pytest.mark.parametrize(
    "error",
    [RuntimeError("diverged"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")],
    ids=["failure", "interruption", "full disk"],
)
def test_a_failed_drawing_leaves_the_older_file(error, saved, drawn):
    with pytest.raises(type(error)):
        save_samples(saved, failing_after_one_batch(error), SHAPE, sampling_job())
    assert torch.equal(read(saved), drawn)
    assert [path.name for path in saved.parent.iterdir()] == ["seed0.npz"]


def noise(batches: int):
    """Images that cannot be compressed, from numpy, whose memory tracemalloc sees."""
    draws = np.random.default_rng(0)
    for _ in range(batches):
        yield torch.from_numpy(draws.integers(0, 256, (256, 3, 16, 16), np.uint8))


def peak(action) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    def write(batches):
        shape = (256 * batches, 3, 16, 16)
        save_samples(tmp_path / f"{batches}.npz", noise(batches), shape, sampling_job())

    def read_all(batches):
        for _ in open_samples(tmp_path / f"{batches}.npz").batches(256):
            pass

    for action in (write, read_all):
        action(1)  # what is allocated once is now
        few, many = (peak(lambda n=n, action=action: action(n)) for n in (3, 30))
        assert many < few + 256 * 768  # one batch
    assert peak(lambda: list(noise(30))) > 29 * 256 * 768  # the watch sees what is held


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
        open_samples(saved, other)
    with pytest.raises(RecordError, match=r"its images are \(.*\), the dataset's \(3, 9, 9\)"):
        open_samples(saved, other, (3, 9, 9))
    again = f"benchmark sample --config FILE --dataset digits --model {other.model} "
    assert again in str(caught.value)


TWO, HASH = np.zeros((2, 1, 2, 2), np.uint8), "0" * 16
OTHERS = {
    "no hash": {"images": TWO},
    "no images": {"config_hash": HASH},
    "pickled": {"images": np.array([{"code": "pickled"}]), "config_hash": HASH},
    "floats": {"images": TWO / 1.0, "config_hash": HASH},
    "no channels": {"images": TWO[:, 0], "config_hash": HASH},
    "columns": {"images": np.asfortranarray(TWO), "config_hash": HASH},
    "pickled hash": {"images": TWO, "config_hash": np.array({"code": "pickled"})},
    "long hash": {"images": TWO, "config_hash": np.array("0" * 9999)},
    "large images": {"images": np.zeros((1, 1, 2**12, 2**11), np.uint8), "config_hash": HASH},
}


@pytest.mark.parametrize("arrays", OTHERS.values(), ids=OTHERS)
def test_archives_of_something_else(tmp_path, arrays):
    path = tmp_path / "seed0.npz"
    np.savez(path, **arrays)
    with pytest.raises(RecordError, match=r"seed0\.npz: cannot be read as samples"):
        open_samples(path)


def test_fewer_images_than_the_header_says(saved):
    with zipfile.ZipFile(saved) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["images.npy"] = members["images.npy"][:-64]
    with zipfile.ZipFile(saved, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(RecordError, match="does not take"):
        read(saved, sampling_job())


def test_a_file_that_disappears(saved):
    samples = open_samples(saved)
    saved.unlink()
    with pytest.raises(RecordError, match="not there"):
        samples.first(1)

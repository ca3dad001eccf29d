"""The EBM of the pixels: runs and loss by hand, the replay buffer, and that it learns.

Shares and frequencies are at five standard errors, a false alarm of 6e-7 each for a new seed.
"""

import copy

import pytest
import torch
from support.images import adam_losses, bars
from torch import nn

from baselines.pixel_ebm import PixelEBM, energy_network

IMAGE_SHAPE = (1, 8, 8)
SMALL = (1, 2, 2)


class Slope(nn.Module):
    """E(x) = slope . sum of x, (n, C, H, W) -> (n, 1)."""

    def __init__(self, slope: float):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, x):
        return self.slope * x.flatten(1).sum(1, keepdim=True)


class Bowl(nn.Module):
    """E(x) = sum of (x - centre)^2 / 2, (n, C, H, W) -> (n, 1)."""

    def __init__(self):
        super().__init__()
        self.centre = nn.Parameter(torch.tensor(0.3))

    def forward(self, x):
        return 0.5 * (x - self.centre).square().flatten(1).sum(1, keepdim=True)


def marked(size: int = 25, **options) -> PixelEBM:
    """A model whose runs end where they begin; each image of its buffer is of one level."""
    options = {"steps": 0, "sample_steps": 0, "buffer_size": size} | options
    model = PixelEBM(Slope(1.0), SMALL, **options)
    model.replay[:] = 10 * torch.arange(1, size + 1)[:, None, None, None]
    return model


def rows_of(images: torch.Tensor) -> torch.Tensor:
    """The rows of a marked buffer that images are at, (n,)."""
    assert (images.flatten(1).std(1) == 0).all()
    return (25.5 * images[:, 0, 0, 0]).round().long() - 1


def assert_uniform(rows: torch.Tensor, size: int = 25):
    shares, p = torch.bincount(rows, minlength=size) / len(rows), 1 / size
    assert ((shares - p).abs() < 5 * (p * (1 - p) / len(rows)) ** 0.5).all()


def trained_model() -> PixelEBM:
    settings = {"width": 8, "steps": 10, "sample_steps": 40, "buffer_size": 256}
    return PixelEBM.from_settings(settings, IMAGE_SHAPE)


# --- runs -------------------------------------------------------------------------------------


def test_a_run_by_hand(seeded):
    model = PixelEBM(Bowl(), SMALL, step_size=0.7, noise=0.2, largest_gradient=0.25).double()
    x = torch.rand(200, *SMALL, generator=seeded(9), dtype=torch.float64)
    before = x.clone()
    result = model._run(x, 3, seeded())
    assert torch.equal(x, before)
    draws, clipped = seeded(), 0
    for _ in range(3):
        x = x + 0.2 * torch.randn(x.shape, generator=draws, dtype=torch.float64)
        x = x.clip(0, 1)
        slope = 0.3 - x
        clipped += (slope.abs() > 0.25).sum()
        x = (x + 0.7 * slope.clip(-0.25, 0.25)).clip(0, 1)
    torch.testing.assert_close(result, x)
    assert clipped > 100


@pytest.mark.parametrize(("slope", "corner"), [(1e6, 0.0), (-1e6, 1.0)])
def test_images_stay_in_their_range(slope, corner, seeded):
    model = PixelEBM(Slope(slope), SMALL, step_size=5.0, noise=1.0, sample_steps=3)
    images = model.sample(500, seeded())
    assert images.min() >= 0
    assert images.max() <= 1
    # A step of no more than 5 x 0.03 after the noise: many are at the wall, not all of them.
    assert 0.3 < (images == corner).double().mean() < 0.6
    assert ((images - corner).abs() > 0.8).double().mean() > 0.05


@pytest.mark.parametrize("steps", [1, 7])
def test_a_sample_is_a_run_from_the_buffer_and_leaves_it(steps, seeded):
    model, calls = PixelEBM(Bowl(), SMALL, steps=4, sample_steps=steps), []
    kept = model.replay.clone()
    model.energy.register_forward_hook(lambda *_: calls.append(1))
    images = model.sample(3, seeded())
    assert len(calls) == steps == model.nfe
    generator = seeded()
    _, start = model._remembered(3, generator)
    assert torch.equal(images, model._run(start, steps, generator))
    assert torch.equal(model.replay, kept)


def test_samples_begin_anywhere_in_the_buffer(seeded):
    assert_uniform(rows_of(marked(restart=0.5).sample(20_000, seeded())))


# --- the loss ---------------------------------------------------------------------------------


def test_the_loss_by_hand(seeded):
    model = marked(restart=0.5, noise=0.1, penalty=0.3).double()
    x = torch.rand(6, *SMALL, dtype=torch.float64)
    same = copy.deepcopy(model)  # a run changes the buffer
    loss, info = model.loss(x, seeded())
    generator = seeded()
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    negatives = same._negatives(6, generator)
    of_data = (x + 0.1 * noise).clip(0, 1).flatten(1).sum(1)
    of_model = negatives.flatten(1).sum(1)
    squares = of_data.square().mean() + of_model.square().mean()
    torch.testing.assert_close(loss, of_data.mean() - of_model.mean() + 0.3 * squares)
    expected = {"energy_data": of_data.mean().item(), "energy_model": of_model.mean().item()}
    assert info == pytest.approx(expected)


def test_updates_lower_the_energy_of_data_and_raise_that_of_negatives(seeded, monkeypatch):
    model = PixelEBM.from_settings({"width": 8, "steps": 5}, IMAGE_SHAPE)
    x, negatives = bars(32, IMAGE_SHAPE, seeded()), model._negatives(32, seeded(1))
    monkeypatch.setattr(model, "_negatives", lambda *_: negatives)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    generator, infos = seeded(2), []
    for _ in range(30):
        loss, info = model.loss(x, generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        infos.append(info)
    assert infos[-1]["energy_data"] < infos[0]["energy_data"] - 0.1
    assert infos[-1]["energy_model"] > infos[0]["energy_model"] + 0.1


def test_no_gradient_goes_through_the_runs(seeded):
    model = PixelEBM.from_settings({"width": 8, "steps": 5}, IMAGE_SHAPE)
    negatives = model._negatives(4, seeded())
    assert not negatives.requires_grad
    assert not model.replay.requires_grad
    assert all(p.grad is None for p in model.parameters())


# --- the replay buffer ------------------------------------------------------------------------


def test_the_buffer_begins_as_noise():
    levels = PixelEBM(Slope(1.0), SMALL, buffer_size=10_000).replay.flatten().long()
    assert_uniform(levels, 256)


def test_a_share_of_the_runs_begins_at_noise_and_the_others_anywhere_in_the_buffer(seeded):
    n, restart = 20_000, 0.2
    result = marked(restart=restart)._negatives(n, seeded())
    fresh = result.flatten(1).std(1) > 0
    assert abs(fresh.double().mean() - restart) < 5 * (restart * (1 - restart) / n) ** 0.5
    assert_uniform(rows_of(result[~fresh]))
    noise = result[fresh].flatten().double()
    for power in (1, 2):
        values = noise**power
        assert abs(values.mean() - 1 / (power + 1)) < 5 * values.std() / len(noise) ** 0.5


def test_ends_take_the_place_of_their_starts(seeded):
    # Two steps of 4/255 down the slope.
    run = {"steps": 2, "noise": 0.0, "step_size": 1.0, "largest_gradient": 4 / 255}
    model = marked(restart=0.0, **run)
    before = model.replay.clone()
    rows = rows_of(model._negatives(10, seeded()) + 8 / 255)
    expected = before.clone()
    expected[rows] -= 8
    assert torch.equal(model.replay, expected)
    assert 0 < (expected != before).sum() <= 10 * 4


def test_fresh_ends_are_kept_to_the_nearest_level(seeded):
    model = marked(restart=1.0)
    ends = model._negatives(10, seeded())
    kept = model.replay.double() / 255
    distances = (ends[:, None] - kept).abs().flatten(2).amax(2)
    # Of two ends for one row the buffer has the later one.
    assert (distances.min(0).values[model.replay.flatten(1).float().std(1) > 0] <= 0.002).all()
    assert (distances.min(1).values <= 0.002).sum() >= 5


@pytest.mark.parametrize("threads", [1, 2])
def test_of_several_ends_for_one_row_the_last_is_kept(threads, seeded):
    # Written in parallel, any of them might be: the same seed then trained two models.
    model = PixelEBM(Slope(1.0), (1, 28, 28), buffer_size=8)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for seed in range(5):
            rows = torch.randint(8, (500,), generator=seeded(seed))
            images = torch.randint(256, (500, 1, 28, 28), generator=seeded(seed)).to(torch.uint8)
            expected = model.replay.clone()
            for row, image in zip(rows.tolist(), images, strict=True):
                expected[row] = image
            model._remember(rows, images)
            assert torch.equal(model.replay, expected)
    finally:
        torch.set_num_threads(before)


# --- the whole --------------------------------------------------------------------------------


def test_training_tells_data_from_noise(seeded):
    model = trained_model()
    losses = adam_losses(model, IMAGE_SHAPE, 150)
    assert all(abs(loss) < 10 for loss in losses)
    x, noise = bars(500, IMAGE_SHAPE, seeded(1)), torch.rand(500, *IMAGE_SHAPE)
    with torch.no_grad():
        of_data, of_noise = model.energy(x), model.energy(noise)
    assert of_noise.min() > of_data.max()
    assert of_noise.mean() - of_data.mean() > 2 * of_data.std()


def test_the_network_of_the_settings():
    model = trained_model()
    assert model.nfe == 40
    assert model.replay.shape == (256, *IMAGE_SHAPE)
    # 1 -> 8 -> 16 -> 16 channels, then 16 x 2 x 2 -> 32 -> 1.
    expected = (9 * 8 + 8) + (16 * 8 * 16 + 16) + (16 * 16 * 16 + 16) + (64 + 1) * 32 + 33
    assert sum(p.numel() for p in model.parameters()) == expected
    assert energy_network((3, 8, 12), 4)(torch.rand(5, 3, 8, 12)).shape == (5, 1)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"image sides must be multiples of 4, got \(1, 8, 6\)"):
        energy_network((1, 8, 6), 8)

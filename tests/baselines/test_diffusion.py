"""Diffusion: loss and average by hand, and the samplers with an exact denoiser.

The noise that an exact denoiser finds in x_t is -sqrt(1 - abar_t) times the score of x_t's
density, which a Gaussian mixture has in closed form. Moments and masses are at five standard
errors, a false alarm of 6e-7 each for a new seed; the Kolmogorov-Smirnov (KS) tests have
alpha = 1e-4 each.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import EMAModel
from scipy import stats
from torch import nn

from baselines.diffusion import KINDS, SCHEDULE, Diffusion, run_sampler, unet
from benchmark.base.seeding import PhiloxStreams

ALPHA = 1e-4
IMAGE_SHAPE = (1, 8, 8)
SETTINGS = {
    "channels": [8, 16],
    "layers": 1,
    "attention": False,
    "ema_decay": 0.9,
    "sampler": {"kind": "ddim", "steps": 5},
}
# Ho et al. 2020: what is left of x_0 in x_t, for t = 0, ..., 999.
ABAR = torch.from_numpy(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)))

# A mixture of two coordinates, its means five deviations and more from the ends of [-1, 1], so
# that clipping is no matter.
MEANS = torch.tensor([[-0.45, 0.3], [0.4, 0.45], [0.1, -0.4]], dtype=torch.float64)
MASSES = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
DEVIATION = 0.1


class ExactDenoiser:
    """(x, t) -> the expected noise in x (n, 1, 1, 2) of the mixture.

    Attributes:
        largest: the largest prediction of x_0 so far.
    """

    def __init__(self):
        self.largest = 0.0

    def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        x, abar = x.flatten(1), ABAR[t]
        variance = abar * DEVIATION**2 + 1 - abar
        offsets = x[:, None] - abar.sqrt() * MEANS
        weights = (MASSES.log() - offsets.square().sum(2) / (2 * variance)).softmax(1)
        score = -(weights[..., None] * offsets).sum(1) / variance
        noise = -(1 - abar).sqrt() * score
        clean = (x - (1 - abar).sqrt() * noise) / abar.sqrt()
        self.largest = max(self.largest, clean.abs().max().item())
        return noise[:, None, None, :]


class Scale(nn.Module):
    """A network of one number, (x, t) -> scale x; it remembers its last input."""

    def __init__(self, scale: float = 0.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x, t):
        self.seen = x, t
        return SimpleNamespace(sample=self.scale * x)


def mixture_cdf(coordinate: int):
    parts = [stats.norm(m, DEVIATION) for m in MEANS[:, coordinate].tolist()]
    return lambda x: sum(w * p.cdf(x) for w, p in zip(MASSES.tolist(), parts, strict=True))


def mixture_moments() -> tuple[torch.Tensor, torch.Tensor]:
    """Means of x and of its squares and product, (2,) and (3,)."""
    mean = MASSES @ MEANS
    squares = MASSES @ MEANS.square() + DEVIATION**2
    return mean, torch.cat([squares, (MASSES @ MEANS.prod(1))[None]])


def draws(kind: str, steps: int, n: int = 4000, seed: int = 0) -> torch.Tensor:
    """Samples of the mixture with the exact denoiser, (n, 2)."""
    generator, denoiser = torch.Generator().manual_seed(seed), ExactDenoiser()
    noise = torch.randn(n, 1, 1, 2, generator=generator, dtype=torch.float64)
    x = run_sampler(denoiser, noise, kind, steps, generator)
    assert denoiser.largest < 1  # nothing was clipped
    return x.flatten(1)


def distances(x: torch.Tensor) -> list:
    """The KS tests of both coordinates."""
    return [stats.kstest(x[:, c].numpy(), mixture_cdf(c)) for c in range(2)]


def assert_masses(x: torch.Tensor):
    """The share of draws nearest to each mean; the modes are eight deviations apart."""
    shares = torch.bincount(torch.cdist(x, MEANS).argmin(1), minlength=3) / len(x)
    assert ((shares - MASSES).abs() < 5 * (MASSES * (1 - MASSES) / len(x)).sqrt()).all()


def errors(values: torch.Tensor, expected) -> torch.Tensor:
    """The distance of the mean from what is expected, in standard errors, over the rows."""
    return (values.mean(0) - expected) / (values.std(0) / len(values) ** 0.5)


def assert_moments(x: torch.Tensor):
    """Means, squares and the product of both coordinates."""
    mean, seconds = mixture_moments()
    assert (errors(x, mean).abs() < 5).all()
    assert (errors(torch.cat([x.square(), x.prod(1, keepdim=True)], 1), seconds).abs() < 5).all()


# --- training ---------------------------------------------------------------------------------


def test_what_the_network_sees(seeded):
    model, n = Diffusion(Scale(), (1, 1, 2), ema_decay=0.9).double(), 20_000
    x = torch.tensor([0.9, 0.2], dtype=torch.float64).expand(n, 1, 1, 2)
    loss, _ = model.loss(x, seeded())
    noisy, t = model.network.seen
    assert t.min() == 0
    assert t.max() == 999
    shares = torch.bincount(t // 100) / n
    assert ((shares - 0.1).abs() < 5 * (0.09 / n) ** 0.5).all()
    abar = ABAR[t][:, None, None, None]
    noise = (noisy - abar.sqrt() * (2 * x - 1)) / (1 - abar).sqrt()
    assert stats.kstest(noise.flatten().numpy(), stats.norm.cdf).pvalue > ALPHA
    early = noise[t < 100].flatten()  # where the data weigh the most
    assert stats.kstest(early.numpy(), stats.norm.cdf).pvalue > ALPHA
    # A network that says nothing loses the noise's square.
    assert loss.item() == pytest.approx(noise.square().mean().item(), rel=1e-4)


def test_the_loss_of_an_exact_denoiser_is_its_known_minimum(seeded):
    # For data N(m, v) it is the variance of the noise given x_t, over all t.
    m, v = 0.3, 0.2

    class Exact(nn.Module):
        def forward(self, x, t):
            abar = ABAR[t][:, None, None, None]
            noise = (1 - abar).sqrt() * (x - abar.sqrt() * m) / (abar * v + 1 - abar)
            return SimpleNamespace(sample=noise)

    model, generator = Diffusion(Exact(), (1, 1, 2), ema_decay=0.9).double(), seeded()
    result = []
    for _ in range(100):
        y = m + v**0.5 * torch.randn(1000, 1, 1, 2, generator=generator, dtype=torch.float64)
        result.append(model.loss((y + 1) / 2, generator)[0])
    minimum = (ABAR * v / (ABAR * v + 1 - ABAR)).mean()
    assert errors(torch.stack(result), minimum).abs() < 5
    assert torch.stack(result).std() / 10 < 0.02 * minimum


@pytest.mark.parametrize("decay", [0.5, 0.95])
def test_the_moving_average_is_that_of_diffusers(decay):
    # (1 + n)/(10 + n) meets 0.95 at n = 170.
    model = Diffusion(nn.Linear(3, 2), IMAGE_SHAPE, ema_decay=decay).double()
    parameters = list(model.network.parameters())
    reference = EMAModel(parameters, decay=decay)
    reference.to(dtype=torch.float64)
    for update in range(1, 201):
        with torch.no_grad():
            for parameter in parameters:
                parameter.normal_()
        model.after_update(update, 200)
        reference.step(parameters)
        result = list(model.ema.module.parameters())
        for average, expected, parameter in zip(
            result, reference.shadow_params, parameters, strict=True
        ):
            torch.testing.assert_close(average, expected, rtol=1e-12, atol=1e-12)
            assert torch.equal(average, parameter) == (update == 1)  # the first one copies


def test_only_the_network_learns_and_both_are_saved(seeded):
    model = Diffusion.from_settings(SETTINGS, IMAGE_SHAPE)
    model.loss(torch.rand(4, *IMAGE_SHAPE), seeded())[0].backward()
    assert all(p.grad is not None for p in model.network.parameters())
    assert not any(p.requires_grad for p in model.ema.parameters())
    assert {key.split(".")[0] for key in model.state_dict()} == {"network", "ema"}


# --- samplers with the exact denoiser ---------------------------------------------------------


def test_a_thousand_ddpm_steps_reproduce_a_mixture():
    x = draws("ddpm", 1000)
    assert all(test.pvalue > ALPHA for test in distances(x))
    assert_masses(x)
    assert_moments(x)


def test_a_thousand_ddim_steps_agree():
    x = draws("ddim", 1000)
    assert all(test.pvalue > ALPHA for test in distances(x))
    assert_masses(x)
    assert_moments(x)


def test_fifty_ddim_steps_come_near():
    # Each mode is a tenth too narrow, the masses are right.
    x = draws("ddim", 50)
    assert all(test.statistic < 0.06 for test in distances(x))
    assert_masses(x)
    assert (errors(x, mixture_moments()[0]).abs() < 5).all()
    spread = torch.cdist(x, MEANS).amin(1).square().mean().sqrt()
    assert 0.8 < spread / (2**0.5 * DEVIATION) < 1.0


def test_ddpm_is_the_algorithm_of_ho_et_al(seeded):
    # Algorithm 2 with sigma_t^2 = beta_t; diffusers computes in single precision.
    denoiser, generator = ExactDenoiser(), seeded(1)
    x = torch.randn(20, 1, 1, 2, generator=seeded(), dtype=torch.float64)
    result = run_sampler(denoiser, x, "ddpm", 1000, generator)
    generator, betas = seeded(1), np.linspace(1e-4, 0.02, 1000)
    for t in reversed(range(1000)):
        step = betas[t] / (1 - ABAR[t]).sqrt() * denoiser(x, torch.tensor(t))
        x = (x - step) / (1 - betas[t]) ** 0.5
        if t > 0:
            noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
            x = x + betas[t] ** 0.5 * noise
    torch.testing.assert_close(result, x, atol=2e-3, rtol=0)


def test_ddpm_is_that_of_diffusers_where_predictions_are_clipped(seeded):
    def denoiser(x, _):
        return 0.5 * x

    scheduler = DDPMScheduler(variance_type="fixed_large", **SCHEDULE)
    x, generator = torch.randn(20, 1, 1, 2, generator=seeded(), dtype=torch.float64), seeded(1)
    result, clipped = run_sampler(denoiser, x, "ddpm", 50, seeded(1)), 0
    scheduler.set_timesteps(50)
    for t in scheduler.timesteps:
        step = scheduler.step(denoiser(x, t), t, x, generator=generator)
        x, clipped = step.prev_sample, clipped + (step.pred_original_sample.abs() == 1).sum()
    assert clipped > 100
    torch.testing.assert_close(result, x, atol=1e-4, rtol=0)


def test_ddim_is_the_formula_of_song_et_al(seeded):
    # Equation 12 without noise, from t = 980 in steps of 20 and at last to x_0.
    denoiser = ExactDenoiser()
    x = torch.randn(20, 1, 1, 2, generator=seeded(), dtype=torch.float64)
    result = run_sampler(denoiser, x, "ddim", 50)
    for t in reversed(range(0, 1000, 20)):
        abar, following = ABAR[t], ABAR[t - 20] if t > 0 else torch.tensor(1.0)
        noise = denoiser(x, torch.tensor(t))
        clean = (x - (1 - abar).sqrt() * noise) / abar.sqrt()
        x = following.sqrt() * clean + (1 - following).sqrt() * noise
    torch.testing.assert_close(result, x, atol=1e-3, rtol=0)


# --- sampling ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_with_a_stream_per_image_the_batch_is_no_matter(kind):
    settings = SETTINGS | {"sampler": {"kind": kind, "steps": 5}}
    model = Diffusion.from_settings(settings, IMAGE_SHAPE)
    together = model.sample(4, PhiloxStreams(0, 0, 4))
    apart = [
        model.sample(stop - start, PhiloxStreams(0, start, stop))
        for start, stop in ((0, 1), (1, 4))
    ]
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-4, rtol=0)
    assert together.min() >= 0
    assert together.max() <= 1
    assert together.std() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_is_a_run_of_the_averaged_network_in_the_range_of_images(kind, seeded):
    model = Diffusion(Scale(0.5), IMAGE_SHAPE, ema_decay=0.9, kind=kind, steps=5).double()
    images = model.sample(3, seeded())
    with torch.no_grad():
        model.network.scale.fill_(0.9)
    assert torch.equal(model.sample(3, seeded()), images)
    generator = seeded()
    noise = torch.randn(3, *IMAGE_SHAPE, generator=generator, dtype=torch.float64)
    result = run_sampler(lambda x, _: 0.5 * x, noise, kind, 5, generator)
    torch.testing.assert_close(images, (result.clip(-1, 1) + 1) / 2)
    model.after_update(1, 1)
    assert not torch.equal(model.sample(3, seeded()), images)


@pytest.mark.parametrize(("kind", "steps"), [("ddpm", 1000), ("ddim", 50), ("ddim", 1)])
def test_the_evaluations_of_a_sample(kind, steps, seeded):
    model, times = Diffusion(Scale(), (1, 1, 2), ema_decay=0.9, kind=kind, steps=steps), []
    model.ema.register_forward_pre_hook(lambda _, inputs: times.append(inputs[1].item()))
    model.sample(3, seeded())
    assert len(times) == steps == model.nfe
    assert times == list(range(0, 1000, 1000 // steps))[::-1]


# --- the network ------------------------------------------------------------------------------


def parameters_of(*arguments, **options) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in unet(*arguments, **options).parameters())


def attended_sides(image_shape: tuple[int, int, int], channels: list[int]) -> list[int]:
    """Sides of the images that pass through self-attention, without repetition."""
    with torch.device("meta"):
        network = unet(image_shape, channels=channels, layers=1, attention=True)
        sides = []
        for module in network.modules():
            if type(module).__name__ == "Attention":
                module.register_forward_hook(lambda _, x, __: sides.append(x[0].shape[-1]))
        network(torch.zeros(2, *image_shape), torch.zeros(2))
    return sorted(set(sides), reverse=True)


@pytest.mark.parametrize(
    ("side", "channels", "count"),
    [
        (32, [128, 256, 256, 256], 35_746_307),  # as google/ddpm-cifar10-32 has
        (64, [128, 256, 256, 256, 512], 78_700_803),  # Song et al. 2021 on CelebA: 78.7 M
    ],
)
def test_the_networks_of_ho_et_al_and_song_et_al(side, channels, count):
    shape = (3, side, side)
    assert parameters_of(shape, channels=channels, layers=2, attention=True) == count
    assert attended_sides(shape, channels) == [16, 4]


def test_a_small_network():
    small = parameters_of((1, 28, 28), channels=[64, 128, 128], layers=2, attention=True)
    assert 1.7e6 < small < 7e6


@pytest.mark.parametrize(
    ("side", "channels", "expected"),
    [
        (28, [8, 16, 16], [14, 7]),
        (64, [8, 16, 16, 16], [16, 8]),
        (8, [8, 16], [4]),
        (64, [8, 16], [32]),  # no resolution of 16: the lowest
        (8, [8], [8]),
    ],
)
def test_attention_is_at_sixteen_places_a_side_and_in_the_middle(side, channels, expected):
    assert attended_sides((1, side, side), channels) == expected


def test_without_attention_there_is_none():
    network = unet((1, 8, 8), channels=[8, 16], layers=1, attention=False)
    assert not any(type(module).__name__ == "Attention" for module in network.modules())


def test_dropout_is_for_training_alone(seeded):
    model = Diffusion.from_settings(SETTINGS | {"dropout": 0.5}, IMAGE_SHAPE)
    x = torch.rand(4, *IMAGE_SHAPE)

    def losses(model):
        return [model.loss(x, seeded())[0] for _ in range(2)]

    trained, looked_at = losses(model.train()), losses(model.eval())
    assert not torch.equal(*trained)
    assert torch.equal(*looked_at)
    model.train()  # in which the averaged network samples as it is
    assert torch.equal(model.sample(2, seeded()), model.sample(2, seeded()))
    without = Diffusion.from_settings(SETTINGS, IMAGE_SHAPE).train()
    assert torch.equal(*losses(without))


@pytest.mark.parametrize("channels", [[16, 32, 64], [24, 48], [48, 96, 96], [8, 16]])
def test_every_block_knows_the_time_and_the_grey_level_passes(channels, seeded):
    network = unet((1, 28, 28), channels=channels, layers=1, attention=False).eval()
    x = torch.rand(2, 1, 28, 28)
    inputs = {}
    blocks = [m for m in network.modules() if type(m).__name__ == "ResnetBlock2D"]
    for block in blocks:
        block.register_forward_pre_hook(lambda module, given: inputs.update({module: given}))
    last = network.conv_norm_out
    last.register_forward_pre_hook(lambda module, given: inputs.update({module: given}))

    with torch.no_grad():
        network(x, torch.tensor(500))
        for block in blocks:
            h, embedding = inputs[block]
            one, other = block(h, embedding), block(h, 10 * torch.randn(embedding.shape))
            assert (one - other).std() > 0.1 * one.std()
        (h,) = inputs[last]
        constants = torch.randn(2, channels[0], 1, 1, generator=seeded())
        assert (last(h + constants) - last(h)).std() > 0.1


@pytest.mark.parametrize("channels", [[8, 16], [12, 40], [5, 7]])
def test_any_channels_will_do(channels):
    network = unet((3, 8, 12), channels=channels, layers=1, attention=True)
    assert network(torch.rand(2, 3, 8, 12), torch.tensor([0, 999])).sample.shape == (2, 3, 8, 12)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"4 resolutions need image sides .* got \(1, 28, 28\)"):
        unet((1, 28, 28), channels=[8, 8, 8, 8], layers=1, attention=False)
    for steps in (0, 501, 1001):
        with pytest.raises(ValueError, match=f"steps must divide 1000, got {steps}"):
            Diffusion(Scale(), IMAGE_SHAPE, ema_decay=0.9, steps=steps)

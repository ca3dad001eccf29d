"""Denoising diffusion (Ho et al. 2020, arXiv 2006.11239); networks and samplers of `diffusers`.

One training serves all samplers: ancestral sampling over the 1,000 steps of the training (DDPM),
or fewer steps without noise (DDIM: Song et al. 2021, arXiv 2010.02502).
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from diffusers import DDIMScheduler, UNet2DModel
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim.swa_utils import AveragedModel

from kaem.decoders import ImageShape
from kaem.images import checked_images
from kaem.random import Generators, rand, randn

TRAINING_STEPS = 1000
GROUPS = 32  # of the group normalisations, at most
# Channels in a group, at least, as in Ho et al.'s network. A group of one channel loses what is
# constant over the places of an image: what the time's embedding adds, and the grey level.
GROUP_SIZE = 4

# As google/ddpm-cifar10-32 has them: a linear schedule, and the larger of the two variances, with
# which Ho et al. get their best FID. Images live in [-1, 1] and predictions of them are clipped.
SCHEDULE = {
    "num_train_timesteps": TRAINING_STEPS,
    "beta_schedule": "linear",
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "clip_sample": True,
    "timestep_spacing": "leading",
}
KINDS = ("ddpm", "ddim")

Denoiser = Callable[[Tensor, Tensor], Tensor]


def run_sampler(
    denoiser: Denoiser, x: Tensor, kind: str, steps: int, generator: Generators = None
) -> Tensor:
    """Turn noise x (n, C, H, W) into images in [-1, 1] by diffusers' DDIM: DDPM is its eta = 1.

    Args:
        denoiser: (x, t) -> the noise in x, for a scalar tensor t.
        kind: one of `KINDS`.
    """
    scheduler = DDIMScheduler(**SCHEDULE)
    scheduler.set_timesteps(steps)
    noise_left = 1 - scheduler.alphas_cumprod
    for t in scheduler.timesteps:
        options, following = {}, t - TRAINING_STEPS // steps
        if kind == "ddpm" and following >= 0:
            # DDIM's variance is the smaller of the two (Song et al., equation 16).
            larger = (noise_left[t] / noise_left[following]).sqrt()
            noise = larger * randn(len(x), x.shape[1:], generator, like=x)
            options = {"eta": 1.0, "variance_noise": noise, "use_clipped_model_output": True}
        x = scheduler.step(denoiser(x, t), t, x, **options).prev_sample
    return x


def moved_average(average: Tensor, value: Tensor, updates: Tensor, *, decay: float) -> Tensor:
    """Return d average + (1 - d) value with d = min(decay, (1 + n)/(10 + n)) after n updates.

    The second keeps the average from remembering the beginning; diffusers' EMAModel has it too.
    """
    # In tensors: this runs for each parameter of each update, and a GPU must not wait for it.
    n = updates.double()
    share = ((1 + n) / (10 + n)).clamp(max=decay)
    return torch.lerp(value, average, share.to(value.dtype))


class Diffusion(nn.Module):
    """Denoising diffusion with a network that predicts the noise.

    Args:
        network: (x, t) -> an object whose `sample` is the noise in x.
        image_shape: (C, H, W).
        ema_decay: of the moving average of the weights, which is what samples.
        kind: "ddpm" or "ddim".
        steps: of sampling; a divisor of 1,000.

    Raises:
        ValueError: an unknown kind, or steps that do not divide 1,000.
    """

    row_wise = ("network",)

    def __init__(
        self,
        network: nn.Module,
        image_shape: ImageShape,
        *,
        ema_decay: float,
        kind: str = "ddpm",
        steps: int = TRAINING_STEPS,
    ):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"unknown sampler {kind!r}; known: {', '.join(KINDS)}")
        if steps < 1 or TRAINING_STEPS % steps:
            # "leading" spacing would begin too low, at an image that still has signal.
            raise ValueError(f"steps must divide {TRAINING_STEPS}, got {steps}")
        self.network, self.image_shape = network, tuple(image_shape)
        self.kind, self.steps = kind, steps
        self.ema = AveragedModel(network, avg_fn=partial(moved_average, decay=ema_decay))
        self.ema.requires_grad_(False).eval()
        signal = DDIMScheduler(**SCHEDULE).alphas_cumprod
        self.register_buffer("signal", signal, persistent=False)

    @classmethod
    def from_settings(cls, settings: dict, image_shape: ImageShape) -> "Diffusion":
        """Build from {"channels", "layers", "attention", "dropout", "ema_decay", "sampler":
        {"kind", "steps"}}; without dropout there is none."""
        settings = dict(settings)
        shape = {key: settings.pop(key) for key in ("channels", "layers", "attention")}
        shape["dropout"], sampler = settings.pop("dropout", 0.0), settings.pop("sampler")
        return cls(unet(image_shape, **shape), image_shape, **settings, **sampler)

    def train(self, mode: bool = True) -> "Diffusion":
        """Set the mode of the network; its average samples, and leaves nothing out."""
        super().train(mode)
        self.ema.eval()
        return self

    @property
    def nfe(self) -> int:
        """Return the passes of the network per image."""
        return self.steps

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, dict]:
        """Return the mean squared error of the predicted noise (Ho et al. 2020, equation 14).

        Args:
            x: (n, C, H, W), see `kaem.images.checked_images`.
        """
        x = 2 * checked_images(x, self) - 1
        noise = randn(len(x), x.shape[1:], generator, like=x)
        t = (rand(len(x), (), generator, like=x) * TRAINING_STEPS).long()
        signal = self.signal[t][:, None, None, None]
        noisy = signal.sqrt() * x + (1 - signal).sqrt() * noise
        return mse_loss(self.network(noisy, t).sample, noise), {}

    @torch.no_grad()
    def after_update(self, update: int, updates: int) -> None:  # noqa: ARG002
        """Move the average of the weights, after the optimiser's step."""
        self.ema.update_parameters(self.network)

    @torch.no_grad()
    def sample(self, n: int, generator: Generators = None) -> Tensor:
        """Draw n images by the averaged network, (n, C, H, W) in [0, 1]."""
        noise = randn(n, self.image_shape, generator, like=self.signal)
        images = run_sampler(self._predict, noise, self.kind, self.steps, generator)
        return (0.5 * images + 0.5).clamp(0, 1)

    def compile(self, **options) -> None:
        """Compile what sampling runs, with the options of `torch.compile`."""
        self.ema.compile(**options)

    def _predict(self, x: Tensor, t: Tensor) -> Tensor:
        return self.ema(x, t.to(x.device)).sample


def unet(
    image_shape: ImageShape,
    *,
    channels: list[int],
    layers: int,
    attention: bool,
    dropout: float = 0.0,
) -> nn.Module:
    """Build a U-Net of diffusers with one resolution per entry of `channels`.

    Ho et al. 2020 on CIFAR-10: channels [128, 256, 256, 256], 2 layers, attention, dropout 0.1;
    Song et al. 2021 on CelebA 64x64: [128, 256, 256, 256, 512] and the same.

    Args:
        layers: residual blocks per resolution.
        attention: self-attention where Ho et al. have it: between the two halves, and at the first
            resolution below the images' own with at most 16 x 16 places, or else the lowest.
        dropout: the share of a residual block's features that an update leaves out, by torch's
            global generator.
    """
    image_channels, height, width = image_shape
    levels = len(channels)
    if height % 2 ** (levels - 1) or width % 2 ** (levels - 1):
        raise ValueError(f"{levels} resolutions need image sides in halves, got {image_shape}")
    groups = math.gcd(GROUPS, *channels, *(max(1, c // GROUP_SIZE) for c in channels))
    small = [level for level in range(1, levels) if max(height, width) <= 16 * 2**level]
    chosen = min(small, default=levels - 1)
    kinds = ["Attn" if attention and level == chosen else "" for level in range(levels)]
    return UNet2DModel(
        sample_size=(height, width),
        in_channels=image_channels,
        out_channels=image_channels,
        block_out_channels=tuple(channels),
        layers_per_block=layers,
        dropout=dropout,
        norm_num_groups=groups,
        attention_head_dim=None,
        add_attention=attention,
        down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
        up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
    )

"""Energy-based model of the pixels (Du & Mordatch 2019, arXiv 1903.08689).

p(x) is proportional to exp(-E(x)) with a convolutional E. Negative examples are short runs of
Langevin dynamics from a replay buffer of earlier ones, a twentieth of them from noise; steps far
larger than the noise (a low temperature) and clipped gradients are that paper's, as is the penalty
on the size of the energies. Samples, too, are short runs from the buffer: what it cost to get its
images there is not in the cost of a sample.
"""

import torch
from torch import Tensor, nn

from baselines.langevin import gradient
from kaem.decoders import ImageShape
from kaem.images import checked_images
from kaem.random import Generators, rand, randn


class PixelEBM(nn.Module):
    """An EBM of images with its replay buffer.

    Args:
        energy: module (n, C, H, W) in [0, 1] -> (n, 1).
        image_shape: (C, H, W).
        steps: Langevin steps of each update.
        sample_steps: Langevin steps of a sample, from the buffer.
        step_size: what a gradient is multiplied with.
        noise: standard deviation of each step's noise.
        largest_gradient: each entry of a gradient is clipped to it.
        buffer_size: images in the replay buffer.
        restart: share of the runs that begin at noise.
        penalty: weight of the mean squared energies.
    """

    row_wise = ("energy",)

    def __init__(
        self,
        energy: nn.Module,
        image_shape: ImageShape,
        *,
        steps: int = 60,
        sample_steps: int = 60,
        step_size: float = 5.0,
        noise: float = 0.005,
        largest_gradient: float = 0.03,
        buffer_size: int = 10_000,
        restart: float = 0.05,
        penalty: float = 0.1,
    ):
        super().__init__()
        self.energy, self.image_shape = energy, tuple(image_shape)
        self.steps, self.sample_steps = steps, sample_steps
        self.step_size, self.noise, self.largest_gradient = step_size, noise, largest_gradient
        self.restart, self.penalty = restart, penalty
        start = torch.randint(256, (buffer_size, *image_shape), dtype=torch.uint8)
        self.register_buffer("replay", start)

    @classmethod
    def from_settings(cls, settings: dict, image_shape: ImageShape) -> "PixelEBM":
        """Build from {"width"} and the arguments of the class."""
        settings = dict(settings)
        return cls(energy_network(image_shape, settings.pop("width")), image_shape, **settings)

    @property
    def nfe(self) -> int:
        """Count a gradient of the energy network per step."""
        return self.sample_steps

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, dict]:
        """Return the contrastive loss E(x+) - E(x-), and the penalty on both.

        Outside training (in eval mode or without gradients) the buffer stays as it is.

        Args:
            x: (n, C, H, W), see `kaem.images.checked_images`.

        Returns:
            The scalar, and {"energy_data", "energy_model"}: both means.
        """
        x = checked_images(x, self)
        # A little noise on the data, as the model's images have.
        data = (x + self.noise * randn(len(x), x.shape[1:], generator, like=x)).clamp(0, 1)
        negatives = self._negatives(len(x), generator)
        energies = self.energy(torch.cat([data, negatives])).squeeze(1)
        of_data, of_model = energies.split(len(x))
        info = {"energy_data": of_data.mean().item(), "energy_model": of_model.mean().item()}
        penalty = self.penalty * (of_data.square().mean() + of_model.square().mean())
        return of_data.mean() - of_model.mean() + penalty, info

    def _negatives(self, n: int, generator: torch.Generator | None) -> Tensor:
        """Run from the buffer or from noise; in training the ends replace their starts there."""
        training = self.training and torch.is_grad_enabled()
        with torch.no_grad():
            rows, start = self._remembered(n, generator)
            fresh = rand(n, self.image_shape, generator, like=start)
            anew = rand(n, (1, 1, 1), generator, like=start) < self.restart
            ends = self._run(torch.where(anew, fresh, start), self.steps, generator)
            if training:
                self._remember(rows, (255 * ends).round().to(torch.uint8))
        return ends

    def _remember(self, rows: Tensor, images: Tensor) -> None:
        """Put images (n, C, H, W) into rows (n,) of the buffer; of several for one row the last.

        Written as they are, it would be any of them, as threads or a GPU take their turns.
        """
        number = torch.arange(len(rows), device=rows.device)
        last = number.new_zeros(len(self.replay)).scatter_reduce(
            0, rows, number, "amax", include_self=False
        )
        self.replay[rows] = images[last[rows]]

    def _remembered(self, n: int, generator: Generators) -> tuple[Tensor, Tensor]:
        """Pick n rows of the buffer at random, (n,), and their images in [0, 1]."""
        like = next(self.parameters())
        size = len(self.replay)
        rows = (rand(n, (), generator, like=like) * size).long().clamp(max=size - 1)
        return rows, self.replay[rows].to(like.dtype) / 255

    def _run(self, x: Tensor, steps: int, generator: Generators) -> Tensor:
        def log_density(x: Tensor) -> Tensor:
            return -self.energy(x)

        for _ in range(steps):
            x = (x + self.noise * randn(len(x), x.shape[1:], generator, like=x)).clamp(0, 1)
            slope = gradient(log_density, x).clamp(-self.largest_gradient, self.largest_gradient)
            x = (x + self.step_size * slope).clamp(0, 1)
        return x

    @torch.no_grad()
    def sample(self, n: int, generator: Generators = None) -> Tensor:
        """Return the ends of n runs from the replay buffer, (n, C, H, W) in [0, 1]."""
        _, start = self._remembered(n, generator)
        return self._run(start, self.sample_steps, generator)

    def compile(self, **options) -> None:
        """Compile what sampling runs, with the options of `torch.compile`."""
        self.energy.compile(**options)


def energy_network(image_shape: ImageShape, width: int) -> nn.Module:
    """Build three convolutions, two of them of stride 2, and two linear layers.

    With SiLU: smooth, so that the gradient is.
    """
    channels, height, side = image_shape
    if height % 4 or side % 4:
        raise ValueError(f"image sides must be multiples of 4, got {image_shape}")
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(2 * width, 2 * width, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(2 * width * (height // 4) * (side // 4), 4 * width),
        nn.SiLU(),
        nn.Linear(4 * width, 1),
    )

"""Decoders g: latent features h (n, q) to the mean image, (n, C, H, W) in [0, 1]."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import fold

from kaem.bases import check_domain, quantiles
from kaem.tabulated import UNCOVERED
from kaem.univariate import EdgeFunctions

ImageShape = tuple[int, int, int]

GRID = (-4.0, 4.0)  # of a KAN's layers, as they are built; its middle is 0
ROOM = 0.1  # on either side of a grid that has moved, as a share of what it must cover

# Made at once on a CPU where no gradient is asked for: what lies between the layers stays in its
# cache, and a thousand images take half the time.
CPU_IMAGES = 128


class TransposedConvolutionToFewChannels(nn.ConvTranspose2d):
    """ConvTranspose2d, on a CPU as one matrix product and an overlap-add.

    With one to three output channels the library's CPU kernel runs at a tenth of the machine's
    speed; without it a pass of `ConvDecoder` takes a third less time with its gradient and less
    than half without.
    """

    bias: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int, padding: int):
        super().__init__(inputs, outputs, kernel, stride=stride, padding=padding)
        self.sides = kernel, stride, padding

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x, output_size)
        n, channels, height, width = x.shape
        kernel, stride, padding = self.sides
        patches = x.permute(0, 2, 3, 1).reshape(n, height * width, channels)
        patches = patches @ self.weight.flatten(1)
        rows, columns = ((side - 1) * stride - 2 * padding + kernel for side in (height, width))
        image = fold(
            patches.transpose(1, 2), (rows, columns), kernel, padding=padding, stride=stride
        )
        return image + self.bias[:, None, None]


class ConvDecoder(nn.Module):
    """A linear layer to (width, H/4, W/4), then two transposed convolutions of stride 2.

    LeakyReLU(0.2) between layers and no batch normalisation, as in Pang et al. 2020; a sigmoid
    at the end because images lie in [0, 1]. Small on purpose: it is the grey-image decoder.
    Activations are channels-last, which halves the time of a pass on a CPU.

    Raises:
        ValueError: sides of the images that are not multiples of 4.

    >>> import torch
    >>> from kaem.decoders import ConvDecoder
    >>> ConvDecoder(q=16, image_shape=(1, 28, 28))(torch.randn(5, 16)).shape
    torch.Size([5, 1, 28, 28])
    """

    def __init__(self, q: int, image_shape: ImageShape, *, width: int = 64):
        super().__init__()
        self.image_shape = tuple(image_shape)
        channels, height, width_px = image_shape
        if height % 4 or width_px % 4 or min(image_shape) < 1:
            raise ValueError(f"image sides must be multiples of 4, got {image_shape}")
        if width < 2:
            raise ValueError(f"width must be at least 2, got {width}")
        self.start = (height // 4, width_px // 4, width)
        self.linear = nn.Linear(q, math.prod(self.start))
        self.up = nn.Sequential(
            nn.LeakyReLU(0.2, inplace=True),
            nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            TransposedConvolutionToFewChannels(width // 2, channels, 4, stride=2, padding=1),
            nn.Sigmoid(),
        ).to(memory_format=torch.channels_last)

    def forward(self, h: Tensor) -> Tensor:
        if len(h) > CPU_IMAGES and h.device.type == "cpu" and not torch.is_grad_enabled():
            return torch.cat([self._images(piece) for piece in h.split(CPU_IMAGES)])
        return self._images(h)

    def _images(self, h: Tensor) -> Tensor:
        start = self.linear(h).unflatten(1, self.start).permute(0, 3, 1, 2)
        images: Tensor = self.up(start)
        return images


class KANDecoder(nn.Module):
    """A KAN of widths (q, 2q, D): the outer functions of the theorem, for grey images.

    Its edge functions have their grid on `GRID`, to which the inputs' domain is mapped. Beyond it
    bumps and B-splines fade and only the silu part is left; Chebyshev polynomials stay what they
    are at its ends, and Fourier goes on.

    Args:
        domain: (a, b), where the inputs lie. `KAEM.from_settings` has that of the prior's features.
        basis_options: {"degree": int} for B-splines, and "base", "train_scale", "smooth_start" of
            `kaem.univariate.EdgeFunctions`.

    >>> import torch
    >>> from kaem.decoders import KANDecoder
    >>> KANDecoder(q=16, image_shape=(1, 8, 8))(torch.randn(5, 16)).shape
    torch.Size([5, 1, 8, 8])
    """

    domain: Tensor

    def __init__(
        self,
        q: int,
        image_shape: ImageShape,
        *,
        basis: str = "rbf",
        grid_size: int = 8,
        domain: tuple[float, float] = GRID,
        **basis_options: Any,
    ):
        super().__init__()
        self.image_shape = tuple(image_shape)
        self.register_buffer("domain", torch.tensor(check_domain(domain)))
        pixels = math.prod(image_shape)
        # Scales that keep each layer's sum over its inputs of order one.
        self.layers = nn.ModuleList(
            EdgeFunctions(
                n,
                m,
                basis=basis,
                grid_size=grid_size,
                domain=GRID,
                base_scale=n**-0.5,
                noise_scale=0.5 * n**-0.5,
                **basis_options,
            )
            for n, m in ((q, 2 * q), (2 * q, pixels))
        )

    def forward(self, h: Tensor) -> Tensor:
        h = self.scaled(h)
        for layer in self.layers:
            assert isinstance(layer, EdgeFunctions)
            h = layer.sum_over_rows(h)
        return torch.unflatten(torch.sigmoid(h), 1, self.image_shape)

    def scaled(self, h: Tensor) -> Tensor:
        """Map the inputs' domain to GRID, (n, q) -> (n, q)."""
        a, b = self.domain
        scaled: Tensor = (h - (a + b) / 2) * ((GRID[1] - GRID[0]) / (b - a))
        return scaled

    @torch.no_grad()
    def place(self, h: Tensor) -> None:
        """Move the grid of each layer that does not fit what inputs h (n, q) bring it, and refit.

        A grid fits that leaves out no more than UNCOVERED of them on either side, and is at most
        twice as wide as it must be: grids of few functions would suffer from a refit each time.
        """
        h = self.scaled(h)
        for layer in self.layers:
            assert isinstance(layer, EdgeFunctions)
            (a, b), levels = layer.basis.domain, h.new_tensor([UNCOVERED, 1 - UNCOVERED])
            low, high = quantiles(h, levels).tolist()
            before, h = h, layer.sum_over_rows(h)
            if low < a or high > b or b - a > 2 * (high - low):
                room = ROOM * (high - low)
                layer.place((low - room, high + room), before)


DECODERS: dict[str, Callable[..., nn.Module]] = {"conv": ConvDecoder, "kan": KANDecoder}


def make_decoder(kind: str, q: int, image_shape: ImageShape, **options: Any) -> nn.Module:
    """Build the decoder called `kind`; ValueError with the known names otherwise."""
    if kind not in DECODERS:
        raise ValueError(f"unknown decoder {kind!r}; known: {', '.join(DECODERS)}")
    return DECODERS[kind](q, image_shape, **options)

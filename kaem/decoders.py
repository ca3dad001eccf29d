"""Decoders g: latent features h (n, q) to the mean image, (n, C, H, W) in [0, 1]."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import fold

from kaem.bases import Fourier, check_domain, quantiles
from kaem.tabulated import UNCOVERED
from kaem.univariate import EdgeFunctions

ImageShape = tuple[int, int, int]

GRID = (-4.0, 4.0)  # of a KAN's layers, as they are built; its middle is 0
# Of a refit. Closer fits have coefficients that are huge and cancel, of which the next steps of an
# optimiser, with the momentum of the old ones, make something else.
RIDGE = 1e-6
ROOM = 0.1  # on either side of a grid that has moved, as a share of what it must cover

# Made at once on a CPU where no gradient is asked for: what lies between the layers stays in its
# cache, and a thousand images take half the time.
CPU_IMAGES = 128


class TransposedConvolutionToFewChannels(nn.ConvTranspose2d):
    """ConvTranspose2d, on a CPU as one matrix product and an overlap-add.

    With one to three output channels the library's CPU kernel runs at a tenth of the machine's
    speed; without it a pass of `ConvStack.small` takes a third less time with its gradient and less
    than half without.
    """

    bias: Tensor

    def __init__(self, inputs: int, outputs: int, kernel_size: int, *, stride: int, padding: int):
        super().__init__(inputs, outputs, kernel_size, stride=stride, padding=padding)
        self.sides = kernel_size, stride, padding

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


class ConvStack(nn.Module):
    """A first layer to (channels[0], s, s), then transposed convolutions that double the sides.

    They have a kernel of 4; LeakyReLU(0.2) is between layers and no batch normalisation, as in
    Pang et al. 2020 (arXiv 2006.08205). Activations are channels-last, which halves the time of a
    pass on a CPU.

    Args:
        q: latent features of an image.
        channels: of the feature maps; the last layer makes those of the image.
        start: s, or (height, width), of the first feature map.
        first: "projection", a linear layer; or "transposed", a transposed convolution of the
            features as one place, whose bias is one for all places.
        end: "sigmoid"; or "tanh", mapped to [0, 1].

    Raises:
        ValueError: unknown words, no channels, or images of other sides than `last_layer` has.

    >>> import torch
    >>> from kaem.decoders import ConvStack
    >>> decoder = ConvStack(16, (3, 32, 32), channels=[64, 32, 16], start=4, first="transposed")
    >>> decoder(torch.randn(5, 16)).shape
    torch.Size([5, 3, 32, 32])
    """

    def __init__(
        self,
        q: int,
        image_shape: ImageShape,
        *,
        channels: Sequence[int],
        start: int | tuple[int, int],
        first: str = "projection",
        end: str = "sigmoid",
    ):
        super().__init__()
        self.image_shape = tuple(image_shape)
        if first not in ("projection", "transposed") or end not in ("sigmoid", "tanh"):
            raise ValueError(
                "first is projection or transposed and end is sigmoid or tanh, got "
                f"{first!r} and {end!r}"
            )
        last = last_layer(image_shape, channels, start)
        self.start = (*_pair(start), channels[0])
        self.linear: nn.Linear | nn.ConvTranspose2d
        if first == "projection":
            self.linear = nn.Linear(q, math.prod(self.start))
        else:
            self.linear = nn.ConvTranspose2d(q, channels[0], _pair(start))
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(channels):
            convolution = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
            layers += [nn.LeakyReLU(0.2, inplace=True), convolution]
        self.up = nn.Sequential(
            *layers,
            nn.LeakyReLU(0.2, inplace=True),
            TransposedConvolutionToFewChannels(channels[-1], image_shape[0], **last),
            nn.Sigmoid() if end == "sigmoid" else nn.Tanh(),
        ).to(memory_format=torch.channels_last)

    @classmethod
    def small(cls, q: int, image_shape: ImageShape, *, width: int = 64) -> "ConvStack":
        """Build the small one for grey images, see `small_stack`."""
        return cls(q, image_shape, **small_stack(image_shape, width))

    def forward(self, h: Tensor) -> Tensor:
        if len(h) > CPU_IMAGES and h.device.type == "cpu" and not torch.is_grad_enabled():
            return torch.cat([self._images(piece) for piece in h.split(CPU_IMAGES)])
        return self._images(h)

    def _images(self, h: Tensor) -> Tensor:
        if isinstance(self.linear, nn.Linear):
            start = self.linear(h).unflatten(1, self.start).permute(0, 3, 1, 2)
        else:
            start = self.linear(h[:, :, None, None])
        images: Tensor = self.up(start)
        return 0.5 * images + 0.5 if isinstance(self.up[-1], nn.Tanh) else images


def small_stack(image_shape: ImageShape, width: int) -> dict[str, Any]:
    """Return the channels and the start of a stack (width, H/4, W/4), (width/2, H/2, W/2), images.

    Raises:
        ValueError: sides of the images that are not multiples of 4, or a width below 2.
    """
    _, height, width_px = image_shape
    if height % 4 or width_px % 4 or min(image_shape) < 1:
        raise ValueError(f"image sides must be multiples of 4, got {image_shape}")
    if width < 2:
        raise ValueError(f"width must be at least 2, got {width}")
    return {"channels": [width, width // 2], "start": (height // 4, width_px // 4)}


def _pair(start: int | tuple[int, int]) -> tuple[int, int]:
    return (start, start) if isinstance(start, int) else start


def last_layer(
    image_shape: ImageShape, channels: Sequence[int], start: int | tuple[int, int]
) -> dict[str, int]:
    """Return kernel, stride and padding of the layer of a stack that makes the image.

    It doubles the sides like those before it, or keeps them with a kernel of 3 where they are the
    image's already, as on CIFAR-10 in Pang et al. 2020.

    Raises:
        ValueError: the sides of the image are neither, or there are no channels.
    """
    if not channels or min(*channels, *_pair(start)) < 1:
        raise ValueError(f"a stack has channels and a start, got {channels} and {start}")
    kept = tuple(side * 2 ** (len(channels) - 1) for side in _pair(start))
    doubled = tuple(2 * side for side in kept)
    if tuple(image_shape[1:]) == doubled:
        return {"kernel_size": 4, "stride": 2, "padding": 1}
    if tuple(image_shape[1:]) == kept:
        return {"kernel_size": 3, "stride": 1, "padding": 1}
    raise ValueError(
        f"{len(channels)} channels that start at {start} make images of sides {doubled} or {kept}, "
        f"got {tuple(image_shape)}"
    )


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
        Fourier series go on beyond their domain, and stay.
        """
        h = self.scaled(h)
        for layer in self.layers:
            assert isinstance(layer, EdgeFunctions)
            (a, b), levels = layer.basis.domain, h.new_tensor([UNCOVERED, 1 - UNCOVERED])
            low, high = quantiles(h, levels).tolist()
            before, h = h, layer.sum_over_rows(h)
            fits = low >= a and high <= b and b - a <= 2 * (high - low)
            if not (fits or isinstance(layer.basis, Fourier)):
                room = ROOM * (high - low)
                layer.place((low - room, high + room), before, ridge=RIDGE)


DECODERS: dict[str, Callable[..., nn.Module]] = {
    "conv": ConvStack.small,
    "conv_stack": ConvStack,
    "kan": KANDecoder,
}


def make_decoder(kind: str, q: int, image_shape: ImageShape, **options: Any) -> nn.Module:
    """Build the decoder called `kind`; ValueError with the known names otherwise."""
    if kind not in DECODERS:
        raise ValueError(f"unknown decoder {kind!r}; known: {', '.join(DECODERS)}")
    return DECODERS[kind](q, image_shape, **options)

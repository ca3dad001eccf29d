"""Networks shared by the baselines."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from kaem.decoders import ImageShape, last_layer


class ConvEncoder(nn.Module):
    """The mirror image of `kaem.decoders.ConvStack`: images to `features` numbers.

    Convolutions with LeakyReLU(0.2) to (channels[0], s, s), then a linear layer.
    (n, C, H, W) -> (n, features).

    Args:
        channels, start: as the decoder has them, from its first layer to its last.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        features: int,
        *,
        channels: list[int],
        start: int | tuple[int, int],
    ):
        super().__init__()
        first = last_layer(image_shape, channels, start)
        layers = [nn.Conv2d(image_shape[0], channels[-1], **first), nn.LeakyReLU(0.2, inplace=True)]
        for outputs, inputs in reversed(list(pairwise(channels))):
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)]
            layers += [nn.LeakyReLU(0.2, inplace=True)]
        smaller = first["stride"] * 2 ** (len(channels) - 1)
        places = math.prod(image_shape[1:]) // smaller**2
        self.layers = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(channels[0] * places, features)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def mlp(
    widths: list[int], activation: type[nn.Module] = nn.ReLU, *, last_bias: bool = True
) -> nn.Sequential:
    """Stack linear layers of these widths, the activation between them: (n, first) -> (n, last)."""
    layers = []
    for inputs, outputs in pairwise(widths[:-1]):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers, nn.Linear(*widths[-2:], bias=last_bias))


class SkipMLP(nn.Module):
    """An `mlp` whose input also joins its last hidden layer: (n, first) -> (n, last)."""

    def __init__(self, widths: list[int]):
        super().__init__()
        *before, hidden, last = widths
        self.hidden = nn.Sequential(mlp([*before, hidden]), nn.ReLU())
        self.last = nn.Linear(widths[0] + hidden, last)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.cat([x, self.hidden(x)], dim=1))

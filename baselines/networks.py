"""Networks shared by the baselines."""

from itertools import pairwise

from torch import Tensor, nn

from kaem.decoders import ImageShape


class ConvEncoder(nn.Module):
    """The mirror image of `kaem.decoders.ConvDecoder`: images to `features` numbers.

    Two convolutions of stride 2 with LeakyReLU(0.2), then a linear layer.
    (n, C, H, W) -> (n, features); H and W must be multiples of 4.
    """

    def __init__(self, image_shape: ImageShape, features: int, *, width: int = 64):
        super().__init__()
        channels, height, width_px = image_shape
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width // 2, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width // 2, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Flatten(),
            nn.Linear(width * (height // 4) * (width_px // 4), features),
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

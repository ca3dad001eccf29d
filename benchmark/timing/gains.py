"""What the three largest costs were, each as the call before and after it was cut.

`benchmark.timing.bench` measures them beside the promises: the ratio is the gain. The call before
is the plain way that the profile showed to be slow; what it computes is the same.
"""

from collections.abc import Iterator

import torch
from torch import nn

from benchmark.timing.promises import Row, kaem_model
from benchmark.timing.series import Call, generator_on, image_call
from kaem import MixturePrior, UnivariatePrior
from kaem.decoders import TransposedConvolutionToFewChannels
from kaem.tabulated import PiecewiseLinearDensity

DRAWS, IMAGES = 10_000, 1000


def gains() -> Iterator[Row]:
    """Every change; the target is the gain that the profile predicted."""
    yield Row("draws, mixture prior: tables of components, searched / one, guided", 10, _mixture)
    yield Row("draws, univariate prior, P=20: summed / from the density of sums", 20, _sums)
    yield Row("one image: buckets and rounds / one search", 1.2, _one_image)
    layers = "library's, channels first, at once / a product, channels last, in pieces"
    yield Row(f"1,000 images of the decoder: {layers}", 3, _decoder, only=("cpu",))


def _mixture(device: torch.device) -> tuple[Call, Call]:
    prior, draws = MixturePrior(q=100, p=50).to(device), generator_on(device)
    components = prior.components()

    def search() -> torch.Tensor:
        """A component of every number, and the inverse of that one's distribution function."""
        with torch.no_grad():
            weights = prior.log_weights().exp()
            chosen = torch.multinomial(weights, DRAWS, replacement=True, generator=draws)
            row = chosen + torch.arange(prior.q, device=device)[:, None] * prior.p
            u = torch.rand(prior.q * DRAWS, generator=draws, device=device)
            return _searched(components, row.flatten(), u).view(prior.q, DRAWS).T

    return search, lambda: prior.sample(DRAWS, draws)


def _searched(density: PiecewiseLinearDensity, row: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """F^{-1}(u) of the numbered rows, a cell at a time by bisection of all numbers at once."""
    table, cumulative = density.tables()
    low = torch.zeros_like(row)
    high = torch.full_like(row, cumulative.shape[1] - 1)
    while bool((high - low > 1).any()):
        middle = (low + high) // 2
        right = cumulative[row, middle] <= u
        low, high = torch.where(right, middle, low), torch.where(right, high, middle)
    step = float(density.nodes[1] - density.nodes[0])
    left, right, mass = table[row, low], table[row, low + 1], u - cumulative[row, low]
    root = (left.square() + 2 * (right - left) * mass / step).clamp_min(0).sqrt()
    tiny = torch.finfo(left.dtype).tiny
    return density.nodes[low] + 2 * mass / (left + root).clamp_min(tiny)


def _sums(device: torch.device) -> tuple[Call, Call]:
    prior, draws = UnivariatePrior(q=41, p=20).to(device), generator_on(device)
    return (
        lambda: prior.decoder_input(prior.sample(DRAWS, draws)),
        lambda: prior.sample_features(DRAWS, draws),
    )


def _one_image(device: torch.device) -> tuple[Call, Call]:
    model, draws = kaem_model("kaem_ula", device), generator_on(device)

    def many() -> torch.Tensor:
        with torch.no_grad():
            density = model.prior.feature_density()
            u = density.uniforms(1, draws)
            return model.decoder(density.inverse().invert_many(u).T)

    return many, image_call(model, 1, device)


def _decoder(device: torch.device) -> tuple[Call, Call]:
    fast = kaem_model("kaem_ula", device).decoder.requires_grad_(False)
    plain = kaem_model("kaem_ula", device).decoder.requires_grad_(False)
    plain.up = nn.Sequential(*(_of_the_library(layer) for layer in plain.up))
    plain.up.to(memory_format=torch.contiguous_format)

    def plain_forward(h: torch.Tensor) -> torch.Tensor:
        start = plain.linear(h).unflatten(1, plain.start).permute(0, 3, 1, 2)
        return plain.up(start.contiguous())

    h = torch.randn(IMAGES, fast.linear.in_features, device=device)

    def images(decoder) -> Call:
        def call() -> torch.Tensor:
            with torch.no_grad():
                return decoder(h)

        return call

    return images(plain_forward), images(fast)


def _of_the_library(layer: nn.Module) -> nn.Module:
    if not isinstance(layer, TransposedConvolutionToFewChannels):
        return layer
    sizes = (layer.in_channels, layer.out_channels, layer.kernel_size)
    return nn.ConvTranspose2d(*sizes, stride=layer.stride, padding=layer.padding)

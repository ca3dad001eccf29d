"""Which images a model takes: kind, shape and range, for every sampler and the evidence."""

import math

import pytest
import torch
from reference.linear_gaussian import draw_data, linear_gaussian_model
from torch import nn

from kaem import KAEM, ImportanceSampling, Langevin, MixturePrior, Thermodynamic
from kaem.decoders import ConvStack, KANDecoder
from kaem.errors import NonFiniteError
from kaem.images import FARTHEST, checked_images

SHAPE = (3, 8, 4)
OTHERS = {
    "channels last": lambda x: x.permute(0, 2, 3, 1),
    "flat": lambda x: x.flatten(1),
    "as many pixels": lambda x: x.reshape(-1, 6, 4, 4),
    "sides exchanged": lambda x: x.mT,
    "one without a batch axis": lambda x: x[0],
    "without channels": lambda x: x[:, 0],
    "grey": lambda x: x[:, :1],
}
SAMPLERS = [
    ImportanceSampling(20),
    Langevin(1),
    Langevin(1, kernel="mala", persistent=False),
    Thermodynamic(2, 1),
]
others = pytest.mark.parametrize("other", OTHERS)


class Unnamed(nn.Module):
    """A decoder of one's own, which does not say what shape its images have."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, math.prod(SHAPE))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.linear(h).sigmoid().unflatten(1, SHAPE)


def model(decoder: nn.Module, sampler=None) -> KAEM:
    return KAEM(MixturePrior(4, 2, n_nodes=50), decoder, sigma=0.3, sampler=sampler)


def images(n: int = 5) -> torch.Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(0))


@others
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("decoder", [lambda: ConvStack.small(4, SHAPE, width=4), Unnamed])
def test_images_of_another_shape_are_refused_with_both_shapes(other, sampler, decoder):
    made, x = model(decoder(), sampler), images()
    wrong = OTHERS[other](x)
    assert made.loss(x, index=torch.arange(5))[0].isfinite()
    for estimate in (
        lambda: made.loss(wrong, index=torch.arange(len(wrong))),
        lambda: made.log_evidence(wrong, made.fewest_passes),
    ):
        with pytest.raises(ValueError, match=r"of shape \(.*3, 8, 4\)") as error:
            estimate()
        # Chains and a population have rows of their own, many for a datum.
        assert ", ".join(map(str, wrong.shape[1:])) + ")" in str(error.value).replace(",)", ")")


@pytest.mark.parametrize("decoder", [ConvStack.small, KANDecoder])
def test_our_decoders_say_the_shape_of_their_images(decoder):
    made = decoder(4, list(SHAPE))
    assert made.image_shape == SHAPE
    assert made(torch.zeros(2, 4)).shape[1:] == SHAPE


@pytest.mark.parametrize(
    ("x", "given"),
    [
        ((255 * images()).to(torch.uint8), r"torch\.uint8"),
        (images() > 0.5, r"torch\.bool"),
        (images().numpy(), "ndarray"),
        (images().tolist(), "list"),
    ],
)
def test_what_is_no_floating_point_tensor_is_refused(x, given):
    with pytest.raises(TypeError, match=f"floating-point tensor, got {given}; divide bytes by 255"):
        model(Unnamed()).loss(x)


@pytest.mark.parametrize(
    ("scale", "shift", "taken"),
    [
        (1, 0, True),
        (255, 0, False),
        (255, -127.5, False),
        (2 * FARTHEST, -FARTHEST, True),  # noise of a standard deviation of 3
        (1, -FARTHEST - 1, False),
    ],
)
def test_noise_leads_beyond_the_range_but_not_to_255(scale, shift, taken):
    x = scale * images() + shift
    if taken:
        assert checked_images(x, Unnamed()) is x
        return
    low, high = x.min(), x.max()
    with pytest.raises(ValueError, match=rf"from {low:g} to {high:g}, far beyond \[0, 1\]"):
        checked_images(x, Unnamed())


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="a batch without images"):
        model(Unnamed()).loss(images(0))
    with pytest.raises(ValueError, match="a batch without images"):
        model(Unnamed()).log_evidence(images(0), 100)


def test_the_first_of_the_pixels_that_are_no_numbers_is_named():
    x = images()
    x[3, 2, 7, 1], x[4] = math.nan, math.inf
    place = r"image 3, channel, row and column \[2, 7, 1\]"
    with pytest.raises(NonFiniteError, match=f"^2 of the batch's 5 images .* {place}$"):
        checked_images(x, Unnamed())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
def test_images_of_another_precision_are_taken_in_the_models(dtype, sampler, seeded):
    made, x, index = model(Unnamed(), sampler), images().to(dtype), torch.arange(5)
    results = []
    for data in (x, x.float()):
        made.chains = None if made.chains is None else type(made.chains)(sampler)
        loss, _ = made.loss(data, seeded(), index)
        results.append([loss.detach(), *made.log_evidence(data, 100, seeded())])
    assert results[0][0].dtype == torch.float32
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_the_layout_in_memory_is_no_matter(seeded):
    made, x = model(Unnamed()), images()
    results = [
        made.loss(data, seeded())[0]
        for data in (
            x,
            x.to(memory_format=torch.channels_last),
            torch.cat([x, x], 3).clone()[..., : SHAPE[2]],
        )
    ]
    torch.testing.assert_close(results[1:], results[:1] * 2)


def test_data_of_an_unbounded_decoder_are_taken():
    linear = linear_gaussian_model(3)
    x = draw_data(linear, 50)
    assert x.min() < 0
    assert checked_images(x, linear.decoder) is x

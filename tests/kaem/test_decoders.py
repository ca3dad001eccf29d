"""The decoders: shapes, range, gradients, and the KAN against a double loop."""

from itertools import pairwise

import pytest
import torch
from reference.densities import edge_functions

from kaem import KAEM, decoders
from kaem.decoders import (
    DECODERS,
    GRID,
    ConvStack,
    KANDecoder,
    TransposedConvolutionToFewChannels,
    make_decoder,
)
from kaem.domain import PLACE_EVERY

OPTIONS = {
    "conv": {"width": 8},
    "conv_stack": {"channels": [8, 6], "first": "transposed", "end": "tanh"},
    "kan": {"grid_size": 5},
}

kinds = pytest.mark.parametrize("kind", DECODERS)
image_shapes = pytest.mark.parametrize("image_shape", [(1, 8, 8), (3, 4, 12)])


def make(kind: str, image_shape=(1, 8, 8), q: int = 3):
    options = dict(OPTIONS[kind])
    if kind == "conv_stack":
        options["start"] = tuple(side // 4 for side in image_shape[1:])
    return make_decoder(kind, q=q, image_shape=image_shape, **options)


@kinds
@image_shapes
def test_images_have_their_shape_and_range(kind, image_shape):
    decoder = make(kind, image_shape)
    for n in (1, 7):
        images = decoder(10 * torch.randn(n, 3))
        assert images.shape == (n, *image_shape)
        assert images.min() >= 0
        assert images.max() <= 1
        assert images.std() > 0


@kinds
def test_the_gradient_reaches_every_parameter_and_the_latents(kind):
    decoder = make(kind)
    h = torch.randn(4, 3, requires_grad=True)
    decoder(h).square().sum().backward()
    for name, tensor in (*decoder.named_parameters(), ("h", h)):
        assert tensor.grad.isfinite().all(), name
        assert tensor.grad.abs().max() > 0, name


@kinds
def test_an_image_does_not_depend_on_its_batch(kind):
    decoder, h = make(kind), torch.randn(5, 3)
    alone = torch.cat([decoder(row[None]) for row in h])
    torch.testing.assert_close(decoder(h), alone, atol=1e-6, rtol=0)


def test_kan_decoder_is_a_double_loop_over_its_edges():
    domain = (-3.0, 5.0)
    decoder = KANDecoder(2, (1, 1, 3), grid_size=4, domain=domain).double()
    h = torch.randn(6, 2, dtype=torch.float64)
    with torch.no_grad():
        images = decoder(h)
        for n in range(6):
            values = h[n] - 1  # from (-3, 5) to (-4, 4)
            for layer in decoder.layers:
                columns = layer.w_base.shape[1]
                out = torch.zeros(columns, dtype=torch.float64)
                for row, value in enumerate(values):
                    curves = edge_functions(layer, GRID, value[None])
                    for column in range(columns):
                        out[column] += curves[row, column, 0]
                values = out
            expected = 1 / (1 + torch.exp(-values))
            torch.testing.assert_close(images[n, 0, 0], expected, atol=1e-6, rtol=0)


def test_kan_decoder_has_the_theorems_widths():
    first, second = KANDecoder(3, (1, 4, 5)).layers
    assert first.w_base.shape == (3, 6)
    assert second.w_base.shape == (6, 20)


def test_a_kan_decoders_degree_is_that_of_its_splines():
    decoder = make_decoder("kan", 3, (1, 4, 4), basis="bspline", grid_size=6, degree=2)
    assert {layer.basis.degree for layer in decoder.layers} == {2}


def test_inputs_of_order_one_are_left_as_they_are():
    h = torch.randn(50, 3)
    assert torch.equal(make("kan").scaled(h), h)


@torch.no_grad()
def off_the_grids(decoder: KANDecoder, h: torch.Tensor) -> list[float]:
    """The share of each layer's inputs that lie beyond its grid."""
    shares, h = [], decoder.scaled(h)
    for layer in decoder.layers:
        a, b = layer.basis.domain
        shares.append(((h < a) | (h > b)).float().mean().item())
        h = layer.sum_over_rows(h)
    return shares


def kan_model(p: int, seed=0, **options) -> KAEM:
    torch.manual_seed(seed)
    settings = {
        "prior": {"kind": "univariate", "q": 12, "p": p, "reference": "gaussian", "n_nodes": 100},
        "decoder": {"kind": "kan", **options},
        "sigma": 0.3,
        "sampler": {"kind": "importance", "proposals": 200},
        "domain_update": {"every": 1},
    }
    return KAEM.from_settings(settings, (1, 8, 8))


@pytest.mark.parametrize("p", [1, 4, 20])
def test_a_kan_decoders_grids_lie_where_the_priors_features_do(p, seeded):
    model = kan_model(p)
    h = model.prior.sample_features(2000, seeded())
    assert max(off_the_grids(model.decoder, h)) < 0.01
    a, b = model.decoder.domain.tolist()
    assert b - a < 2 * 4 * p**0.5  # nor far beyond: a sum's standard deviation is about sqrt(p)


def test_a_grid_that_stays_misses_a_third_of_the_sums_of_twenty(seeded):
    model = kan_model(20, domain=[-4.0, 4.0])
    h = model.prior.sample_features(2000, seeded())
    assert off_the_grids(model.decoder, h)[0] > 0.3


def test_a_kan_decoders_grids_follow_the_moves_of_the_domain(seeded):
    model = kan_model(2, grid_size=20)
    with torch.no_grad():
        model.prior.set_domain((-8.0, 8.0))
        model.prior.functions.w_base.fill_(2.0)  # mass moves to the right, by two for each summand
    x = torch.rand(20, 1, 8, 8, generator=seeded())
    assert off_the_grids(model.decoder, model.prior.sample_features(2000, seeded()))[0] > 0.3
    model.loss(x, seeded())
    model.after_update(1, 1)
    h = model.prior.sample_features(2000, seeded())
    assert max(off_the_grids(model.decoder, h)) < 0.01


def test_a_kan_decoders_grids_follow_what_the_prior_learns(seeded):
    model = kan_model(2, grid_size=20)
    model.domain_update = None
    with torch.no_grad():
        model.prior.functions.w_base.fill_(3.0)
    h = model.prior.sample_features(2000, seeded())
    assert off_the_grids(model.decoder, h)[0] > 0.03
    model.after_update(PLACE_EVERY - 1, 10**6)
    assert off_the_grids(model.decoder, h)[0] > 0.03
    model.after_update(PLACE_EVERY, 10**6)
    assert max(off_the_grids(model.decoder, h)) < 0.01


def test_a_grid_that_moves_leaves_the_images_where_inputs_were(seeded):
    torch.manual_seed(0)
    decoder = KANDecoder(3, (1, 4, 4), grid_size=30)
    with torch.no_grad():
        for layer in decoder.layers:  # smooth functions
            centres = layer.basis.grid
            layer.coefficients.copy_(torch.randn(*layer.w_base.shape, 1) * torch.sin(centres) / 4)
    h = 2.2 * torch.randn(2000, 3, generator=seeded())
    hidden = decoder.layers[0].sum_over_rows(h)
    inside = h[(h.abs() < 4).all(dim=1) & (hidden.abs() < 4).all(dim=1)]
    before = decoder(inside).detach()
    assert off_the_grids(decoder, h)[0] > 0.03
    decoder.place(h)
    assert max(off_the_grids(decoder, h)) < 0.003
    assert before.std() > 0.1
    torch.testing.assert_close(decoder(inside).detach(), before, atol=0.02, rtol=0)
    # Nothing moves where the grids fit, nor where they are a little too wide.
    state = {key: value.clone() for key, value in decoder.state_dict().items()}
    for scale in (1.0, 0.7):
        decoder.place(scale * h)
        for key, value in decoder.state_dict().items():
            assert torch.equal(value, state[key]), key


def test_a_grid_that_moves_has_coefficients_of_the_same_size(seeded):
    # Wide functions are nearly dependent: the closest fit has coefficients of thousands.
    torch.manual_seed(0)
    decoder = KANDecoder(3, (1, 4, 4), grid_size=21, train_scale=True)
    with torch.no_grad():
        for layer in decoder.layers:
            layer.scales.fill_(3.0)
    decoder.place(5 * torch.randn(2000, 3, generator=seeded()))
    assert max(layer.coefficients.abs().max() for layer in decoder.layers) < 20


def test_fourier_series_stay_where_they_are(seeded):
    decoder = KANDecoder(3, (1, 4, 4), basis="fourier", grid_size=5)
    h = 9 * torch.randn(2000, 3, generator=seeded())
    assert off_the_grids(decoder, h)[0] > 0.03
    before = decoder(h)
    decoder.place(h)
    assert torch.equal(decoder(h), before)


# Pang et al. 2020 (arXiv 2006.08205), with its parameters in millions; the settings of
# PritRaj1/julia-kaem@b2b039f in the generator of KAEM@4b0a75c, which doubles the sides once before
# it changes the channels; thermo-ebms@8c8ff16, whose stack for SVHN is Pang's.
AUTHOR = {"start": 2, "first": "projection", "end": "sigmoid"}
PANG = {"start": 4, "first": "transposed", "end": "tanh"}
STACKS = {
    "Pang, SVHN": (100, 32, {"channels": [512, 256, 128], **PANG}, "3.45"),
    "Pang, CIFAR-10": (128, 32, {"channels": [1024, 512, 256], **PANG, "start": 8}, "18.9"),
    "Pang, CelebA": (100, 64, {"channels": [1024, 512, 256, 128], **PANG}, "12.7"),
    "author, SVHN": (81, 32, {"channels": [128, 128, 64, 32], **AUTHOR}, None),
    "author, CIFAR-10": (81, 32, {"channels": [256, 256, 128, 64], **AUTHOR}, None),
    "author, CelebA": (81, 64, {"channels": [256, 256, 128, 64, 32], **AUTHOR}, None),
    "thermo-ebms, CIFAR-10": (81, 32, {"channels": [1024, 512, 256], **PANG}, None),
    "thermo-ebms, CelebA": (81, 64, {"channels": [512, 256, 128, 64], **PANG}, None),
    "grey": (81, 28, {"channels": [64, 32], **AUTHOR, "start": 7}, None),
}


def plain_stack(q: int, colours: int, channels, start, first, end) -> torch.nn.Sequential:
    """The same of torch's own layers alone, its first layer's features in torch's order."""
    nn, layers = torch.nn, []
    if first == "projection":
        places = (channels[0], start, start)
        layers += [nn.Linear(q, channels[0] * start**2), nn.Unflatten(1, places)]
    else:
        layers += [nn.Unflatten(1, (q, 1, 1)), nn.ConvTranspose2d(q, channels[0], start)]
    for inputs, outputs in pairwise(channels):
        layers += [nn.LeakyReLU(0.2), nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)]
    last = (3, 1, 1) if start == 8 else (4, 2, 1)
    layers += [nn.LeakyReLU(0.2), nn.ConvTranspose2d(channels[-1], colours, *last)]
    return nn.Sequential(*layers, nn.Sigmoid() if end == "sigmoid" else nn.Tanh())


@pytest.mark.parametrize("source", STACKS)
def test_a_stack_is_its_sources(source):
    q, side, options, count = STACKS[source]
    with torch.device("meta"):
        decoder, plain = ConvStack(q, (3, side, side), **options), plain_stack(q, 3, **options)
        assert (
            plain(torch.zeros(2, q)).shape == decoder(torch.zeros(2, q)).shape == (2, 3, side, side)
        )
    shapes = [tuple(p.shape) for p in decoder.parameters()]
    assert shapes == [tuple(p.shape) for p in plain.parameters()]
    if count:
        assert f"{sum(p.numel() for p in decoder.parameters()) / 1e6:.3g}" == count


@pytest.mark.parametrize("end", ["sigmoid", "tanh"])
@pytest.mark.parametrize("first", ["projection", "transposed"])
@pytest.mark.parametrize("start", [4, 8])
def test_a_stack_is_torchs_layers(first, end, start, seeded):
    options = {"channels": [6, 5, 4], "start": start, "first": first, "end": end}
    decoder, plain = ConvStack(3, (3, 32, 32), **options), plain_stack(3, 3, **options)
    state = dict(zip(plain.state_dict(), decoder.state_dict().values(), strict=True))
    if first == "projection":  # whose features are channels-last in ours
        for key in ("0.weight", "0.bias"):
            state[key] = state[key].unflatten(0, (start, start, 6)).movedim(2, 0).flatten(0, 2)
    plain.load_state_dict(state)
    h = torch.randn(5, 3, generator=seeded())
    images = plain(h) if end == "sigmoid" else (plain(h) + 1) / 2
    torch.testing.assert_close(decoder(h), images)


def test_the_small_stack_of_grey_images():
    decoder = ConvStack.small(5, (3, 16, 8), width=16)
    # Linear 5 -> 16 x 4 x 2, then 16 -> 8 -> 3 channels with kernels of 4 x 4.
    expected = (5 + 1) * 16 * 4 * 2 + (16 * 8 * 16 + 8) + (8 * 3 * 16 + 3)
    assert sum(p.numel() for p in decoder.parameters()) == expected
    names = [
        f"{layer}.{kind}" for layer in ("linear", "up.1", "up.3") for kind in ("weight", "bias")
    ]
    assert list(decoder.state_dict()) == names  # those of published weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": 5}, r"3 channels that start at 5 make images of sides \(40, 40\) or \(20, 20\)"),
        ({"channels": [8]}, "1 channels that start at 4"),
        ({"channels": []}, "has channels and a start"),
        ({"channels": [8, 0, 4]}, "has channels and a start"),
        ({"first": "linear"}, "'linear' and 'sigmoid'"),
        ({"end": "relu"}, "'projection' and 'relu'"),
    ],
)
def test_a_stack_that_makes_no_such_images_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ConvStack(2, (3, 32, 32), **({"channels": [8, 6, 4], "start": 4} | change))


def test_the_small_stack_refuses_sides_it_cannot_make():
    with pytest.raises(ValueError, match="multiples of 4"):
        ConvStack.small(2, (1, 10, 8))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_last_layer_is_torchs_transposed_convolution(channels, seeded):
    ours = TransposedConvolutionToFewChannels(6, channels, 4, stride=2, padding=1).double()
    theirs = torch.nn.ConvTranspose2d(6, channels, 4, stride=2, padding=1).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(5, 6, 3, 7, generator=seeded(), dtype=torch.float64)
    gradients = []
    for layer in (ours, theirs):
        inputs = x.clone().requires_grad_()
        y = layer(inputs)
        gradients.append(torch.autograd.grad(y.square().sum(), [inputs, *layer.parameters()]))
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(*gradients)


def test_many_images_are_made_in_pieces_and_are_the_same():
    torch.manual_seed(0)
    model = ConvStack.small(3, (1, 8, 8), width=4)
    h = torch.randn(2 * decoders.CPU_IMAGES + 5, 3)
    whole = model(h)  # with a gradient: all at once
    with torch.no_grad():
        torch.testing.assert_close(model(h), whole.detach())
        assert len(model(h[:0])) == 0

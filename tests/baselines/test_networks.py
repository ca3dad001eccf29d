"""Networks of the baselines, layer by layer."""

import pytest
import torch
from torch import nn

from baselines.networks import ConvEncoder, SkipMLP, mlp
from kaem.decoders import ConvStack, small_stack

STACKS = {
    (3, 8, 12): small_stack((3, 8, 12), 16),
    (3, 16, 16): {"channels": [12, 8, 6], "start": 2},
    (1, 32, 32): {"channels": [12, 8, 6], "start": 8},  # whose last layer keeps the side
}


@pytest.mark.parametrize("image_shape", STACKS)
def test_the_encoder_mirrors_the_decoder(image_shape):
    stack = STACKS[image_shape]
    encoder = ConvEncoder(image_shape, 5, **stack)
    decoder = ConvStack(5, image_shape, **stack)
    assert encoder(torch.rand(4, *image_shape)).shape == (4, 5)

    def weights(network):  # a layer's, and those of the transposed one that undoes it
        return [tuple(p.shape) for p in network.parameters() if p.ndim > 1]

    *inner, (features, size) = weights(encoder)
    assert inner[::-1] == weights(decoder)[1:]
    assert weights(decoder)[0] == (size, features)


@pytest.mark.parametrize("last_bias", [True, False])
def test_an_mlp_by_hand(last_bias):
    network = mlp([3, 5, 4, 2], nn.GELU, last_bias=last_bias).double()
    x = torch.randn(6, 3, dtype=torch.float64)
    parameters = dict(network.named_parameters())
    assert [tuple(p.shape) for p in parameters.values()] == [
        *((5, 3), (5,), (4, 5), (4,), (2, 4)),
        *([(2,)] if last_bias else []),
    ]
    h = x
    for layer in (0, 2, 4):
        h = h @ parameters[f"{layer}.weight"].T + parameters.get(f"{layer}.bias", 0.0)
        if layer < 4:  # none after the last: its outputs take any value
            h = 0.5 * h * (1 + torch.erf(h / 2**0.5))
    torch.testing.assert_close(network(x), h)


def test_an_mlp_of_two_widths_is_linear():
    network = mlp([3, 2])
    assert [type(layer) for layer in network] == [nn.Linear]
    assert [type(layer) for layer in mlp([3, 4, 2])] == [nn.Linear, nn.ReLU, nn.Linear]


def test_an_input_joins_the_last_hidden_layer():
    network = SkipMLP([3, 5, 4, 2]).double()
    x = torch.randn(6, 3, dtype=torch.float64)
    first, second, last = (m for m in network.modules() if isinstance(m, nn.Linear))
    h = torch.relu(second(torch.relu(first(x))))
    torch.testing.assert_close(network(x), last(torch.cat([x, h], dim=1)))
    assert last.weight.shape == (2, 3 + 4)

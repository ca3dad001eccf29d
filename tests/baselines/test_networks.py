"""Networks of the baselines, layer by layer."""

import pytest
import torch
from torch import nn

from baselines.networks import ConvEncoder, mlp


def test_the_encoder_mirrors_the_decoder():
    encoder = ConvEncoder((3, 8, 12), 5, width=16)
    assert encoder(torch.rand(4, 3, 8, 12)).shape == (4, 5)
    # 3 -> 8 -> 16 channels with kernels of 4 x 4, then 16 x 2 x 3 -> 5.
    expected = (3 * 8 * 16 + 8) + (8 * 16 * 16 + 16) + (16 * 2 * 3 + 1) * 5
    assert sum(p.numel() for p in encoder.parameters()) == expected


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

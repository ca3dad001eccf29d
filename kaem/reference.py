"""Reference densities pi_0 that an edge function tilts: pi(z) = exp(f(z)) pi_0(z) / Z.

Each is a module that maps z (...) to log pi_0(z) (...). They need not be normalised on the
domain: Z takes care of that.
"""

import math

import torch
from torch import Tensor, nn


class Flat(nn.Module):
    """pi_0(z) = 1: the edge function alone is the (negative) energy; the paper's "ebm"."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.zeros_like(z)


class Gaussian(nn.Module):
    """The standard normal density."""

    def forward(self, z: Tensor) -> Tensor:
        return -0.5 * z.square() - 0.5 * math.log(2 * math.pi)


REFERENCES = {"flat": Flat, "gaussian": Gaussian}


def make_reference(name: str) -> nn.Module:
    """The reference density called `name`; ValueError with the known names otherwise."""
    if name not in REFERENCES:
        raise ValueError(f"unknown reference {name!r}; known: {', '.join(REFERENCES)}")
    return REFERENCES[name]()

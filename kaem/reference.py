"""Reference densities pi_0 that an edge function tilts: pi(z) = exp(f(z)) pi_0(z) / Z.

Each is a module that maps z (n,) to log pi_0(z), (n,) or, where every function has a reference
of its own, (q, p, n). They need not be normalised on the domain: Z takes care of that.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class Reference(nn.Module):
    """A reference density on a domain; one that has parameters has them for q x p functions.

    Attributes:
        support: the open interval on which pi_0 is positive; a domain must lie in its closure.
    """

    support = (-math.inf, math.inf)
    __call__: Callable[..., Tensor]

    def __init__(self, q: int, p: int, domain: tuple[float, float]):  # noqa: ARG002
        super().__init__()
        self.check(domain)

    def check(self, domain: tuple[float, float]) -> None:
        """Raise a ValueError where the domain leaves the support."""
        if domain[0] < self.support[0] or domain[1] > self.support[1]:
            raise ValueError(
                f"{type(self).__name__} lives on {self.support}, but the domain is {domain}"
            )

    def place(self, domain: tuple[float, float]) -> None:
        """Follow the prior to another domain."""
        self.check(domain)


class Flat(Reference):
    """pi_0(z) = 1: the edge function alone is the (negative) energy; the paper's "ebm"."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.zeros_like(z)


class Uniform(Reference):
    """pi_0(z) = 1 / (b - a), normalised on the domain."""

    log_width: Tensor

    def __init__(self, q: int, p: int, domain: tuple[float, float]):
        super().__init__(q, p, domain)
        self.register_buffer("log_width", torch.tensor(math.log(domain[1] - domain[0])))

    def forward(self, z: Tensor) -> Tensor:
        return -self.log_width.expand(z.shape)

    def place(self, domain: tuple[float, float]) -> None:
        super().place(domain)
        self.log_width.fill_(math.log(domain[1] - domain[0]))


class Gaussian(Reference):
    """The standard normal density."""

    def forward(self, z: Tensor) -> Tensor:
        return -0.5 * z.square() - LOG_SQRT_2PI


class LogNormal(Reference):
    """The standard log-normal density exp(-log(z)^2 / 2) / (z sqrt(2 pi)), z > 0."""

    support = (0.0, math.inf)

    def forward(self, z: Tensor) -> Tensor:
        # At z = 0 the density is zero; its log is held finite, at about -log(tiny)^2 / 2.
        log_z = z.clamp_min(torch.finfo(z.dtype).tiny).log()
        return -0.5 * log_z.square() - log_z - LOG_SQRT_2PI


class LearnableGaussian(Reference):
    """A normal density of its own for each function, its mean and scale learned: (q, p, n)."""

    def __init__(self, q: int, p: int, domain: tuple[float, float]):
        super().__init__(q, p, domain)
        self.mean = nn.Parameter(torch.zeros(q, p))
        self.log_scale = nn.Parameter(torch.zeros(q, p))

    def forward(self, z: Tensor) -> Tensor:
        standard = (z - self.mean.unsqueeze(-1)) * (-self.log_scale).exp().unsqueeze(-1)
        return -0.5 * standard.square() - self.log_scale.unsqueeze(-1) - LOG_SQRT_2PI


REFERENCES = {
    "flat": Flat,
    "uniform": Uniform,
    "gaussian": Gaussian,
    "lognormal": LogNormal,
    "learnable_gaussian": LearnableGaussian,
}


def make_reference(name: str, q: int, p: int, domain: tuple[float, float]) -> Reference:
    """Build the reference density called `name`; ValueError with the known names otherwise."""
    if name not in REFERENCES:
        raise ValueError(f"unknown reference {name!r}; known: {', '.join(REFERENCES)}")
    return REFERENCES[name](q, p, domain)

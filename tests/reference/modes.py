"""Models of one latent whose power posteriors are known on a dense grid, two modes included."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from kaem import KAEM, MixturePrior
from reference.densities import latent_densities
from reference.posterior import REFERENCE, log_likelihoods
from reference.quadrature import running_integral, trapezoid

POINTS = 8001


class Curve(nn.Module):
    """A decoder without parameters, (n, 1) -> (n, 1, 1, 1)."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, h: Tensor) -> Tensor:
        return self.function(h)[:, :, None, None]


def curve_model(
    function: Callable[[Tensor], Tensor],
    *,
    sigma: float,
    tilt: float = 0.0,
    domain: tuple[float, float] = (-4.0, 4.0),
    **options,
) -> KAEM:
    """x = function(z) + sigma noise, with a normal prior tilted by exp(tilt silu(z)); float64."""
    prior = MixturePrior(1, 1, grid_size=5, reference=REFERENCE, domain=domain, n_nodes=201)
    with torch.no_grad():
        prior.functions.coefficients.zero_()
        prior.functions.w_base.fill_(tilt)
    return KAEM(prior.double(), Curve(function), sigma=sigma, **options).double()


def two_mode_model(**options) -> KAEM:
    """x = z^2 + noise: modes at z = -sqrt(x) and sqrt(x), the latter the heavier by the tilt.

    Between them lie x^2 / (2 sigma^2) nats: 50 for x = 1, 12.5 for x = 0.5.
    """
    return curve_model(torch.square, sigma=0.1, tilt=0.8, **options)


def data(*values: float) -> Tensor:
    """Data of one number each, (b, 1, 1, 1)."""
    return torch.tensor(values, dtype=torch.float64)[:, None, None, None]


class PowerPosterior:
    """p_t(z|x) of one latent and one datum, by the trapezoid rule.

    Attributes:
        z: (n,), grid on the domain.
        density: (n,).
        cdf: the distribution function, numpy to numpy.
    """

    def __init__(self, model: KAEM, datum: Tensor, temperature: float = 1.0):
        z = torch.linspace(*model.prior.domain, POINTS, dtype=torch.float64)
        with torch.no_grad():
            log_prior = latent_densities(model.prior, REFERENCE, z)[0].log()
            likelihood = log_likelihoods(model, datum[None], z[:, None])[0]
        log_density = (temperature * likelihood + log_prior).numpy()
        self.z = z.numpy()
        values = np.exp(log_density - log_density.max())
        self.density = values / trapezoid(values, self.z)
        self.cdf = running_integral(self.density, self.z)

    def draws(self, n: int, generator: torch.Generator) -> Tensor:
        """n independent draws, (n, 1)."""
        u = torch.rand(n, dtype=torch.float64, generator=generator).numpy()
        cumulative = self.cdf(self.z)
        return torch.from_numpy(np.interp(u, cumulative / cumulative[-1], self.z))[:, None]

    def mass_above(self, place: float) -> float:
        return 1 - float(self.cdf(place))

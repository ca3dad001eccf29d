"""The density of a sum of latents against convolutions on a far finer grid."""

import numpy as np
import pytest
import torch
from reference.quadrature import cdf_of_sum

from kaem.sums import TOLERANCE, _convolved, _refined, density_of_sum
from kaem.tabulated import PiecewiseLinearDensity, log_integral

NODES = torch.linspace(-4.0, 4.0, 200, dtype=torch.float64)


def normals(p, widths, generator):
    """Normal densities so many nodes wide, at random places."""
    centres = 6 * torch.rand(p, 1, generator=generator) - 3
    return -0.5 * ((NODES - centres) / (widths * NODES.diff()[0])).square()


def two_peaks(p, generator):
    return torch.logaddexp(normals(p, 0.8, generator), normals(p, 0.8, generator))


def needles(p, generator):
    """All mass at one node."""
    place = torch.randint(10, 190, (p, 1), generator=generator)
    return torch.where(torch.arange(200) == place, 0.0, -60.0)


def rough(p, generator):
    return 3 * torch.randn(p, 200, generator=generator)


def at_a_wall(p, generator):
    """Mass that dies out within two nodes of a wall."""
    decay = -(NODES - NODES[0]) / (2 * NODES.diff()[0])
    return torch.where(torch.rand(p, 1, generator=generator) < 0.5, decay, decay.flip(0))


SHAPES = {
    "flat": lambda p, _: torch.zeros(p, 200),
    "normal": lambda p, generator: normals(p, 25, generator),
    "narrow": lambda p, generator: normals(p, 2, generator),
    "two_peaks": two_peaks,
    "needles": needles,
    "rough": rough,
    "at_a_wall": at_a_wall,
    "in_a_walls_first_cell": lambda p, _: -60.0 * (torch.arange(200) > 0).expand(p, -1),
}


def make(shape: str, p: int, generator: torch.Generator) -> PiecewiseLinearDensity:
    values = SHAPES[shape](p, generator)[None].double()
    return PiecewiseLinearDensity(values - log_integral(values, NODES).unsqueeze(-1), NODES)


def error(latents: PiecewiseLinearDensity, result: PiecewiseLinearDensity) -> float:
    """The largest error of the sum's distribution function."""
    densities = latents.log_density[0].exp().numpy()
    points, exact = cdf_of_sum(densities, NODES.numpy(), cells=32)
    cdf = result.cdf(torch.from_numpy(points).to(result.nodes)[:, None])[:, 0]
    return np.abs(cdf.numpy() - exact).max()


@pytest.mark.parametrize("p", [2, 3, 5, 20])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_distribution_function_is_right_whatever_the_densities(shape, p, seeded):
    latents = make(shape, p, seeded())
    assert error(latents, density_of_sum(latents)) < TOLERANCE


@pytest.mark.parametrize("shape", ["needles", "at_a_wall", "in_a_walls_first_cell"])
def test_sharp_densities_take_finer_nodes(shape, seeded):
    latents = make(shape, 2, seeded())
    (coarse,) = _refined(latents.log_density.exp(), NODES.diff()[0].item(), 1, [2])
    nodes = torch.linspace(-8.0, 8.0, 399, dtype=torch.float64)
    coarse = PiecewiseLinearDensity(coarse.clamp_min(1e-99).log(), nodes)
    assert error(latents, coarse) > 50 * TOLERANCE


def test_smooth_densities_take_few_nodes(seeded):
    assert len(density_of_sum(make("normal", 20, seeded())).nodes) == 2 * 20 * 199 + 1


@pytest.mark.parametrize("shape", SHAPES)
def test_no_mass_is_negative(shape, seeded):
    latents = make(shape, 3, seeded())
    result = density_of_sum(latents).log_density
    assert (result > np.log(torch.finfo(torch.float64).tiny)).sum() > 100
    assert result.isfinite().all()


@pytest.mark.parametrize(("m", "n"), [(1, 1), (64, 64), (200, 3), (3, 200), (333, 170)])
def test_it_convolves(m, n, seeded):
    x, kernel = (torch.rand(2, k, generator=seeded(k), dtype=torch.float64) for k in (m, n))
    result = _convolved(x, kernel).numpy()
    for row in range(2):
        np.testing.assert_allclose(result[row], np.convolve(x[row], kernel[row]), rtol=1e-12)

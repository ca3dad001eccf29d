"""The density of what the decoder sees, a sum of latents, against exact convolutions."""

import math

import numpy as np
import pytest
import torch
from reference.densities import component_densities
from reference.quadrature import convolution, trapezoid
from scipy import signal, stats
from support.priors import DOMAIN, every_reference, initial, make_prior, multimodal, sharp

KS_DRAWS, KS_LEVEL = 100_000, 1e-3

summands = pytest.mark.parametrize("p", [1, 2, 3])


def make(reference: str, p: int, shape=sharp, n_nodes: int = 21):
    """Two sums of p latents; the nodes are few, so that the densities are coarse polylines."""
    domain = (0.0, 4.0) if reference == "lognormal" else (-2.0, 1.5)
    sizes = {"p": p, "n_nodes": n_nodes, "grid_size": 5, "domain": domain}
    return make_prior("univariate", reference, shape, **sizes).double()


@torch.no_grad()
def exact_densities(prior, reference: str, points: np.ndarray) -> np.ndarray:
    """The density of each sum at the points, (q, m)."""
    (a, b), n = prior.domain, len(prior.nodes)
    nodes = np.linspace(a, b, n)
    values = component_densities(prior, reference, torch.from_numpy(nodes)).numpy()
    sums = []
    for q in range(prior.q):
        polylines = [lambda z, v=v: np.interp(z, nodes, v, left=0, right=0) for v in values[q]]
        total, breaks = polylines[0], nodes
        for k, polyline in enumerate(polylines[1:], 2):
            total = convolution(total, breaks, polyline, nodes)
            breaks = np.linspace(k * a, k * b, k * (n - 1) + 1)
        sums.append(total(points))
    return np.stack(sums)


def feature_densities(prior, points: np.ndarray) -> np.ndarray:
    """What the library says, (q, m)."""
    every = torch.from_numpy(points)[:, None].expand(-1, prior.q)
    return prior.feature_density().log_prob(every).exp().numpy().T


def distance(reference: str, p: int, n_nodes: int) -> float:
    """The largest integral of the absolute error over the sums."""
    prior = make(reference, p, n_nodes=n_nodes)
    a, b = prior.domain
    points = np.linspace(p * a + 1e-9, p * b - 1e-9, 4 * p * (n_nodes - 1) + 1)
    error = feature_densities(prior, points) - exact_densities(prior, reference, points)
    return trapezoid(np.abs(error), points).max()


@every_reference
def test_one_latent_is_no_sum(reference):
    assert distance(reference, 1, 11) < 1e-6  # the nodes were made in float32


@every_reference
@pytest.mark.parametrize("p", [2, 3])
def test_it_is_the_convolution_up_to_an_error_of_second_order(reference, p):
    coarse, fine = (distance(reference, p, n_nodes) for n_nodes in (11, 21))
    assert 2e-5 < fine < 2e-3
    assert coarse / fine > 2.8


def test_a_sum_of_normals_is_normal_far_into_its_tails():
    # Beyond 8.5 standard deviations the density is below the rounding of a number of order one.
    prior = make_prior("univariate", "gaussian", p=3, domain=(-10.0, 10.0), n_nodes=200).double()
    with torch.no_grad():
        prior.functions.coefficients.zero_()
        prior.functions.w_base.zero_()
    points = torch.linspace(-17, 17, 301, dtype=torch.float64)
    result = prior.feature_density().log_prob(points[:, None].expand(-1, 2))
    # A polyline's hats add a sixth of their squared width to the variance.
    variance = 3 * (1 + (20 / 199) ** 2 / 6)
    expected = torch.distributions.Normal(0, math.sqrt(variance)).log_prob(points)
    torch.testing.assert_close(result, expected[:, None].expand(-1, 2), atol=5e-3, rtol=0)


# Two sums a setting, each at level 1e-3: at most 0.2% a setting with a new seed.
@summands
@pytest.mark.parametrize("reference", ["uniform", "gaussian"])
@pytest.mark.parametrize("shape", [initial, sharp, multimodal], ids=lambda shape: shape.__name__)
def test_what_the_decoder_sees_follows_it(reference, p, shape, seeded):
    prior = make_prior("univariate", reference, shape, p=p)
    h = prior.decoder_input(prior.sample(KS_DRAWS, seeded(1)))
    density = prior.feature_density()
    assert density.batch_shape == h.shape[1:]
    for q in range(prior.q):

        def cdf(z, q=q):
            every = torch.from_numpy(z).to(h)[:, None].expand(-1, prior.q)
            return density.cdf(every)[:, q].numpy()

        assert stats.kstest(h[:, q].numpy(), cdf, method="asymp").pvalue > KS_LEVEL


@every_reference
@summands
def test_variances_add_up(reference, p):
    prior = make(reference, p, n_nodes=101)
    expected = prior.components().variance().sum(1).detach()
    torch.testing.assert_close(prior.feature_density().variance(), expected, rtol=1e-4, atol=0)


@summands
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_its_domain_and_precision(p, dtype):
    prior = make_prior("univariate", "gaussian", p=p).to(dtype)
    density = prior.feature_density()
    assert density.nodes[[0, -1]].tolist() == [p * end for end in DOMAIN]
    assert density.nodes.dtype == density.log_density.dtype == dtype
    assert not density.log_density.requires_grad
    mass = torch.trapezoid(density.log_density.exp(), density.nodes)
    torch.testing.assert_close(mass, torch.ones(2, dtype=dtype))


def test_a_mixtures_features_are_its_latents():
    prior = make_prior("mixture", "gaussian", sharp)
    result, expected = prior.feature_density(), prior.marginals()
    assert torch.equal(result.log_density, expected.log_density)
    assert torch.equal(result.nodes, expected.nodes)


@pytest.mark.parametrize("p", [2, 20])
@pytest.mark.parametrize("reference", ["uniform", "gaussian"])
def test_its_distribution_function_is_that_of_the_sum(reference, p):
    # Truth: masses of cells 16 times finer, convolved by FFT and put at the cells' centres.
    prior = make_prior("univariate", reference, multimodal, p=p, q=1, n_nodes=200)
    (a, b), fine = prior.domain, 16 * 199 + 1
    nodes, points = np.linspace(a, b, 200), np.linspace(a, b, fine)
    values = component_densities(prior, reference, torch.from_numpy(nodes)).detach().numpy()[0]
    width, masses = points[1] - points[0], np.ones(1)
    for row in values:
        polyline = np.interp(points, nodes, row)
        masses = signal.fftconvolve(masses, 0.5 * width * (polyline[1:] + polyline[:-1]))
    centres = p * a + width * (np.arange(len(masses)) + p / 2)
    exact = np.cumsum(masses) - 0.5 * masses
    result = prior.feature_density().cdf(torch.from_numpy(centres).float()[:, None]).numpy()[:, 0]
    assert np.abs(result - exact).max() < 2e-4


# Two sums, each at level 1e-3: at most 0.2% a setting with a new seed.
@summands
def test_draws_of_sums_are_sums_of_draws(p, seeded):
    prior = make_prior("univariate", "gaussian", multimodal, p=p)
    direct = prior.sample_features(KS_DRAWS, seeded(2))
    summed = prior.decoder_input(prior.sample(KS_DRAWS, seeded(3)))
    assert direct.shape == summed.shape
    for q in range(prior.q):
        assert stats.ks_2samp(direct[:, q].numpy(), summed[:, q].numpy()).pvalue > KS_LEVEL


def test_a_mixture_draws_its_latents(seeded):
    prior = make_prior("mixture", "gaussian", sharp)
    assert torch.equal(prior.sample_features(50, seeded(4)), prior.sample(50, seeded(4)))

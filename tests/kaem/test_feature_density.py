"""The density of what the decoder sees, a sum of latents: its domain, moments and draws."""

import math

import pytest
import torch
from scipy import stats
from support.priors import DOMAIN, every_reference, initial, make_prior, multimodal, sharp

KS_DRAWS, KS_LEVEL = 100_000, 1e-3

summands = pytest.mark.parametrize("p", [1, 2, 3])


def make(reference: str, p: int, shape=sharp, n_nodes: int = 21):
    """Two sums of p latents; the nodes are few, so that the densities are coarse polylines."""
    domain = (0.0, 4.0) if reference == "lognormal" else (-2.0, 1.5)
    sizes = {"p": p, "n_nodes": n_nodes, "grid_size": 5, "domain": domain}
    return make_prior("univariate", reference, shape, **sizes).double()


@every_reference
def test_one_latent_is_no_sum(reference):
    prior = make(reference, 1)
    result, expected = prior.feature_density(), prior.components()
    torch.testing.assert_close(result.log_density, expected.log_density[:, 0])
    assert torch.equal(result.nodes, expected.nodes)


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
    torch.testing.assert_close(result, expected[:, None].expand(-1, 2), atol=1e-2, rtol=0)


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

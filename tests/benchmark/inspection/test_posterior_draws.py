"""Posterior draws against quadrature and closed forms; R-hat of chains that are known."""

import numpy as np
import pytest
import torch
from reference.linear_gaussian import draw_data, linear_gaussian_model
from reference.modes import curve_model, data
from reference.posterior import ExactPosterior, toy_data, toy_model
from scipy.stats import kstest, truncnorm

from benchmark.inspection.posterior_draws import draw_posterior, split_r_hat
from kaem.posterior import FeaturePosterior

COPIES = 500  # of each datum: independent chains, of which the last draws are independent
STEPS = {"chains": 1, "annealing": 30, "burn_in": 20, "kept": 10}


def last_draws(model, x: torch.Tensor, generator) -> torch.Tensor:
    """Independent draws of each datum's posterior, (COPIES, b, d)."""
    posterior = FeaturePosterior(model, x.repeat(COPIES, 1, 1, 1))
    draws = draw_posterior(posterior, **STEPS, generator=generator)
    assert draws.z.shape == (10, 1, COPIES * len(x), *posterior.event_shape)
    assert 0.3 < draws.acceptance < 1
    return draws.z[-1, 0].unflatten(0, (COPIES, len(x)))


@pytest.mark.parametrize("kind", ["mixture", "univariate"])
def test_one_latent_against_quadrature(kind, seeded):
    """A curved generator and a tilted prior. Each of 4 means is off by four standard errors once in
    16,000 times."""
    model = toy_model(kind, 1, 1, seed=1)
    x = toy_data()
    exact = ExactPosterior.of(model, x)
    log_weight = exact.log_likelihood + exact.log_prior + exact.log_weights
    weight = (log_weight - exact.log_evidence[:, None]).exp().detach()
    z = exact.z.flatten()
    draws = last_draws(model, x, seeded(0))[..., 0]
    for moment in (1, 2):
        mean = weight @ z**moment
        error = (weight @ z ** (2 * moment) - mean**2).sqrt() / COPIES**0.5
        assert ((draws**moment).mean(0) - mean < 4 * error).all()
        assert ((draws**moment).mean(0) - mean > -4 * error).all()


def test_walls_cut_the_posterior_off(seeded):
    """x = z + noise and a standard normal prior on [-1, 1]: a truncated normal; 1 in 1,000."""
    model = curve_model(lambda z: z, sigma=0.5, domain=(-1.0, 1.0))
    draws = last_draws(model, data(1.5), seeded(0)).flatten()
    mean, deviation = 1.2, 0.2**0.5  # of the normal that is cut
    expected = truncnorm((-1 - mean) / deviation, (1 - mean) / deviation, mean, deviation)
    assert kstest(draws.numpy(), expected.cdf).pvalue > 1e-3


def test_a_linear_model_in_closed_form(seeded):
    model = linear_gaussian_model(3, sigma=0.3)
    x = draw_data(model, 4, seed=1)
    weight, bias = model.decoder.linear.weight.detach(), model.decoder.linear.bias.detach()
    precision = torch.eye(3, dtype=torch.float64) + weight.T @ weight / model.sigma**2
    covariance = torch.linalg.inv(precision)
    mean = (x.flatten(1) - bias) @ weight @ covariance / model.sigma**2
    draws = last_draws(model, x, seeded(0))
    error = covariance.diagonal().sqrt() / COPIES**0.5
    assert ((draws.mean(0) - mean).abs() < 4 * error).all()  # 12 numbers: 1 in 1,300
    found = torch.stack([torch.cov(draws[:, b].T) for b in range(4)]).mean(0)
    # Of a covariance from 4 x 500 draws, a sixteenth is four standard errors or more.
    scale = covariance.diagonal().sqrt().outer(covariance.diagonal().sqrt())
    assert ((found - covariance).abs() < 0.13 * scale).all()


def test_r_hat_is_its_formula(seeded):
    z = torch.randn(9, 2, 3, 4, generator=seeded(0))
    parts = np.concatenate([z[:4].numpy(), z[5:].numpy()], axis=1)  # the middle draw is left out
    within, between = parts.var(0, ddof=1).mean(0), 4 * parts.mean(0).var(0, ddof=1)
    expected = np.sqrt((3 / 4 * within + between / 4) / within)
    np.testing.assert_allclose(split_r_hat(z).numpy(), expected, rtol=1e-6)


def test_r_hat_tells_chains_that_agree_from_those_that_do_not(seeded):
    agreeing = torch.randn(400, 2, 1, 1, generator=seeded(0))
    apart = agreeing + torch.tensor([0.0, 5.0])[:, None, None]
    drifting = agreeing + torch.linspace(0, 5, 400)[:, None, None, None]
    stuck = torch.ones(400, 2, 1, 1)
    assert split_r_hat(agreeing) < 1.02
    assert split_r_hat(apart) > 2
    assert split_r_hat(drifting) > 1.5
    assert split_r_hat(stuck).isnan()

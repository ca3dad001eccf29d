"""Power posteriors: densities, gradients, the order of rows, and checks of chains.

Truth comes from torch.distributions and from tests/reference, which share no code with kaem.
"""

import math

import pytest
import torch
from reference.densities import log_prior
from reference.posterior import (
    REFERENCE,
    ExactPosterior,
    log_likelihoods,
    toy_data,
    toy_model,
)

from kaem.errors import ChainLeftDomainError, NonFiniteError
from kaem.posterior import FeaturePosterior, Posterior, PosteriorState, per_row

TOYS = {
    "one latent": ("mixture", 1, 2),
    "two latents": ("mixture", 2, 2),
    "a sum of two": ("univariate", 1, 2),
    "six latents": ("univariate", 3, 2),
}
toys = pytest.mark.parametrize("toy", TOYS)
classes = pytest.mark.parametrize("cls", [Posterior, FeaturePosterior])
COPIES = 3


def posterior_of(toy: str, cls: type = Posterior) -> Posterior:
    return cls(toy_model(*TOYS[toy]), toy_data())


def latents(posterior: Posterior, copies: int = COPIES) -> torch.Tensor:
    """Uniform on the domain, `copies` rows for each datum."""
    a, b = posterior.domain
    shape = (copies * len(posterior.x), *posterior.event_shape)
    return a + (b - a) * torch.rand(shape, dtype=torch.float64)


def independent_log_likelihood(posterior: Posterior, z: torch.Tensor) -> torch.Tensor:
    """log p(x_{j mod b} | z_j) by torch.distributions, (n,)."""
    b = len(posterior.x)
    pairs = log_likelihoods(posterior.model, posterior.x, z)
    return torch.stack([pairs[j % b, j] for j in range(len(z))])


def state(n: int = 6, shape: tuple[int, ...] = (3, 2)) -> PosteriorState:
    """Random numbers in the shapes of a state."""
    full, rows = (torch.randn(5, n, *size, dtype=torch.float64) for size in (shape, ()))
    return PosteriorState(full[0], rows[0], rows[1], full[1], full[2])


# --- densities and gradients ------------------------------------------------------------------


@toys
def test_log_likelihood_and_log_prior(toy):
    posterior = posterior_of(toy)
    z = latents(posterior)
    expected = independent_log_likelihood(posterior, z)
    torch.testing.assert_close(posterior.log_likelihood(z), expected)
    expected = log_prior(posterior.model.prior, REFERENCE, z)
    # The prior's nodes were made in float32.
    torch.testing.assert_close(posterior.log_prior(z), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(posterior.log_prior(z), posterior.model.prior.log_prob(z))


def test_row_j_belongs_to_datum_j_mod_b():
    # k copies in one call are k calls with one copy each.
    posterior = posterior_of("two latents")
    z = latents(posterior)
    parts = torch.cat([posterior.log_likelihood(part) for part in z.split(len(posterior.x))])
    torch.testing.assert_close(posterior.log_likelihood(z), parts)
    # The two data are far apart, so the other order would be seen.
    swapped = Posterior(posterior.model, toy_data().flip(0)).log_likelihood(z)
    assert ((swapped - parts).abs() > 0.01).all()


@toys
def test_evaluates_gradients_are_those_of_the_independent_formulas(toy):
    posterior = posterior_of(toy)
    z = latents(posterior)
    result = posterior.evaluate(z)
    leaf = z.clone().requires_grad_()
    likelihood = independent_log_likelihood(posterior, leaf)
    prior = log_prior(posterior.model.prior, REFERENCE, leaf)
    (grad_likelihood,) = torch.autograd.grad(likelihood.sum(), leaf)
    (grad_prior,) = torch.autograd.grad(prior.sum(), leaf)
    assert torch.equal(result.z, z)
    torch.testing.assert_close(result.log_likelihood, likelihood.detach())
    torch.testing.assert_close(result.log_prior, prior.detach(), rtol=0, atol=1e-5)
    torch.testing.assert_close(result.grad_log_likelihood, grad_likelihood)
    torch.testing.assert_close(result.grad_log_prior, grad_prior, rtol=1e-4, atol=1e-4)
    assert result.z.shape == result.grad_log_likelihood.shape == result.grad_log_prior.shape


@toys
@classes
def test_evaluates_gradients_pass_finite_differences(cls, toy):
    posterior = posterior_of(toy, cls)
    z, step = latents(posterior), 1e-6
    result = posterior.evaluate(z)
    direction = torch.randn_like(z)
    for function, gradient in (
        (posterior.log_likelihood, result.grad_log_likelihood),
        (posterior.log_prior, result.grad_log_prior),
    ):
        ahead, behind = (function(z + s * step * direction).detach() for s in (1, -1))
        slope = (gradient * direction).flatten(1).sum(1)
        torch.testing.assert_close((ahead - behind) / (2 * step), slope, rtol=1e-5, atol=1e-5)


@toys
@classes
@pytest.mark.parametrize("per_row", [False, True])
def test_the_score_alone_is_that_of_the_state(cls, toy, per_row):
    posterior = posterior_of(toy, cls)
    z = latents(posterior)
    t = torch.linspace(0, 1, len(z), dtype=z.dtype) if per_row else 0.3
    torch.testing.assert_close(posterior.score(z, t), posterior.evaluate(z).score(t))


@pytest.mark.parametrize("enabled", [True, False])
def test_no_parameter_gets_a_gradient(enabled):
    posterior = posterior_of("two latents")
    z = latents(posterior).requires_grad_()
    with torch.set_grad_enabled(enabled):
        result = posterior.evaluate(z)
    assert not any(part.requires_grad for part in result)
    assert all(parameter.grad is None for parameter in posterior.model.parameters())
    assert z.grad is None
    assert (result.grad_log_prior != 0).all()


def test_prior_draws_come_from_the_prior(seeded):
    posterior = posterior_of("six latents")
    z = posterior.prior_draws(4, seeded(1))
    assert z.shape == (4, 3, 2)
    assert torch.equal(z, posterior.model.prior.sample(4, seeded(1)))


# --- the posterior of the decoder's input ---------------------------------------------------


@toys
def test_shapes_domains_and_draws(toy, seeded):
    kind, q, p = TOYS[toy]
    plain, features = posterior_of(toy), posterior_of(toy, FeaturePosterior)
    prior = plain.model.prior
    assert plain.event_shape == prior.event_shape
    assert plain.domain == prior.domain == (-3, 3)
    assert features.event_shape == (q,)
    assert features.domain == ((-3 * p, 3 * p) if kind == "univariate" else (-3, 3))
    h = features.prior_draws(1000, seeded(1))
    assert torch.equal(h, prior.sample_features(1000, seeded(1)))
    assert features.log_prior(h).isfinite().all()
    outside = torch.full((1, q), features.domain[1] + 1e-4, dtype=torch.float64)
    assert features.log_prior(outside).item() == -math.inf


@toys
def test_images_and_likelihoods_are_those_of_the_latents(toy):
    plain, features = posterior_of(toy), posterior_of(toy, FeaturePosterior)
    z = latents(plain)
    h = plain.model.prior.decoder_input(z)
    torch.testing.assert_close(features.decode(h), plain.decode(z))
    torch.testing.assert_close(features.log_likelihood(h), plain.log_likelihood(z))


@pytest.mark.parametrize("toy", ["one latent", "a sum of two"])
def test_the_evidence_is_the_same_integral_over_fewer_numbers(toy):
    features = posterior_of(toy, FeaturePosterior)
    h = torch.linspace(*features.domain, 20_001, dtype=torch.float64)[:, None]
    prior = features.log_prior(h).exp()
    likelihood = log_likelihoods(features.model, toy_data(), h).exp()
    truth = ExactPosterior.of(features.model, toy_data()).log_evidence
    result = torch.trapezoid(likelihood * prior, h[:, 0]).log()
    torch.testing.assert_close(result, truth, atol=1e-3, rtol=0)


def test_a_mixtures_latents_are_the_decoders_input():
    plain, features = (posterior_of("two latents", cls) for cls in (Posterior, FeaturePosterior))
    z = latents(plain)
    for one, other in zip(plain.evaluate(z), features.evaluate(z), strict=True):
        assert torch.equal(one, other)


# --- states -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2,), (3, 2)])
def test_log_density_and_score_at_a_number_and_at_one_per_row(shape):
    result = state(shape=shape)
    temperatures = torch.linspace(0, 1, 6, dtype=torch.float64)
    for at, numbers in ((0.3, [0.3] * 6), (torch.tensor(0.3).double(), [0.3] * 6),
                     (temperatures, temperatures.tolist())):  # fmt: skip
        log_density, score = result.log_density(at), result.score(at)
        assert score.shape == result.z.shape
        for i, t in enumerate(numbers):
            expected = t * result.log_likelihood[i] + result.log_prior[i]
            torch.testing.assert_close(log_density[i], expected)
            expected = t * result.grad_log_likelihood[i] + result.grad_log_prior[i]
            torch.testing.assert_close(score[i], expected)


def test_temperature_zero_is_the_prior_and_one_the_joint():
    result = state()
    assert torch.equal(result.log_density(0.0), result.log_prior)
    assert torch.equal(result.score(0.0), result.grad_log_prior)
    assert torch.equal(result.log_density(1.0), result.log_likelihood + result.log_prior)
    assert torch.equal(result.score(1.0), result.grad_log_likelihood + result.grad_log_prior)


@pytest.mark.parametrize("shape", [(2,), (3, 2)])
def test_where_takes_whole_rows(shape):
    mine, other = state(shape=shape), state(shape=shape)
    take = torch.tensor([True, False, False, True, True, False])
    for part, a, b in zip(mine.where(take, other), mine, other, strict=True):
        assert part.shape == a.shape
        for i, taken in enumerate(take):
            assert torch.equal(part[i], a[i] if taken else b[i])


def test_per_row_leaves_numbers_alone_and_shapes_vectors():
    like = torch.zeros(4, 3, 2)
    assert per_row(0.5, like) == 0.5
    assert per_row(torch.tensor(0.5), like).ndim == 0
    assert per_row(torch.ones(4), like).shape == (4, 1, 1)


# --- check ------------------------------------------------------------------------------------


def test_check_passes_inside_and_at_the_walls():
    posterior = posterior_of("two latents")
    a, b = posterior.domain
    posterior.check(latents(posterior))
    posterior.check(torch.tensor([[a, b], [b, a], [0.0, a], [b, b]], dtype=torch.float64))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_check_names_the_datum_that_is_not_finite(value):
    posterior = posterior_of("two latents")  # two data: row 3 belongs to datum 1
    z = latents(posterior)
    z[3, 1] = value
    with pytest.raises(NonFiniteError, match=r"of datum 1 of the batch.* 1 of 6 chains"):
        posterior.check(z)
    z[0, 0], z[2, 0] = value, 1e9
    with pytest.raises(NonFiniteError, match=r"of datum 0 of the batch.* 2 of 6 chains"):
        posterior.check(z)


@pytest.mark.parametrize("place", [3.5, -4.25])
def test_check_names_datum_place_and_domain_of_the_farthest_chain_outside(place):
    posterior = posterior_of("two latents")
    z = latents(posterior)
    z[5, 0], z[0, 1] = place, math.copysign(3.25, -place)
    with pytest.raises(ChainLeftDomainError, match=rf"datum 1 .* {place}, .*\[-3, 3\]"):
        posterior.check(z)


def test_check_sees_a_chain_just_beyond_the_wall():
    posterior = posterior_of("one latent")
    z = torch.tensor([[0.0], [math.nextafter(3.0, 4.0)]], dtype=torch.float64)
    with pytest.raises(ChainLeftDomainError, match="datum 1"):
        posterior.check(z)

"""The VAEs against closed forms of the linear-Gaussian case."""

import math

import pytest
import torch
from reference.linear_gaussian import LinearDecoder
from support.models import first_moves
from torch import nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from baselines.vae import VAE, GaussianPair, OptimalSigma, SigmaVAE, TwoStageVAE

IMAGE_SHAPE = (1, 8, 8)
SIGMA, SECOND_SIGMA = 0.4, 0.3
SETTINGS = {
    "latents": 3,
    "sigma": 0.3,
    "encoder_width": 8,
    "decoder": {"kind": "conv", "width": 8},
}
TWO_STAGES = {k: v for k, v in SETTINGS.items() if k != "sigma"} | {"second_width": 16}


class LinearEncoder(nn.Module):
    """x -> mean A x + b and a constant log variance."""

    def __init__(self, pixels: int, latents: int):
        super().__init__()
        self.map = nn.Linear(pixels, latents)
        self.log_var = nn.Parameter(torch.randn(latents))

    def forward(self, x):
        mean = self.map(x.flatten(1))
        return torch.cat([mean, self.log_var.expand_as(mean)], dim=1)


@pytest.fixture
def linear_vae() -> VAE:
    vae = VAE(2, LinearEncoder(3, 2), LinearDecoder(2, 3), sigma=SIGMA)
    return vae.double().requires_grad_(False)


@pytest.fixture
def sigma_vae() -> SigmaVAE:
    return SigmaVAE(2, LinearEncoder(3, 2), LinearDecoder(2, 3)).double()


@pytest.fixture
def two_stages() -> TwoStageVAE:
    """x = W (V u + c + sigma_2 e_2) + b + sigma e."""
    vae = TwoStageVAE(2, LinearEncoder(3, 2), LinearDecoder(2, 3), second_width=4)
    vae.second = GaussianPair(2, LinearEncoder(2, 2), nn.Linear(2, 2))
    vae.double().noise.variance.fill_(SIGMA**2)
    vae.second_noise.variance.fill_(SECOND_SIGMA**2)
    return vae


def mean_loss(vae: VAE, x: torch.Tensor, n: int = 5000) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard error of the loss of n copies of x (1, ...) over 40 seeds."""
    copies = x.expand(n, *x.shape[1:])
    losses = torch.stack(
        [vae.loss(copies, torch.Generator().manual_seed(seed))[0] for seed in range(40)]
    )
    return losses.mean(), losses.std() / len(losses) ** 0.5


def log_evidence(vae: VAE, x: torch.Tensor) -> torch.Tensor:
    """log N(x; c, W W^T + sigma^2 I), (n,)."""
    weight, bias = vae.decoder.linear.weight, vae.decoder.linear.bias
    covariance = weight @ weight.T + SIGMA**2 * torch.eye(3, dtype=torch.float64)
    return MultivariateNormal(bias, covariance).log_prob(x.flatten(1))


def two_stage_moments(vae: TwoStageVAE) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of the images, (3,) and (3, 3), without pixel noise."""
    first, second = vae.decoder.linear, vae.second.decoder
    of_z = second.weight @ second.weight.T + SECOND_SIGMA**2 * torch.eye(2, dtype=torch.float64)
    return first(second.bias).detach(), (first.weight @ of_z @ first.weight.T).detach()


def two_stage_log_evidence(vae: TwoStageVAE, x: torch.Tensor) -> torch.Tensor:
    """log p(x), pixel noise included, (n,)."""
    mean, covariance = two_stage_moments(vae)
    noise = SIGMA**2 * torch.eye(3, dtype=torch.float64)
    return MultivariateNormal(mean, covariance + noise).log_prob(x.flatten(1))


def gradients(vae: VAE, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """Those of the encoder and the decoder."""
    vae.zero_grad()
    loss.backward()
    return {name: p.grad for name, p in vae.named_parameters() if not name.startswith("second")}


def invert(encoder: LinearEncoder, linear: nn.Linear, sigma: float, mean=0.0, variance=1.0):
    """Make it the posterior of x = W z + b + sigma e with z ~ N(mean, diag variance).

    Orthogonal columns of W make that one's covariance diagonal: a VAE can hold it.
    """
    weight = linear.weight.detach()
    products = weight.T @ weight
    assert abs(products[0, 1]) < 1e-12
    precision = 1 / variance + products.diagonal() / sigma**2
    gain = weight.T / sigma**2 / precision[:, None]
    with torch.no_grad():
        encoder.map.weight.copy_(gain)
        encoder.map.bias.copy_(mean / variance / precision - gain @ linear.bias)
        encoder.log_var.copy_(-precision.log())


def set_to_exact_posterior(vae: VAE):
    weight = torch.tensor([[0.8, 0.3], [0.0, -0.6], [-0.4, 0.6]], dtype=torch.float64)
    vae.decoder.linear.weight.data.copy_(weight)
    invert(vae.encoder, vae.decoder.linear, SIGMA)


# Five standard errors of the mean: a false alarm of 6e-7 for a new seed, in both tests below.


def test_the_loss_is_the_closed_form_of_the_evidence_bound(linear_vae):
    x = torch.rand(1, 1, 1, 3, dtype=torch.float64)
    mean, log_var = linear_vae.encoder(x).chunk(2, dim=1)
    weight = linear_vae.decoder.linear.weight
    at_mean = Normal(linear_vae.decoder(mean).flatten(), SIGMA).log_prob(x.flatten()).sum()
    spread = (weight.square() * log_var.exp()).sum() / (2 * SIGMA**2)
    kl = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(0.0, 1.0)).sum()
    loss, error = mean_loss(linear_vae, x)
    assert abs(loss - (kl - at_mean + spread)) < 5 * error
    assert error < 0.03
    assert loss > -log_evidence(linear_vae, x)  # a bound, and here not a tight one


def test_with_the_exact_posterior_the_bound_is_the_evidence(linear_vae):
    # Every constant counts here: the likelihood's, with sigma, and the two of the KL.
    set_to_exact_posterior(linear_vae)
    x = torch.rand(1, 1, 1, 3, dtype=torch.float64)
    loss, error = mean_loss(linear_vae, x)
    assert abs(loss + log_evidence(linear_vae, x)) < 5 * error
    assert error < 0.01


def test_importance_sampling_from_the_encoder_finds_the_evidence(linear_vae, seeded):
    # Three data within 4.5 standard errors: a false alarm of 2e-5 for a new seed.
    x = linear_vae.decoder(torch.randn(3, 2, dtype=torch.float64))
    linear_vae.encoder.map.weight.mul_(0.1)  # a proposal that covers the posterior
    linear_vae.encoder.log_var.zero_()
    result = linear_vae.log_evidence(x, 4000, seeded())
    assert (result.standard_error < 0.2).all()
    z = (result.log_evidence - log_evidence(linear_vae, x)) / result.standard_error
    assert z.abs().max() < 4.5
    set_to_exact_posterior(linear_vae)
    exact = linear_vae.log_evidence(x, 2, seeded())  # every weight is the evidence
    torch.testing.assert_close(exact.log_evidence, log_evidence(linear_vae, x))
    assert exact.standard_error.max() < 1e-9


def test_the_posterior_mean_of_the_log_likelihood_is_that_of_the_linear_case(linear_vae, seeded):
    # With the encoder's the posterior: E|x - W z - b|^2 = |x - W m - b|^2 + tr(W S W^T).
    set_to_exact_posterior(linear_vae)
    x = torch.rand(3, 1, 1, 3, dtype=torch.float64)
    mean, log_var = linear_vae.encoder(x).chunk(2, dim=1)
    spread = (linear_vae.decoder.linear.weight.square() * log_var.exp()[:, None]).sum((1, 2))
    at_mean = Normal(linear_vae.decoder(mean), SIGMA).log_prob(x).flatten(1).sum(1)
    found = linear_vae.posterior_log_likelihood(x, 4000, seeded())
    # About 1 nat of deviation in 4,000 draws: five standard errors.
    torch.testing.assert_close(found, at_mean - spread / (2 * SIGMA**2), rtol=0, atol=0.08)


@pytest.mark.parametrize("scale", [0.3, 0.6, 1.5])
def test_the_error_of_the_evidence_is_the_spread_of_runs(linear_vae, scale, seeded):
    # An encoder too narrow and too wide by so much. 400 runs: their spread is known to 4% where it
    # is normal, to about 10% where it is not; 1e-3 for a new seed.
    set_to_exact_posterior(linear_vae)
    linear_vae.encoder.log_var.data += 2 * math.log(scale)
    x = linear_vae.decoder(torch.randn(1, 2, dtype=torch.float64)).expand(400, -1, -1, -1)
    result = linear_vae.log_evidence(x, 300, seeded())
    away = result.log_evidence - log_evidence(linear_vae, x)
    assert 1 / 1.4 < result.standard_error.square().mean().sqrt() / away.std() < 1.4
    assert away.mean() < 4 * away.std() / 400**0.5  # a bound
    if scale > 1:
        assert 0.8 < (away / result.standard_error).square().mean().sqrt() < 1.3


def test_kl_is_torch_distributions(linear_vae, seeded):
    x = torch.rand(6, 1, 1, 3, dtype=torch.float64)
    loss, info = linear_vae.loss(x, seeded())
    mean, log_var = linear_vae.encoder(x).chunk(2, dim=1)
    kl = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(0.0, 1.0))
    assert info["kl"] == pytest.approx(kl.sum(1).mean().item())
    assert loss.item() == pytest.approx(info["kl"] - info["log_likelihood"])


@pytest.mark.parametrize("sigma", [0.1, 1.0])
def test_the_reconstruction_term_carries_sigmas_constant(linear_vae, sigma, seeded):
    # The posterior is made so narrow that z is its mean.
    linear_vae.encoder.log_var.fill_(-60.0)
    linear_vae.sigma = sigma
    x = torch.rand(6, 1, 1, 3, dtype=torch.float64)
    _, info = linear_vae.loss(x, seeded())
    reconstruction = linear_vae.decoder(linear_vae.encoder(x)[:, :2])
    squares = (x - reconstruction).square().flatten(1).sum(1).mean()
    expected = -1.5 * math.log(2 * math.pi * sigma**2) - squares.item() / (2 * sigma**2)
    assert info["log_likelihood"] == pytest.approx(expected, abs=1e-9)


def test_samples_are_decoded_standard_normals(linear_vae, seeded):
    noise = torch.randn(7, 2, generator=seeded(), dtype=torch.float64)
    torch.testing.assert_close(linear_vae.sample(7, seeded()), linear_vae.decoder(noise))
    assert linear_vae.nfe == 1


def test_bad_arguments():
    for sigma in (-1, 0, float("nan")):
        with pytest.raises(ValueError, match=f"sigma must be positive, got {sigma}"):
            VAE(2, LinearEncoder(3, 2), LinearDecoder(2, 3), sigma=sigma)
    for rate in (-1, 0, math.inf):
        with pytest.raises(ValueError, match=f"second_rate must be positive, got {rate}"):
            TwoStageVAE.from_settings(TWO_STAGES | {"second_rate": rate}, IMAGE_SHAPE)


# --- the sigma-VAE ----------------------------------------------------------------------------


def test_the_loss_is_the_bound_at_the_best_sigma_in_closed_form(sigma_vae):
    # Five standard errors: a false alarm of 6e-7 for a new seed.
    x = torch.rand(1, 1, 1, 3, dtype=torch.float64)
    with torch.no_grad():
        mean, log_var = sigma_vae.encoder(x).chunk(2, dim=1)
        weight, centre = sigma_vae.decoder.linear.weight, sigma_vae.decoder(mean)
        squares = (x - centre).square().sum() + (weight.square() * log_var.exp()).sum()
        kl = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(0.0, 1.0)).sum()
        loss, error = mean_loss(sigma_vae, x)
    # Minimised over sigma: 3/2 log(2 pi sigma^2) + squares / (2 sigma^2) at sigma^2 = squares / 3.
    expected = kl + 1.5 * math.log(2 * math.pi * squares / 3) + 1.5
    assert abs(loss - expected) < 5 * error
    assert error < 0.03


def test_loss_and_gradient_are_those_of_the_fixed_sigma_that_suits_the_batch_best(
    sigma_vae, seeded
):
    # What the root mean squared error is minimises over sigma, so its own gradient is no matter.
    x = torch.rand(6, 1, 1, 3, dtype=torch.float64)
    z, _, _ = sigma_vae.draw(x, seeded())
    rmse = (x - sigma_vae.decoder(z)).square().mean().sqrt().item()
    loss, info = sigma_vae.loss(x, seeded())
    result = gradients(sigma_vae, loss)
    at_fixed = {}
    for sigma in (0.9 * rmse, rmse, 1.1 * rmse):
        fixed = VAE(2, sigma_vae.encoder, sigma_vae.decoder, sigma=sigma)
        at_fixed[sigma], fixed_info = fixed.loss(x, seeded())
        if sigma == rmse:
            assert info == pytest.approx(fixed_info)
            expected = gradients(fixed, at_fixed[sigma])
    torch.testing.assert_close(loss, at_fixed[rmse])
    assert loss < min(at_fixed[0.9 * rmse], at_fixed[1.1 * rmse])
    assert result.keys() == expected.keys()
    for name, gradient in result.items():
        torch.testing.assert_close(gradient, expected[name])


def test_sigma_is_a_plain_mean_of_variances_and_then_one_with_memory():
    noise = OptimalSigma().double()
    batches = torch.rand(150, 4, 1, 1, 3, dtype=torch.float64)
    variances = batches.square().mean((1, 2, 3, 4)).tolist()
    for batch in batches[:100]:
        noise(batch, torch.zeros_like(batch))
    expected = sum(variances[:100]) / 100
    assert noise.sigma == pytest.approx(expected**0.5, rel=1e-12)
    for batch, variance in zip(batches[100:], variances[100:], strict=True):
        noise(batch, torch.zeros_like(batch))
        expected = 0.99 * expected + 0.01 * variance
    assert noise.sigma == pytest.approx(expected**0.5, rel=1e-12)
    noise.eval()
    noise(3 * batches[0], torch.zeros_like(batches[0]))
    assert noise.sigma == pytest.approx(expected**0.5, rel=1e-12)
    other = OptimalSigma().double()
    other.load_state_dict(noise.state_dict())
    assert other.sigma == noise.sigma


def test_the_evidence_of_a_sigma_vae_is_at_its_running_mean(sigma_vae, seeded):
    set_to_exact_posterior(sigma_vae)
    sigma_vae.noise.variance.fill_(SIGMA**2)
    x = torch.rand(4, 1, 1, 3, dtype=torch.float64)
    result = sigma_vae.log_evidence(x, 2, seeded())
    torch.testing.assert_close(result.log_evidence, log_evidence(sigma_vae, x))
    assert sigma_vae.sigma == pytest.approx(SIGMA)  # in training mode too


# --- the two-stage VAE ------------------------------------------------------------------------


def test_the_first_stage_learns_as_if_alone(two_stages, seeded):
    x = torch.rand(6, 1, 1, 3, dtype=torch.float64)
    alone = SigmaVAE(2, two_stages.encoder, two_stages.decoder).double()
    loss, info = alone.loss(x, seeded())
    expected = gradients(alone, loss)
    both, both_info = two_stages.loss(x, seeded())
    result = gradients(two_stages, both)
    assert result.keys() == expected.keys()
    for name, gradient in result.items():
        torch.testing.assert_close(gradient, expected[name])
    assert info.items() <= both_info.items()
    assert all(p.grad.abs().max() > 0 for p in two_stages.second.parameters())


@pytest.mark.parametrize(("given", "seconds"), [({}, 0.01), ({"second_rate": 3}, 0.03)])
def test_the_second_stage_learns_at_a_rate_of_its_own(given, seconds):
    model = TwoStageVAE.from_settings(TWO_STAGES | given, IMAGE_SHAPE)
    for name, moved in first_moves(model, torch.rand(16, *IMAGE_SHAPE), 0.01).items():
        assert moved == pytest.approx(seconds if name.startswith("second.") else 0.01, rel=1e-2)


def test_the_second_stage_is_a_sigma_vae_of_the_firsts_latents(two_stages, seeded):
    x = torch.rand(6, 1, 1, 3, dtype=torch.float64)
    generator = seeded()
    z = two_stages.draw(x, generator)[0].detach()
    alone = SigmaVAE(2, two_stages.second.encoder, two_stages.second.decoder).double()
    second, info = alone.loss(z, generator)
    expected = gradients(alone, second)
    both, both_info = two_stages.loss(x, seeded())
    first = both_info["kl"] - both_info["log_likelihood"]
    assert both.item() == pytest.approx(first + second.item())
    assert {f"second_{key}": value for key, value in info.items()}.items() <= both_info.items()
    two_stages.zero_grad()
    both.backward()
    for name, parameter in two_stages.second.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])


def test_with_both_exact_posteriors_every_weight_is_the_evidence(two_stages, seeded):
    set_to_exact_posterior(two_stages)
    second = two_stages.second
    stretch = torch.tensor([0.9, -0.5], dtype=torch.float64)
    second.decoder.weight.data.copy_(stretch.diag())
    invert(second.encoder, second.decoder, SECOND_SIGMA)
    of_z = {"mean": second.decoder.bias.detach(), "variance": stretch**2 + SECOND_SIGMA**2}
    invert(two_stages.encoder, two_stages.decoder.linear, SIGMA, **of_z)
    x = torch.rand(4, 1, 1, 3, dtype=torch.float64)
    result = two_stages.log_evidence(x, 3, seeded())
    torch.testing.assert_close(result.log_evidence, two_stage_log_evidence(two_stages, x))
    assert result.standard_error.max() < 1e-9


def test_importance_sampling_through_both_stages_finds_the_evidence(two_stages, seeded):
    # Three data within 4.5 standard errors: a false alarm of 2e-5 for a new seed.
    for encoder in (two_stages.encoder, two_stages.second.encoder):
        encoder.map.weight.data.mul_(0.1)
        encoder.log_var.data.fill_(0.2)
    x = two_stages.sample(3, seeded())
    result = two_stages.log_evidence(x, 2000, seeded())
    assert (result.standard_error < 0.2).all()
    truth = two_stage_log_evidence(two_stages, x)
    assert ((result.log_evidence - truth) / result.standard_error).abs().max() < 4.5


def test_samples_have_the_moments_of_both_stages(two_stages, seeded):
    # Nine moments within five standard errors: a false alarm of 5e-6 for a new seed.
    mean, covariance = two_stage_moments(two_stages)
    offsets = two_stages.sample(40_000, seeded()).flatten(1) - mean
    pairs = (offsets[:, :, None] * offsets[:, None, :] - covariance).flatten(1)
    for values in (offsets, pairs):
        assert (values.mean(0).abs() < 5 * values.std(0) / len(values) ** 0.5).all()
    assert two_stages.nfe == 2
    # With no second stage to speak of they would be far from it.
    weight = two_stages.decoder.linear.weight
    assert (weight @ weight.T - covariance).abs().max() > 0.1

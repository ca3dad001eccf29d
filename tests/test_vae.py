"""The VAE against closed forms of the linear-Gaussian case."""

import math

import pytest
import torch
from reference.images import bars
from torch import nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from baselines.networks import ConvEncoder
from baselines.vae import VAE
from kaem.generators import GENERATORS

IMAGE_SHAPE = (1, 8, 8)
SIGMA = 0.4
SETTINGS = {
    "latents": 3,
    "sigma": 0.3,
    "encoder_width": 8,
    "decoder": {"kind": "conv", "width": 8},
}


class LinearDecoder(nn.Module):
    """z (n, q) -> W z + c, (n, 1, 1, k)."""

    def __init__(self, latents: int, pixels: int):
        super().__init__()
        self.map = nn.Linear(latents, pixels)

    def forward(self, z):
        return self.map(z)[:, None, None, :]


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


def mean_loss(vae: VAE, x: torch.Tensor, n: int = 5000) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard error of the loss of n copies of x (1, ...) over 40 seeds."""
    copies = x.expand(n, *x.shape[1:])
    losses = torch.stack(
        [vae.loss(copies, torch.Generator().manual_seed(seed))[0] for seed in range(40)]
    )
    return losses.mean(), losses.std() / len(losses) ** 0.5


def log_evidence(vae: VAE, x: torch.Tensor) -> torch.Tensor:
    """log N(x; c, W W^T + sigma^2 I)."""
    weight, bias = vae.decoder.map.weight, vae.decoder.map.bias
    covariance = weight @ weight.T + SIGMA**2 * torch.eye(3, dtype=torch.float64)
    return MultivariateNormal(bias, covariance).log_prob(x.flatten(1))[0]


def set_to_exact_posterior(vae: VAE):
    """Orthogonal columns of W make the posterior's covariance diagonal: a VAE can hold it."""
    weight = torch.tensor([[0.8, 0.3], [0.0, -0.6], [-0.4, 0.6]], dtype=torch.float64)
    assert abs(weight[:, 0] @ weight[:, 1]) < 1e-12
    vae.decoder.map.weight.copy_(weight)
    precision = torch.eye(2, dtype=torch.float64) + weight.T @ weight / SIGMA**2
    gain = torch.linalg.solve(precision, weight.T) / SIGMA**2
    vae.encoder.map.weight.copy_(gain)
    vae.encoder.map.bias.copy_(-gain @ vae.decoder.map.bias)
    vae.encoder.log_var.copy_(-precision.diagonal().log())


# Five standard errors of the mean: a false alarm of 6e-7 for a new seed, in both tests below.


def test_the_loss_is_the_closed_form_of_the_evidence_bound(linear_vae):
    x = torch.rand(1, 1, 1, 3, dtype=torch.float64)
    mean, log_var = linear_vae.encoder(x).chunk(2, dim=1)
    weight = linear_vae.decoder.map.weight
    at_mean = Normal(linear_vae.decoder(mean).flatten(), SIGMA).log_prob(x.flatten()).sum()
    spread = (weight.square() * log_var.exp()).sum() / (2 * SIGMA**2)
    kl = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(0.0, 1.0)).sum()
    loss, error = mean_loss(linear_vae, x)
    assert abs(loss - (kl - at_mean + spread)) < 5 * error
    assert error < 0.01
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
    found = linear_vae.log_evidence(x, 4000, seeded())
    assert (found.standard_error < 0.2).all()
    truth = torch.stack([log_evidence(linear_vae, datum[None]) for datum in x])
    z = (found.log_evidence - truth) / found.standard_error
    assert z.abs().max() < 4.5
    set_to_exact_posterior(linear_vae)
    exact = linear_vae.log_evidence(x, 2, seeded())  # every weight is the evidence
    truth = torch.stack([log_evidence(linear_vae, datum[None]) for datum in x])
    torch.testing.assert_close(exact.log_evidence, truth)
    assert exact.standard_error.max() < 1e-9


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


@pytest.mark.parametrize("decoder", GENERATORS)
def test_the_loss_reaches_every_parameter_and_falls(decoder, seeded):
    options = {"conv": {"width": 8}, "kan": {"grid_size": 5}}[decoder]
    vae = VAE.from_settings(SETTINGS | {"decoder": {"kind": decoder, **options}}, IMAGE_SHAPE)
    optimiser = torch.optim.Adam(vae.parameters(), lr=5e-3)
    generator, losses = seeded(), []
    for _ in range(60):
        loss, _ = vae.loss(bars(32, IMAGE_SHAPE, generator), generator)
        optimiser.zero_grad()
        loss.backward()
        for name, parameter in vae.named_parameters():
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < sum(losses[:10]) / 10 - 20


def test_samples_are_decoded_standard_normals(linear_vae, seeded):
    noise = torch.randn(7, 2, generator=seeded(), dtype=torch.float64)
    torch.testing.assert_close(linear_vae.sample(7, seeded()), linear_vae.decoder(noise))
    assert linear_vae.nfe == 1


def test_samples(seeded):
    vae = VAE.from_settings(SETTINGS, IMAGE_SHAPE)
    together = vae.sample(6, [seeded(s) for s in range(6)])
    assert together.shape == (6, *IMAGE_SHAPE)
    assert together.min() >= 0
    assert together.max() <= 1
    assert not together.requires_grad
    apart = [vae.sample(1, [seeded(s)]) for s in range(6)]
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-6, rtol=0)


def test_the_encoder_mirrors_the_decoder():
    encoder = ConvEncoder((3, 8, 12), 5, width=16)
    assert encoder(torch.rand(4, 3, 8, 12)).shape == (4, 5)
    # 3 -> 8 -> 16 channels with kernels of 4 x 4, then 16 x 2 x 3 -> 5.
    expected = (3 * 8 * 16 + 8) + (8 * 16 * 16 + 16) + (16 * 2 * 3 + 1) * 5
    assert sum(p.numel() for p in encoder.parameters()) == expected


def test_bad_arguments():
    with pytest.raises(ValueError, match="sigma must be positive, got -1"):
        VAE(2, LinearEncoder(3, 2), LinearDecoder(2, 3), sigma=-1)
    with pytest.raises(ValueError, match="unknown generator 'nope'; known: conv, kan"):
        VAE.from_settings(SETTINGS | {"decoder": {"kind": "nope"}}, IMAGE_SHAPE)

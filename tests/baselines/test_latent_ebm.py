"""The latent EBM against closed forms and quadrature.

Comparisons of moments and gradients are at five standard errors, a false alarm of 6e-7 each for
a new seed; the Kolmogorov-Smirnov (KS) tests have alpha = 1e-4 each.
"""

import math

import pytest
import torch
from reference.faulty import sample_without_prior_steps
from reference.linear_gaussian import LinearDecoder
from reference.posterior import TinyDecoder, flat_gradient
from reference.quadrature import running_integral, trapezoid
from scipy.stats import kstest
from support.models import first_moves
from torch import nn
from torch.distributions import Normal

from baselines.latent_ebm import LatentEBM
from baselines.networks import mlp

ALPHA = 1e-4
SIGMA = 0.5
CURVATURE = torch.tensor([0.5, 3.0], dtype=torch.float64)
TILT = torch.tensor([0.7, -1.0], dtype=torch.float64)
WEIGHT = torch.tensor([[1.1, -0.3], [0.4, 0.9], [-0.7, 0.5]], dtype=torch.float64)
SETTINGS = {
    "latents": 3,
    "sigma": 0.3,
    "energy_width": 8,
    "decoder": {"kind": "conv", "width": 8},
}


class Function(nn.Module):
    """f without parameters: (n, q) -> (n, 1)."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, z):
        return self.function(z).sum(1, keepdim=True)


def quadratic(z):
    """p(z) is N(TILT / (1 + CURVATURE), 1 / (1 + CURVATURE))."""
    return TILT * z - 0.5 * CURVATURE * z.square()


def double_well(z):
    """p(z) is in proportion to exp(0.3 z + 1.5 z^2 - z^4 / 2): two modes, one nat between."""
    return 0.3 * z + 2 * z.square() - 0.5 * z**4


def linear_model(function, latents: int = 2, **options) -> LatentEBM:
    """A given f, and x = W z + b + noise of latents + 1 numbers."""
    decoder = LinearDecoder(latents, latents + 1)
    with torch.no_grad():
        decoder.linear.weight.copy_(WEIGHT[:, :latents][: latents + 1])
    return LatentEBM(Function(function), decoder, latents=latents, sigma=SIGMA, **options).double()


def toy_model(**options) -> LatentEBM:
    """One latent, a smooth network f of some size and a smooth decoder to two numbers."""
    torch.manual_seed(2)
    energy = mlp([1, 6, 1], nn.GELU, last_bias=False)
    model = LatentEBM(energy, TinyDecoder(1, 2), latents=1, sigma=SIGMA, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.8)
    return model


def grid(n: int = 4001, end: float = 7.0) -> torch.Tensor:
    return torch.linspace(-end, end, n, dtype=torch.float64)


def log_evidence(model: LatentEBM, x: torch.Tensor) -> torch.Tensor:
    """log p(x) of a model of one latent by the trapezoid rule, (n,), differentiable."""
    z = grid()
    log_prior = model.energy(z[:, None])[:, 0] + Normal(0.0, 1.0).log_prob(z)
    mean = model.decoder(z[:, None]).flatten(1)
    likelihood = Normal(mean, model.sigma).log_prob(x.flatten(1)[:, None]).sum(2)
    log_cell = math.log(z[1] - z[0])  # what is left of the ends' halves is nothing here
    joint = torch.logsumexp(likelihood + log_prior, dim=1) + log_cell
    return joint - torch.logsumexp(log_prior, dim=0) - log_cell


def posterior_moments(model: LatentEBM, x: torch.Tensor, step_size: float):
    """Means (n, q) of a linear decoder's and quadratic energy's posteriors, and the covariance.

    The covariance is the one that the step size leaves: v / (1 - s^2 / (4 v)) along each axis.
    """
    weight, bias = model.decoder.linear.weight.detach(), model.decoder.linear.bias.detach()
    precision = weight.T @ weight / SIGMA**2 + torch.diag(1 + CURVATURE)
    slope = (x - bias) @ weight / SIGMA**2 + TILT
    covariance = torch.linalg.inv(precision - step_size**2 / 4 * precision @ precision)
    return torch.linalg.solve(precision, slope.T).T, covariance


def errors(values: torch.Tensor, expected) -> torch.Tensor:
    """The distance of the mean from what is expected, in standard errors, over the rows."""
    return (values.mean(0) - expected) / (values.std(0) / len(values) ** 0.5)


# --- the prior --------------------------------------------------------------------------------


def test_the_prior_is_a_tilted_standard_normal():
    model = toy_model()
    z = grid(9)[:, None]
    expected = model.energy(z)[:, 0] + Normal(0.0, 1.0).log_prob(z)[:, 0]
    torch.testing.assert_close(model.log_prior(z), expected)


@pytest.mark.parametrize("step_size", [0.6, 0.3])
def test_prior_draws_of_a_quadratic_energy(step_size, seeded):
    model = linear_model(quadratic, prior_steps=200, prior_step_size=step_size)
    z = model.prior_draws(20_000, seeded())
    mean, variance = TILT / (1 + CURVATURE), 1 / (1 + CURVATURE)
    assert (errors(z, mean).abs() < 5).all()
    # Without a Metropolis test the variance is off by a known factor.
    expected = variance / (1 - step_size**2 / (4 * variance))
    assert (errors((z - mean).square(), expected).abs() < 5).all()


def test_prior_draws_of_a_double_well(seeded):
    model = linear_model(double_well, 1, prior_steps=2000, prior_step_size=0.1)
    z, n = grid(), 4000
    log_density = (double_well(z) - 0.5 * z.square()).numpy()
    density = torch.from_numpy(log_density).softmax(0).numpy()
    cdf = running_integral(density / trapezoid(density, z.numpy()), z.numpy())
    draws = model.prior_draws(n, seeded())
    assert kstest(draws[:, 0].numpy(), cdf).pvalue > ALPHA
    begun_at = torch.randn(n, generator=seeded(), dtype=torch.float64)
    assert kstest(begun_at.numpy(), cdf).pvalue < ALPHA


def test_without_prior_steps_draws_are_standard_normal(seeded):
    model = linear_model(double_well, prior_steps=0)
    noise = torch.randn(5, 2, generator=seeded(), dtype=torch.float64)
    assert torch.equal(model.prior_draws(5, seeded()), noise)
    assert torch.equal(model.sample(5, seeded()), model.decoder(noise))
    assert model.nfe == 1


# --- the posterior ----------------------------------------------------------------------------


def test_posterior_draws_of_a_linear_decoder_and_a_quadratic_energy(seeded):
    step_size, copies = 0.2, 10_000
    model = linear_model(quadratic, posterior_steps=200, posterior_step_size=step_size)
    x = torch.tensor([[0.3, 0.9, -0.4], [-1.6, 0.4, 1.0]], dtype=torch.float64)[:, None, None, :]
    z = model.posterior_draws(x.repeat(copies, 1, 1, 1), seeded()).unflatten(0, (copies, 2))
    mean, covariance = posterior_moments(model, x.flatten(1), step_size)
    assert (errors(z, mean).abs() < 5).all()
    pairs = (z - mean)[..., :, None] * (z - mean)[..., None, :]
    assert (errors(pairs, covariance).abs() < 5).all()
    assert (mean[0] - mean[1]).abs().max() > 0.5  # each datum has its own


# --- the loss ---------------------------------------------------------------------------------


def test_the_decoders_gradient_is_its_posterior_expectation_in_closed_form(seeded):
    # -(x - W z - b) [z, 1]^T / sigma^2 is what each draw contributes. With 40 batches five
    # standard errors are a false alarm of 1e-5 for each of nine entries.
    step_size, n = 0.3, 500
    model = linear_model(
        quadratic, prior_steps=0, posterior_steps=100, posterior_step_size=step_size
    )
    x = torch.tensor([0.3, 0.9, -0.4], dtype=torch.float64)
    mean, covariance = posterior_moments(model, x[None], step_size)
    weight, bias = model.decoder.linear.weight.detach(), model.decoder.linear.bias.detach()
    rest = x - weight @ mean[0] - bias
    of_weight = -(torch.outer(rest, mean[0]) - weight @ covariance) / SIGMA**2
    expected = torch.cat([of_weight.flatten(), -rest / SIGMA**2])
    generator, batch = seeded(), x.expand(n, 1, 1, 3)
    result = [flat_gradient(model.loss(batch, generator)[0], model.decoder) for _ in range(40)]
    assert (errors(torch.stack(result), expected).abs() < 5).all()


def test_the_losss_gradient_is_that_of_the_evidence_by_quadrature(seeded):
    # Draws and step size leave 3% of its norm; 10% is four standard errors or more beyond that.
    run = {"steps": 100, "step_size": 0.25}
    model = toy_model(
        **{f"{name}_{k}": v for name in ("prior", "posterior") for k, v in run.items()}
    )
    x = model.decoder(torch.tensor([[1.0], [2.0]], dtype=torch.float64)).detach()
    loss, _ = model.loss(x.repeat(4000, 1, 1, 1), seeded())
    exact = -log_evidence(model, x).mean()
    for part in (model.energy, model.decoder):
        expected = flat_gradient(exact, part)
        assert (flat_gradient(loss, part) - expected).norm() < 0.1 * expected.norm()


def test_the_loss_by_hand(seeded):
    model = toy_model(prior_steps=3, posterior_steps=2)
    x = torch.rand(5, 1, 1, 2, dtype=torch.float64)
    loss, info = model.loss(x, seeded())
    generator = seeded()
    posterior, prior = model.posterior_draws(x, generator), model.prior_draws(5, generator)
    likelihood = Normal(model.decoder(posterior), SIGMA).log_prob(x).flatten(1).sum(1).mean()
    gap = (model.energy(posterior) - model.energy(prior)).mean()
    torch.testing.assert_close(loss, -likelihood - gap)
    assert info == pytest.approx({"log_likelihood": likelihood.item(), "energy_gap": gap.item()})


# --- training and sampling --------------------------------------------------------------------


@pytest.mark.parametrize(("given", "energys"), [({}, 0.002), ({"energy_rate": 3}, 0.03)])
def test_the_energy_learns_at_a_rate_of_its_own(given, energys):
    model = LatentEBM.from_settings(SETTINGS | {"prior_steps": 5} | given, (1, 8, 8))
    for name, moved in first_moves(model, torch.rand(16, 1, 8, 8), 0.01).items():
        assert moved == pytest.approx(energys if name.startswith("energy.") else 0.01, rel=1e-2)


def test_the_prior_learns_what_a_fixed_decoder_needs(seeded):
    # Data of two modes through x = z + noise: a standard normal prior explains them badly.
    energy = mlp([1, 16, 16, 1], nn.GELU, last_bias=False)
    decoder = Function(lambda z: z)
    model = LatentEBM(
        energy, nn.Sequential(decoder, nn.Unflatten(1, (1, 1, 1))), latents=1, sigma=0.3
    ).double()
    draws = seeded()
    centres = 1.5 * torch.randn(100, generator=draws, dtype=torch.float64).sign()
    x = centres + 0.3 * torch.randn(100, generator=draws, dtype=torch.float64)
    x = x[:, None, None, None]
    before = log_evidence(model, x).mean().item()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss, _ = model.loss(x, draws)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert log_evidence(model, x).mean().item() > before + 0.15


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_the_evaluations_of_a_sample(steps, seeded):
    model, calls = toy_model(prior_steps=steps), []
    for name in ("energy", "decoder"):
        part = getattr(model, name)
        part.register_forward_hook(lambda *_, name=name: calls.append(name))
    model.sample(3, seeded())
    assert calls == ["energy"] * steps + ["decoder"]
    assert model.nfe == len(calls)


def test_a_sample_that_leaves_out_the_prior_steps_is_told_apart(seeded):
    # The published timing: as fast as a VAE, because the decoder is all that runs.
    model, calls = toy_model(prior_steps=7), []
    model.energy.register_forward_hook(lambda *_: calls.append("energy"))
    sample_without_prior_steps(model, 3, seeded())
    assert len(calls) + 1 < model.nfe
    model.sample(3, seeded())
    assert len(calls) + 1 == model.nfe


def test_the_model_of_the_settings():
    model = LatentEBM.from_settings(SETTINGS | {"prior_steps": 5}, (1, 8, 8))
    assert model.nfe == 6
    shapes = [tuple(p.shape) for p in model.energy.parameters()]
    assert shapes == [(8, 3), (8,), (8, 8), (8,), (1, 8)]  # f's constant would cancel
    assert model.decoder(torch.zeros(2, 3)).shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sigma": -0.3}, "sigma must be positive, got -0.3"),
        ({"sigma": float("nan")}, "sigma must be positive, got nan"),
        ({"energy_rate": 0.0}, "energy_rate must be positive, got 0.0"),
        ({"energy_rate": math.inf}, "energy_rate must be positive, got inf"),
        ({"prior_steps": -5}, "no run has -5 steps"),
        ({"posterior_steps": -1}, "no run has -1 steps"),
    ],
)
def test_bad_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        LatentEBM.from_settings(SETTINGS | wrong, (1, 8, 8))

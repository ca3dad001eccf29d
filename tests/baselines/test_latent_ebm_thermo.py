"""The latent EBM's population against quadrature, against its one chain, and by hand."""

import pytest
import torch
from reference.posterior import TinyDecoder, flat_gradient
from torch import nn
from torch.distributions import Normal

import kaem.tempering
from baselines.latent_ebm import LatentEBM
from baselines.latent_ebm_thermo import ThermodynamicLatentEBM
from baselines.networks import mlp

X, SIGMA, TILT = 1.5, 0.3, 1.5
POPULATION = {"temperatures": 5, "sweeps": 40, "power_start": 3.0, "exchange": "alternating"}


class Square(nn.Module):
    def forward(self, z):
        return z.square()[:, :, None, None]


class Tilt(nn.Module):
    def forward(self, z):
        return TILT * z.tanh()


def two_mode_model(cls=ThermodynamicLatentEBM, **options) -> LatentEBM:
    """x = z^2 + noise: a mode at each root of x, with 12 nats between them."""
    steps = {"prior_steps": 40, "prior_step_size": 0.4, "posterior_step_size": 0.05}
    model = cls(Tilt(), Square(), latents=1, sigma=SIGMA, **steps, **options)
    model.register_parameter("any", nn.Parameter(torch.zeros(())))  # says where and how precise
    return model.double()


def test_the_population_finds_the_masses_of_two_modes_and_one_chain_does_not(seeded):
    # Standard errors of the 1,000 draws are 0.012; steps that are not adjusted cost some 0.02.
    n = 1000
    x = torch.full((n, 1, 1, 1), X, dtype=torch.float64)
    model = two_mode_model(posterior_steps=2, **POPULATION)
    draws, _, swaps = model.population_draws(x, seeded())
    z = torch.linspace(-6, 6, 10_001, dtype=torch.float64)
    level = Normal(z.square(), SIGMA).log_prob(torch.tensor(X).double())
    log_prior = TILT * z.tanh() - z.square() / 2
    for t, found in zip(model.temperatures.tolist(), draws[..., 0], strict=True):
        density = (t * level + log_prior).softmax(0)
        assert (found > 0).double().mean().item() == pytest.approx(
            density[z > 0].sum().item(), abs=0.06
        )
        assert found.mean().item() == pytest.approx((density @ z).item(), abs=0.1)
    assert (swaps > 0.2).all()
    alone = two_mode_model(LatentEBM, posterior_steps=80).posterior_draws(x, seeded())
    assert (alone > 0).double().mean() < density[z > 0].sum() - 0.2


def toy_model(cls=ThermodynamicLatentEBM, **options) -> LatentEBM:
    torch.manual_seed(2)
    energy = mlp([2, 6, 1], nn.GELU, last_bias=False)
    steps = {"prior_steps": 3, "posterior_steps": 4}
    return cls(energy, TinyDecoder(2, 3), latents=2, **steps, **options).double()


def test_one_temperature_is_the_latent_ebm_where_nothing_is_swapped(seeded, monkeypatch):
    monkeypatch.setattr(kaem.tempering, "rand", lambda n, shape, *_, like: like.new_ones(n, *shape))
    population, alone = toy_model(temperatures=1, sigma=0.5), toy_model(LatentEBM, sigma=0.5)
    x = torch.rand(7, 1, 1, 3, dtype=torch.float64)
    loss, info = population.loss(x, seeded())
    expected, wanted = alone.loss(x, seeded())
    assert 0 < info.pop("swap_1") < 1  # swaps were likely
    assert info == pytest.approx(wanted)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(flat_gradient(loss, population), flat_gradient(expected, alone))


@pytest.mark.parametrize("objective", ["posterior", "integral"])
def test_the_loss_by_hand(objective, seeded):
    model = toy_model(sigma=0.5, temperatures=2, sweeps=3, power_start=2.0, objective=objective)
    x = torch.rand(7, 1, 1, 3, dtype=torch.float64)
    loss, info = model.loss(x, seeded())
    z, *_ = model.population_draws(x, seeded())
    weights = {"posterior": (0, 0, 1), "integral": (0.25, 0.25, 0.75)}[objective]
    levels = [Normal(model.decoder(at), 0.5).log_prob(x).flatten(1).sum(1).mean() for at in z]
    gap = (model.energy(z[2]) - model.energy(z[0])).mean()
    assert loss.item() == pytest.approx((-levels[2] - gap).item())
    assert info["log_likelihood"] == pytest.approx(levels[2].item())
    by_hand = -sum(w * level for w, level in zip(weights, levels, strict=True)) - gap
    torch.testing.assert_close(flat_gradient(loss, model), flat_gradient(by_hand, model))

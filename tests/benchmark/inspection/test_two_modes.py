"""The two modes: truth by quadrature, passes counted, autocorrelation in closed form."""

import numpy as np
import pytest
import torch
from reference.quadrature import running_integral

from benchmark.base.paths import ROOT
from benchmark.config.config import load_config
from benchmark.config.job_settings import POWER
from benchmark.inspection.two_modes import (
    _TwoModes,
    autocorrelation,
    compare_samplers,
    power_densities,
    tempered_integral,
    two_mode_posterior,
)
from kaem.chains import Population
from kaem.options import make_sampler
from kaem.tabulated import PiecewiseLinearDensity
from kaem.tempering import power_schedule


def exact(z: np.ndarray, temperature: float) -> np.ndarray:
    """The unnormalised power posterior, written out."""
    mean = np.sqrt(z**2 + 0.01) + 0.3 * z
    misfit = (POWER.datum - mean) ** 2 / (2 * POWER.sigma**2)
    return np.exp(-0.5 * z**2 - temperature * misfit)


def test_the_power_posteriors_are_those_of_the_model():
    temperatures = torch.tensor([0.0, 0.1, 1.0], dtype=torch.float64)
    grid, densities = power_densities(temperatures, POWER)
    for t, density in zip(temperatures.tolist(), densities.numpy(), strict=True):
        expected = exact(grid.numpy(), t)
        expected /= np.trapezoid(expected, grid.numpy())
        # The prior is linear between 400 nodes.
        np.testing.assert_allclose(density, expected, atol=2e-4 * expected.max())


def test_both_samplers_pass_the_decoder_equally_often(monkeypatch):
    small = POWER.model_copy(update={"chains": 4, "sweeps": 3})
    rows = []
    forward = _TwoModes.forward
    monkeypatch.setattr(
        _TwoModes, "forward", lambda self, h: rows.append(len(h)) or forward(self, h)
    )
    _, metrics = compare_samplers(small)
    # Without those of the truth, for densities and evidence, and what is scored in the end.
    decoded = sum(rows) - 2 * 8001 - 3 * 4 * (6 + 1)
    assert decoded == 2 * 4 * metrics["passes"]
    assert metrics["passes"] == 3 * (6 * 5 + 7)


def test_the_population_finds_the_masses_and_ula_stays_where_it_began():
    """The population's mass is within five standard errors and 0.03, the bias that unadjusted steps
    have here; ULA's is where its chains began, eight standard errors away."""
    arrays, metrics = compare_samplers(POWER.model_copy(update={"chains": 300, "sweeps": 20}))
    z = np.linspace(-4, 4, 20001)
    integral = running_integral(exact(z, 1.0), z)
    truth = 1 - integral(0.0) / integral(4.0)
    assert metrics["mass_true"] == pytest.approx(truth, abs=1e-3)
    assert metrics["mass_prior_basin"] == pytest.approx(0.5, abs=1e-3)
    error = metrics["mass_population_error"]
    assert metrics["mass_population"] == pytest.approx(truth, abs=0.03 + 5 * error)
    assert metrics["mass_ula"] == pytest.approx(0.5, abs=0.03 + 5 * metrics["mass_ula_error"])
    assert metrics["mass_ula"] < truth - 3 * metrics["mass_ula_error"]
    assert metrics["autocorrelation_ula"] > 0.9 > metrics["autocorrelation_population"] + 0.3
    # The histograms are densities, the shares of both sides those of the traces.
    widths = np.diff(arrays["bin_edges"])
    np.testing.assert_allclose(arrays["histograms"] @ widths, 1)
    assert arrays["mass_ula"][0] == arrays["mass_population"][0]


def test_the_tempered_integral_of_exact_draws_is_the_evidence(seeded):
    """At fine temperatures both estimates are within 0.03 nats, five standard errors and more."""
    posterior, temperatures = two_mode_posterior(1, POWER), power_schedule(60, 3.0)
    grid, densities = power_densities(temperatures[1:], POWER)
    exact_draws = PiecewiseLinearDensity(densities.log().clamp(min=-700), grid).sample(
        20000, seeded(0)
    )
    arrays, evidence = tempered_integral(posterior, exact_draws.T[None, ..., None], temperatures)
    z = np.linspace(-4, 4, 20001)
    constant = np.log(POWER.sigma * np.sqrt(2 * np.pi)) + 0.5 * np.log(2 * np.pi)
    truth = np.log(np.trapezoid(exact(z, 1.0), z)) - constant
    assert evidence["log_evidence"] == pytest.approx(truth, abs=1e-3)
    assert np.trapezoid(arrays["integral_truth"], arrays["integral_t"]) == pytest.approx(
        truth, abs=0.01
    )
    for name in ("stones", "trapezoid"):
        assert evidence[f"log_evidence_{name}"] == pytest.approx(truth, abs=0.03)


@pytest.mark.parametrize("progress", [0, 1])
@pytest.mark.parametrize("name", ["cpu", "paper", "demo"])
def test_the_populations_of_the_configurations_find_the_masses(name, progress, seeded):
    """Within five standard errors and 0.03, the bias that unadjusted steps and few sweeps have
    here, with the temperatures at the beginning and at the end of training."""
    config = load_config(ROOT / f"config/{name}.yaml")
    model = config.model_settings(config.datasets[0], "kaem_thermo")
    power = POWER.model_copy(update={"sigma": model["sigma"], "chains": 2000})
    posterior, data = two_mode_posterior(power.chains, power), torch.arange(power.chains)
    population = Population(make_sampler(**model["sampler"])).double()
    population.after_update(progress, 1)
    grid, density = power_densities(torch.ones(1, dtype=torch.float64), power)
    right = grid >= 0
    truth = torch.trapezoid(density[0, right], grid[right]).item()
    error = (truth * (1 - truth) / power.chains) ** 0.5
    generator = seeded(1)
    for update in range(1, 21):
        z, _ = population.draw(posterior, update, generator, data)
        found = (z[-1, :, 0] >= 0).double().mean().item()
        if update == 20 or not population.options.persistent:
            assert found == pytest.approx(truth, abs=0.03 + 5 * error), update


def test_the_autocorrelation_of_an_autoregression(seeded):
    steps, chains, rho = 40, 5000, 0.8
    noise = torch.randn(steps, chains, generator=seeded(0), dtype=torch.float64)
    z = [noise[0]]
    for k in range(1, steps):
        z.append(rho * z[-1] + (1 - rho**2) ** 0.5 * noise[k])
    found = autocorrelation(torch.stack(z))
    assert len(found) == steps // 2 + 1
    expected = rho ** torch.arange(len(found), dtype=torch.float64)
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0)


def test_chains_that_never_move_do_not_look_mixed():
    stuck = torch.tensor([-1.0, 1.0]).expand(20, 2)
    torch.testing.assert_close(autocorrelation(stuck), torch.ones(11))


def test_the_posterior_is_of_copies_of_one_datum():
    posterior = two_mode_posterior(3, POWER)
    assert posterior.x.shape == (3, 1)
    assert posterior.x.unique().tolist() == [POWER.datum]

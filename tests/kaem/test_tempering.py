"""The integral objective against quadrature, and the exchange of even and odd gaps in turn.

Schedules, re-spacing and single exchanges: tests/kaem/test_thermodynamic.py. The
Kolmogorov-Smirnov (KS) tests have alpha = 1e-4 each; correlations are at five standard errors.
"""

import numpy as np
import pytest
import torch
from reference.modes import PowerPosterior, data, two_mode_model
from reference.posterior import ExactPosterior, flat_gradient, toy_data, toy_model
from scipy.stats import kstest

import kaem.chains
from kaem import KAEM, Thermodynamic
from kaem.chains import Population
from kaem.posterior import Posterior
from kaem.tempering import Tempering, power_schedule
from kaem.thermodynamic import sweep

QUANTILES = 2000  # of each power posterior, for exact draws without noise


@pytest.mark.parametrize("n", [1, 10])
@pytest.mark.parametrize("power", [0.5, 2.0])
def test_the_weights_are_the_gaps_to_the_left_and_the_first_twice(n, power):
    population = Population(Thermodynamic(temperatures=n, power_start=power)).double()
    t = [(k / n) ** power for k in range(n + 1)]
    by_hand = [t[1], *(t[k] - t[k - 1] for k in range(1, n + 1))]
    weights = population.weights()
    assert weights.tolist() == pytest.approx(by_hand, abs=1e-7)  # float32 to begin with
    assert weights.sum().item() == pytest.approx(1 + t[1])


@pytest.mark.parametrize("objective", ["posterior", "integral"])
def test_the_gradient_at_exact_draws_is_that_of_quadrature(objective, seeded, monkeypatch):
    toy = toy_model("mixture", 1, 2)
    sampler = Thermodynamic(temperatures=3, power_start=1.5, objective=objective, persistent=False)
    model = KAEM(toy.prior, toy.decoder, sigma=toy.sigma, sampler=sampler).double()
    x, t = toy_data(), power_schedule(3, 1.5)

    def quantiles(t: float) -> torch.Tensor:
        z, u = [], (np.arange(QUANTILES) + 0.5) / QUANTILES
        for exact in (PowerPosterior(model, datum, t) for datum in x):
            cdf = exact.cdf(exact.z)
            z.append(np.interp(u, cdf / cdf[-1], exact.z))
        return torch.from_numpy(np.stack(z, axis=1)).reshape(-1, 1)  # the data by turns

    monkeypatch.setattr(Posterior, "prior_draws", lambda *_: quantiles(0.0))
    ends = torch.stack([quantiles(at) for at in t[1:].tolist()])
    monkeypatch.setattr(model.chains, "draw", lambda *_: (ends, {}))
    loss, info = model.loss(x.repeat(QUANTILES, 1, 1, 1), seeded())
    exact = ExactPosterior.of(model, x)
    truth = exact.loss_gradient() if objective == "posterior" else exact.integral_gradient(t)
    assert (flat_gradient(loss, model) - truth).norm() < 1e-3 * truth.norm()
    assert loss.item() == pytest.approx(-info["log_likelihood"] - info["log_prior"])
    assert info["log_likelihood"] == pytest.approx(exact.mean_level(1.0).mean().item(), rel=1e-3)
    # And the two objectives are not the same.
    assert (exact.integral_gradient(t) - exact.loss_gradient()).norm() > 0.3 * truth.norm()


@pytest.mark.parametrize(("sweeps", "expected"), [(1, "01" * 2), (2, "01" * 4), (3, "01" * 6)])
def test_gaps_alternate_over_the_whole_training(sweeps, expected, seeded, monkeypatch):
    tried = []

    def recording(*args, parities, **options):
        tried.extend(parities)
        return sweep(*args, parities=parities, **options)

    monkeypatch.setattr(kaem.chains, "sweep", recording)
    toy = toy_model("mixture", 2, 2)
    options = {"temperatures": 3, "steps": 1, "sweeps": sweeps, "exchange": "alternating"}

    def fresh() -> KAEM:
        sampler = Thermodynamic(**options)
        return KAEM(toy.prior, toy.decoder, sigma=0.4, sampler=sampler).double()

    model = fresh()
    for update in range(1, 5):
        model.loss(toy_data(), seeded(update), [0, 1])
        model.after_update(update, 4)
        state, model = model.training_state(), fresh()  # as after an interruption
        model.load_training_state(state)
    assert "".join(map(str, tried)) == expected


@pytest.mark.parametrize("turns", [[(0,), (1,)] * 3, [(0, 1)] * 3], ids=["alternating", "both"])
def test_sweeps_leave_the_population_jointly_as_it_should_be(turns, seeded):
    model, b = two_mode_model(), 10_000
    t = torch.tensor([0.0, 0.02, 0.2, 1.0], dtype=torch.float64)
    exact = [PowerPosterior(model, data(0.5)[0], at) for at in t.tolist()]
    generator = seeded()
    posterior = Posterior(model, data(0.5).expand(b, 1, 1, 1))
    z = torch.stack([power.draws(b, generator) for power in exact[1:]])
    start, sizes = z, torch.tensor([0.1, 0.01, 0.002], dtype=torch.float64)
    for parities in turns:
        z, info = sweep(
            posterior,
            z,
            t,
            steps=1,
            step_size=sizes,
            kernel="mala",
            parities=parities,
            generator=generator,
        )
        assert (info.swap_acceptance > 0.05).all()
    assert (z != start).double().mean() > 0.5
    for power, chains in zip(exact[1:], z, strict=True):
        assert kstest(chains[:, 0].numpy(), power.cdf).pvalue > 1e-4
    # One temperature's chain says nothing of another's.
    correlation = torch.corrcoef(z[..., 0])[*torch.triu_indices(3, 3, 1)]
    assert (correlation.abs() < 5 * b**-0.5).all()


@pytest.mark.parametrize(
    ("wrong", "known"),
    [({"objective": "trapezoid"}, "posterior, integral"), ({"exchange": "odd"}, "both, alternati")],
)
def test_unknown_names(wrong, known):
    with pytest.raises(ValueError, match=f"unknown .*; known: {known}"):
        Tempering(**wrong)

"""Estimates of log p(x) against closed forms, quadrature, and each other."""

import functools
import math

import pytest
import torch
from reference.linear_gaussian import linear_gaussian
from reference.posterior import ExactPosterior, toy_data, toy_model

from kaem.estimators import (
    Evidence,
    PopulationTrace,
    annealed_importance,
    bits_per_dimension,
    importance,
    run_population,
    stepping_stone,
    thermodynamic_integration,
)
from kaem.langevin import MALA_ACCEPTANCE
from kaem.likelihood import log_mean_exp
from kaem.posterior import FeaturePosterior, Posterior

DATA = 4
TRACE_ESTIMATORS = (thermodynamic_integration, stepping_stone)

# Each |z| < 3 is of a t distribution with at least 31 degrees of freedom: a false alarm of 0.5%
# per datum and 2% per case of four data for a new seed. The seeds here are fixed.
Z_LIMIT = 3.0

latents_ = pytest.mark.parametrize("latents", [1, 2, 4, 8, 16])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def z_scores(evidence: Evidence, truth: torch.Tensor) -> torch.Tensor:
    assert evidence.log_evidence.shape == evidence.standard_error.shape == truth.shape
    assert (evidence.standard_error > 0).all()
    return (evidence.log_evidence - truth) / evidence.standard_error


def check(evidence: Evidence, truth: torch.Tensor, largest_error: float) -> None:
    """Right within 3 standard errors, and those small enough for this to mean something."""
    assert z_scores(evidence, truth).abs().max() < Z_LIMIT
    assert evidence.standard_error.max() < largest_error


@functools.cache
def trace(latents: int) -> PopulationTrace:
    return run_population(
        linear_gaussian(latents, DATA)[0],
        chains=32,
        draws=40,
        burn_in=40,
        temperatures=16,
        steps=2,
        generator=seeded(1),
    )


# Closed forms ------------------------------------------------------------------------------------


@pytest.mark.parametrize("latents", [1, 2, 4])
def test_importance_finds_the_evidence(latents):
    posterior, truth = linear_gaussian(latents, DATA)
    check(importance(posterior, 20_000, seeded(0)), truth, 0.06)


@latents_
def test_annealed_importance_finds_the_evidence(latents):
    posterior, truth = linear_gaussian(latents, DATA)
    evidence = annealed_importance(
        posterior, chains=64, temperatures=100, steps=3, generator=seeded(0)
    )
    check(evidence, truth, 0.3)


@latents_
@pytest.mark.parametrize("estimator", TRACE_ESTIMATORS)
def test_populations_find_the_evidence(estimator, latents):
    check(estimator(trace(latents)), linear_gaussian(latents, DATA)[1], 0.1)


@pytest.mark.parametrize(
    ("toy", "cls"),
    [
        (("mixture", 2, 2), Posterior),
        (("univariate", 1, 2), Posterior),
        (("univariate", 1, 2), FeaturePosterior),
    ],
)
def test_every_estimator_finds_the_evidence_of_a_nonlinear_model(toy, cls):
    model, x = toy_model(*toy), toy_data()
    truth = ExactPosterior.of(model, x).log_evidence.detach()
    posterior = cls(model, x)
    check(importance(posterior, 20_000, seeded(0)), truth, 0.05)
    check(annealed_importance(posterior, chains=64, generator=seeded(0)), truth, 0.2)
    # Its walls are near, so that this also checks what happens there.
    sizes = {"chains": 32, "draws": 30, "burn_in": 30, "temperatures": 12}
    found = run_population(posterior, generator=seeded(0), **sizes)
    assert found.z.shape == (30, 32, 2, *posterior.event_shape)
    for estimator in TRACE_ESTIMATORS:
        check(estimator(found), truth, 0.05)


# Standard errors ---------------------------------------------------------------------------------

COPIES = 50


def evidence_of_copies(name: str, posterior: Posterior) -> Evidence:
    """Independent estimates for `COPIES` copies of the data, a row each."""
    if name == "importance":  # its draws are shared by the data: a seed for each copy
        rows = [importance(posterior, 1000, seeded(s)) for s in range(COPIES)]
        return Evidence(*(torch.stack(parts) for parts in zip(*rows, strict=True)))
    copies = Posterior(posterior.model, posterior.x.repeat(COPIES, 1))
    if name == "annealed_importance":
        found = annealed_importance(copies, chains=32, temperatures=20, generator=seeded(0))
    else:
        estimator = {f.__name__: f for f in TRACE_ESTIMATORS}[name]
        found = estimator(trace_of_copies(copies))
    value, error = (part.unflatten(0, (COPIES, -1)) for part in found[:2])
    return Evidence(value, error)


def trace_of_copies(copies: Posterior) -> PopulationTrace:
    sizes = {"chains": 16, "draws": 15, "burn_in": 20, "temperatures": 10}
    return run_population(copies, generator=seeded(0), **sizes)


@pytest.mark.parametrize(
    "name",
    ["importance", "annealed_importance", "thermodynamic_integration", "stepping_stone"],
)
def test_the_standard_errors_are_honest(name):
    # 200 z-scores; importance sampling shares draws among the four of a seed. Their standard
    # deviation is known to 5 to 10%, their mean to 0.07 to 0.14: the limits are four of these
    # away (6e-5 per comparison for a new seed), those of the mean leave room for the bias of
    # the log of a mean.
    posterior, truth = linear_gaussian(1, DATA)
    z = z_scores(evidence_of_copies(name, posterior), truth.expand(COPIES, DATA))
    assert 0.6 < z.std() < 1.5
    assert z.mean().abs() < 0.5


def test_the_mean_of_an_evidence():
    evidence = Evidence(torch.tensor([-1.0, -3.0]), torch.tensor([0.3, 0.4]))
    assert evidence.mean() == pytest.approx((-2.0, 0.25))
    assert all(isinstance(value, float) for value in evidence.mean())


# What the estimators are -------------------------------------------------------------------------


class FixedDraws(Posterior):
    """Prior draws that are the same at every call."""

    def prior_draws(self, n, generator=None):  # noqa: ARG002
        return super().prior_draws(n, seeded(0))


def test_annealing_over_one_temperature_is_importance_sampling():
    posterior, _ = linear_gaussian(2, 1)
    posterior = FixedDraws(posterior.model, posterior.x)
    plain = importance(posterior, 500, batch_size=500)
    annealed = annealed_importance(posterior, chains=500, temperatures=1)
    torch.testing.assert_close(annealed.log_evidence, plain.log_evidence)
    torch.testing.assert_close(annealed.standard_error, plain.standard_error)
    torch.testing.assert_close(annealed.ess, plain.ess)


@pytest.mark.parametrize(("temperatures", "steps"), [(1, 1), (2, 1), (5, 3)])
def test_the_evaluations_of_annealing(temperatures, steps, monkeypatch):
    # Nothing moves at t = 0, where prior draws are exact, nor after the last weight at t = 1.
    posterior, _ = linear_gaussian(2, DATA)
    decode, rows = posterior.model.decode, []
    monkeypatch.setattr(posterior.model, "decode", lambda z: rows.append(len(z)) or decode(z))
    annealed_importance(posterior, chains=3, temperatures=temperatures, steps=steps)
    moves = temperatures - 1
    pilot, weights = 1 + moves * (steps + 1), 1 + moves * steps
    assert rows == [DATA] * pilot + [3 * DATA] * weights


def test_the_batch_size_of_importance_sampling_is_no_matter():
    posterior, _ = linear_gaussian(2, DATA)
    for batch_size in (1, 7, 100, 1000):
        evidence = importance(posterior, 100, seeded(0), batch_size)
        torch.testing.assert_close(evidence, importance(posterior, 100, seeded(0)))


@pytest.mark.parametrize(("temperatures", "steps"), [(1, 1), (3, 1), (4, 2)])
def test_annealed_weights_are_unbiased(temperatures, steps):
    # However few the temperatures. 20,000 weights: four standard errors, 6e-5 per case.
    posterior, truth = linear_gaussian(2, 1)
    evidence = annealed_importance(
        posterior, chains=20_000, temperatures=temperatures, steps=steps, generator=seeded(1)
    )
    ratio = (evidence.log_evidence - truth).exp()
    assert ((ratio - 1) / (ratio * evidence.standard_error)).abs() < 4
    assert evidence.standard_error < 0.1
    # A bound on average: the log of a mean of few weights is too low.
    few = annealed_importance(
        Posterior(posterior.model, posterior.x.repeat(1000, 1)),
        chains=2,
        temperatures=temperatures,
        steps=steps,
        generator=seeded(2),
    )
    mean, _ = few.mean()
    assert mean < truth.item() - 4 * few.log_evidence.std() / 1000**0.5
    ratios = (few.log_evidence - truth).exp()
    assert abs(ratios.mean() - 1) < 4 * ratios.std() / 1000**0.5


@pytest.mark.parametrize("temperatures", [3, 4])
def test_the_corrected_trapezoid_has_less_bias(temperatures):
    posterior, truth = linear_gaussian(4, DATA)
    found = run_population(
        posterior, chains=32, draws=100, burn_in=40, temperatures=temperatures, generator=seeded(0)
    )
    corrected = thermodynamic_integration(found)
    plain = thermodynamic_integration(found, corrected=False)
    bias, plain_bias = (e.log_evidence - truth for e in (corrected, plain))
    assert (plain_bias < -4 * plain.standard_error).all()  # E_t[l] is concave in t
    assert (bias.abs() < 0.5 * plain_bias.abs()).all()


def trace_of(log_likelihood: torch.Tensor, t: torch.Tensor) -> PopulationTrace:
    nothing = torch.zeros(0)
    return PopulationTrace(t, log_likelihood, nothing, nothing, nothing, nothing)


def test_both_estimates_are_their_formulas():
    t = torch.tensor([0.0, 0.1, 0.4, 1.0], dtype=torch.float64)
    values = torch.randn(20, 4, 3, 2, generator=seeded(0), dtype=torch.float64)
    found = trace_of(values, t)
    for datum in range(2):
        columns = [values[:, k, :, datum].flatten() for k in range(4)]
        steps = [log_mean_exp((t[k + 1] - t[k]) * columns[k]) for k in range(3)]
        assert stepping_stone(found).log_evidence[datum] == pytest.approx(sum(steps).item())
        means = torch.stack([column.mean() for column in columns])
        integral = torch.trapezoid(means, t).item()
        plain = thermodynamic_integration(found, corrected=False).log_evidence[datum]
        assert plain == pytest.approx(integral)
        variances = [column.var(correction=0).item() for column in columns]
        gaps = t.diff().tolist()
        error = sum(gaps[k] ** 2 / 12 * (variances[k + 1] - variances[k]) for k in range(3))
        corrected = thermodynamic_integration(found).log_evidence[datum]
        assert corrected == pytest.approx(integral - error)


def test_a_likelihood_that_never_changes_is_the_evidence():
    t = torch.tensor([0.0, 0.3, 1.0])
    found = trace_of(torch.full((5, 3, 4, 2), -7.0), t)
    for estimator in TRACE_ESTIMATORS:
        evidence = estimator(found)
        torch.testing.assert_close(evidence.log_evidence, torch.full((2,), -7.0).double())
        torch.testing.assert_close(evidence.standard_error, torch.zeros(2).double())
        assert evidence.ess is None


# The population ----------------------------------------------------------------------------------


@pytest.mark.parametrize("latents", [1, 16])
def test_a_population_reports_how_it_went(latents):
    sizes = {"chains": 8, "draws": 20, "burn_in": 100, "temperatures": 5, "steps": 2}
    posterior, _ = linear_gaussian(latents, DATA)
    found = run_population(posterior, generator=seeded(0), **sizes)
    assert found.log_likelihood.shape == (20, 6, 8, DATA)
    assert found.z.shape == (20, 8, DATA, latents)
    assert found.temperatures[[0, -1]].tolist() == [0, 1]
    for rates in (found.swap_acceptance, found.acceptance):
        assert rates.shape == (5,)
        assert (rates > 0.1).all()
        assert (rates <= 1).all()
    # Step sizes adapt during burn-in to this acceptance, and are then kept. The mean over
    # 1280 steps is known to 0.02, and what the last adaptation left is as large.
    assert (found.acceptance - MALA_ACCEPTANCE).abs().max() < 0.08
    assert found.step_size.shape == (5,)
    assert found.step_size[-1] < found.step_size[0]  # the posterior is narrower than the prior


def test_the_draws_of_a_population_follow_the_posterior():
    posterior, _ = linear_gaussian(2, DATA)
    linear, sigma = posterior.model.decoder.linear, posterior.model.sigma
    precision = torch.eye(2) + linear.weight.T @ linear.weight / sigma**2
    scores = (posterior.x - linear.bias) @ linear.weight / sigma**2
    mean = torch.linalg.solve(precision, scores.T).T
    draws = trace(2).z
    # 32 independent populations: 4.5 standard errors, 9e-4 for the eight means at a new seed.
    each = draws.mean(0)
    assert ((each.mean(0) - mean).abs() < 4.5 * each.std(0) / 32**0.5).all()
    # About 1000 independent draws: each variance is known to 5%, and four data share it.
    variances = (draws - mean).square().mean((0, 1))
    expected = torch.linalg.inv(precision).diagonal().expand(DATA, 2)
    torch.testing.assert_close(variances, expected.detach(), rtol=0.2, atol=0)


@pytest.mark.parametrize("kind", ["mixture", "univariate"])
def test_shapes_and_seeds(kind):
    model = toy_model(kind, 2, 3)
    posterior = Posterior(model, toy_data())
    small = {"chains": 3, "temperatures": 4, "steps": 1}

    def estimates(seed):
        found = run_population(posterior, draws=5, burn_in=2, generator=seeded(seed), **small)
        assert found.log_likelihood.shape == (5, 5, 3, 2)
        assert found.z.shape == (5, 3, 2, *model.prior.event_shape)
        return [
            importance(posterior, 10, seeded(seed)),
            annealed_importance(posterior, generator=seeded(seed), **small),
            *(estimator(found) for estimator in TRACE_ESTIMATORS),
        ]

    for first, again, other in zip(estimates(0), estimates(0), estimates(1), strict=True):
        assert first.log_evidence.shape == first.standard_error.shape == (2,)
        assert torch.equal(first.log_evidence, again.log_evidence)
        assert torch.equal(first.standard_error, again.standard_error)
        assert (first.ess is None) == (again.ess is None)
        assert first.ess is None or torch.equal(first.ess, again.ess)
        assert not torch.equal(first.log_evidence, other.log_evidence)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_too_few_for_a_standard_error_are_refused():
    posterior, _ = linear_gaussian(1, DATA)
    for draws in (0, 1):
        with pytest.raises(ValueError, match=f"at least 2 draws, got {draws}"):
            importance(posterior, draws)
    assert importance(posterior, 2).standard_error.isfinite().all()
    for estimator in (annealed_importance, run_population):
        with pytest.raises(ValueError, match="at least 2 independent chains, got 1"):
            estimator(posterior, chains=1)
    for draws in (0, -1):
        with pytest.raises(ValueError, match=f"at least 1 draw, got {draws}"):
            run_population(posterior, draws=draws)


# Bits per dimension ------------------------------------------------------------------------------


def test_bits_per_dimension():
    # A uniform density on [0, 1]: log p = 0. 256 levels have 255 steps between them.
    assert bits_per_dimension(0.0, 784) == pytest.approx(math.log2(255))
    assert bits_per_dimension(0.0, 784, levels=2) == 0
    # As many nats as make up one bit per dimension.
    assert bits_per_dimension(-10 * math.log(2), 10) == pytest.approx(1 + math.log2(255))
    nats = torch.tensor([0.0, -20 * math.log(2), 30 * math.log(2)])
    expected = torch.tensor([0.0, 2.0, -3.0]) + math.log2(15)
    torch.testing.assert_close(bits_per_dimension(nats, 10, levels=16), expected)


def test_bits_per_dimension_of_a_discrete_distribution():
    # A density that is smooth on the scale of a step: the entropy of the levels themselves.
    levels = 256
    points = torch.linspace(0, 1, levels, dtype=torch.float64)
    density = torch.distributions.Beta(3.0, 4.0).log_prob(points[1:-1])
    mass = density.exp() / density.exp().sum()
    bits = (mass * bits_per_dimension(density, 1, levels)).sum()
    assert bits.item() == pytest.approx(-(mass * mass.log2()).sum().item(), abs=1e-4)

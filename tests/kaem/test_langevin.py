"""Langevin steps against closed forms, and their stationary distributions against quadrature.

Stochastic comparisons of moments are at five standard errors, a false alarm of 6e-7 each for a
new seed; the Kolmogorov-Smirnov (KS) tests have alpha = 1e-4 each.
"""

import math

import pytest
import torch
from reference.densities import log_prior
from reference.modes import PowerPosterior, curve_model, data
from reference.posterior import REFERENCE, ExactPosterior, log_likelihoods, toy_data, toy_model
from scipy.stats import kstest

from kaem.langevin import (
    MALA_ACCEPTANCE,
    Langevin,
    adapted,
    mala_step,
    near_walls,
    reflect,
    run_chains,
    stiffness,
    ula_step,
)
from kaem.posterior import Posterior

ALPHA = 1e-4
NOWHERE = (-1e9, 1e9)  # walls too far to matter


def identity(z: torch.Tensor) -> torch.Tensor:
    return z


def independent_score(model, datum: torch.Tensor, z: torch.Tensor, t: torch.Tensor):
    """(log p_t(z|x) up to a constant, its gradient) by autograd of tests/reference."""
    z = z.detach().requires_grad_()
    log_density = t * log_likelihoods(model, datum[None], z)[0] + log_prior(
        model.prior, REFERENCE, z
    )
    (score,) = torch.autograd.grad(log_density.sum(), z)
    return log_density.detach(), score


def z_scores(sample: torch.Tensor) -> torch.Tensor:
    """The sample mean in standard errors, over the first dimension."""
    return sample.mean(0) / sample.std(0) * len(sample) ** 0.5


# --- reflection -------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [(-1.0, 3.0), (0.1, 0.7), (-4.0, -1.5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reflect_is_the_triangle_wave(a, b, dtype):
    z = torch.linspace(a - 9.3 * (b - a), b + 9.3 * (b - a), 4001, dtype=dtype)
    folded = reflect(z, (a, b))
    # One wall at a time, as often as it takes.
    expected = z.double()
    while ((expected < a) | (expected > b)).any():
        expected = torch.where(expected > b, 2 * b - expected, expected)
        expected = torch.where(expected < a, 2 * a - expected, expected)
    torch.testing.assert_close(folded.double(), expected, rtol=0, atol=2e-5)
    assert ((folded >= a) & (folded <= b)).all()


def test_reflect_by_hand():
    places = [-1.0, 3.0, 0.3, 3.5, -1.5, 7.0, -5.0, 11.5, -9.25]
    folded = [-1.0, 3.0, 0.3, 2.5, -0.5, -1.0, 3.0, 2.5, -0.75]
    result = reflect(torch.tensor(places, dtype=torch.float64), (-1.0, 3.0))
    torch.testing.assert_close(result, torch.tensor(folded, dtype=torch.float64))


def test_reflect_leaves_what_is_inside_and_the_walls_bit_by_bit():
    z = torch.cat([torch.empty(1000).uniform_(0.1, 0.7), torch.tensor([0.1, 0.7])]).double()
    z = z.clamp(0.1, 0.7)
    assert torch.equal(reflect(z, (0.1, 0.7)), z)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_reflect_makes_nan_of_what_is_not_finite(value):
    result = reflect(torch.tensor([0.5, value, 2.5]), (0.0, 1.0))
    assert result.isnan().tolist() == [False, True, False]


# --- one ULA step -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["numbers", "one per row"])
def test_a_ula_step_has_drift_eta_times_the_score_and_variance_two_eta(shape, seeded):
    model, datum, n = toy_model("mixture", 2, 2), toy_data()[0], 40_000
    places = torch.tensor([[0.4, -1.1], [-0.7, 0.2], [1.3, 1.9]], dtype=torch.float64)
    z = places.repeat(n, 1)
    if shape == "numbers":
        eta, t = 0.2, 0.6
        each_eta, each_t = (torch.full((3,), v, dtype=torch.float64) for v in (eta, t))
    else:
        each_eta, each_t = torch.tensor([[0.3, 0.01, 0.1], [1.0, 0.0, 0.4]]).double()
        eta, t = each_eta.repeat(n), each_t.repeat(n)
    state = Posterior(model, datum[None]).evaluate(z)
    moved, outside = ula_step(z, state.score(t), NOWHERE, eta, seeded(1))
    _, score = independent_score(model, datum, places, each_t)
    noise = (moved - z).unflatten(0, (n, 3)) - each_eta[:, None] * score
    noise = noise / (2 * each_eta[:, None]).sqrt()
    assert (z_scores(noise).abs() < 5).all()
    assert (z_scores(noise.square() - 1).abs() < 5).all()
    covariance = (noise[..., 0] * noise[..., 1]).mean(0)
    assert (covariance.abs() < 5 / n**0.5).all()
    assert outside == 0


def test_a_ula_step_is_reflected_and_counts_the_coordinates_outside(seeded):
    posterior = Posterior(toy_model("mixture", 2, 2), toy_data())
    z = posterior.prior_draws(1000, seeded(1))
    score = posterior.score(z)
    free, _ = ula_step(z, score, NOWHERE, 4.0, seeded(2))
    moved, count = ula_step(z, score, posterior.domain, 4.0, seeded(2))
    assert torch.equal(moved, reflect(free, posterior.domain))
    outside = free.abs() > 3
    assert 0.2 < outside.double().mean() < 0.8
    assert count == outside.sum()


# --- the step size beside the curvature ---------------------------------------------------------


@pytest.mark.parametrize("kind", ["mixture", "univariate"])
def test_stiffness_is_eta_times_the_largest_eigenvalue(kind, seeded):
    """To 2%: the decoder's derivatives are differences, and the power iteration ends."""
    model = toy_model(kind, 2, 2)
    posterior = Posterior(model, toy_data())
    z = posterior.prior_draws(70, seeded())
    largest = []
    for row in z[:7]:
        jacobian = torch.func.jacfwd(lambda z: model.decode(z[None]).flatten())(row).flatten(1)
        largest.append(torch.linalg.matrix_norm(jacobian, 2) ** 2 / model.sigma**2)
    expected = 0.03 * torch.stack(largest).median().item()
    before = torch.get_rng_state()
    assert stiffness(posterior, z, 0.03) == pytest.approx(expected, rel=0.02)
    assert stiffness(posterior, z, 0.06) == 2 * stiffness(posterior, z, 0.03)
    with torch.autocast("cpu", torch.bfloat16):
        assert stiffness(posterior, z, 0.03) == pytest.approx(expected, rel=0.02)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_decoder_that_ignores_its_input_has_no_stiffness():
    posterior = Posterior(curve_model(lambda h: 0 * h, sigma=0.2), data(1.0))
    assert stiffness(posterior, torch.zeros(1, 1).double(), 0.1) == 0


def test_stiffness_tells_the_variance_of_ula(seeded):
    """x = 2 z + noise: the variance is 1/(1 - stiffness/2) times the exact one; at five standard
    errors and the 2% by which the prior, which is no part of the stiffness, narrows it."""
    model, eta, n = curve_model(lambda h: 2 * h, sigma=0.2, domain=(-5.0, 5.0)), 0.012, 4000
    posterior = Posterior(model, data(1.0).expand(n, 1, 1, 1))
    z, _ = run_chains(
        posterior,
        torch.full((n, 1), 0.5).double(),
        steps=100,
        step_size=eta,
        generator=seeded(),
    )
    found = stiffness(posterior, z, eta)
    assert found == pytest.approx(eta * 4 / 0.04)
    assert z.var().item() / 0.01 == pytest.approx(
        1 / (1 - found / 2), rel=0.02 + 5 * (2 / n) ** 0.5
    )


def test_near_walls_is_the_share_within_a_sixteenth_of_the_width():
    z = torch.tensor([[-4.0, -3.51, -3.49, 0.0], [3.49, 3.51, 4.0, 1.0]])
    assert near_walls(z, (-4.0, 4.0)) == 0.5
    assert near_walls(z + 4, (0.0, 8.0)) == 0.5


# --- one MALA step ----------------------------------------------------------------------------


def step_with_record(posterior, z, eta, t, seed):
    """A MALA step and the place at which it evaluated its proposals."""
    seen = []

    def evaluate(z):
        seen.append(z)
        return posterior.evaluate(z)

    state = posterior.evaluate(z)
    domain = posterior.domain
    new, info = mala_step(state, evaluate, domain, eta, t, torch.Generator().manual_seed(seed))
    assert len(seen) == 1
    return state, seen[0], new, info


@pytest.mark.parametrize("shape", ["numbers", "one per row"])
def test_the_acceptance_is_the_metropolis_hastings_ratio(shape, seeded):
    model, datum, n = toy_model("mixture", 2, 2), toy_data()[1], 4000
    posterior = Posterior(model, datum[None])
    z = model.prior.sample(n, seeded(1))
    each_eta, each_t = torch.full((n,), 0.25).double(), torch.full((n,), 0.6).double()
    if shape == "one per row":
        each_eta = torch.linspace(0.02, 0.5, n, dtype=torch.float64)
        each_t = torch.rand(n, dtype=torch.float64)
    eta, t = (0.25, 0.6) if shape == "numbers" else (each_eta, each_t)
    state, proposal, new, info = step_with_record(posterior, z, eta, t, seed=2)

    here, score_here = independent_score(model, datum, z, each_t)
    there, score_there = independent_score(model, datum, proposal, each_t)
    scale = (2 * each_eta).sqrt()[:, None]

    def transition(origin, score, end):
        drifted = torch.distributions.Normal(origin + each_eta[:, None] * score, scale)
        return drifted.log_prob(end).sum(1)

    back = there + transition(proposal, score_there, z)
    ratio = (back - here - transition(z, score_here, proposal)).exp().clamp(max=1)
    inside = (proposal.abs() < 3).all(1)
    expected = torch.where(inside, ratio, 0.0)
    torch.testing.assert_close(info.acceptance, expected, rtol=1e-3, atol=1e-4)
    assert 0.3 < expected.mean() < 0.95  # both outcomes are common

    # Rows move as a whole or not at all, with that probability.
    moved = (new.z == proposal).all(1)
    assert (moved | (new.z == z).all(1)).all()
    assert z_scores(moved.double() - expected).abs() < 5
    for part, a, b in zip(new, posterior.evaluate(proposal), state, strict=True):
        keep = moved.reshape(-1, *[1] * (part.ndim - 1))
        torch.testing.assert_close(part, torch.where(keep, a, b))


def test_a_proposal_outside_is_rejected_and_counted(seeded):
    posterior = Posterior(toy_model("mixture", 2, 2), toy_data())
    z = posterior.prior_draws(2000, seeded(1))
    _, proposal, new, info = step_with_record(posterior, z, 3.0, 1.0, seed=2)
    outside = proposal.abs() == 3  # evaluated at the wall
    rejected = outside.any(1)
    assert 0.2 < rejected.double().mean() < 0.98
    assert (info.acceptance[rejected] == 0).all()
    assert torch.equal(new.z[rejected], z[rejected])
    assert info.outside == outside.double().mean()
    assert (info.acceptance[~rejected] > 0).any()


@pytest.mark.parametrize("part", ["log_likelihood", "log_prior", "grad_log_likelihood"])
def test_a_proposal_whose_ratio_is_not_a_number_is_rejected(part, seeded):
    posterior = Posterior(toy_model("mixture", 2, 2), toy_data())
    state = posterior.evaluate(posterior.prior_draws(2000, seeded(1)))
    ill = torch.arange(2000) % 3 == 0

    def evaluate(z):
        result = posterior.evaluate(z)
        getattr(result, part)[ill] = math.nan
        return result

    options = (posterior.domain, 0.1, 1.0)
    new, info = mala_step(state, evaluate, *options, seeded(2))
    assert (info.acceptance[ill] == 0).all()
    assert torch.equal(new.z[ill], state.z[ill])
    # Nothing else has changed.
    right, expected = mala_step(state, posterior.evaluate, *options, seeded(2))
    assert torch.equal(info.acceptance[~ill], expected.acceptance[~ill])
    assert torch.equal(new.z[~ill], right.z[~ill])
    assert (info.acceptance[~ill] > 0).any()
    assert not new.z.isnan().any()


# --- stationary distributions -----------------------------------------------------------------

# model, datum, step size: acceptances of 0.7 to 0.9, and 0.4 against the wall, where half of
# the proposals are outside.
CASES = {
    "one latent": (lambda: toy_model("mixture", 1, 2), toy_data()[1], 0.3),
    "against a wall": (
        lambda: curve_model(identity, sigma=0.4, domain=(-1.0, 1.0)),
        data(1.3)[0],
        0.1,
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("t", [1.0, 0.3])
def test_malas_stationary_distribution_is_the_power_posterior(case, t, seeded):
    make, datum, step_size = CASES[case]
    model, generator = make(), seeded(1)
    posterior = Posterior(model, datum[None])
    z, info = run_chains(
        posterior,
        posterior.prior_draws(5000, generator),
        steps=60,
        step_size=step_size,
        kernel="mala",
        temperature=t,
        generator=generator,
    )
    assert 0.3 < info.acceptance.mean() < 0.95
    assert kstest(z[:, 0].numpy(), PowerPosterior(model, datum, t).cdf).pvalue > ALPHA


def test_malas_stationary_distribution_of_two_latents(seeded):
    # Posterior moments by quadrature, five standard errors of independent chains.
    model, datum = toy_model("mixture", 2, 2), toy_data()[:1]
    exact = ExactPosterior.of(model, datum)
    weights = (exact.log_likelihood[0] + exact.log_prior + exact.log_weights).detach().softmax(0)
    posterior = Posterior(model, datum)
    z, _ = run_chains(
        posterior,
        posterior.prior_draws(5000, seeded(1)),
        steps=60,
        step_size=0.3,
        kernel="mala",
        generator=seeded(2),
    )

    def features(z):
        return torch.cat([z, z.square(), z[:, :1] * z[:, 1:]], dim=1)

    assert (z_scores(features(z) - weights @ features(exact.z)).abs() < 5).all()


SIZES = (0.4, 0.1, 0.025)  # eta, eta/4, eta/16


def test_ulas_variance_is_off_by_what_theory_says_and_malas_is_not(seeded):
    # p(z|x) = N(m, s^2): ULA's stationary variance is s^2 / (1 - eta / (2 s^2)).
    mean, variance, n = 0.6, 0.5, 20_000
    model = curve_model(identity, sigma=1.0, domain=(-8.0, 8.0))
    posterior, exact = Posterior(model, data(1.2)), PowerPosterior(model, data(1.2)[0])
    for eta in SIZES:
        theory = 1 / (1 - eta / (2 * variance))
        # ULA forgets its start by (1 - eta / s^2) a step: the steps leave 2%, squared.
        steps = max(15, int(2 * variance / eta))
        for kernel, expected in (("ula", theory), ("mala", 1.0)):
            z, _ = run_chains(
                posterior,
                exact.draws(n, seeded(1)),
                steps=steps,
                step_size=eta,
                kernel=kernel,
                generator=seeded(2),
            )
            squares = (z[:, 0] - mean).square() / variance
            error = squares.std() / n**0.5
            # The prior's table is normal to about 1e-3.
            assert abs(squares.mean() - expected) < 5 * error + 2e-3


# --- runs -------------------------------------------------------------------------------------


def test_adapted_moves_towards_the_wanted_acceptance():
    size = torch.full((3,), 0.1)
    result = adapted(size, torch.tensor([0.9, MALA_ACCEPTANCE, 0.1]))
    assert result[0] > 0.1 > result[2] > 0
    assert result[1] == size[1]
    harder = adapted(size, torch.tensor([0.9, MALA_ACCEPTANCE, 0.1]), gain=0.5)
    assert harder[0] > result[0]
    assert harder[2] < result[2]


@pytest.mark.parametrize(("kernel", "more"), [("ula", 0), ("mala", 1)])
@pytest.mark.parametrize("steps", [1, 7])
def test_the_evaluations_of_a_run(kernel, more, steps, seeded, monkeypatch):
    model, calls = toy_model("mixture", 2, 2), []
    decode = model.decode
    monkeypatch.setattr(model, "decode", lambda z: calls.append(len(z)) or decode(z))
    posterior = Posterior(model, toy_data())
    z = posterior.prior_draws(6, seeded())
    run_chains(posterior, z, steps=steps, step_size=0.1, kernel=kernel, generator=seeded())
    assert calls == [6] * (steps + more)


@pytest.mark.parametrize("kernel", ["ula", "mala"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_run_is_decided_by_its_seed(kernel, dtype, seeded):
    model = toy_model("univariate", 2, 3).to(dtype)
    posterior = Posterior(model, toy_data().to(dtype))
    z = posterior.prior_draws(8, seeded())
    before = z.clone()

    def run(seed):
        return run_chains(
            posterior, z, steps=10, step_size=0.1, kernel=kernel, generator=seeded(seed)
        )

    (first, info), (again, _), (other, _) = run(1), run(1), run(2)
    assert torch.equal(z, before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == z.shape
    assert first.dtype == info.acceptance.dtype == info.outside.dtype == dtype
    assert info.acceptance.shape == (8,)
    assert info.outside.ndim == 0
    posterior.check(first)


@pytest.mark.parametrize("kernel", ["ula", "mala"])
def test_every_row_runs_at_its_own_step_size_and_temperature(kernel, seeded):
    # A row's path does not depend on the other rows' settings.
    posterior = Posterior(toy_model("mixture", 2, 2), toy_data())
    z = posterior.prior_draws(4, seeded())
    sizes, temperatures = torch.tensor([[0.1, 0.02, 0.3, 0.1], [0.0, 0.2, 0.5, 1.0]]).double()

    def run(eta, t):
        options = {"steps": 5, "step_size": eta, "temperature": t, "generator": seeded(1)}
        return run_chains(posterior, z, kernel=kernel, **options)[0]

    mixed = run(sizes, temperatures)
    for i in range(4):
        alone = run(sizes[i].item(), temperatures[i].item())
        torch.testing.assert_close(mixed[i], alone[i])


def test_bad_arguments():
    with pytest.raises(ValueError, match="unknown kernel 'hmc'; known: ula, mala"):
        Langevin(kernel="hmc")
    for wrong in ({"steps": 0}, {"step_size": 0.0}, {"step_size": -1.0}, {"step_size": math.inf},
                  {"step_size": math.nan}):  # fmt: skip
        with pytest.raises(ValueError, match="need steps >= 1 and step_size > 0"):
            Langevin(**wrong)

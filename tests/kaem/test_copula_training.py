"""Learning with a copula: posteriors, gradients and evidence against quadrature; the fit; resuming.

The quadrature works from tests/reference/copula.py. Moments are compared at five standard errors,
a false alarm of 6e-7 each for a new seed; Kolmogorov-Smirnov tests are at level 1e-4 each.
"""

import copy
import functools

import numpy as np
import pytest
import torch
from reference.copula import Copula
from reference.posterior import (
    REFERENCE,
    ExactPosterior,
    flat_gradient,
    log_likelihoods,
    toy_data,
    toy_model,
)
from reference.quadrature import gauss_legendre_cells
from scipy import stats
from support.images import bars
from support.priors import correlate, depend, kinds, make_copula

from kaem import KAEM, ImportanceSampling, load, save
from kaem.copula import CopulaPrior
from kaem.langevin import run_chains
from kaem.posterior import FeaturePosterior, Posterior
from kaem.thermodynamic import power_schedule, sweep

CHAINS = 5000


def toy(kind: str = "mixture", **sampler) -> KAEM:
    """Two dependent latents (or pairs of them) behind a small decoder of no special numbers."""
    plain = toy_model(kind, 2, 2)
    prior = depend(CopulaPrior(plain.prior, components=3).double())
    return KAEM(prior, plain.decoder, sigma=plain.sigma, sampler=ImportanceSampling(**sampler))


@functools.cache
def exact_posterior() -> ExactPosterior:
    return ExactPosterior.of(toy(), toy_data())


def features(z):
    """What moments are compared of, (n, 2) -> (n, 5)."""
    return torch.cat([z, z.square(), z[:, :1] * z[:, 1:]], dim=1)


def check_moments(z, exact: ExactPosterior, t: float = 1.0, bias: float = 0.0) -> None:
    """z (CHAINS, 2) of the first datum at temperature t; the product prior's moments lie far."""
    log_weights = t * exact.log_likelihood[0] + exact.log_prior + exact.log_weights
    expected = log_weights.detach().softmax(0) @ features(exact.z)
    found, error = features(z).mean(0), features(z).std(0) / len(z) ** 0.5
    assert ((found - expected).abs() < 5 * error + bias).all()
    independent = log_weights.detach() - torch.from_numpy(
        Copula.of(exact.model.prior).log_copula(exact.z.numpy())
    )
    assert ((independent.softmax(0) @ features(exact.z) - expected) / (5 * error + bias)).max() > 3


# --- posteriors -------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("cls", [Posterior, FeaturePosterior])
def test_the_posteriors_prior_is_log_prob_and_passes_finite_differences(kind, cls, seeded):
    model = toy(kind)
    posterior = cls(model, toy_data())
    z = posterior.prior_draws(200, seeded(1))
    state = posterior.evaluate(z)
    h = z if cls is FeaturePosterior else model.prior.decoder_input(z)
    densities = posterior.marginals.log_prob(z).flatten(1).sum(1)
    expected = densities + torch.from_numpy(Copula.of(model.prior).log_copula(h.numpy()))
    torch.testing.assert_close(state.log_prior, expected, rtol=0, atol=1e-3)
    direction, step = torch.randn_like(z), 1e-5
    ahead, behind = (posterior.log_prior(z + s * step * direction).detach() for s in (1, -1))
    slope = (state.grad_log_prior * direction).flatten(1).sum(1)
    torch.testing.assert_close(slope, (ahead - behind) / (2 * step), rtol=1e-3, atol=1e-2)


# Steps of ULA leave a bias of eta / (2 variance), 1% here.
@pytest.mark.parametrize(
    ("kernel", "steps", "step_size", "bias"), [("mala", 80, 0.1, 0.0), ("ula", 500, 0.004, 0.03)]
)
def test_langevin_follows_the_posterior(kernel, steps, step_size, bias, seeded):
    exact = exact_posterior()
    posterior = Posterior(exact.model, exact.x[:1])
    z, _ = run_chains(
        posterior,
        posterior.prior_draws(CHAINS, seeded(1)),
        steps=steps,
        step_size=step_size,
        kernel=kernel,
        generator=seeded(2),
    )
    check_moments(z, exact, bias=bias)


def test_a_population_follows_every_power_posterior(seeded):
    exact, t = exact_posterior(), power_schedule(3, 2.0)
    posterior = Posterior(exact.model, exact.x[:1].expand(CHAINS, -1, -1, -1))
    z = posterior.prior_draws(3 * CHAINS, seeded(1)).unflatten(0, (3, CHAINS))
    for _ in range(20):
        z, _ = sweep(
            posterior,
            z,
            t,
            steps=2,
            step_size=torch.tensor([0.2, 0.15, 0.1]).double(),
            kernel="mala",
            generator=seeded(2),
        )
    for draws, temperature in zip(z, t[1:].tolist(), strict=True):
        check_moments(draws, exact, temperature)


# --- gradients and evidence -------------------------------------------------------------------


# Projected on its predicted direction, the bias is compared at five standard errors of its Monte
# Carlo estimate plus the next order, 3/S of itself.
@pytest.mark.parametrize("size", [10, 100, 1000])
def test_the_importance_gradients_bias_is_what_the_delta_method_says(size):
    exact, x, errors = exact_posterior(), toy_data(), []
    model = toy(proposals=size, ess_threshold=0)
    for seed in range(150):
        seeded = torch.Generator().manual_seed
        gradient = flat_gradient(model.loss(x, seeded(seed))[0], model)
        linear = exact.linear_term(exact.model.prior.sample(size, seeded(seed)))
        errors.append(gradient - exact.loss_gradient() + linear)
    c = exact.leading_bias()
    projected, predicted = torch.stack(errors) @ c / c.norm(), c.norm() / size
    bias, noise = projected.mean(), projected.std() / len(projected) ** 0.5
    assert abs(bias - predicted) < 5 * noise + 3 * predicted / size
    assert bias > 3 * noise  # it is seen, not merely consistent with zero


@kinds
def test_the_evidence_is_the_quadratures(kind, seeded):
    """|z| < 3 for each of two data: a false alarm of 0.5% for a new seed."""
    model, x = toy(kind), toy_data()
    reference = Copula.of(model.prior)
    ends = reference.nodes[0], reference.nodes[-1]
    points, weights = gauss_legendre_cells(*ends, len(reference.nodes) - 1, order=2)
    index = np.stack(np.meshgrid(*[np.arange(len(points))] * 2), axis=-1).reshape(-1, 2)
    h, weight = points[index], weights[index].prod(axis=1)
    log_prior = torch.from_numpy(reference.log_feature_density(h) + np.log(weight))
    expected = (log_likelihoods(model, x, torch.from_numpy(h)) + log_prior).logsumexp(1).detach()
    found = model.log_evidence(x, 1000, seeded(1))
    assert ((found.log_evidence - expected) / found.standard_error).abs().max() < 3
    assert found.standard_error.max() < 0.1


# --- the fit ----------------------------------------------------------------------------------

TRAIN = 20_000
TRUTHS = {
    "one normal": lambda: correlate(make_copula(components=1), 0.8),
    "three in the plane": lambda: make_copula(q=2),
    "three in space": lambda: make_copula(q=3),
    "sums": lambda: make_copula("univariate"),
}


def divergence(truth: Copula, found: Copula, h: np.ndarray) -> tuple[float, float]:
    """The mean of log c - log c' at draws of c, and its standard error."""
    difference = truth.log_copula(h) - found.log_copula(h)
    return difference.mean(), difference.std() / len(h) ** 0.5


@pytest.mark.parametrize("name", TRUTHS)
def test_the_fit_recovers_a_known_copula_and_stays_there(name, seeded):
    truth = TRUTHS[name]()
    reference = Copula.of(truth)
    train, held = np.split(reference.draws(2 * TRAIN, seed=1), 2)
    prior = CopulaPrior(copy.deepcopy(truth.densities), truth.mixture.components).double()
    q, k, found = prior.q, prior.mixture.components, []
    for _ in range(20):
        prior.fit(torch.from_numpy(train), iterations=20, generator=seeded(2))
        found.append(divergence(reference, Copula.of(prior), held)[0])
    _, error = divergence(reference, Copula.of(prior), held)
    print(name, np.round(found, 5), error)
    parameters = k - 1 + k * q + k * q * (q + 1) / 2 - 2 * q
    assert found[-1] < 2 * parameters / TRAIN + 5 * error
    assert np.ptp(found[5:]) < 1e-3
    drawn = prior.sample_features(TRAIN, seeded(3)).numpy()
    for i, j in zip(*np.triu_indices(q, 1), strict=True):
        correlations = [stats.spearmanr(h[:, [i, j]]).statistic for h in (drawn, held)]
        assert abs(correlations[0] - correlations[1]) < 5 * (3 / TRAIN) ** 0.5


# --- training ---------------------------------------------------------------------------------

SHAPE, INDEX = (1, 8, 8), torch.arange(6)
SAMPLERS = {
    "importance": {"kind": "importance", "proposals": 50},
    "langevin": {"kind": "langevin", "steps": 3, "step_size": 0.01},
    "thermodynamic": {"kind": "thermodynamic", "temperatures": 3, "steps": 2},
}
samplers = pytest.mark.parametrize("sampler", SAMPLERS)


def make(sampler: str = "langevin", kind: str = "mixture", **fit) -> KAEM:
    torch.manual_seed(0)
    settings = {
        "prior": {"kind": kind, "q": 4, "p": 2, "grid_size": 8, "n_nodes": 50},
        "decoder": {"kind": "conv", "width": 4},
        "sigma": 0.3,
        "sampler": SAMPLERS[sampler],
        "domain_update": {"every": 3},
        "copula": {"components": 2, "first": 2, "every": 3, "draws": 15, "iterations": 2} | fit,
    }
    return KAEM.from_settings(settings, SHAPE)


def batch(update: int) -> torch.Tensor:
    return bars(6, SHAPE, torch.Generator().manual_seed(update))


def train(model: KAEM, optimiser, updates, last: int = 9) -> list[float]:
    losses = []
    for update in updates:
        optimiser.zero_grad()
        loss, _ = model.loss(batch(update), torch.Generator().manual_seed(update), INDEX)
        loss.backward()
        optimiser.step()
        model.after_update(update, last)
        losses.append(loss.item())
    return losses


def optimiser_of(model: KAEM) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=0.01)


def same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


@samplers
@kinds
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_resumed_training_is_the_uninterrupted_one(sampler, kind, dtype):
    """Interrupted after update 6: between the fits after updates 5 and 8, draws half collected."""
    whole, part = (make(sampler, kind).to(dtype) for _ in range(2))
    optimisers = [optimiser_of(model) for model in (whole, part)]
    expected = train(whole, optimisers[0], range(1, 10))
    train(part, optimisers[1], range(1, 7))
    saved = copy.deepcopy([part.state_dict(), part.training_state(), optimisers[1].state_dict()])

    resumed = make(sampler, kind).to(dtype)
    optimiser = optimiser_of(resumed)
    resumed.load_state_dict(saved[0])
    resumed.load_training_state(saved[1])
    optimiser.load_state_dict(saved[2])
    assert train(resumed, optimiser, range(7, 10)) == expected[6:]
    same(resumed.state_dict(), whole.state_dict())
    same(resumed.training_state(), whole.training_state())
    draws = [m.sample(5, torch.Generator().manual_seed(1)) for m in (resumed, whole)]
    assert torch.equal(*draws)


@pytest.mark.parametrize(("every", "expected"), [(3, [2, 5, 8, 9]), (0, [2, 9])])
def test_the_copula_is_fitted_when_the_settings_say(every, expected):
    model, fitted = make(every=every), []
    optimiser = optimiser_of(model)
    for update in range(1, 10):
        before = model.prior.mixture.means.clone()
        train(model, optimiser, [update])
        if not torch.equal(model.prior.mixture.means, before):
            fitted.append(update)
    assert fitted == expected


def test_the_latest_draws_are_fitted(monkeypatch):
    given, met = [], []
    fit = CopulaPrior.fit
    monkeypatch.setattr(
        CopulaPrior, "fit", lambda self, h, *a, **k: given.append(h.clone()) or fit(self, h, *a, **k)
    )
    model = make(domain_update=None) if False else make()
    optimiser = optimiser_of(model)
    for update in range(1, 6):
        train(model, optimiser, [update])
        met.append(model.chains.store.table[:, -1])
    assert [len(h) for h in given] == [12, 15]
    expected = torch.cat(met)[-15:]
    torch.testing.assert_close(given[1].sort(0).values, expected.sort(0).values)


def test_chains_feel_the_copula_or_not(seeded):
    for in_chains in (True, False):
        model = make(in_chains=in_chains)
        depend(model.prior)
        posterior = Posterior(model, batch(1))
        z = model.prior.sample(6, seeded(1))
        found = posterior.evaluate(z).grad_log_prior
        leaf = z.requires_grad_()
        prior = model.prior if in_chains else model.prior.densities
        (expected,) = torch.autograd.grad(prior.log_prob(leaf).sum(), leaf)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@samplers
@kinds
def test_a_saved_model_comes_back(sampler, kind, tmp_path):
    model = make(sampler, kind)
    train(model, optimiser_of(model), range(1, 10))
    save(model, tmp_path)
    loaded = load(tmp_path)
    same(loaded.state_dict(), model.state_dict())
    assert loaded.copula_fit == model.copula_fit
    draws = [m.sample(20, torch.Generator().manual_seed(1)) for m in (loaded, model)]
    assert torch.equal(*draws)
    z = model.prior.sample(50, torch.Generator().manual_seed(2))
    assert torch.equal(loaded.prior.log_prob(z), model.prior.log_prob(z))

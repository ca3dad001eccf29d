"""The copula prior: what `log_prob` says, what is drawn, and that the two agree.

All is compared with tests/reference/copula.py, which works from the mixture's numbers and the
densities' tables. Kolmogorov-Smirnov and chi-squared tests are at level 1e-4 each, and moments at
five standard errors, a false alarm of 6e-7 each for a new seed.
"""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from reference.copula import Copula, uniform_p_values
from reference.densities import in_every_latent
from reference.quadrature import gauss_legendre_cells, smallest_p_value
from scipy import stats
from support.priors import (
    DOMAIN,
    SHAPES,
    correlate,
    depend,
    kinds,
    make_copula,
    make_prior,
    multimodal,
    sharp,
)

from benchmark.base.seeding import PhiloxStreams
from kaem.copula import CopulaPrior

LEVEL = 1e-4
DENSE = np.linspace(*DOMAIN, 50_001)

two_and_three = pytest.mark.parametrize(("q", "n_nodes", "cells"), [(2, 61, 20), (3, 21, 8)])


def integral(prior, log_density, order: int = 4) -> float:
    """The integral of exp(log_density) over the features, (n, q) -> (n,), cell by cell."""
    nodes = prior.feature_density().nodes
    ends = float(nodes[0]), float(nodes[-1])
    points, weights = map(torch.from_numpy, gauss_legendre_cells(*ends, len(nodes) - 1, order))
    index = torch.cartesian_prod(*[torch.arange(len(points))] * prior.q)
    with torch.no_grad():
        return (log_density(points[index]).exp() * weights[index].prod(1)).sum().item()


@torch.no_grad()
def densities_at(prior, points: np.ndarray) -> np.ndarray:
    """What `marginals` says of each latent, (*event_shape, n)."""
    log_prob = prior.marginals().log_prob(in_every_latent(prior, points))
    return np.moveaxis(log_prob.exp().numpy(), 0, -1)


def product(prior, z):
    """log p(z) without the copula."""
    return prior.densities.log_prob(z)


def spearman(x: np.ndarray) -> float:
    return stats.spearmanr(x).statistic


# --- the reference itself ---------------------------------------------------------------------


def test_the_reference_is_the_gaussian_copula_and_its_transforms_undo_each_other():
    reference = Copula.of(correlate(make_copula(components=1), 0.6))
    h = reference.draws(50_000, seed=1)
    u = np.stack([reference.feature_cdf(q, h[:, q]) for q in range(2)], axis=1)
    s, correlation = stats.norm.ppf(u), [[1, 0.6], [0.6, 1]]
    expected = stats.multivariate_normal(cov=correlation).logpdf(s) - stats.norm.logpdf(s).sum(1)
    np.testing.assert_allclose(reference.log_copula(h), expected, atol=1e-6)
    np.testing.assert_allclose(reference.features(reference.scores(h)), h, atol=1e-9)
    assert uniform_p_values(reference.rosenblatt(h), 10).min() > LEVEL


# --- the density ------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["gaussian", "flat"])
@two_and_three
def test_log_prob_integrates_to_one(q, n_nodes, cells, reference):  # noqa: ARG001
    prior = make_copula(q=q, reference=reference, n_nodes=n_nodes)
    assert integral(prior, prior.log_prob) == pytest.approx(1, abs=2e-4)


def test_the_univariate_prior_integrates_to_one(seeded):
    prior = make_copula("univariate")
    density = prior.feature_density()

    def of_features(h):
        return prior.log_copula(h) + density.log_prob(h).sum(1)

    assert integral(prior, of_features, order=1) == pytest.approx(1, abs=2e-4)
    # Over the latents: the mean of p / prod pi at draws of the product.
    z = prior.densities.sample(200_000, seeded(1))
    with torch.no_grad():
        ratio = (prior.log_prob(z) - product(prior, z)).exp()
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / len(z) ** 0.5
    assert ratio.std() > 0.5


@kinds
@pytest.mark.parametrize("shape", [sharp, multimodal], ids=lambda shape: shape.__name__)
def test_log_prob_is_the_definition_in_the_tails_too(kind, shape, seeded):
    prior = make_copula(kind, 3, shape=shape)
    # What is usual, and what the dependence makes most unusual.
    z = torch.cat([p.sample(1000, seeded(1)) for p in (prior, prior.densities)])
    h = prior.decoder_input(z)
    expected = Copula.of(prior).log_copula(h.numpy())
    assert expected.min() < -20
    assert expected.max() > 3
    with torch.no_grad():
        for found in (prior.log_copula(h), prior.log_prob(z) - product(prior, z)):
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@kinds
def test_at_the_walls_all_is_finite_and_beyond_them_nothing(kind):
    prior = make_copula(kind)
    inside = in_every_latent(prior, [DOMAIN[0], 0.0, DOMAIN[1]]).clone()
    inside[1].flatten()[0] = DOMAIN[1]
    z = inside.requires_grad_()
    log_prob = prior.log_prob(z)
    (gradient,) = torch.autograd.grad(log_prob.sum(), z)
    assert log_prob.isfinite().all()
    assert gradient.isfinite().all()
    for outside, index in itertools.product((-4.001, 4.001, math.inf, -math.inf), np.ndindex(2)):
        z = in_every_latent(prior, [0.0]).clone()
        z[(0, *index)] = outside
        assert prior.log_prob(z).item() == -math.inf


@kinds
def test_the_score_is_the_formula_and_passes_finite_differences(kind, seeded):
    prior = make_copula(kind)
    z = torch.cat([p.sample(200, seeded(2)) for p in (prior, prior.densities)]).requires_grad_()
    h = prior.decoder_input(z)
    (score,) = torch.autograd.grad(prior.log_copula(h).sum(), h)
    expected = Copula.of(prior).copula_score(h.detach().numpy())
    np.testing.assert_allclose(score, expected, rtol=1e-3, atol=1e-3)

    (gradient,) = torch.autograd.grad(prior.log_prob(z).sum(), z)
    direction, step = torch.randn_like(z), 1e-5
    with torch.no_grad():
        ahead, behind = (prior.log_prob(z + s * step * direction) for s in (1, -1))
    slope = (gradient * direction).flatten(1).sum(1)
    torch.testing.assert_close(slope, (ahead - behind) / (2 * step), rtol=1e-3, atol=1e-2)


@kinds
def test_the_densities_learn_as_if_there_were_no_copula(kind, seeded):
    """Inference functions for margins (Joe 2005)."""
    prior = make_copula(kind)
    z = prior.sample(20, seeded(3))
    parameters = list(prior.parameters())
    assert len(parameters) == len(list(prior.densities.parameters()))
    weights = torch.randn(20, dtype=torch.float64)
    found = torch.autograd.grad((weights * prior.log_prob(z)).sum(), parameters)
    expected = torch.autograd.grad((weights * product(prior, z)).sum(), parameters)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


# --- draws ------------------------------------------------------------------------------------


@kinds
@two_and_three
def test_draws_follow_log_prob_and_keep_every_density(kind, q, n_nodes, cells, seeded):
    prior = make_copula(kind, q, n_nodes=n_nodes)
    z = prior.sample(200_000, seeded(1))
    assert z.shape == (200_000, *prior.event_shape)
    densities = densities_at(prior, DENSE)
    np.testing.assert_allclose(densities, densities_at(prior.densities, DENSE))
    assert smallest_p_value(z.numpy(), densities, DENSE) > LEVEL
    reference = Copula.of(prior)
    for h in (prior.decoder_input(z), prior.sample_features(200_000, seeded(2))):
        u = np.stack([reference.feature_cdf(i, h[:, i].numpy()) for i in range(q)], axis=1)
        assert min(stats.kstest(column, "uniform").pvalue for column in u.T) > LEVEL
        assert uniform_p_values(reference.rosenblatt(h[:50_000].numpy()), cells).min() > LEVEL


def test_the_latents_of_a_sum_stay_independent_of_each_other(seeded):
    prior = make_copula("univariate")
    z = prior.sample(200_000, seeded(1))
    u = prior.densities.cdf(z)
    for q in range(prior.q):
        assert uniform_p_values(u[:, q].numpy(), 20).min() > LEVEL


@pytest.mark.parametrize("correlation", [-0.9, 0.3, 0.7])
@kinds
def test_one_component_has_the_rank_correlations_of_a_gaussian_copula(kind, correlation, seeded):
    prior = correlate(make_copula(kind, components=1), correlation)
    h, n = prior.sample_features(100_000, seeded(1)).numpy(), 100_000
    expected = 6 / math.pi * math.asin(correlation / 2)
    assert abs(spearman(h) - expected) < 5 / n**0.5
    tau = 2 / math.pi * math.asin(correlation)
    # Twice (1 - tau^2) / n bounds the variance of Kendall's.
    assert abs(stats.kendalltau(*h.T).statistic - tau) < 5 * (2 * (1 - tau**2) / n) ** 0.5


@kinds
@pytest.mark.parametrize("components", [1, 4])
def test_a_new_copula_changes_nothing(kind, components, seeded):
    plain = make_prior(kind, "gaussian", sharp).double()
    prior = CopulaPrior(plain, components=components).double()
    z = plain.sample(100_000, seeded(1)).requires_grad_()
    found, expected = prior.log_prob(z), plain.log_prob(z)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)  # weights of float32
    scores = [torch.autograd.grad(log_prob.sum(), z)[0] for log_prob in (found, expected)]
    torch.testing.assert_close(*scores, rtol=0, atol=1e-7)
    h = prior.sample_features(200_000, seeded(2))
    assert uniform_p_values(prior.feature_density().cdf(h).numpy(), 20).min() > LEVEL


def test_tables_follow_the_mixture_and_the_densities(seeded):
    prior = make_copula()
    z = prior.sample(50, seeded(1))
    with torch.no_grad():
        for change in (
            lambda: depend(prior, seed=1),
            lambda: prior.densities.functions.coefficients.mul_(-1),
            lambda: prior.load_state_dict(make_copula(shape=multimodal).state_dict()),
        ):
            before = prior.sample(50, seeded(2))
            change()
            expected = Copula.of(prior).log_copula(z.numpy())
            np.testing.assert_allclose(prior.log_copula(z), expected, atol=1e-3)
            assert not torch.allclose(prior.sample(50, seeded(2)), before)


@kinds
def test_a_row_of_streams_is_the_same_in_every_batch(kind):
    prior = make_copula(kind, 3)
    given = {1: prior.sample_features(1, PhiloxStreams(7, 0, 1))[0, 1].item()}
    for draw in (
        prior.sample,
        prior.sample_features,
        lambda n, streams: prior.sample_features(n, streams, component=1),
        lambda n, streams: prior.sample_given(n, given, streams),
    ):
        together = draw(64, PhiloxStreams(0, 0, 64))
        for size in (1, 7):
            starts = range(0, 63, size)
            parts = [draw(size, PhiloxStreams(0, start, start + size)) for start in starts]
            assert torch.equal(torch.cat(parts), together[:63])


@kinds
def test_single_precision_is_close_to_double(kind, seeded):
    prior = make_copula(kind, 3)
    z = prior.sample(2000, seeded(1))
    expected = prior.log_prob(z).detach()
    single = prior.float()
    for draw in (single.sample, single.sample_features):
        assert draw(5, seeded()).dtype == torch.float32
    found = single.log_prob(z.float()).detach()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=0.05)


@kinds
@torch.no_grad()
def test_a_compiled_draw_is_one_graph(kind, seeded):
    prior = make_copula(kind, 3)
    for drawn in (prior, prior.densities):
        transport, noise = drawn.transport(), drawn.noise(2000, seeded(1))
        compiled = torch.compile(lambda x, f=transport: f(x), backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(noise), transport(noise), atol=1e-12, rtol=0)


# --- components and conditionals --------------------------------------------------------------


@kinds
def test_a_component_is_drawn_around_its_own_centre(kind, seeded):
    prior, n = make_copula(kind), 20_000
    reference = Copula.of(prior)
    for k in range(prior.mixture.components):
        features = prior.sample_features(n, seeded(k), component=k)
        whole = prior.decoder_input(prior.sample(n, seeded(k + 9), component=k))
        for h in (features, whole):
            s = reference.scores(h.numpy())
            noise = np.linalg.solve(
                np.linalg.cholesky(reference.covariances[k]), (s - reference.means[k]).T
            )
            assert uniform_p_values(stats.norm.cdf(noise.T), 10).min() > LEVEL


@kinds
def test_responsibilities_are_bayes_rule(kind, seeded):
    prior = make_copula(kind, 3)
    h = torch.cat([p.sample_features(500, seeded(1)) for p in (prior, prior.densities)])
    found = prior.responsibilities(h).detach()
    torch.testing.assert_close(found.sum(1), torch.ones(1000, dtype=torch.float64))
    np.testing.assert_allclose(found, Copula.of(prior).responsibilities(h.numpy()), atol=1e-3)
    assert found.std(0).min() > 0.2


@kinds
def test_features_and_scores_undo_each_other(kind, seeded):
    prior = make_copula(kind, 3)
    h = prior.sample_features(1000, seeded(1))
    s = prior.scores(h)
    np.testing.assert_allclose(s.detach(), Copula.of(prior).scores(h.numpy()), atol=1e-3)
    torch.testing.assert_close(prior.features(s).detach(), h, rtol=0, atol=1e-4)


@kinds
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
@torch.no_grad()
def test_the_table_from_scores_to_features_is_one_function_after_the_other(kind, shape, seeded):
    prior = make_copula(kind, 3, shape=shape)
    copula, single = prior.copula(), copy.deepcopy(prior).float().copula()
    s = torch.cat([prior.mixture.sample(5000, seeded(1)), 1e3 * torch.eye(3), -1e3 * torch.eye(3)])
    margins, density = copula.tables.margins, copula.densities
    h, u = copula.quantiles(s.T.contiguous()).T, margins.cdf(s)
    torch.testing.assert_close(h, density.inverse(u.T.contiguous()).T, atol=1e-9, rtol=0)
    for few in (s[-6:], s):  # many take two tables, few the one
        torch.testing.assert_close(copula.features(few), h[-len(few) :], atol=1e-9, rtol=0)
    # In single precision every score has a feature too, and the right one; in a table's far ends
    # and where hardly any mass lies, by its distribution function.
    h = single.quantiles(s.T.float().contiguous()).T
    error = density.cdf(h.double()) - margins.cdf(s.float().double())
    assert error.abs().max() < 1e-6
    low, high = density.nodes[[0, -1]]
    assert ((h >= low) & (h <= high)).all()


@kinds
@pytest.mark.parametrize("known", [[1], [0, 2], []])
def test_the_others_follow_their_conditional(kind, known, seeded):
    prior, n = make_copula(kind, 3), 30_000
    reference = Copula.of(prior)
    # Values from the joint density, row by row: then the whole follows it again.
    h = prior.sample_features(n, seeded(1))
    drawn = prior.sample_given(n, {q: h[:, q] for q in known}, seeded(2))
    assert torch.equal(drawn[:, known], h[:, known])
    unknown = [q for q in range(3) if q not in known]
    assert not (drawn[:, unknown] == h[:, unknown]).any()
    u = reference.rosenblatt(drawn.numpy())
    assert uniform_p_values(u, 8).min() > LEVEL
    # One value for all.
    values = {q: h[:, q].quantile(0.9).item() for q in known}
    drawn = prior.sample_given(n, values, seeded(3))
    for q, value in values.items():
        assert (drawn[:, q] == value).all()
    u = reference.conditional_cdf(unknown[0], drawn.numpy(), known)
    assert stats.kstest(u, "uniform", method="asymp").pvalue > LEVEL


@kinds
@pytest.mark.parametrize(
    ("q", "value"), [(2, 0.0), (-1, 0.0), (0, 99.0), (0, math.nan), (1, torch.tensor([0.0, -99.0]))]
)
def test_what_cannot_be_given_is_refused(kind, q, value):
    with pytest.raises(ValueError, match=f"features are 0 to 1, .* outside for feature {q}"):
        make_copula(kind, q=2).sample_given(2, {q: value})


@kinds
def test_a_single_feature_is_refused(kind):
    with pytest.raises(ValueError, match="ties two features or more together, got q = 1"):
        make_copula(kind, q=1)


@torch.no_grad()
def test_the_mixtures_table_stays_until_the_next_fit(seeded):
    prior = make_copula("mixture", q=2)
    tables = prior.copula().tables
    optimiser = torch.optim.SGD(prior.parameters(), lr=0.1)
    with torch.enable_grad():
        prior.log_prob(prior.sample(9, seeded(1))).sum().backward()
    optimiser.step()
    assert prior.copula().tables is tables
    prior.fit(prior.sample(500, seeded(2)), 1)
    assert prior.copula().tables is not tables


# --- a moved domain ---------------------------------------------------------------------------


@kinds
def test_a_moved_domain_keeps_the_dependence(kind, seeded):
    prior, n = make_copula(kind, domain=(-3.0, 3.0), n_nodes=41), 50_000
    before = copy.deepcopy(prior)
    z = prior.sample(n, seeded(1))
    prior.densities.set_domain((-3.5, 4.0), z[:1000])
    assert prior.domain == (-3.5, 4.0)
    for one, other in zip(prior.mixture.buffers(), before.mixture.buffers(), strict=True):
        assert torch.equal(one, other)
    moved = prior.sample_features(n, seeded(2))
    correlations = [spearman(h.numpy()) for h in (before.decoder_input(z), moved)]
    assert abs(correlations[0] - correlations[1]) < 5 * (2 / n) ** 0.5
    assert abs(correlations[0]) > 0.2
    assert uniform_p_values(Copula.of(prior).rosenblatt(moved.numpy()), 20).min() > LEVEL
    if kind == "mixture":
        assert integral(prior, prior.log_prob) == pytest.approx(1, abs=2e-4)


# --- copies -----------------------------------------------------------------------------------


def test_a_state_makes_the_same_prior_and_a_copy_is_independent(seeded):
    prior = make_copula()
    z = prior.sample(50, seeded(1))
    other = make_copula()
    with torch.no_grad():
        depend(other, seed=5)
        other.log_prob(z)
        twin = copy.deepcopy(prior)
        other.load_state_dict(prior.state_dict())
        for same in (other, twin):
            assert torch.equal(same.log_prob(z), prior.log_prob(z))
            assert torch.equal(same.sample(50, seeded(1)), z)
        depend(twin, seed=6)
        assert torch.equal(prior.sample(50, seeded(1)), z)
    assert not torch.equal(twin.sample(50, seeded(1)), z)

"""Mixtures of normals against quadrature, scipy and scikit-learn."""

import math

import pytest
import torch
from scipy.stats import kstest, multivariate_normal
from sklearn.mixture import GaussianMixture

from kaem.copula_tables import MixtureTables
from kaem.expectation_maximisation import expectation, kmeans_start, maximisation
from kaem.normal_mixture import NormalMixture

DOUBLE = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_mixture(components: int = 3, dimensions: int = 2, seed: int = 0) -> NormalMixture:
    """A mixture in float64 with weights, means and covariances of all kinds."""
    mixture, g = NormalMixture(components, dimensions).double(), generator(seed)
    weights = torch.rand(components, generator=g, dtype=DOUBLE) + 0.2
    mixture.log_weights.copy_((weights / weights.sum()).log())
    mixture.means.copy_(1.5 * torch.randn(components, dimensions, generator=g, dtype=DOUBLE))
    a = torch.randn(components, dimensions, dimensions, generator=g, dtype=DOUBLE)
    covariances = a @ a.mT / dimensions + 0.1 * torch.eye(dimensions)
    mixture.factors.copy_(torch.linalg.cholesky(covariances))
    return mixture


def test_a_new_mixture_has_independent_standard_normal_margins():
    s = torch.randn(50, 4, generator=generator(), dtype=DOUBLE)
    mixture = NormalMixture(5, 4).double()
    expected = torch.distributions.Normal(0, 1).log_prob(s)
    torch.testing.assert_close(mixture.margin_log_prob(s), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(mixture.log_prob(s), expected.sum(dim=1), atol=1e-6, rtol=0)
    assert mixture.spread() == (-8.0, 8.0)


def test_joint_density_against_scipy():
    mixture = make_mixture(3, 4)
    s = torch.randn(20, 4, generator=generator(), dtype=DOUBLE)
    covariances = mixture.factors @ mixture.factors.mT
    for k in range(3):
        expected = multivariate_normal(mixture.means[k], covariances[k]).logpdf(s)
        result = mixture.joint_log_prob(s)[:, k] - mixture.log_weights[k]
        torch.testing.assert_close(result, torch.as_tensor(expected), atol=1e-9, rtol=0)
    s.requires_grad_(True)
    assert torch.autograd.gradcheck(mixture.log_prob, s)
    assert torch.autograd.gradcheck(mixture.margin_log_prob, s)


def grid(mixture: NormalMixture, n: int = 801) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Nodes over the spread, the joint density of two dimensions there, and the spacing."""
    nodes = torch.linspace(*mixture.spread(), n, dtype=DOUBLE)
    density = mixture.log_prob(torch.cartesian_prod(nodes, nodes)).exp().view(n, n)
    return nodes, density, float(nodes[1] - nodes[0])


def test_margins_against_quadrature_of_the_joint_density():
    mixture = make_mixture()
    nodes, density, step = grid(mixture)  # what decays at both ends the sum integrates to rounding
    margins = torch.stack([density.sum(dim=1), density.sum(dim=0)], dim=1) * step
    both = nodes[:, None].expand(-1, 2)
    torch.testing.assert_close(mixture.margin_log_prob(both).exp(), margins, atol=1e-9, rtol=0)
    # The trapezoid rule from the left end to each node.
    cdf = (margins.cumsum(dim=0) - margins / 2) * step
    torch.testing.assert_close(mixture.margin_cdf(both), cdf, atol=1e-4, rtol=0)


def test_draws_follow_the_density():
    """Seeded; each of the tests fails for a right sampler in one of 1,000 seeds."""
    mixture, n = make_mixture(3, 3), 50_000
    s = mixture.sample(n, generator())
    for column, margin in zip(s.T, mixture.margin_cdf(s).T, strict=True):
        assert kstest(margin, "uniform").pvalue > 1e-3, column
    weights = mixture.log_weights.exp()
    covariances = mixture.factors @ mixture.factors.mT
    outer = covariances + mixture.means[:, :, None] * mixture.means[:, None]
    products = s[:, :, None] * s[:, None]
    error = (products.mean(dim=0) - torch.einsum("k,kij->ij", weights, outer)).abs()
    assert (error < 3.9 * products.std(dim=0) / math.sqrt(n)).all()  # nine at once
    only = mixture.sample(n, generator(1), component=1)
    error = (only.mean(dim=0) - mixture.means[1]).abs()
    assert (error < 3.6 * only.std(dim=0) / math.sqrt(n)).all()  # three at once


def test_the_conditional_is_the_joint_density_over_the_margin():
    """Seeded; fails for a right sampler in one of 500 seeds."""
    mixture, n = make_mixture(), 50_000
    nodes, density, step = grid(mixture)
    noise = torch.randn(n, 3, generator=generator(1), dtype=DOUBLE)
    for held, other in ((0, 1), (1, 0)):
        place = 450 - 40 * held
        line = density[place] if held == 0 else density[:, place]
        cdf = (line.cumsum(dim=0) - line / 2) / line.sum()
        s = mixture.transport_given({held: float(nodes[place])}, noise)
        assert (s[:, held] == nodes[place]).all()
        position = ((s[:, other] - nodes[0]) / step).clamp(0, len(nodes) - 1.001)
        cell = position.long()
        uniform = torch.lerp(cdf[cell], cdf[cell + 1], position - cell)
        assert kstest(uniform, "uniform").pvalue > 1e-3


def test_one_component_given_two_of_four_dimensions():
    mixture = make_mixture(1, 4)
    covariance = (mixture.factors @ mixture.factors.mT)[0]
    held, free = [3, 1], [0, 2]
    known = {3: torch.linspace(-1, 1, 5, dtype=DOUBLE), 1: 0.5}
    values = torch.stack([known[3], torch.full((5,), 0.5, dtype=DOUBLE)], dim=1)
    mean = mixture.transport_given(known, torch.zeros(5, 5, dtype=DOUBLE))
    slope = covariance[free][:, held] @ torch.linalg.inv(covariance[held][:, held])
    expected = mixture.means[0, free] + (values - mixture.means[0, held]) @ slope.T
    torch.testing.assert_close(mean[:, free], expected)
    assert torch.equal(mean[:, held], values)
    # Unit noise of each free dimension in turn gives the columns of the conditional's factor.
    noise = torch.zeros(5, 5, dtype=DOUBLE)
    columns = []
    for q in free:
        noise.zero_()[:, 1 + q] = 1.0
        columns.append((mixture.transport_given(known, noise) - mean)[0, free])
    factor = torch.stack(columns, dim=1)
    expected = covariance[free][:, free] - slope @ covariance[held][:, free]
    torch.testing.assert_close(factor @ factor.T, expected)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_bits_of_a_row_do_not_depend_on_the_other_rows(dtype):
    mixture = make_mixture(7, 5).to(dtype)
    noise = torch.randn(64, 6, generator=generator(1), dtype=dtype)
    value = torch.linspace(-1, 1, 64, dtype=dtype)
    whole = mixture.transport(noise)
    given = mixture.transport_given({2: value, 0: 0.3}, noise)
    for size in (1, 7):
        for rows in torch.arange(64).split(size):
            assert torch.equal(mixture.transport(noise[rows]), whole[rows])
            part = mixture.transport_given({2: value[rows], 0: 0.3}, noise[rows])
            assert torch.equal(part, given[rows])


@pytest.mark.parametrize(("ridge", "tolerance"), [(0.0, 1e-6), (1e-3, 5e-3)])
def test_em_against_scikit_learn(ridge, tolerance):
    """With a ridge the E-steps differ by its penalty, which moves log weights by 0.003 here."""
    scores = make_mixture(4, 3, seed=5).sample(2000, generator())
    start = NormalMixture(4, 3).double().fitted(scores, 0, ridge, generator())  # k-means alone
    theirs = GaussianMixture(
        4,
        max_iter=10,
        tol=0.0,
        reg_covar=ridge,
        weights_init=start.log_weights.exp().numpy(),
        means_init=start.means.numpy(),
        precisions_init=torch.cholesky_inverse(start.factors).numpy(),
    )
    with pytest.warns(UserWarning, match="did not converge"):
        theirs.fit(scores.numpy())
    ours = start.fitted(scores, iterations=10, ridge=ridge)
    expected = {
        "log_weights": torch.as_tensor(theirs.weights_).log(),
        "means": torch.as_tensor(theirs.means_),
        "factors": torch.linalg.cholesky(torch.as_tensor(theirs.covariances_)),
    }
    for name, value in expected.items():
        torch.testing.assert_close(getattr(ours, name), value, atol=tolerance, rtol=0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ridge", [1e-3, 0.3])
def test_no_iteration_lowers_what_em_maximises(seed, ridge):
    scores = make_mixture(4, 3, seed).sample(600, generator(seed))
    normals = kmeans_start(scores, 6, ridge, generator(seed))
    values = []
    for _ in range(50):
        moments, log_density = expectation(normals, scores, ridge)
        values.append(log_density.mean())
        normals = maximisation(moments, ridge)
    assert (torch.stack(values).diff() > -1e-12).all()
    assert values[-1] > values[0] + 1e-3


def test_one_component_has_the_mean_and_the_covariance_of_the_scores_and_the_ridge():
    scores = make_mixture(3, 3).sample(300, generator()) + 100.0
    fitted = NormalMixture(1, 3).double().fitted(scores, iterations=2, ridge=0.01)
    torch.testing.assert_close(fitted.means[0], scores.mean(dim=0))
    expected = torch.cov(scores.T, correction=0) + 0.01 * torch.eye(3)
    torch.testing.assert_close((fitted.factors @ fitted.factors.mT)[0], expected)


def test_components_without_draws_move_to_the_scores_of_least_density():
    # Two clusters, both held by the first component; the others lie where no score is.
    scores = 0.1 * torch.randn(400, 2, generator=generator(), dtype=DOUBLE)
    scores[:40] += 5.0
    mixture = NormalMixture(3, 2).double()
    mixture.means.copy_(torch.tensor([[0.0, 0.0], [90.0, 90.0], [-90.0, 90.0]]))
    kept = mixture.fitted(scores, iterations=1)  # the last iterations leave all where it is
    assert kept.log_weights[1:].max() < math.log(3 / 400)
    # One step after the move, one of them has the lesser cluster: no other score was as unlikely.
    moved = mixture.fitted(scores, iterations=2)
    assert (moved.means - 5.0).norm(dim=1).min() < 0.5
    fitted = mixture.fitted(scores, iterations=40)
    near = (fitted.means - 5.0).norm(dim=1) < 0.5
    torch.testing.assert_close(
        fitted.log_weights.exp()[near].sum(), torch.tensor(0.1, dtype=DOUBLE), atol=1e-3, rtol=0
    )
    assert fitted.log_prob(scores).mean() > kept.log_prob(scores).mean() + 1


def test_a_first_fit_finds_the_clusters_and_its_seed_fixes_it():
    centres = torch.tensor([[0.0, 0, 0], [6, 0, 0], [0, 6, 0], [0, 0, 6]], dtype=DOUBLE)
    noise = torch.randn(500, 4, 3, generator=generator(), dtype=DOUBLE)
    scores = (centres + noise).flatten(0, 1)
    fits = [NormalMixture(4, 3).fitted(scores, 10, generator=generator(3)) for _ in range(2)]
    for ours, again in zip(fits[0].buffers(), fits[1].buffers(), strict=True):
        assert torch.equal(ours, again)
    assert fits[0].means.dtype == torch.float32
    distances, nearest = torch.cdist(centres, fits[0].means.double()).min(dim=1)
    assert sorted(nearest.tolist()) == [0, 1, 2, 3]
    # One of four means of 500 draws each is off by more in one of 300,000 seeds.
    assert distances.max() < 0.25


def degenerate(kind: str) -> torch.Tensor:
    scores = torch.randn(200, 3, generator=generator(), dtype=DOUBLE)
    if kind == "constant column":
        scores[:, 1] = 7.0
    elif kind == "duplicated column":
        scores[:, 1] = scores[:, 0]
    elif kind == "equal rows":
        scores[:] = scores[0]
    return scores if kind != "as many as components" else scores[:20]


@pytest.mark.parametrize(
    "kind", ["constant column", "duplicated column", "equal rows", "as many as components"]
)
def test_degenerate_scores_have_a_fit(kind):
    scores = degenerate(kind)
    fitted = NormalMixture(20, 3).fitted(scores, 8, generator=generator())
    for mixture in (fitted, fitted.standardised(), fitted.fitted(scores, 8)):
        assert all(buffer.isfinite().all() for buffer in mixture.buffers())
        assert mixture.sample(5, generator()).isfinite().all()
        assert mixture.log_prob(scores.float()).isfinite().all()


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (torch.zeros(4, 3), "4 scores are too few for 5 components"),
        (torch.zeros(9, 2), r"need scores \(n, 3\), got \(9, 2\)"),
        (torch.full((9, 3), torch.nan), "scores hold NaN or infinity"),
    ],
)
def test_what_cannot_be_fitted_is_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        NormalMixture(5, 3).fitted(scores, 5)


def test_a_singular_covariance_without_a_ridge_is_refused():
    with pytest.raises(ValueError, match="singular with a ridge of 0"):
        NormalMixture(2, 3).fitted(degenerate("equal rows"), 5, ridge=0.0)


def test_standardising_leaves_the_copula_and_gives_margins_mean_0_and_variance_1():
    mixture = make_mixture(4, 3)
    standard = mixture.standardised()
    s = mixture.sample(100, generator())
    weights = mixture.log_weights.exp()
    mean = weights @ mixture.means
    variance = weights @ (mixture.factors.square().sum(dim=2) + mixture.means**2) - mean**2
    moved = (s - mean) / variance.sqrt()
    expected, copula = (
        one.log_prob(x) - one.margin_log_prob(x).sum(dim=1)
        for one, x in ((mixture, s), (standard, moved))
    )
    torch.testing.assert_close(copula, expected)
    torch.testing.assert_close(standard.margin_cdf(moved), mixture.margin_cdf(s))
    torch.testing.assert_close(weights @ standard.means, torch.zeros(3, dtype=DOUBLE))
    squares = weights @ (standard.factors.square().sum(dim=2) + standard.means**2)
    torch.testing.assert_close(squares, torch.ones(3, dtype=DOUBLE))


def test_a_saved_mixture_comes_back_in_either_precision():
    mixture = make_mixture(4, 3)
    again = NormalMixture(4, 3).double()
    again.load_state_dict(mixture.state_dict())
    s = mixture.sample(10, generator())
    assert torch.equal(again.log_prob(s), mixture.log_prob(s))
    assert not list(mixture.parameters())
    single = again.float()
    torch.testing.assert_close(
        single.log_prob(s.float()).double(), mixture.log_prob(s), atol=1e-4, rtol=0
    )
    assert single.sample(3, generator()).dtype == torch.float32


def test_autocast_takes_no_digits():
    mixture = make_mixture(dimensions=3).float()
    s = torch.randn(50, 3, generator=generator())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tables = MixtureTables(mixture)
        within, joint = tables.log_prob(s), mixture.joint_log_prob(s)
    expected = MixtureTables(mixture).log_prob(s)
    for found in (within, tables.log_prob(s)):  # the tables outlive it
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    torch.testing.assert_close(joint, mixture.joint_log_prob(s), rtol=0, atol=0)

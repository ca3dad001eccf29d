"""Reference densities against SciPy, and the priors that every basis makes with every one.

The expected values come from tests/reference/densities.py: SciPy's bases and densities,
numpy's quadrature.
"""

import math

import numpy as np
import pytest
import torch
from reference.densities import (
    densities_of_log_prob,
    edge_functions,
    in_every_latent,
    log_prior,
    mass,
    reference_density,
    unnormalised,
)
from reference.faulty import (
    lognormal_log_density_of_wrong_scale,
    lognormal_log_density_without_the_square,
)
from reference.quadrature import (
    gauss_legendre_cells,
    running_integral,
    trapezoid,
)
from scipy import stats

from kaem.bases import BASES
from kaem.priors import PRIORS
from kaem.reference import REFERENCES, make_reference

DOMAINS = dict.fromkeys(REFERENCES, (-3.0, 2.5)) | {"lognormal": (0.0, 6.0)}

kinds = pytest.mark.parametrize("kind", PRIORS)
names = pytest.mark.parametrize("reference", REFERENCES)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def pairs(test):
    return pytest.mark.parametrize("basis", BASES)(names(test))


# --- the reference densities by themselves ----------------------------------------------------


def make_one(name: str, domain=None):
    """A reference of 2 x 3 functions; parameters, where it has them, at no special value."""
    reference = make_reference(name, 2, 3, domain or DOMAINS[name]).double()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.normal_()
    return reference


def is_the_lognormal(log_density) -> bool:
    """Whether log_density (n,) -> (n,) is SciPy's standard log-normal."""
    z = torch.cat([torch.logspace(-3, 1, 50), torch.tensor([1.0])]).double()
    return np.allclose(log_density(z).numpy(), stats.lognorm(s=1).logpdf(z), atol=1e-12)


def test_reference_densities_are_scipys():
    a, b = DOMAINS["flat"]
    z = torch.linspace(a, b, 9, dtype=torch.float64)
    assert torch.equal(make_one("flat")(z), torch.zeros(9, dtype=torch.float64))
    np.testing.assert_allclose(make_one("uniform")(z), stats.uniform(a, b - a).logpdf(z), atol=1e-7)
    np.testing.assert_allclose(make_one("gaussian")(z), stats.norm.logpdf(z), atol=1e-12)
    assert is_the_lognormal(make_one("lognormal"))


def test_the_published_lognormals_fail_the_same_test():
    assert not is_the_lognormal(lognormal_log_density_without_the_square)
    assert not is_the_lognormal(lognormal_log_density_of_wrong_scale)
    # What their names say is all that is wrong with them.
    z = torch.tensor([1.0, math.exp(1), 5.0]).double()
    right = stats.lognorm(s=1).logpdf(z)
    without = lognormal_log_density_without_the_square(z)[:2]
    np.testing.assert_allclose(without[0], right[0], atol=1e-12)  # log 1 is its own square
    np.testing.assert_allclose(without[1], right[1], atol=1e-12)  # so is log e
    of_wrong_scale = lognormal_log_density_of_wrong_scale(z).numpy() - right
    np.testing.assert_allclose(of_wrong_scale, -0.5 * np.log(2 * np.pi), atol=1e-12)


def test_each_function_has_its_own_learnable_gaussian():
    reference = make_one("learnable_gaussian")
    z = torch.linspace(-3, 2.5, 9, dtype=torch.float64)
    values = reference(z)
    assert values.shape == (2, 3, 9)
    for q, p in np.ndindex(2, 3):
        normal = stats.norm(reference.mean[q, p].item(), math.exp(reference.log_scale[q, p].item()))
        np.testing.assert_allclose(values[q, p].detach(), normal.logpdf(z), atol=1e-12)


def test_a_learnable_gaussian_starts_at_the_standard_one():
    z = torch.linspace(-3, 3, 9)
    expected = make_reference("gaussian", 2, 3, (-3.0, 3.0))(z).expand(2, 3, 9)
    learnable = make_reference("learnable_gaussian", 2, 3, (-3.0, 3.0))(z)
    torch.testing.assert_close(learnable, expected)


@pytest.mark.parametrize("name", ["uniform", "gaussian", "lognormal", "learnable_gaussian"])
def test_reference_densities_integrate_to_one(name):
    a, b = {"uniform": DOMAINS["uniform"], "lognormal": (0.0, 300.0)}.get(name, (-40.0, 40.0))
    points, weights = gauss_legendre_cells(a, b, 20_000)
    with torch.no_grad():
        density = make_one(name)(torch.from_numpy(points)).exp().numpy()
    np.testing.assert_allclose(density @ weights, 1, atol=1e-6)


@names
@dtypes
def test_logs_and_slopes_are_finite_on_the_closed_domain(reference, dtype):
    tiny = torch.finfo(dtype).tiny
    a, b = DOMAINS[reference]
    z = torch.tensor([a, a + tiny, 0.0, tiny, 1e-20, 1.0, b], dtype=dtype).requires_grad_()
    values = make_one(reference).to(dtype)(z)
    assert values.dtype == dtype
    assert values.isfinite().all()
    if values.requires_grad:
        values.sum().backward()
        assert z.grad.isfinite().all()


@dtypes
def test_a_lognormal_has_no_density_at_zero(dtype):
    z = torch.zeros(1, dtype=dtype)
    assert make_one("lognormal").to(dtype)(z).exp().item() == 0


@names
def test_a_reference_follows_the_domain(reference):
    moved = make_one(reference)
    moved.place((0.5, 4.0))
    fresh = make_reference(reference, 2, 3, (0.5, 4.0)).double()
    fresh.load_state_dict(moved.state_dict())
    z = torch.linspace(0.5, 4, 9, dtype=torch.float64)
    torch.testing.assert_close(moved(z), fresh(z))
    if reference == "uniform":
        np.testing.assert_allclose(moved(z), -math.log(3.5), atol=1e-7)


def test_a_lognormal_lives_on_positive_numbers():
    with pytest.raises(ValueError, match=r"LogNormal lives on \(0.0, inf\)"):
        make_reference("lognormal", 1, 1, (-0.1, 2.0))
    with pytest.raises(ValueError, match="LogNormal lives on"):
        make_one("lognormal").place((-0.1, 2.0))
    make_one("lognormal").place((0.0, 2.0))


# --- every basis with every reference ---------------------------------------------------------


def make_prior(basis: str, reference: str, kind: str = "univariate", **options):
    """A prior of two functions, in float64, of curves with a few bumps of order one."""
    torch.manual_seed(3)
    options = {"grid_size": 8, "n_nodes": 40, "domain": DOMAINS[reference], **options}
    if kind == "mixture":
        options["train_weights"] = True
    prior = PRIORS[kind](1, 2, basis=basis, reference=reference, **options).double()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.normal_(0, 0.7)
    return prior


def dense(reference: str) -> np.ndarray:
    return np.linspace(*DOMAINS[reference], 20_001)


def inner(reference: str, n: int) -> torch.Tensor:
    """Points in the domain, neither of its ends among them."""
    return torch.linspace(*DOMAINS[reference], n + 2, dtype=torch.float64)[1:-1]


@kinds
@pairs
def test_log_prob_is_the_density_that_the_parameters_define(kind, basis, reference):
    prior = make_prior(basis, reference, kind)
    points = inner(reference, 101)
    z = points[:, None]
    if kind == "univariate":
        z = torch.stack([z, z.flip(0)], 2)  # not the same point in both latents
    with torch.no_grad():
        expected = log_prior(prior, reference, z)
        np.testing.assert_allclose(prior.log_prob(z), expected, atol=1e-5)


@kinds
@pairs
def test_gradient_of_log_prob_in_z_and_parameters(kind, basis, reference):
    prior = make_prior(basis, reference, kind)
    gradients = []
    for log_prob in (prior.log_prob, lambda z: log_prior(prior, reference, z)):
        z = in_every_latent(prior, inner(reference, 6) + 0.01).clone().requires_grad_()
        gradients.append(torch.autograd.grad(log_prob(z).sum(), [z, *prior.parameters()]))
    for result, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(result, expected, atol=1e-4, rtol=1e-4)


@pairs
def test_log_normalizer_and_its_gradient(basis, reference):
    prior = make_prior(basis, reference)
    result, expected = prior.log_normalizer(), mass(prior, reference).log()
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=0)
    parameters = list(prior.parameters())
    upstream = torch.tensor([[1.0, -0.6]], dtype=torch.float64)
    result = torch.autograd.grad((upstream * result).sum(), parameters)
    expected = torch.autograd.grad((upstream * expected).sum(), parameters)
    for name, a, b in zip(dict(prior.named_parameters()), result, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0, msg=lambda m, name=name: f"{name}: {m}")


@pairs
def test_with_many_nodes_log_normalizer_is_the_integral(basis, reference):
    prior = make_prior(basis, reference, n_nodes=1001)
    points, weights = gauss_legendre_cells(*prior.domain, 400, 8)
    with torch.no_grad():
        integrand = unnormalised(prior, reference, torch.from_numpy(points)).numpy()
        np.testing.assert_allclose(prior.log_normalizer(), np.log(integrand @ weights), atol=2e-4)


@pairs
def test_cdf_is_the_quadrature_of_log_prob(basis, reference):
    prior = make_prior(basis, reference)
    points = dense(reference)
    densities = densities_of_log_prob(prior, points)
    np.testing.assert_allclose(trapezoid(densities, points), 1, atol=1e-4)
    cdf = prior.cdf(in_every_latent(prior, points)).numpy()
    for index in np.ndindex(*prior.event_shape):
        expected = running_integral(densities[index], points)(points)
        np.testing.assert_allclose(cdf[(slice(None), *index)], expected, atol=1e-5)


@pairs
def test_icdf_and_cdf_are_inverse(basis, reference, seeded):
    prior = make_prior(basis, reference)
    u = torch.rand(3000, 1, 2, generator=seeded(), dtype=torch.float64)
    z = prior.icdf(u)
    torch.testing.assert_close(prior.cdf(z), u, atol=1e-10, rtol=0)
    torch.testing.assert_close(prior.icdf(prior.cdf(z)), z, atol=1e-8, rtol=0)
    ends = prior.icdf(torch.tensor([0.0, 1.0]).double()[:, None, None].expand(2, 1, 2))
    a, b = DOMAINS[reference]
    np.testing.assert_allclose(ends[:, 0, 0], [a, b], atol=1e-6)


@kinds
@pairs
@dtypes
def test_log_prob_and_its_gradients_are_finite_up_to_both_ends(kind, basis, reference, dtype):
    prior = make_prior(basis, reference, kind).to(dtype)
    a, b = prior.domain
    z = in_every_latent(prior, [a, a + 1e-6, b - 1e-6, b]).clone().requires_grad_()
    log_prob = prior.log_prob(z)
    assert log_prob.isfinite().all()
    log_prob.sum().backward()
    assert z.grad.isfinite().all()
    for name, parameter in prior.named_parameters():
        assert parameter.grad.isfinite().all(), name


def test_the_harness_tells_bases_and_references_apart():
    # Each expected density differs from every other one's, so none of them passes for another.
    points = torch.linspace(0.1, 2, 30, dtype=torch.float64)
    curves, tilts = [], []
    with torch.no_grad():
        for basis in BASES:
            prior = make_prior(basis, "flat")
            curves.append(edge_functions(prior.functions, prior.domain, points)[0, 0])
        for reference in REFERENCES:
            prior = make_prior("rbf", reference, domain=(0.1, 2.0))
            tilt = reference_density(prior, reference, points)
            tilts.append(tilt.expand(1, 2, -1)[0, 0])
    for kind in (curves, tilts):
        for i, one in enumerate(kind):
            assert all((one - other).abs().max() > 0.05 for other in kind[:i])

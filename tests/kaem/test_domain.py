"""The domain of a prior: where it moves, what moves with it, and which one covers samples."""

import math

import numpy as np
import pytest
import torch
from reference.densities import densities_of_log_prob, log_prior, mass
from reference.faulty import covering_domain_by_factors
from reference.quadrature import smallest_p_value, trapezoid
from support.priors import DOMAIN, every_reference, kinds, make_prior, shapes, sharp

KS_DRAWS, KS_LEVEL = 50_000, 1e-3

# --- moving the domain -----------------------------------------------------------------------

GROWS, SHRINKS, SHIFTS = (-6.0, 6.0), (-2.0, 1.5), (1.0, 7.0)


@kinds
@every_reference
@pytest.mark.parametrize(
    ("domain", "with_samples"), [(GROWS, True), (SHRINKS, False), (SHIFTS, True)]
)
def test_everything_moves_with_the_domain(kind, reference, domain, with_samples, seeded):
    start = (0.5, 5.0) if reference == "lognormal" else DOMAIN
    domain = (max(domain[0], 0.0), domain[1]) if reference == "lognormal" else domain
    prior = make_prior(kind, reference, domain=start, basis="bspline")
    prior.sample(10, seeded())  # a table of the old domain is in memory
    samples = torch.randn(500, generator=seeded(1)).clamp(*domain) if with_samples else None
    prior.set_domain(domain, samples)
    assert prior.domain == prior.functions.basis.domain == domain
    torch.testing.assert_close(prior.nodes, torch.linspace(*domain, 60))
    draws = prior.sample(4000, seeded())
    low, high = draws.min().item(), draws.max().item()
    assert domain[0] <= low < high <= domain[1]
    points = np.linspace(*domain, 4001)
    densities = densities_of_log_prob(prior, points)
    np.testing.assert_allclose(trapezoid(densities, points), 1, atol=1e-4)
    # Parameters, grid and, for "uniform", the width of the new domain are what log_prob uses.
    z = prior.sample(200, seeded()).double()
    with torch.no_grad():
        expected = log_prior(prior, reference, z)
        np.testing.assert_allclose(prior.double().log_prob(z), expected, atol=1e-4)
    log_z = mass(prior, reference).log()
    torch.testing.assert_close(prior.log_normalizer(), log_z, atol=1e-4, rtol=0)


# Two to four latents a setting, each at level 1e-3: at most 0.4% a setting with a new seed.
@kinds
@shapes
def test_samples_follow_log_prob_after_a_move(kind, shape, seeded):
    prior = make_prior(kind, "gaussian", shape)
    prior.sample(5, seeded())
    prior.set_domain((-3.0, 2.0), prior.sample(500, seeded()))
    points = np.linspace(-3, 2, 20_001)
    draws = prior.sample(KS_DRAWS, seeded(1)).numpy()
    assert smallest_p_value(draws, densities_of_log_prob(prior, points), points) > KS_LEVEL


@kinds
@pytest.mark.parametrize("reference", ["flat", "uniform", "gaussian"])
def test_a_slight_move_leaves_the_density_where_its_mass_is(kind, reference):
    # Smooth functions; the node's spacing changes little.
    options = {"basis": "bspline", "grid_size": 30, "n_nodes": 800}
    prior = make_prior(kind, reference, **options).double()
    points = np.linspace(-4, 4, 400)
    with torch.no_grad():
        bump = torch.exp(-(prior.functions.basis.grid.new_tensor(np.linspace(-4, 4, 30)) ** 2))
        prior.functions.coefficients.copy_(-3 + 3 * bump.expand(prior.q, prior.p, -1))
    before = densities_of_log_prob(prior, points)
    prior.set_domain((-4.2, 4.2))
    # The reference "flat" has 10^-2 of its mass on the strip that is new.
    after = densities_of_log_prob(prior, points)
    share = trapezoid(after, points)[..., None]
    np.testing.assert_allclose(after / share, before, atol=3e-3)


@kinds
@every_reference
def test_a_saved_prior_comes_back_on_its_domain(kind, reference, seeded):
    start, moved = ((0.0, 3.0), (0.5, 6.0)) if reference == "lognormal" else (DOMAIN, (-1.0, 6.0))
    prior = make_prior(kind, reference, domain=start, basis="bspline")
    prior.set_domain(moved, 2 + torch.randn(100).clamp(-1, 1))
    fresh = make_prior(kind, reference, sharp, domain=start, basis="bspline")
    fresh.sample(5, seeded())
    fresh.load_state_dict(prior.state_dict())
    assert fresh.domain == moved
    assert fresh.functions.basis.domain == moved
    assert torch.equal(fresh.sample(50, seeded()), prior.sample(50, seeded()))
    z = prior.sample(50, seeded(1))
    assert torch.equal(fresh.log_prob(z), prior.log_prob(z))
    assert torch.equal(fresh.log_normalizer(), prior.log_normalizer())


def refuse(message, **bad):
    return {"domain": (1.0, 5.0), "samples": torch.ones(9), "even": 0.5, **bad}, message


@every_reference
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        refuse("finite with a < b", domain=(5.0, 1.0)),
        refuse("finite with a < b", domain=(1.0, math.nan)),
        refuse("finite with a < b", domain=(1.0, math.inf)),
        refuse("even must be", even=0.0),
        refuse("samples must be finite", samples=torch.tensor([1.0, math.nan])),
    ],
)
def test_a_refused_move_leaves_the_prior_as_it_was(reference, arguments, message, seeded):
    start = (0.5, 4.0) if reference == "lognormal" else DOMAIN
    prior = make_prior("mixture", reference, domain=start)
    draws, log_z = prior.sample(20, seeded()), prior.log_normalizer()
    with pytest.raises((ValueError, RuntimeError), match=message):
        prior.set_domain(**arguments)
    assert prior.domain == prior.functions.basis.domain == start
    assert torch.equal(prior.log_normalizer(), log_z)
    assert torch.equal(prior.sample(20, seeded()), draws)


@kinds
def test_a_move_beyond_the_support_leaves_the_prior_as_it_was(kind, seeded):
    prior = make_prior(kind, "lognormal", domain=(0.5, 4.0))
    draws = prior.sample(20, seeded())
    with pytest.raises(ValueError, match="LogNormal lives on"):
        prior.set_domain((-0.1, 5.0), draws)
    assert prior.domain == prior.functions.basis.domain == (0.5, 4.0)
    assert torch.equal(prior.sample(20, seeded()), draws)


# --- the domain that covers samples ----------------------------------------------------------

# Ranges of samples: around zero, positive near zero and far, negative.
RANGES = [(-3.0, 2.0), (0.05, 6.0), (4.0, 6.0), (-6.0, -4.0)]


def widens_both_ends_by_the_margin(rule, low: float, high: float, floor: float) -> bool:
    """Whether each end of the samples' range moves out by a tenth of it, down to floor at most."""
    samples = torch.linspace(low, high, 7, dtype=torch.float64).reshape(7, 1)
    room = 0.1 * (high - low)
    return rule(samples, 0.1) == pytest.approx((max(low - room, floor), high + room))


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_the_covering_domain(low, high):
    prior = make_prior("mixture", "gaussian")
    assert widens_both_ends_by_the_margin(prior.covering_domain, low, high, -math.inf)
    if low > 0:
        prior = make_prior("mixture", "lognormal", domain=(0.0, 6.0))
        assert widens_both_ends_by_the_margin(prior.covering_domain, low, high, 0.0)
        prior.set_domain(prior.covering_domain(torch.tensor([low, high])))


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_the_published_widening_fails_the_same_test(low, high):
    rule = covering_domain_by_factors
    assert not widens_both_ends_by_the_margin(rule, low, high, -math.inf)
    assert not widens_both_ends_by_the_margin(rule, low, high, 0.0)
    assert (rule(torch.tensor([low, high]))[0] > low) == (low < 0)  # it shrinks below the samples


@every_reference
@pytest.mark.parametrize("margin", [0.0, 0.1, 1.0])
def test_no_sample_is_left_out(reference, margin, seeded):
    start = (0.0, 6.0) if reference == "lognormal" else DOMAIN
    prior = make_prior("mixture", reference, domain=start)
    samples = prior.sample(100, seeded()) * 1.7
    prior.set_domain(prior.covering_domain(samples, margin), samples)
    assert prior.log_prob(samples).isfinite().all()

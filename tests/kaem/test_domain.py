"""The domain of a prior: where it moves, what moves with it, and which one covers samples."""

import math

import numpy as np
import pytest
import torch
from reference.densities import densities_of_log_prob, log_prior, mass
from reference.faulty import covering_domain_by_factors
from reference.linear_gaussian import LinearDecoder
from reference.quadrature import smallest_p_value, trapezoid
from support.priors import DOMAIN, every_reference, kinds, make_prior, shapes, sharp

from kaem import KAEM, ImportanceSampling, Langevin, MixturePrior
from kaem.domain import FEW, UNCOVERED, DomainUpdate, moved_domain

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


@kinds
def test_trained_wavelets_have_a_density_and_move_with_the_domain(kind, seeded):
    options = {"basis": "morlet", "grid_size": 1, "train_grid": True, "n_nodes": 400}
    prior = make_prior(kind, "gaussian", **options)
    tables = prior.sample(50, seeded()), prior.cdf(torch.zeros(1, prior.q, prior.p))
    with torch.no_grad():  # as a step of the optimiser does
        prior.functions.weights.normal_()
        prior.functions.places.normal_()
        prior.functions.scales.fill_(0.8)
    assert not torch.equal(prior.sample(50, seeded()), tables[0])
    for domain in (DOMAIN, (-3.0, 5.0)):
        if prior.domain != domain:
            prior.set_domain(domain, prior.sample(500, seeded()))
        points = np.linspace(*domain, 20_001)
        densities = densities_of_log_prob(prior, points)
        np.testing.assert_allclose(trapezoid(densities, points), 1, atol=1e-4)
        draws = prior.sample(KS_DRAWS, seeded(1)).numpy()
        assert smallest_p_value(draws, densities, points) > KS_LEVEL
        # What is tabled is the wavelets' own density.
        log_density = prior.functions.curves(prior.nodes) + prior.reference(prior.nodes)
        log_density -= prior.log_normalizer().unsqueeze(-1)
        torch.testing.assert_close(prior.components().log_density, log_density)


@pytest.mark.parametrize("decay", [1.0, 0.999, 0.5])
def test_the_wait_between_moves_grows_by_the_authors_law(decay):
    moves, last, wait = [], 0, 100
    for update in range(1, 5001):  # as in his training loop
        if update - last >= wait:
            moves.append(update)
            last, wait = update, math.floor(wait * (2 - decay) ** update)
    rule = DomainUpdate(every=100, decay=decay)
    assert [update for update in range(1, 5001) if rule.due(update)] == moves
    assert len(moves) == {1.0: 50, 0.999: 6, 0.5: 1}[decay]


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


# --- the domain that follows a posterior -----------------------------------------------------

SAMPLERS = {
    "importance": ImportanceSampling(500),
    "ula": Langevin(steps=5, step_size=0.05),
    "mala": Langevin(steps=5, step_size=0.05, kernel="mala"),
    "restarted": Langevin(steps=5, step_size=0.05, persistent=False),
}
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


def domains(sampler: str, reference: str, mean: float, sigma: float = 0.5, moves: int = 200):
    """Domains before and after each move, nothing learned between: x = z + noise, z near mean."""
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)
    prior = MixturePrior(1, 2, reference=reference, n_nodes=100)
    decoder = LinearDecoder(1, 1)
    torch.nn.init.ones_(decoder.linear.weight)
    torch.nn.init.zeros_(decoder.linear.bias)
    update = DomainUpdate(every=1)
    model = KAEM(prior, decoder, sigma=sigma, sampler=SAMPLERS[sampler], domain_update=update)
    x = mean + torch.randn(400, 1, 1, 1, generator=draws)
    found = [prior.domain]
    for number in range(1, moves + 1):
        index = torch.randint(400, (200,), generator=draws)
        model.loss(x[index], draws, index)
        model.after_update(number, 10**6)
        found.append(prior.domain)
    return found


# The prior has 10 of 200 draws beside a wall, and 40 would push: not once in 1e9 moves.
@every_sampler
@pytest.mark.parametrize("reference", ["flat", "uniform"])
def test_without_data_a_flat_domain_stays(sampler, reference):
    assert set(domains(sampler, reference, mean=0.0, sigma=1e4, moves=80)) == {(-4.0, 4.0)}


@every_sampler
@pytest.mark.parametrize("reference", ["flat", "gaussian"])
def test_with_the_same_data_the_domain_comes_to_rest(sampler, reference):
    found = domains(sampler, reference, mean=6.0, moves=100)
    (early, _), (late, reached) = found[20], found[-1]
    assert late == pytest.approx(early, abs=0.5)
    if (sampler, reference) == ("importance", "gaussian"):
        return  # no proposal comes to where the data are
    assert reached < 6 + 1.2 * 4
    if reference == "flat":
        assert reached > 6.5
        assert found[-1] == found[-50]


@kinds
@every_reference
def test_a_posterior_that_is_the_prior_pushes_no_wall(kind, reference, seeded):
    domain = (0.0, 6.0) if reference == "lognormal" else DOMAIN
    prior, draws = make_prior(kind, reference, domain=domain), seeded()
    widths = []
    for _ in range(50):
        (a, b), z = prior.domain, prior.sample(500, draws)
        prior.set_domain(moved_domain(prior, z, 0.1), z)
        assert a <= prior.domain[0] < prior.domain[1] <= b
        widths.append(prior.domain[1] - prior.domain[0])
    assert widths[-1] > 0.99 * widths[-20]
    # Nor has the posterior more of its mass beyond the walls than may be left out.
    if reference == "gaussian":
        assert prior.domain[0] < -3.3
        assert prior.domain[1] > 3.3


def test_a_wall_moves_to_where_the_draws_are_few(seeded):
    prior = make_prior("mixture", "flat", q=2, p=1)
    z = 0.5 * torch.randn(10_000, 2, generator=seeded())
    assert moved_domain(prior, z, 0.1) == DOMAIN  # the prior has mass there
    with torch.no_grad():
        prior.functions.w_base.zero_()
        prior.functions.coefficients.copy_(-2 * prior.functions.basis.grid.square())
    a, b = moved_domain(prior, z, 0.1)
    assert -2.3 < a < -0.5 * 3.09
    assert 0.5 * 3.09 < b < 2.3
    assert (z < a).float().mean(0).max() < UNCOVERED
    assert (z > b).float().mean(0).max() < UNCOVERED


@kinds
def test_one_latent_that_data_push_is_enough(kind, seeded):
    prior = make_prior(kind, "flat")
    z = prior.sample(1000, seeded())
    z[(slice(None), *[0] * (z.ndim - 1))] = 3.9
    low, high = moved_domain(prior, z, 0.1)
    assert low == -4.0
    assert 4.5 < high < 4.9
    assert moved_domain(prior, z[: FEW // 2], 0.1)[1] == 4.0


def test_a_pushed_wall_stays_in_the_support_of_the_reference(seeded):
    prior = make_prior("mixture", "lognormal", domain=(0.1, 3.0))
    z = prior.sample(500, seeded())
    z[:250] = 0.1
    assert moved_domain(prior, z, 0.1)[0] == 0.0


def test_importance_sampling_remembers_draws_of_the_posterior(seeded):
    prior = make_prior("mixture", "flat", q=1, p=1)
    decoder = LinearDecoder(1, 1)
    update = DomainUpdate(every=1)
    model = KAEM(prior, decoder, sigma=0.3, sampler=ImportanceSampling(2000), domain_update=update)
    with torch.no_grad():
        for parameter in (prior.functions.w_base, prior.functions.coefficients):
            parameter.zero_()
        decoder.linear.weight.fill_(1.0)
        decoder.linear.bias.zero_()
    for threshold in (0.0, 1.0):  # weights as they are, and resampled ones
        model.sampler = ImportanceSampling(2000, survivors=50, ess_threshold=threshold)
        model.loss(torch.full((500, 1, 1, 1), 1.5), seeded())
        z = model.recent.latest(500)
        assert z.shape == (500, 1)
        # The posterior is N(1.5, 0.3); 100 proposals and more carry the weight.
        assert z.mean() == pytest.approx(1.5, abs=0.12)
        assert z.std() == pytest.approx(0.3, abs=0.08)

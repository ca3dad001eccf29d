"""Temperatures, replica exchange, and a posterior of two modes.

Stochastic comparisons are at five standard errors, a false alarm of 6e-7 each for a new seed,
where nothing else is said; the Kolmogorov-Smirnov (KS) tests have alpha = 1e-4 each.
"""

import math

import pytest
import torch
from reference.faulty import exchange_whole_batch
from reference.modes import PowerPosterior, curve_model, data, two_mode_model
from scipy.stats import kstest

import kaem.tempering
from kaem.langevin import run_chains
from kaem.posterior import Posterior
from kaem.tempering import annealed_power, exchange, power_schedule, respaced, step_sizes
from kaem.thermodynamic import Thermodynamic, sweep

ALPHA = 1e-4


# --- schedules --------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [1.0, 2.0, 4.5])
def test_power_schedule(power):
    t = power_schedule(5, power)
    assert t.dtype == torch.float64
    assert (t[0], t[-1]) == (0, 1)
    assert t.tolist() == pytest.approx([(k / 5) ** power for k in range(6)])
    assert power_schedule(1, power).tolist() == [0, 1]


def test_annealed_power_is_half_a_cosine_clamped_outside():
    assert annealed_power(4, 2, 0) == annealed_power(4, 2, -1) == 4
    assert annealed_power(4, 2, 1) == annealed_power(4, 2, 1.5) == 2
    assert annealed_power(4, 2, 0.5) == pytest.approx(3)
    assert annealed_power(4, 2, 0.25) == pytest.approx(3 + math.sqrt(0.5))
    assert annealed_power(2, 4, 0.75) == pytest.approx(3 + math.sqrt(0.5))


def test_step_sizes_are_the_ends_and_the_harmonic_mean_between():
    t = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    sizes = step_sizes(t, 0.01, 0.3)
    assert sizes.tolist() == pytest.approx(
        [0.3, 1 / (25 + 0.75 / 0.3), 2 * 0.01 * 0.3 / 0.31, 0.01]
    )
    for alone in (None, 0.01):
        assert step_sizes(t, 0.01, alone).tolist() == pytest.approx([0.01] * 4)


# --- re-spacing -------------------------------------------------------------------------------


class LinearGaussian:
    """l of x = z + sigma noise, z ~ N(0, 1), at p_t: with u = (x - z) / sigma ~ N(m, v),
    l is a constant minus u^2/2."""

    def __init__(self, x: float = 1.5, sigma: float = 0.1):
        self.x, self.precision = x / sigma, sigma**-2

    def _moments(self, t):
        shrink = 1 + t * self.precision
        return self.x / shrink, self.precision / shrink

    def mean(self, t):
        m, v = self._moments(t)
        return -(m**2 + v) / 2

    def std(self, t):
        m, v = self._moments(t)
        return (v**2 / 2 + m**2 * v).sqrt()

    def hardness(self, t):
        """The integral of std(l) dt over each gap."""
        u = torch.linspace(0, 1, 2001, dtype=torch.float64) ** 3
        points = t[:-1, None] + t.diff()[:, None] * u
        return torch.trapezoid(self.std(points), points)


@pytest.mark.parametrize("n", [4, 8, 16])
def test_respacing_makes_all_gaps_equally_hard(n):
    model, t = LinearGaussian(), power_schedule(n, 4.0)
    start = model.hardness(t)
    assert start.max() > 1.5 * start.min()
    for _ in range(8):
        t = respaced(t, model.mean(t))
        assert (t[0], t[-1]) == (0, 1)
        assert (t.diff() > 0).all()
    # What it makes equal is sqrt(dE dt), std(l) dt up to how much std(l) varies in a gap.
    rms = (model.mean(t).diff() * t.diff()).sqrt()
    assert rms.max() < 1.005 * rms.min()
    hardness = model.hardness(t)
    assert hardness.max() < (1 + 0.5 / n) * hardness.min()


def test_respacing_keeps_gaps_that_are_equal():
    model, t = LinearGaussian(), power_schedule(6, 2.0)
    for _ in range(30):
        t = respaced(t, model.mean(t))
    torch.testing.assert_close(respaced(t, model.mean(t)), t, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_respacing_survives_noise_and_plateaus(dtype, seeded):
    t = power_schedule(8, 2.0).to(dtype)
    for seed in range(50):
        noise = 50 * torch.randn(9, dtype=dtype, generator=seeded(seed))
        for level in (noise, noise.sort(descending=True).values, noise.round(decimals=-2)):
            new = respaced(t, level)
            assert new.dtype == dtype
            assert (new[0], new[-1]) == (0, 1)
            assert (new.diff() > 0).all()


@pytest.mark.parametrize("level", [0.0, -1e4])
def test_a_constant_log_likelihood_leaves_the_temperatures(level):
    # No gap is harder than another.
    t = power_schedule(6, 3.0)
    new = respaced(t, torch.full((7,), level).double())
    torch.testing.assert_close(new, t, rtol=0, atol=1e-9)


# --- exchange ---------------------------------------------------------------------------------

# Five data whose swaps, gap by gap, have probabilities from 0.01 to 1.
LEVELS = torch.tensor(
    [[-9.0, -3.0, 0.0, -5.0, -30.0], [-4.0, -4.0, -2.5, -1.0, -20.0],
     [-6.0, -1.0, -4.0, -3.0, -19.0], [-5.0, -3.0, -1.0, -7.0, -22.0]],
    dtype=torch.float64,
)  # fmt: skip
TEMPERATURES = torch.tensor([0.0, 0.1, 0.4, 1.0], dtype=torch.float64)


def expected_probability(k: int, datum: int) -> float:
    dt = (TEMPERATURES[k + 1] - TEMPERATURES[k]).item()
    return min(1.0, math.exp(dt * (LEVELS[k, datum] - LEVELS[k + 1, datum]).item()))


def largest_z(swap, parity: int, calls: int = 2000) -> float:
    """The largest |z| of the swaps' frequencies over gaps of this parity and data."""
    generator = torch.Generator().manual_seed(parity)
    sources = torch.stack(
        [swap(LEVELS, TEMPERATURES, parity, generator).source for _ in range(calls)]
    )
    worst = 0.0
    for k in range(parity, 3, 2):
        for datum in range(5):
            p = expected_probability(k, datum)
            frequency = (sources[:, k, datum] == k + 1).double().mean().item()
            error = math.sqrt(p * (1 - p) / calls) + 1e-9
            worst = max(worst, abs(frequency - p) / error)
    return worst


@pytest.mark.parametrize("parity", [0, 1])
def test_each_datum_swaps_with_its_own_probability(parity):
    assert largest_z(exchange, parity) < 5


@pytest.mark.parametrize("parity", [0, 1])
def test_one_swap_for_the_whole_batch_fails_the_same_check(parity):
    assert largest_z(exchange_whole_batch, parity) > 5


@pytest.mark.parametrize("parity", [0, 1, 2, 3])
def test_only_gaps_of_one_parity_are_tried(parity, seeded):
    n, b = 5, 400
    level = torch.arange(n, -1, -1.0).unsqueeze(1).expand(-1, b)  # falls: every swap is certain
    source, acceptance = exchange(level, power_schedule(n, 1.0).float(), parity, seeded())
    expected = [1, 0, 3, 2, 5, 4] if parity % 2 == 0 else [0, 2, 1, 4, 3, 5]
    assert torch.equal(source, torch.tensor(expected).unsqueeze(1).expand(-1, b))
    assert torch.equal(acceptance, torch.ones(n))  # of all gaps


def test_the_source_is_a_permutation_and_data_decide_alone(seeded):
    level = torch.randn(6, 5000, generator=seeded(1), dtype=torch.float64)
    t = power_schedule(5, 1.0)
    source, acceptance = exchange(level, t, 0, seeded(2))
    assert torch.equal(source.sort(0).values, torch.arange(6).unsqueeze(1).expand(-1, 5000))
    ratio = t.diff()[:, None] * (level[:-1] - level[1:])
    torch.testing.assert_close(acceptance, ratio.exp().clamp(max=1).mean(1))
    # Among equal data every gap's swaps have their frequency, whatever the others do.
    level[:] = -2 * torch.arange(6.0).unsqueeze(1)
    level[1::2] += 4.5  # l rises by 2.5 within each even gap
    swaps = (exchange(level, t, 0, seeded(3)).source[::2] > torch.arange(0, 6, 2)[:, None]).double()
    p = math.exp(-0.2 * 2.5)
    assert ((swaps.mean(1) - p).abs() < 5 * (p * (1 - p) / 5000) ** 0.5).all()
    for a, b in ((swaps[0], swaps[1]), (swaps[0, 1:], swaps[0, :-1])):
        assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 5 * len(a) ** -0.5


@pytest.mark.parametrize("parity", [0, 1])
def test_exchange_preserves_every_power_posterior(parity, seeded):
    model, b = two_mode_model(), 10_000
    t = torch.tensor([0.0, 0.02, 0.2, 1.0], dtype=torch.float64)
    exact = [PowerPosterior(model, data(0.5)[0], at) for at in t.tolist()]
    generator = seeded(parity)
    z = torch.stack([posterior.draws(b, generator) for posterior in exact])
    posterior = Posterior(model, data(0.5).expand(b, 1, 1, 1))
    level = posterior.log_likelihood(z.flatten(0, 1)).unflatten(0, (4, b))
    source = exchange(level, t, parity, generator).source
    assert 0.1 < (source != torch.arange(4).unsqueeze(1)).double().mean() < 0.9
    swapped = z[source, torch.arange(b)]
    for k in range(4):
        assert kstest(z[k, :, 0].numpy(), exact[k].cdf).pvalue > ALPHA
        assert kstest(swapped[k, :, 0].numpy(), exact[k].cdf).pvalue > ALPHA


# --- sweep ------------------------------------------------------------------------------------


def test_a_sweep_moves_the_latents_with_the_swaps_and_draws_t_0_afresh(seeded, monkeypatch):
    model, b, n = curve_model(lambda h: h, sigma=5.0), 2000, 4
    posterior, seen = Posterior(model, data(10.0).expand(b, 1, 1, 1)), []

    def recording(*args):
        seen.append(exchange(*args))
        return seen[-1]

    monkeypatch.setattr(kaem.tempering, "exchange", recording)
    z = posterior.prior_draws(n * b, seeded(1)).unflatten(0, (n, b))
    moved, info = sweep(
        posterior,
        z,
        power_schedule(n, 1.0),
        steps=1,
        step_size=torch.full((n,), 1e-18).double(),  # the chains stand still
        generator=seeded(2),
    )
    # z < x throughout: l tells where z is.
    level = info.log_likelihood
    squares = -2 * 25 * (level + 0.5 * math.log(2 * math.pi * 25))
    at = 10 - squares.sqrt()
    torch.testing.assert_close(at[1:], z[..., 0], rtol=0, atol=1e-6)
    even, odd = seen
    source = even.source.gather(0, odd.source)
    torch.testing.assert_close(moved[..., 0], at.gather(0, source)[1:], rtol=0, atol=1e-6)
    for swaps, tried in ((even, [0, 1, 2, 3]), (odd, [1, 2, 3, 4])):
        swapped = (swaps.source != torch.arange(n + 1).unsqueeze(1)).any(1)
        assert swapped.nonzero().flatten().tolist() == tried
    rates = [even.acceptance[0], odd.acceptance[1], even.acceptance[2], odd.acceptance[3]]
    assert info.swap_acceptance.tolist() == rates
    # The odd gaps are tried with what the even ones left.
    left = level.gather(0, even.source)
    expected = (-left.diff(dim=0) / n).clamp(max=0).exp().mean(1)  # the gaps are 1/n
    torch.testing.assert_close(odd.acceptance, expected)
    assert info.acceptance.shape == (n, b)
    # t = 0 has draws from the prior, no two alike, that the datum's chains did not have before.
    assert kstest(at[0].numpy(), PowerPosterior(model, data(0.0)[0], 0.0).cdf).pvalue > ALPHA
    assert len(at[0].unique()) == b
    assert ((at[0] - z[..., 0]).abs() < 1e-6).double().mean() < 1e-3


def test_a_sweep_runs_each_temperature_at_its_own_step_size(seeded):
    model, b = two_mode_model(), 2
    posterior, t = Posterior(model, data(1.0, 0.5)), power_schedule(2, 1.0)
    z = torch.tensor([[-1.0, 0.7], [0.9, -0.6]], dtype=torch.float64).unsqueeze(2)
    sizes = torch.tensor([0.004, 0.001], dtype=torch.float64)
    _, info = sweep(posterior, z, t, steps=3, step_size=sizes, kernel="mala", generator=seeded())
    rows = torch.tensor([0.004, 0.004, 0.001, 0.001], dtype=torch.float64)
    ends, by_hand = run_chains(
        posterior,
        z.flatten(0, 1),
        steps=3,
        step_size=rows,
        temperature=torch.tensor([0.5, 0.5, 1.0, 1.0], dtype=torch.float64),
        kernel="mala",
        generator=seeded(),
    )
    torch.testing.assert_close(info.acceptance.flatten(), by_hand.acceptance)
    level = posterior.log_likelihood(ends).unflatten(0, (2, b))
    torch.testing.assert_close(info.log_likelihood[1:], level)


# --- two modes --------------------------------------------------------------------------------

# x = 1 and x = 0.5 by turns, in independent populations that all start in the lighter mode.
# A chain forgets where it started in about 20 sweeps.
CHAINS, SWEEPS, BURN_IN, STEPS, PRIOR_STEP_SIZE = 300, 220, 140, 1, 0.3
STEP_SIZE = {"mala": 0.002, "ula": 0.0005}  # the modes' variances are 0.0025 and 0.005
TWO_MODES = (1.0, 0.5)


def two_modes():
    model = two_mode_model()
    posterior = Posterior(model, data(*TWO_MODES).repeat(CHAINS, 1, 1, 1))
    start = -torch.tensor(TWO_MODES, dtype=torch.float64).sqrt().repeat(CHAINS)[:, None]
    exact = [PowerPosterior(model, datum).mass_above(0) for datum in data(*TWO_MODES)]
    return posterior, start, torch.tensor(exact, dtype=torch.float64)


def population_masses(kernel: str, seed: int):
    """The heavier mode's mass for each datum, its standard error, swap and MALA acceptances."""
    (posterior, start, _), generator = two_modes(), torch.Generator().manual_seed(seed)
    t = power_schedule(4, 3.0)
    z, inside, swaps, accepted = start.repeat(4, 1, 1), [], [], []
    for number in range(SWEEPS):
        z, info = sweep(
            posterior,
            z,
            t,
            steps=STEPS,
            step_size=step_sizes(t[1:], STEP_SIZE[kernel], PRIOR_STEP_SIZE),
            kernel=kernel,
            generator=generator,
        )
        if number >= BURN_IN:
            inside.append((z[-1, :, 0] > 0).double().unflatten(0, (CHAINS, -1)))
            swaps.append(info.swap_acceptance)
            accepted.append(info.acceptance.mean(1))
    masses = torch.stack(inside).mean(0)  # one number per independent population
    error = masses.std(0) / CHAINS**0.5
    return masses.mean(0), error, torch.stack(swaps).mean(0), torch.stack(accepted).mean(0)


def test_ula_alone_stays_in_the_mode_where_it_started(seeded):
    posterior, z, exact = two_modes()
    assert (exact > 0.6).all()  # most of the mass is where it never gets
    z, _ = run_chains(
        posterior, z, steps=SWEEPS * STEPS, step_size=STEP_SIZE["ula"], generator=seeded()
    )
    assert ((z > 0).double().unflatten(0, (CHAINS, -1)).mean((0, 2)) < 0.01).all()


def test_the_population_visits_both_modes_with_their_masses(capsys):
    # MALA has no bias, so the masses are exact: three standard errors of independent
    # populations, a false alarm of 0.3% per comparison for a new seed, two comparisons. ULA at
    # a small step is allowed 0.02 more.
    *_, exact = two_modes()
    result = {kernel: population_masses(kernel, seed=0) for kernel in ("mala", "ula")}
    with capsys.disabled():
        print(f"\nMass of the heavier mode after {BURN_IN} of {SWEEPS} sweeps, start in the other")
        print("   x   exact     " + "".join(f"{kernel:<16}" for kernel in result))
        for i, x in enumerate(TWO_MODES):
            row = "".join(f"{m[i]:.3f} +- {e[i]:.3f}  " for m, e, *_ in result.values())
            print(f"{x:4.1f}   {exact[i]:.3f}  {row}")
        for kernel, (_, _, swaps, _) in result.items():
            print(f"{kernel:>4} swaps ", "  ".join(f"{rate:.2f}" for rate in swaps.tolist()))
        print("mala steps ", "  ".join(f"{rate:.2f}" for rate in result["mala"][3].tolist()))
    for kernel, bias in (("mala", 0.0), ("ula", 0.02)):
        mass, error, swaps, _ = result[kernel]
        assert (error < 0.015).all()
        assert ((mass - exact).abs() < 3 * error + bias).all()
        assert (swaps > 0.3).all()


def test_with_one_swap_for_the_whole_batch_the_masses_are_wrong(monkeypatch):
    monkeypatch.setattr(kaem.tempering, "exchange", exchange_whole_batch)
    mass, error, *_ = population_masses("mala", seed=0)
    *_, exact = two_modes()
    assert ((mass - exact).abs() > 3 * error + 0.02).all()
    assert (mass < 0.1).all()


# --- options ----------------------------------------------------------------------------------


def test_bad_arguments():
    for wrong, message in (
        ({"kernel": "hmc"}, "unknown kernel"),
        ({"steps": 0}, "need steps >= 1"),
        ({"sweeps": 0}, "sweeps >= 1"),
        ({"prior_step_size": -1.0}, "step_size > 0"),
        ({"temperatures": 0}, "temperatures >= 1"),
        ({"respace_every": -1}, "respace_every >= 0"),
        ({"power_start": 0.0}, "must be positive"),
        ({"power_end": -2.0}, "must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            Thermodynamic(**wrong)

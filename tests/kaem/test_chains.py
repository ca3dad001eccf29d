"""Chains that persist from update to update, and the population's temperatures."""

import math

import pytest
import torch
from reference.posterior import toy_data, toy_model

import kaem.chains
from kaem import KAEM
from kaem.chains import ChainStore, LangevinChains, Population
from kaem.errors import NonFiniteError
from kaem.langevin import Langevin, run_chains
from kaem.posterior import Posterior
from kaem.tempering import power_schedule, respaced
from kaem.thermodynamic import Thermodynamic, sweep

OPTIONS = {
    "langevin": lambda **o: Langevin(**{"steps": 2, "step_size": 0.1, **o}),
    "thermodynamic": lambda **o: Thermodynamic(
        **{"steps": 2, "step_size": 0.1, "temperatures": 3, **o}
    ),
}
samplers = pytest.mark.parametrize("sampler", OPTIONS)
kernels = pytest.mark.parametrize("kernel", ["ula", "mala"])
BOTH = torch.tensor([4, 1])  # the places of the two toy data in a training set


def chains_of(sampler: str, **options) -> LangevinChains:
    made = OPTIONS[sampler](**options)
    return (LangevinChains if sampler == "langevin" else Population)(made).double()


def toy_posterior(data: torch.Tensor | None = None) -> Posterior:
    return Posterior(toy_model("mixture", 2, 2), toy_data() if data is None else data)


# --- the store --------------------------------------------------------------------------------


def counting():
    """A start whose rows are 0, 1, 2, ... over all calls, and the calls' sizes."""
    sizes = []

    def start(n: int) -> torch.Tensor:
        first = sum(sizes)
        sizes.append(n)
        return torch.arange(first, first + n, dtype=torch.float64)[:, None]

    return start, sizes


def test_the_store_grows_to_the_largest_index_and_keeps_what_it_has():
    store, (start, sizes) = ChainStore(), counting()
    assert store.read(torch.tensor([2, 0]), start).tolist() == [[2.0], [0.0]]
    assert sizes == [3]
    store.write(torch.tensor([2, 0]), torch.tensor([[20.0], [10.0]]).double())
    assert store.read(torch.tensor([1, 2]), start).tolist() == [[1.0], [20.0]]
    assert sizes == [3]
    assert store.read(torch.tensor([5, 0, 3]), start).tolist() == [[5.0], [10.0], [3.0]]
    assert sizes == [3, 3]
    assert store.table.flatten().tolist() == [10, 1, 20, 3, 4, 5]


def test_what_was_read_is_a_copy():
    store, (start, _) = ChainStore(), counting()
    store.read(torch.tensor([0, 1]), start).zero_()
    assert store.table.flatten().tolist() == [0, 1]


def test_the_store_refuses_negative_indices():
    store, (start, sizes) = ChainStore(), counting()
    with pytest.raises(ValueError, match="cannot be negative, got -3"):
        store.read(torch.tensor([2, -3, -1]), start)
    assert store.table is None
    assert sizes == []


def test_the_store_is_not_in_the_state_dict_but_moves_with_the_module():
    store, (start, _) = ChainStore(), counting()
    assert store.state_dict() == {}
    store.read(torch.tensor([3]), start)
    assert store.state_dict() == {}
    assert store.float().table.dtype == torch.float32


# --- persistent chains ------------------------------------------------------------------------


@samplers
@kernels
def test_chains_go_on_where_they_stopped(sampler, kernel, seeded):
    chains, posterior = chains_of(sampler, kernel=kernel), toy_posterior()
    first, _ = chains.draw(posterior, 1, seeded(1), BOTH)
    assert first.shape == (chains.chains_per_datum, 2, 2)
    kept = chains.store.table[BOTH]
    assert torch.equal(kept, first.transpose(0, 1))
    # An update from the stored chains, done by hand.
    expected, _ = chains._run(posterior, kept.transpose(0, 1), 2, seeded(2))
    second, _ = chains.draw(posterior, 2, seeded(2), BOTH)
    assert torch.equal(second, expected)
    assert torch.equal(chains.store.table[BOTH], expected.transpose(0, 1))
    assert not torch.equal(second, first)


def test_one_langevin_update_is_run_chains_from_the_store(seeded):
    chains, posterior = chains_of("langevin"), toy_posterior()
    start, _ = chains.draw(posterior, 1, seeded(1), BOTH)
    expected, _ = run_chains(posterior, start[0], steps=2, step_size=0.1, generator=seeded(2))
    assert torch.equal(chains.draw(posterior, 2, seeded(2), BOTH)[0][0], expected)


@samplers
def test_each_datum_has_chains_of_its_own(sampler, seeded):
    chains = chains_of(sampler)
    chains.draw(toy_posterior(), 1, seeded(1), BOTH)
    before = chains.store.table.clone()
    assert len(before) == 5
    chains.draw(toy_posterior(toy_data()[:1]), 2, seeded(2), torch.tensor([3]))
    changed = (chains.store.table != before).flatten(1).any(1)
    assert changed.tolist() == [False, False, False, True, False]
    # In another order the chains stay with their data: no step is long enough to hide it.
    still = chains_of(sampler, step_size=1e-18)
    forth, _ = still.draw(toy_posterior(), 1, seeded(1), BOTH)
    table = still.store.table.clone()
    back, _ = still.draw(toy_posterior(toy_data().flip(0)), 2, seeded(2), BOTH.flip(0))
    if sampler == "langevin":  # the population's swaps move them
        torch.testing.assert_close(back, forth.flip(1), rtol=0, atol=1e-6)
        torch.testing.assert_close(still.store.table, table, rtol=0, atol=1e-6)


@samplers
def test_persistent_chains_need_the_index(sampler, seeded):
    chains = chains_of(sampler)
    with pytest.raises(ValueError, match="persistent chains belong to data"):
        chains.draw(toy_posterior(), 1, seeded(), None)
    for index in (torch.tensor([0]), torch.tensor(0), BOTH[:, None], BOTH.double(), BOTH > 1):
        given = rf"is \(2,\) of integers, got \({str(tuple(index.shape))[1:-1]}\) of {index.dtype}"
        with pytest.raises(ValueError, match=given):
            chains.draw(toy_posterior(), 1, seeded(), index)
    with pytest.raises(ValueError, match="cannot be negative"):
        chains.draw(toy_posterior(), 1, seeded(), torch.tensor([0, -1]))


INDICES = [BOTH.tolist(), tuple(BOTH.tolist()), BOTH.numpy(), range(4, -2, -3)]
INDICES += [BOTH.to(getattr(torch, name)) for name in ("uint8", "int16", "int32")]


@samplers
@pytest.mark.parametrize("index", INDICES, ids=lambda i: getattr(i, "dtype", type(i).__name__))
def test_the_index_may_be_any_list_of_integers(sampler, index, seeded):
    outcomes = []
    for places in (index, BOTH):
        chains = chains_of(sampler)
        chains.draw(toy_posterior(), 1, seeded(1), places)
        outcomes.append([chains.draw(toy_posterior(), 2, seeded(2), places)[0], chains.store.table])
    for one, other in zip(*outcomes, strict=True):
        assert torch.equal(one, other)


@samplers
def test_a_datum_that_is_twice_in_the_batch_keeps_one_of_its_ends(sampler, seeded):
    chains, twice = chains_of(sampler), toy_posterior(toy_data()[:1].repeat(2, 1, 1, 1))
    ends, _ = chains.draw(twice, 1, seeded(1), [3, 3])
    kept = chains.store.table[3, -1]
    assert not torch.equal(*ends[-1])
    assert any(torch.equal(kept, end) for end in ends[-1])


@samplers
def test_other_chains_restart_from_the_prior(sampler, seeded):
    chains, posterior = chains_of(sampler, persistent=False), toy_posterior()
    first, _ = chains.draw(posterior, 1, seeded(1))
    chains.draw(posterior, 2, seeded(2))
    again, _ = chains.draw(posterior, 1, seeded(1), BOTH)  # as if nothing had been
    assert torch.equal(first, again)
    assert chains.store.table is None
    # A step too small to see leaves them at prior draws.
    still = chains_of("langevin", persistent=False, step_size=1e-18)
    draws, _ = still.draw(posterior, 1, seeded(3))
    expected = posterior.prior_draws(2, seeded(3))
    torch.testing.assert_close(draws[0], expected, rtol=0, atol=1e-6)


# --- errors -----------------------------------------------------------------------------------


@samplers
def test_a_chain_that_is_not_finite_is_an_error_and_not_stored(sampler, seeded):
    chains, posterior = chains_of(sampler), toy_posterior()
    chains.draw(posterior, 1, seeded(1), BOTH)
    before = chains.store.table.clone()
    with torch.no_grad():
        posterior.model.decoder.layers[0].bias.fill_(math.nan)
    with pytest.raises(NonFiniteError, match="datum 0"):
        chains.draw(posterior, 2, seeded(2), BOTH)
    assert torch.equal(chains.store.table, before)


# --- what is reported -------------------------------------------------------------------------


@samplers
@kernels
@pytest.mark.parametrize("persistent", [True, False])
def test_the_info(sampler, kernel, persistent, seeded):
    chains = chains_of(sampler, kernel=kernel, persistent=persistent)
    _, info = chains.draw(toy_posterior(), 1, seeded(), BOTH)
    expected = {"outside", "walls", "acceptance" if kernel == "mala" else "stiffness"}
    if sampler == "thermodynamic":
        expected |= {"swap_1", "swap_2", "swap_3"}
    assert set(info) == expected
    assert all(type(value) is float and 0 <= value <= 1 for value in info.values())


def test_rates_and_levels_of_all_sweeps_are_collected(seeded, monkeypatch):
    seen = []

    def recording(posterior, z, t, **options):
        z, info = sweep(posterior, z, t, **options)
        seen.append(info)
        return z, info

    monkeypatch.setattr(kaem.chains, "sweep", recording)
    chains, updates = chains_of("thermodynamic", sweeps=3), (1, 2)
    infos = [chains.draw(toy_posterior(), u, seeded(u), BOTH)[1] for u in updates]
    for info, sweeps in zip(infos, (seen[:3], seen[3:]), strict=True):
        rates = torch.stack([each.swap_acceptance for each in sweeps]).mean(0)
        result = torch.tensor([info[f"swap_{k}"] for k in (1, 2, 3)])
        torch.testing.assert_close(result.double(), rates)
    levels = sum(info.log_likelihood.mean(1) for info in seen) / 3  # sweeps an update
    torch.testing.assert_close(chains.level_sum, levels)


def test_stiffness_is_measured_now_and_then(seeded, monkeypatch):
    toy, measured = toy_model("mixture", 2, 2), []

    def counting(_posterior, z, step_size):
        measured.append((model.updates_done + 1, z, step_size))
        return float(len(measured))

    monkeypatch.setattr(kaem.chains, "stiffness", counting)
    model = KAEM(toy.prior, toy.decoder, sigma=0.4, sampler=Langevin(steps=1, step_size=0.1))
    seen = []
    for update in range(1, 101):
        seen.append(model.loss(toy_data(), seeded(update), BOTH)[1]["stiffness"])
        if update == 70:  # what goes on elsewhere has the last value
            state = model.training_state()
            model.chains = LangevinChains(model.sampler)
            model.load_training_state(state)
        model.after_update(update, 100)
    assert [(number, size) for number, _, size in measured] == [(1, 0.1), (50, 0.1), (100, 0.1)]
    assert torch.equal(measured[-1][1], model.chains.store.table[BOTH, 0])
    assert seen == [1.0] * 49 + [2.0] * 50 + [3.0]


# --- the population's temperatures ------------------------------------------------------------


def test_the_power_is_annealed_to_its_end():
    chains = chains_of("thermodynamic", power_start=4.0, power_end=2.0)
    start, end = power_schedule(3, 4.0), power_schedule(3, 2.0)
    torch.testing.assert_close(chains.temperatures, start, rtol=1e-6, atol=0)
    seen = []
    for update in range(1, 101):
        chains.after_update(update, 100)
        seen.append(chains.temperatures.clone())
    torch.testing.assert_close(seen[49], power_schedule(3, 3.0))
    torch.testing.assert_close(seen[-1], end)
    assert (torch.stack(seen)[:, 1:-1].diff(dim=0) > 0).all()  # a lower power: all rise


def test_respacing_happens_at_multiples_with_the_levels_since_the_last(seeded):
    chains = chains_of("thermodynamic", respace_every=3, power_end=1.0)
    posterior, start = toy_posterior(), chains.temperatures.clone()
    for update in range(1, 8):
        chains.draw(posterior, update, seeded(update), BOTH)
        levels = chains.level_sum.clone()
        before = chains.temperatures.clone()
        chains.after_update(update, 7)
        if update % 3 == 0:
            assert torch.equal(chains.temperatures, respaced(before, levels))
            assert not torch.equal(chains.temperatures, before)
            assert not chains.level_sum.any()
            assert (chains.temperatures.diff() > 0).all()
        else:
            assert torch.equal(chains.temperatures, before)
            assert torch.equal(chains.level_sum, levels)
            assert levels.any()
    assert not torch.equal(chains.temperatures, start)


def test_respacing_without_a_draw_leaves_the_temperatures():
    chains = chains_of("thermodynamic", respace_every=1)
    before = chains.temperatures.clone()
    chains.after_update(1, 10)
    assert torch.equal(chains.temperatures, before)


# --- in a model -------------------------------------------------------------------------------


@samplers
def test_the_state_dict_has_the_temperatures_but_no_chains(sampler, seeded):
    toy = toy_model("mixture", 2, 2)
    model = KAEM(toy.prior, toy.decoder, sigma=0.4, sampler=OPTIONS[sampler]()).double()
    before = set(model.state_dict())
    loss, info = model.loss(toy_data(), seeded(), BOTH)
    assert loss.isfinite()
    assert all(math.isfinite(value) for value in info.values())
    assert model.chains.store.table is not None
    names = set(model.state_dict())
    assert names == before
    ours = {name for name in names if name.startswith("chains.")}
    assert ours == ({"chains.temperatures"} if sampler == "thermodynamic" else set())

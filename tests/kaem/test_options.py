"""What a model can be asked to do beside its likelihood: contrastive normalisers, a domain that
moves, sparsity, and what happens after each update."""

import pytest
import torch
from reference.posterior import flat_gradient, toy_data, toy_model
from support.images import bars

from kaem import KAEM, ImportanceSampling, Langevin, Thermodynamic
from kaem.domain import DomainUpdate
from kaem.options import Regulariser, make_sampler
from kaem.univariate import EdgeFunctions

IMAGE_SHAPE = (1, 8, 8)
DECODERS = {"conv": {"kind": "conv", "width": 8}, "kan": {"kind": "kan", "grid_size": 5}}
TRAINED_WITH = {
    "importance": {"kind": "importance", "proposals": 100, "survivors": 5},
    "langevin": {"kind": "langevin", "steps": 3, "step_size": 0.02},
    "restarted": {"kind": "langevin", "steps": 3, "step_size": 0.02, "persistent": False},
    "thermodynamic": {"kind": "thermodynamic", "temperatures": 3, "step_size": 0.02},
}
samplers = pytest.mark.parametrize("sampler", TRAINED_WITH)
decoders = pytest.mark.parametrize("decoder", DECODERS)


def make(sampler: str = "importance", decoder: str = "conv", prior=None, **options) -> KAEM:
    torch.manual_seed(0)
    default = {"kind": "univariate", "q": 3, "p": 2, "grid_size": 20}
    settings = {
        "prior": default | (prior or {}),
        "decoder": DECODERS[decoder],
        "sigma": 0.3,
        "sampler": TRAINED_WITH[sampler],
        **options,
    }
    return KAEM.from_settings(settings, IMAGE_SHAPE)


def update(model: KAEM, number: int, updates: int = 12, rows=range(6)) -> None:
    """A loss and what follows the optimiser's step, without the step."""
    index = torch.tensor(list(rows))
    draws = torch.Generator().manual_seed(number)
    model.loss(bars(len(index), IMAGE_SHAPE, draws), draws, index)
    model.after_update(number, updates)


# The options themselves --------------------------------------------------------------------------


def test_a_copula_of_more_components_than_draws_is_refused():
    with pytest.raises(ValueError, match=r"as many draws as components, got .*draws=20,"):
        make(copula={"components": 21, "draws": 20})


def test_samplers_by_name():
    assert isinstance(make_sampler("importance", proposals=7), ImportanceSampling)
    assert make_sampler("langevin", steps=7) == Langevin(steps=7)
    assert make_sampler("thermodynamic", temperatures=7) == Thermodynamic(temperatures=7)


@pytest.mark.parametrize(
    "wrong",
    [
        {"every": 0},
        {"every": 1, "margin": 0.0},
        {"every": 1, "even": 0.0},
        {"every": 1, "even": 2},
        {"every": 1, "decay": 0.0},
        {"every": 1, "decay": 2.0},
    ],
)
def test_a_domain_update_that_cannot_work_is_refused(wrong):
    with pytest.raises(ValueError, match="every >= 1, margin > 0 and even, decay in"):
        DomainUpdate(**wrong)


# The contrastive normaliser ----------------------------------------------------------------------

# |z| < 4.5 over 28 to 45 parameters: a false alarm of at most 3e-4 per case for a new seed.
Z_LIMIT, REPETITIONS = 4.5, 100


@pytest.mark.parametrize(
    ("toy", "sampler"),
    [
        (("mixture", 2, 2), ImportanceSampling(30)),
        (("univariate", 1, 2), ImportanceSampling(30)),
        (("mixture", 2, 2), Langevin(2, 0.05, persistent=False)),
    ],
    ids=["mixture", "univariate", "mixture with Langevin"],
)
def test_the_contrastive_gradient_is_the_exact_one_in_expectation(toy, sampler):
    x = toy_data().repeat(10, 1, 1, 1)  # as many draws for the normaliser as data
    gradients, values = {}, {}
    for kind in ("exact", "contrastive"):
        base = toy_model(*toy)
        model = KAEM(base.prior, base.decoder, sigma=0.4, sampler=sampler, log_normalizer=kind)
        seeds = (torch.Generator().manual_seed(i) for i in range(REPETITIONS))
        losses = [model.loss(x, seed)[0] for seed in seeds]
        values[kind] = torch.stack(losses).detach()
        gradients[kind] = torch.stack([flat_gradient(loss, model) for loss in losses])
    # A seed gives both the same posterior draws: the value and the decoder's gradient are equal.
    torch.testing.assert_close(values["contrastive"], values["exact"])
    of_prior = sum(p.numel() for p in model.prior.parameters())
    difference = gradients["contrastive"] - gradients["exact"]
    torch.testing.assert_close(
        difference[:, of_prior:], torch.zeros_like(difference[:, of_prior:]), atol=1e-9, rtol=0
    )
    noise = difference[:, :of_prior]
    error = noise.std(0) / REPETITIONS**0.5
    assert (error > 0).all()
    assert (noise.mean(0) / error).abs().max() < Z_LIMIT
    # The check has teeth: a normaliser a third too small would fail it.
    log_z = torch.autograd.grad(model.prior.log_normalizer().sum(), list(model.prior.parameters()))
    missing = torch.cat([g.flatten() for g in log_z]) / 3
    assert (missing / error).abs().max() > 2 * Z_LIMIT


# Sparsity ----------------------------------------------------------------------------------------


def sizes(functions: EdgeFunctions) -> torch.Tensor:
    """The mean magnitude of each edge function at 100 points of its domain."""
    a, b = functions.basis.domain
    points = torch.tensor([a + (b - a) * k / 99 for k in range(100)])
    return functions.curves(points).abs().mean(2).flatten()


@decoders
def test_the_penalty_is_summed_over_all_edge_functions(decoder):
    layers = [m for m in make("importance", decoder).modules() if isinstance(m, EdgeFunctions)]
    assert len(layers) == (3 if decoder == "kan" else 1)
    parts = [sizes(layer) for layer in layers]
    l1 = sum(part.sum() for part in parts).item()
    shares = [part / part.sum() for part in parts]
    entropy = -sum((share * share.log()).sum() for share in shares).item()
    for weights, expected in (
        ({"l1": 0.1}, 0.1 * l1),
        ({"entropy": 0.2}, 0.2 * entropy),
        ({"l1": 0.1, "entropy": 0.2}, 0.1 * l1 + 0.2 * entropy),
    ):
        model = make("importance", decoder, regulariser=weights)
        assert model.regulariser == Regulariser(**weights)
        assert model.regulariser.penalty(model).item() == pytest.approx(expected, rel=1e-5)


@samplers
def test_the_loss_holds_the_penalty_only_when_asked_to(sampler, seeded):
    x, index = bars(6, IMAGE_SHAPE, seeded()), torch.arange(6)
    plain, weighted = make(sampler), make(sampler, regulariser={"l1": 10.0, "entropy": 1.0})
    assert plain.regulariser.penalty(plain) == 0
    difference = weighted.loss(x, seeded(), index)[0] - plain.loss(x, seeded(), index)[0]
    assert weighted.regulariser.penalty(weighted) > 1
    torch.testing.assert_close(
        difference, weighted.regulariser.penalty(weighted), rtol=1e-4, atol=1e-4
    )


@decoders
@pytest.mark.parametrize("weights", [{"l1": 1.0}, {"entropy": 1.0}])
def test_the_penalty_reaches_every_edge_function(decoder, weights):
    model = make("importance", decoder, regulariser=weights)
    model.regulariser.penalty(model).backward()
    for layer in model.modules():
        if isinstance(layer, EdgeFunctions):
            gradient = layer.coefficients.grad
            assert gradient.isfinite().all()
            assert (gradient.abs().amax(2) > 0).all()


# The domain --------------------------------------------------------------------------------------

EVERY, MARGIN = 3, 0.05


def moved(sampler: str, monkeypatch, domain=(-4.0, 4.0), updates=EVERY, **prior):
    """A model just before and after it moves its domain.

    Returns:
        The model, log p of the draws before the move, and the draws.
    """
    prior = {"domain": domain} | prior
    model = make(sampler, prior=prior, domain_update={"every": EVERY, "margin": MARGIN})
    update(model, 1, rows=(0, 1, 2, 9))  # datum 9 is not seen again
    if model.needs_index:
        model.chains.store.table[9, -1, -1, -1] = 0.95 * domain[1]
    for number in range(2, updates):
        update(model, number)
        assert model.prior.domain == pytest.approx(domain)
    monkeypatch.setattr("kaem.model.follow", lambda *_: False)
    update(model, updates)
    monkeypatch.undo()
    z = model.recent.latest(model.recent.most)
    before = model.prior.log_prob(z).detach()
    model.after_update(updates, 12)
    return model, before, z


@samplers
def test_the_domain_covers_all_draws_and_all_chains(sampler, monkeypatch, seeded):
    model, _, draws = moved(sampler, monkeypatch)
    kept = [draws]
    if model.needs_index:
        table = model.chains.store.table
        assert table.shape[:2] == (10, 3 if sampler == "thermodynamic" else 1)
        kept.append(table)
    low, high = min(z.min().item() for z in kept), max(z.max().item() for z in kept)
    a, b = model.prior.domain
    assert -4 < a < low
    assert high <= b < 4
    if model.needs_index:
        assert b == pytest.approx(3.8)  # the chain of datum 9
    z = model.prior.sample(2000, seeded())
    assert z.min() >= a
    assert z.max() <= b
    for number in range(EVERY + 1, 2 * EVERY + 1):  # no chain is outside, and the next move comes
        update(model, number)
        assert (model.prior.domain == (a, b)) == (number < 2 * EVERY)


@samplers
@pytest.mark.parametrize("basis", ["rbf", "bspline"])
def test_the_functions_do_not_move_with_the_domain(sampler, basis, monkeypatch):
    # Apart from one constant: the probability that the new domain adds or leaves out.
    model, before, draws = moved(sampler, monkeypatch, basis=basis, n_nodes=500)
    change = model.prior.log_prob(draws).detach() - before
    assert before.std() > 0.5
    assert change.std() < 0.03
    assert change.abs().mean() < 0.5


def test_draws_at_one_place_do_not_end_training(seeded):
    model = make(prior={"q": 1, "p": 1}, domain_update={"every": 1})
    model.sampler = ImportanceSampling(50, survivors=1, ess_threshold=1.0)
    model.loss(bars(1, IMAGE_SHAPE, seeded()), seeded())
    model.after_update(1, 10)


@samplers
def test_the_domain_stays_where_it_is_by_default(sampler):
    model = make(sampler)
    for number in range(1, 4):
        update(model, number)
    assert model.prior.domain == (-4.0, 4.0)
    assert model.recent.latest(1) is None  # nor is anything remembered


# After an update ---------------------------------------------------------------------------------


@samplers
def test_the_number_of_updates_is_kept(sampler):
    model = make(sampler)
    assert model.updates_done == 0
    for number in (1, 2, 9):
        update(model, number)
        assert model.updates_done == number


def test_the_temperatures_are_annealed():
    model = make("thermodynamic")
    steps = torch.arange(4) / 3
    update(model, 6, updates=12)
    torch.testing.assert_close(model.chains.temperatures, steps**3)  # half-way from 4 to 2
    update(model, 12, updates=12)
    torch.testing.assert_close(model.chains.temperatures, steps**2)

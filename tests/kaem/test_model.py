"""The assembled model: settings, training, sampling, and what it refuses."""

import math

import pytest
import torch
from reference.linear_gaussian import draw_data, linear_gaussian_model, log_evidence
from support.images import adam_losses, bars

from kaem import KAEM, ImportanceSampling, Langevin, MixturePrior, Thermodynamic
from kaem.bases import BASES
from kaem.decoders import ConvStack, KANDecoder
from kaem.errors import ChainLeftDomainError, KAEMError, NonFiniteError
from kaem.laplace import laplace_importance
from kaem.likelihood import log_mean_exp, pairwise_log_likelihood
from kaem.posterior import FeaturePosterior
from kaem.priors import PRIORS

IMAGE_SHAPE = (1, 8, 8)
SAMPLERS = {
    "importance": {"kind": "importance", "proposals": 200, "survivors": 10},
    "langevin": {"kind": "langevin", "steps": 3, "step_size": 0.02},
    "mala": {"kind": "langevin", "steps": 3, "kernel": "mala"},
    "restarted": {"kind": "langevin", "steps": 3, "persistent": False},
    "thermodynamic": {"kind": "thermodynamic", "temperatures": 3, "steps": 2},
}
DECODER_SETTINGS = {
    "conv": {"kind": "conv", "width": 8},
    "conv_stack": {"kind": "conv_stack", "channels": [6, 4], "start": 2},
    "kan": {"kind": "kan", "grid_size": 5},
}


def settings(prior: str = "mixture", decoder: str = "conv", **changes) -> dict:
    return {
        "prior": {"kind": prior, "q": 3, "p": 2, "grid_size": 8, "n_nodes": 50},
        "decoder": DECODER_SETTINGS[decoder],
        "sigma": 0.3,
        "sampler": SAMPLERS["importance"],
        **changes,
    }


def make(seed: int = 0, *args, **kwargs) -> KAEM:
    torch.manual_seed(seed)
    return KAEM.from_settings(settings(*args, **kwargs), IMAGE_SHAPE)


every_model = [
    pytest.mark.parametrize("prior", PRIORS),
    pytest.mark.parametrize("decoder", DECODER_SETTINGS),
]


def for_every_model(test):
    for mark in every_model:
        test = mark(test)
    return test


@for_every_model
def test_from_settings(prior, decoder, seeded):
    given = settings(prior, decoder)
    model = KAEM.from_settings(given, IMAGE_SHAPE)
    assert given == settings(prior, decoder)  # the settings are left as they were
    assert isinstance(model.prior, PRIORS[prior])
    assert isinstance(model.decoder, KANDecoder if decoder == "kan" else ConvStack)
    assert (model.prior.q, model.prior.p, len(model.prior.nodes)) == (3, 2, 50)
    assert (model.sampler.proposals, model.sampler.survivors, model.sigma) == (200, 10, 0.3)
    assert model.nfe == 1
    images = model.sample(5, seeded())
    assert images.shape == (5, *IMAGE_SHAPE)
    assert images.min() >= 0
    assert images.max() <= 1
    assert not images.requires_grad


@pytest.mark.parametrize("prior", PRIORS)
def test_the_loss_falls_with_a_kan_too(prior):
    losses = adam_losses(make(0, prior, "kan"), IMAGE_SHAPE, 60)
    first, last = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
    # The unexplained variance of a pixel is what can be learnt: tens of nats in all.
    assert last < first - 20


@for_every_model
def test_the_loss_reaches_every_parameter(prior, decoder, seeded):
    sampler = SAMPLERS["importance"] | {"ess_threshold": 1.0}
    model = make(0, prior, decoder, sampler=sampler)
    loss, info = model.loss(bars(6, IMAGE_SHAPE, seeded()), seeded())
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
    assert info.keys() == {"log_likelihood", "ess", "survivors"}
    assert all(isinstance(value, float) for value in info.values())
    assert info["log_likelihood"] == pytest.approx(-loss.item())
    assert 1 <= info["ess"] <= 200
    assert 1 <= info["survivors"] <= 6 * 10


@pytest.mark.parametrize("prior", PRIORS)
def test_the_value_of_the_loss_is_the_mean_over_the_proposals(prior, seeded):
    model, x = make(0, prior), bars(6, IMAGE_SHAPE, seeded())
    loss, _ = model.loss(x, seeded(3))
    z = model.prior.sample(200, seeded(3))
    with torch.no_grad():
        images = model.decoder(z.sum(2) if prior == "univariate" else z)
        torch.testing.assert_close(model.decode(z), images)
        log_p = log_mean_exp(pairwise_log_likelihood(x, images, 0.3))
    torch.testing.assert_close(loss.detach(), -log_p.mean())


def test_diagnostics_are_densities():
    for prior, shape in (("mixture", (3, 50)), ("univariate", (3, 2, 50))):
        result = make(0, prior).diagnostics()
        assert result["density"].shape == shape
        mass = torch.trapezoid(result["density"], result["nodes"])
        torch.testing.assert_close(mass, torch.ones(shape[:-1]))


REFUSED = {
    TypeError: [
        ({"prior": {"kind": "mixture", "q": 1, "p": 1, "widht": 1}}, "'widht'"),
        ({"decoder": {"kind": "conv", "widht": 1}}, "'widht'"),
        ({"sampler": {"kind": "langevin", "proposals": 1}}, "'proposals'"),
        ({"sampler": {"proposals": 1}}, "'kind'"),
        ({"domain_update": {"margin": 0.1}}, "'every'"),
        ({"regulariser": {"l2": 0.1}}, "'l2'"),
        ({"sigmma": 0.3}, "'sigmma'"),
        ({"sigma": None}, "'NoneType'"),
        ({"sigma": [0.3]}, "'list'"),
        ({"sampler": Langevin()}, r"numbers, words and lists of them, got Langevin\("),
        ({"sampler": {"kind": "langevin", "steps": 3.0}}, "steps is of type int, got 3.0"),
        ({"sampler": {"kind": "langevin", "persistent": "no"}}, "is of type bool, got 'no'"),
        ({"sampler": {"kind": "importance", "proposals": "9"}}, "is of type int, got '9'|'str'"),
    ],
    ValueError: [
        ({"prior": {"kind": "nope", "q": 1, "p": 1}}, "'nope'.*mixture.*univariate"),
        ({"prior": {"kind": "mixture", "q": 1, "p": 1, "basis": "nope"}}, "'nope'; known: .*rbf"),
        ({"prior": {"kind": "mixture", "q": 1, "p": 1, "reference": "nope"}}, "known: .*gaussian"),
        ({"decoder": {"kind": "nope"}}, "'nope'; known: conv, conv_stack, kan"),
        ({"sampler": {"kind": "nope"}}, "'nope'; known: importance, langevin, thermodynamic"),
        ({"sampler": {"kind": "importance", "resampler": "nope"}}, "'nope'; known: residual"),
        ({"sampler": {"kind": "langevin", "kernel": "nope"}}, "'nope'; known: ula, mala"),
        ({"sampler": {"kind": "langevin", "step_size": 0.0}}, "step_size > 0, got 5, 0.0"),
        ({"sampler": {"kind": "thermodynamic", "temperatures": 0}}, "need temperatures >= 1"),
        ({"log_normalizer": "nope"}, "'nope'; known: exact, contrastive"),
        ({"domain_update": {"every": 0}}, "needs every >= 1"),
        ({"sigma": 0.0}, "sigma and prior_rate must be positive, got 0.0, 1.0"),
        ({"sigma": -0.3}, "sigma and prior_rate must be positive, got -0.3, 1.0"),
        ({"sigma": math.inf}, "sigma and prior_rate must be positive, got inf, 1.0"),
        ({"regulariser": {"l1": math.inf}}, "are at least 0, got inf"),
        ({"domain_update": {"every": 1, "margin": math.inf}}, "got 1, inf"),
        ({"decoder": {"kind": "conv", "width": 1}}, "width must be at least 2, got 1"),
        ({"prior_rate": 0.0}, "sigma and prior_rate must be positive, got 0.3, 0.0"),
    ],
}


@pytest.mark.parametrize(
    ("error", "change", "message"), [(e, *row) for e, rows in REFUSED.items() for row in rows]
)
def test_unknown_arguments_are_named_and_unknown_values_with_the_known_ones(error, change, message):
    with pytest.raises(error, match=message):
        KAEM.from_settings(settings() | change, IMAGE_SHAPE)


@pytest.mark.parametrize("names", [["sigma"], ["prior", "sampler"], ["decoder"]])
def test_entries_that_are_missing_are_named(names):
    given = settings()
    for name in names:
        del given[name]
    with pytest.raises(ValueError, match=f"^KAEM's settings lack {', '.join(names)}$"):
        KAEM.from_settings(given, IMAGE_SHAPE)


@pytest.mark.parametrize(("given", "rate"), [({}, 1.0), ({"prior_rate": 5.0}, 5.0)])
def test_the_prior_has_a_learning_rate_of_its_own(given, rate):
    assert make(**given).learning_rate_factors == {"prior": rate}


def test_the_default_sampler():
    model = KAEM(MixturePrior(2, 1), ConvStack.small(2, IMAGE_SHAPE, width=4), sigma=0.3)
    assert model.sampler.proposals == 1000


# Samplers ----------------------------------------------------------------------------------------

CLASSES = {"importance": ImportanceSampling, "thermodynamic": Thermodynamic}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("basis", BASES)
def test_every_sampler_trains_with_every_prior_and_basis(sampler, prior, basis, seeded):
    given = settings(prior, sampler=SAMPLERS[sampler])
    given["prior"]["basis"] = basis
    model = KAEM.from_settings(given, IMAGE_SHAPE)
    assert isinstance(model.sampler, CLASSES.get(sampler, Langevin))
    assert isinstance(model.prior.functions.basis, BASES[basis])
    assert model.needs_index is (sampler in ("langevin", "mala", "thermodynamic"))
    index = torch.arange(6) if model.needs_index else None
    loss, info = model.loss(bars(6, IMAGE_SHAPE, seeded()), seeded(), index)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
    assert all(isinstance(value, float) for value in info.values())
    if sampler == "importance":
        return
    swaps = {f"swap_{k}" for k in (1, 2, 3)} if sampler == "thermodynamic" else set()
    kernel = {"acceptance" if sampler == "mala" else "stiffness"}
    assert info.keys() == {"log_likelihood", "log_prior", "outside", "walls"} | swaps | kernel
    # The value is the negative log joint density at the draws, all constants included.
    assert info["log_likelihood"] + info["log_prior"] == pytest.approx(-loss.item(), rel=1e-5)
    assert all(
        0 <= info[key] <= 1 for key in info.keys() & (swaps | {"acceptance", "outside", "walls"})
    )
    assert info.get("stiffness", 1.0) > 0


def test_diagnostics_of_a_population_hold_its_temperatures():
    result = make(sampler=SAMPLERS["thermodynamic"]).diagnostics()
    torch.testing.assert_close(result["temperatures"], torch.tensor([0, 1, 2, 3]).div(3) ** 4)


def test_the_evidence_is_sharper_with_more_passes(seeded):
    model = linear_gaussian_model(8)
    x = draw_data(model, 4)
    truth, copies = log_evidence(model, x).repeat(100), x.repeat(100, 1, 1, 1)
    few, many = (model.log_evidence(copies, passes, seeded()) for passes in (100, 1000))
    for result in (few, many):
        # Means of 400 estimates, within four standard errors: 6e-5 for a new seed.
        away = result.log_evidence - truth
        assert away.mean().abs() < 4 * away.std() / 400**0.5
    assert (few.log_evidence - truth).std() > 2 * (many.log_evidence - truth).std()
    assert many.ess.mean() > 8 * few.ess.mean()


@pytest.mark.parametrize("prior", PRIORS)
def test_the_evidence_is_estimated_in_the_decoders_input(prior, seeded):
    model, x = make(0, prior), bars(3, IMAGE_SHAPE, seeded())
    result = model.log_evidence(x, 100, seeded())
    expected = laplace_importance(FeaturePosterior(model, x), 100, seeded())
    for one, other in zip(result, expected, strict=True):
        assert one.shape == (3,)
        assert torch.equal(one, other)
        assert not one.requires_grad


# Bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_data_that_are_not_finite_are_named(sampler, value, seeded):
    model, x = make(sampler=SAMPLERS[sampler]), bars(6, IMAGE_SHAPE, seeded())
    model.loss(x, seeded(), torch.arange(6))
    model.after_update(7, 10)
    x[3, 0, 2, 5] = x[4, 0, 1, 1] = x[4, 0, 0, 0] = value
    message = (
        r"^update 8: 2 of the batch's 6 images hold NaN or infinity; "
        r"the first at image 3, channel, row and column \[0, 2, 5\]$"
    )
    with pytest.raises(NonFiniteError, match=message):
        model.loss(x, seeded(), torch.arange(6))
    if sampler == "importance":
        with pytest.raises(NonFiniteError, match="2 of the batch's 6"):
            model.log_evidence(x, 100)


PRIOR_PARAMETER, DECODER_PARAMETER = "prior.functions.coefficients", "decoder.linear.bias"


# MALA rejects what is NaN, so that the loss is the first to show it.
@pytest.mark.parametrize(
    ("sampler", "name"),
    [
        ("importance", DECODER_PARAMETER),
        ("mala", DECODER_PARAMETER),
        ("mala", PRIOR_PARAMETER),
        ("restarted", PRIOR_PARAMETER),
        ("thermodynamic", DECODER_PARAMETER),
    ],
)
def test_a_parameter_that_is_not_finite_is_named(sampler, name, seeded):
    model, x = make(sampler=SAMPLERS[sampler]), bars(6, IMAGE_SHAPE, seeded())
    model.loss(x, seeded(), torch.arange(6))
    model.after_update(1, 10)
    with torch.no_grad():
        model.get_parameter(name).view(-1)[0] = math.nan
    with pytest.raises(NonFiniteError, match=f"^update 2: .*{name}"):
        model.loss(x, seeded(), torch.arange(6))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_prior_that_overflows_is_an_error_of_the_update(sampler, seeded):
    model, x = make(sampler=SAMPLERS[sampler]), bars(6, IMAGE_SHAPE, seeded())
    with torch.no_grad():
        model.prior.functions.coefficients.view(-1)[:100] = 3e38  # finite, unlike a sum of them
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    with pytest.raises(NonFiniteError, match=r"^update 1: a density of the prior is not finite"):
        model.loss(x, seeded(), torch.arange(6))
    with pytest.raises(NonFiniteError, match=r"^a density of the prior is not finite"):
        model.sample(3, seeded())


def test_a_loss_that_overflows_is_told_from_parameters_that_do(seeded):
    model = make(sigma=1e-30)
    x = bars(6, IMAGE_SHAPE, seeded())
    with pytest.raises(NonFiniteError, match=r"^update 1: the loss is (inf|nan), while"):
        model.loss(x, seeded())


def test_a_chain_outside_a_domain_that_shrank_is_named(seeded):
    model, x = make(sampler=SAMPLERS["langevin"]), bars(6, IMAGE_SHAPE, seeded())
    model.loss(x, seeded(), torch.arange(6))
    model.after_update(4, 10)
    model.chains.store.table.zero_()
    model.chains.store.table[5, 0, 1] = 2.5
    model.prior.set_domain((-1.0, 2.0))
    message = r"^update 5: the Langevin chain of datum 2 of the batch is at 2\.5, outside .*-1, 2\]"
    with pytest.raises(ChainLeftDomainError, match=message):
        model.loss(x[:3], seeded(), torch.tensor([1, 3, 5]))
    model.loss(x[:3], seeded(), torch.tensor([0, 1, 2]))  # the others are inside
    assert issubclass(ChainLeftDomainError, KAEMError)
    assert issubclass(NonFiniteError, KAEMError)

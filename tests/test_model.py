"""The assembled model: settings, training, sampling, saving."""

import pytest
import torch
from reference.images import adam_losses, bars

from kaem import KAEM, MixturePrior
from kaem.generators import GENERATORS, ConvGenerator
from kaem.likelihood import log_mean_exp, pairwise_log_likelihood
from kaem.priors import PRIORS

IMAGE_SHAPE = (1, 8, 8)
DECODERS = {"conv": {"kind": "conv", "width": 8}, "kan": {"kind": "kan", "grid_size": 5}}


def settings(prior: str = "mixture", decoder: str = "conv", **changes) -> dict:
    return {
        "prior": {"kind": prior, "q": 3, "p": 2, "grid_size": 8, "n_nodes": 50},
        "decoder": DECODERS[decoder],
        "sigma": 0.3,
        "sampler": {"proposals": 200, "survivors": 10},
        **changes,
    }


def make(seed: int = 0, *args, **kwargs) -> KAEM:
    torch.manual_seed(seed)
    return KAEM.from_settings(settings(*args, **kwargs), IMAGE_SHAPE)


every_model = [
    pytest.mark.parametrize("prior", PRIORS),
    pytest.mark.parametrize("decoder", GENERATORS),
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
    assert isinstance(model.generator, GENERATORS[decoder])
    assert (model.prior.q, model.prior.p, len(model.prior.nodes)) == (3, 2, 50)
    assert (model.sampler.proposals, model.sampler.survivors, model.sigma) == (200, 10, 0.3)
    assert model.nfe == 1
    images = model.sample(5, seeded())
    assert images.shape == (5, *IMAGE_SHAPE)
    assert images.min() >= 0
    assert images.max() <= 1
    assert not images.requires_grad


@for_every_model
def test_the_loss_falls_and_a_seed_decides_everything(prior, decoder):
    losses = adam_losses(make(0, prior, decoder), IMAGE_SHAPE, 60)
    first, last = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
    # The unexplained variance of a pixel is what can be learnt: tens of nats in all.
    assert last < first - 20
    assert losses[:5] == adam_losses(make(0, prior, decoder), IMAGE_SHAPE, 5)
    assert losses[:5] != adam_losses(make(1, prior, decoder), IMAGE_SHAPE, 5)


@for_every_model
def test_the_loss_reaches_every_parameter(prior, decoder, seeded):
    sampler = {"proposals": 200, "survivors": 10, "ess_threshold": 1.0}
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


@for_every_model
def test_a_sample_does_not_depend_on_its_batch(prior, decoder, seeded):
    model = make(0, prior, decoder)
    together = model.sample(6, [seeded(s) for s in range(6)])
    two = model.sample(2, [seeded(s) for s in (0, 1)])
    four = model.sample(4, [seeded(s) for s in range(2, 6)])
    torch.testing.assert_close(together, torch.cat([two, four]), atol=1e-6, rtol=0)
    assert len(together.flatten(1).unique(dim=0)) == 6


@for_every_model
def test_a_saved_state_gives_the_same_samples(prior, decoder, seeded, tmp_path):
    model = make(0, prior, decoder)
    adam_losses(model, IMAGE_SHAPE, 3)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    other = make(1, prior, decoder)
    before = other.sample(4, seeded())  # fills its tables with other parameters
    other.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert torch.equal(other.sample(4, seeded()), model.sample(4, seeded()))
    assert not torch.equal(other.sample(4, seeded()), before)


@pytest.mark.parametrize("prior", PRIORS)
def test_the_value_of_the_loss_is_the_mean_over_the_proposals(prior, seeded):
    model, x = make(0, prior), bars(6, IMAGE_SHAPE, seeded())
    loss, _ = model.loss(x, seeded(3))
    z = model.prior.sample(200, seeded(3))
    with torch.no_grad():
        images = model.generator(z.sum(2) if prior == "univariate" else z)
        torch.testing.assert_close(model.decode(z), images)
        log_p = log_mean_exp(pairwise_log_likelihood(x, images, 0.3))
    torch.testing.assert_close(loss.detach(), -log_p.mean())


def test_diagnostics_are_densities():
    for prior, shape in (("mixture", (3, 50)), ("univariate", (3, 2, 50))):
        found = make(0, prior).diagnostics()
        assert found["density"].shape == shape
        mass = torch.trapezoid(found["density"], found["nodes"])
        torch.testing.assert_close(mass, torch.ones(shape[:-1]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prior": {"kind": "nope", "q": 1, "p": 1}}, "'nope'.*mixture.*univariate"),
        ({"prior": {"kind": "mixture", "q": 1, "p": 1, "basis": "nope"}}, "'nope'; known: .*rbf"),
        ({"prior": {"kind": "mixture", "q": 1, "p": 1, "reference": "nope"}}, "known: .*gaussian"),
        ({"decoder": {"kind": "nope"}}, "'nope'; known: conv, kan"),
        ({"sampler": {"resampler": "nope"}}, "'nope'; known: residual"),
        ({"sigma": 0.0}, "sigma must be positive, got 0.0"),
    ],
)
def test_unknown_names_list_the_known_ones(change, message):
    with pytest.raises(ValueError, match=message):
        KAEM.from_settings(settings() | change, IMAGE_SHAPE)


def test_the_default_sampler():
    model = KAEM(MixturePrior(2, 1), ConvGenerator(2, IMAGE_SHAPE, width=4), sigma=0.3)
    assert model.sampler.proposals == 1000

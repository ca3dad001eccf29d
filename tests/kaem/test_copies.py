"""Models that are copied, averaged, converted, compiled or only looked at, with their chains."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from support.images import bars
from torch.nn.utils.parametrizations import weight_norm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kaem import KAEM, load, save

SHAPE = (1, 8, 8)
SAMPLERS = {
    "importance": {"kind": "importance", "proposals": 50},
    "langevin": {"kind": "langevin", "steps": 3, "step_size": 0.01},
    "thermodynamic": {
        "kind": "thermodynamic",
        "temperatures": 3,
        "steps": 2,
        "respace_every": 2,
    },
}
samplers = pytest.mark.parametrize("sampler", SAMPLERS)
chained = pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "importance"])
INDEX = torch.arange(6)


def make(kind: str = "langevin", **changes) -> KAEM:
    torch.manual_seed(0)
    settings = {
        "prior": {"kind": "mixture", "q": 4, "p": 3, "grid_size": 8, "n_nodes": 50},
        "decoder": {"kind": "conv", "width": 4},
        "sigma": 0.3,
        "sampler": SAMPLERS[kind],
        "domain_update": {"every": 3},
    }
    return KAEM.from_settings(settings | changes, SHAPE)


def images(n: int = 6, seed: int = 0) -> torch.Tensor:
    return bars(n, SHAPE, torch.Generator().manual_seed(seed))


def trained(sampler: str = "langevin") -> KAEM:
    model = make(sampler)
    model.loss(images(), torch.Generator().manual_seed(0), INDEX)[0].backward()
    model.after_update(1, 10)
    return model


def samples(model: KAEM) -> torch.Tensor:
    return model.sample(3, torch.Generator().manual_seed(1))


def shake(model: KAEM) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


# Looked at ---------------------------------------------------------------------------------------

LOOKS = {
    "eval": lambda model: (model.eval(), torch.enable_grad()),
    "no_grad": lambda model: (model, torch.no_grad()),
    "inference_mode": lambda model: (model, torch.inference_mode()),
}


@samplers
@pytest.mark.parametrize("look", LOOKS)
def test_a_loss_outside_training_leaves_no_trace(sampler, look, seeded):
    model, undisturbed = trained(sampler), trained(sampler)
    looked, mode = LOOKS[look](model)
    with mode:
        first, _ = looked.loss(1 - images(), seeded(5), INDEX)
        again, _ = looked.loss(1 - images(), seeded(5), INDEX)
        looked.loss(images(20), seeded(6), torch.arange(20))  # data without chains
        looked.log_evidence(images(), 100, seeded(7))
    assert first == again
    model.train()
    for update in range(2, 8):  # the temperatures are re-spaced and the domain moves
        losses = []
        for either in (model, undisturbed):
            loss, info = either.loss(images(), seeded(update), INDEX)
            either.after_update(update, 10)
            losses.append([loss, info])
        assert losses[0] == losses[1]
    one, other = model.training_state(), undisturbed.training_state()
    one, other = one | model.state_dict(), other | undisturbed.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[key]) for key, value in one.items())


@samplers
@pytest.mark.parametrize("look", LOOKS)
def test_a_model_that_was_never_trained_can_be_looked_at(sampler, look, seeded):
    looked, mode = LOOKS[look](make(sampler))
    with mode:
        loss, _ = looked.loss(images(), seeded(), INDEX)
    assert loss.isfinite()


@chained
def test_a_loss_outside_training_starts_where_the_chains_are(sampler, seeded):
    model = trained(sampler)
    inside, _ = copy.deepcopy(model).loss(images(), seeded(5), INDEX)
    with torch.no_grad():
        outside, _ = model.loss(images(), seeded(5), INDEX)
    assert outside == inside


# Averaged ----------------------------------------------------------------------------------------


@samplers
@pytest.mark.parametrize("buffers", [False, True])
@pytest.mark.parametrize("ema", [None, 0.9])
def test_models_are_averaged_whatever_their_chains(sampler, buffers, ema, seeded):
    model = make(sampler)
    average = AveragedModel(
        model, multi_avg_fn=ema and get_ema_multi_avg_fn(ema), use_buffers=buffers
    )
    met = []
    for update, n in enumerate((6, 6, 100), 1):
        model.loss(images(n), seeded(update), torch.arange(n))[0].backward()
        shake(model)
        model.after_update(update, 3)
        average.update_parameters(model)
        met.append(model.decoder.linear.weight.detach().clone())
        if update == 1:  # another, of a model that has chains already
            late = AveragedModel(model, use_buffers=buffers)
    late.update_parameters(model)
    expected = (met[0] + met[1] + met[2]) / 3
    if ema:
        expected = ema * (ema * met[0] + (1 - ema) * met[1]) + (1 - ema) * met[2]
    weight = average.module.decoder.linear.weight
    torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=1e-6)
    assert (average.module.prior.domain == model.prior.domain) is not buffers  # it moved
    assert samples(average.module).isfinite().all()
    assert torch.equal(samples(late.module), samples(model))


# Copied ------------------------------------------------------------------------------------------


def through_torch(model: KAEM) -> KAEM:
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": through_torch,
}


@samplers
@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("compiled", [False, True])
def test_a_copy_is_alike_and_independent(sampler, way, compiled, seeded):
    model = trained(sampler)
    if compiled:
        model.compile(backend="eager")
    expected, latents = samples(model), model.sample_features(3, seeded())
    other = COPIES[way](model)
    assert torch.equal(samples(other), expected)
    losses = [m.loss(images(), seeded(2), INDEX)[0] for m in (model, other)]
    assert losses[0] == losses[1]
    state = copy.deepcopy(model.training_state())
    shake(other)
    other.loss(images(), seeded(3), INDEX)
    other.after_update(3, 10)
    assert not torch.equal(samples(other), expected)
    assert not torch.equal(other.sample_features(3, seeded()), latents)
    assert torch.equal(samples(model), expected)
    assert all(torch.equal(value, state[key]) for key, value in model.training_state().items())


# Converted ---------------------------------------------------------------------------------------


@samplers
def test_chains_go_on_in_another_precision(sampler, seeded):
    model = trained(sampler).double()
    loss, _ = model.loss(images().double(), seeded(2), INDEX)
    assert loss.dtype == torch.float64
    model.after_update(3, 10)
    if model.chains is not None:
        assert model.chains.store.table.dtype == torch.float64
    assert samples(model.float()).dtype == torch.float32
    assert model.loss(images(), seeded(3), INDEX)[0].dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_prior_in_half_precision_is_refused_and_autocast_works(dtype, seeded):
    with torch.autocast("cpu", dtype=dtype):
        loss, _ = make().loss(images(), seeded(), INDEX)
        evidence = make().log_evidence(images(), 100, seeded())
    expected, _ = make().loss(images(), seeded(), INDEX)
    torch.testing.assert_close(loss, expected, rtol=0.02, atol=0)
    # Of an evidence, autocast takes no digit.
    for value, exact in zip(evidence, make().log_evidence(images(), 100, seeded()), strict=True):
        torch.testing.assert_close(value, exact, rtol=1e-6, atol=0)
    with pytest.raises(TypeError, match=f"float32 or float64, not {dtype}; see torch.autocast"):
        samples(make().to(dtype))


@samplers
def test_parameters_that_are_replaced_for_one_call_count(sampler, seeded):
    """As torch.func does it."""

    class Loss(torch.nn.Module):
        def __init__(self, model: KAEM):
            super().__init__()
            self.model = model

        def forward(self) -> torch.Tensor:
            return self.model.loss(images(), seeded(), INDEX)[0]

    module, moved = Loss(make(sampler)), Loss(make(sampler))
    shake(moved)
    expected = moved()
    result = torch.func.functional_call(module, dict(moved.named_parameters()), ())
    assert result == expected


@samplers
@pytest.mark.parametrize("part", ["prior", "decoder"])
def test_weights_may_be_parametrised(sampler, part, seeded):
    model = make(sampler)
    samples(model)  # the prior's tables are built
    module = {"prior": model.prior.functions, "decoder": model.decoder.linear}[part]
    name = {"prior": "coefficients", "decoder": "weight"}[part]
    weight_norm(module, name)
    before = samples(model)
    with torch.no_grad():
        module.parametrizations[name].original0.mul_(3)
    assert not torch.equal(samples(model), before)
    model.loss(images(), seeded(), INDEX)[0].backward()
    assert module.parametrizations[name].original0.grad.abs().max() > 0


@samplers
@pytest.mark.parametrize("frozen", ["prior", "decoder"])
def test_a_part_may_be_frozen(sampler, frozen, seeded):
    model = make(sampler)
    expected, _ = model.loss(images(), seeded(), INDEX)
    model = make(sampler)
    getattr(model, frozen).requires_grad_(False)
    loss, _ = model.loss(images(), seeded(), INDEX)
    loss.backward()
    assert loss == expected
    trained_parts = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert trained_parts == {"prior", "decoder"} - {frozen}


# Settings ----------------------------------------------------------------------------------------

NUMBERS = [np.float32(0.5), np.array(0.5), torch.tensor(0.5), torch.nn.Parameter(torch.tensor(0.5))]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda n: type(n).__name__)
def test_numbers_of_numpy_and_torch_are_taken_as_pythons(number, tmp_path):
    count = np.int64(4) if isinstance(number, np.generic) else torch.tensor(4)
    model = make(
        sigma=number,
        prior={"kind": "mixture", "q": count, "p": 3, "domain": np.array([-2.0, 2.0])},
        sampler={"kind": "langevin", "steps": count, "step_size": number, "persistent": np.True_},
        prior_rate=number,
        regulariser={"l1": number},
    )
    assert type(model.sigma) is type(model.sampler.step_size) is float
    assert type(model.prior.q) is type(model.sampler.steps) is int
    assert model.sigma == model.learning_rate_factors["prior"] == 0.5
    assert "sigma" not in dict(model.named_parameters())  # nothing would give it a gradient
    save(model, tmp_path)
    assert torch.equal(samples(load(tmp_path)), samples(model))


def test_a_number_of_torch_is_taken_where_the_parts_are_given():
    parts = make()
    model = KAEM(parts.prior, parts.decoder, sigma=NUMBERS[2], prior_rate=NUMBERS[0])
    assert type(model.sigma) is type(model.learning_rate_factors["prior"]) is float
    assert model.state_dict().keys() == parts.state_dict().keys()


def test_later_changes_of_the_settings_are_no_matter(tmp_path):
    prior = {"kind": "mixture", "q": 4, "p": 3}
    model = make(prior=prior)
    prior["q"] = 9
    save(model, tmp_path)
    assert load(tmp_path).prior.q == 4

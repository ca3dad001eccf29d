"""What `benchmark.config.registry` says of a model, held against every registered model, and KAEM
with a copula.

A new model needs one entry in `support.configs.MODEL_SETTINGS` and no test of its own here.
"""

import copy
import math
import pickle

import pytest
import torch
from support.configs import ENTRY_SETTINGS, MODEL_SETTINGS, WITH_COPULA, bars_dataset, tiny_config
from support.images import adam_losses
from support.models import IMAGE_SHAPE, batch, make
from torch.optim.swa_utils import AveragedModel

from benchmark.base.seeding import PhiloxStreams
from benchmark.config.jobs import job_of
from benchmark.config.registry import MODELS
from benchmark.data.pixels import to_uint8
from benchmark.evaluation import sigma
from benchmark.timing.sampling import flops_per_image, time_sampling
from benchmark.timing.series import Limits
from benchmark.training.train import train_model
from kaem.errors import NonFiniteError

PASSES = 100
UNCOMPILED = {("sample_features", "vae"), ("sample_features", "sigma_vae")}

pytestmark = pytest.mark.parametrize("name", ENTRY_SETTINGS)


def test_there_are_settings_for_it(name):
    assert name in WITH_COPULA or name in MODELS
    assert MODEL_SETTINGS.keys() == MODELS.keys()


def test_the_loss_is_a_finite_scalar_and_the_rest_are_floats(name, seeded):
    loss, info = make(name).loss(batch(), seeded())
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss.requires_grad
    assert loss.isfinite()
    assert all(type(value) is float and math.isfinite(value) for value in info.values())
    # The history has columns of these names of its own.
    assert not {"update", "seconds", "loss"} & info.keys()


SHAPES = {
    "channels last": lambda x: x.permute(0, 2, 3, 1),
    "flat": lambda x: x.flatten(1),
    "as many pixels": lambda x: x.reshape(-1, 1, 16, 4),
    "larger": lambda x: x.repeat(1, 1, 2, 2),
    "colour": lambda x: x.repeat(1, 3, 1, 1),
    "one without a batch axis": lambda x: x[0],
    "without channels": lambda x: x[:, 0],
}
UNFIT = {
    name: (ValueError, change, "for a model of .n, 1, 8, 8") for name, change in SHAPES.items()
}
UNFIT |= {
    "none": (ValueError, lambda x: x[:0], "a batch without images"),
    "bytes": (TypeError, lambda x: (255 * x).to(torch.uint8), "got torch.uint8; divide"),
    "up to 255": (ValueError, lambda x: 255 * x, "far beyond .0, 1"),
    "no numbers": (NonFiniteError, lambda x: x.log(), "hold NaN or infinity"),
}


def losses_of(model, seeded, x, seed: int = 0) -> list[torch.Tensor]:
    """The loss, and the evidence of models that have one."""
    loss, _ = model.loss(x, seeded(seed))
    if not hasattr(model, "log_evidence"):
        return [loss]
    return [loss, model.log_evidence(x, PASSES, seeded(seed)).log_evidence]


@pytest.mark.parametrize("unfit", UNFIT)
def test_images_that_are_not_the_models_are_refused(name, unfit, seeded):
    error, change, message = UNFIT[unfit]
    model, x = make(name), change(batch(5))
    calls = [lambda: model.loss(x, seeded())]
    if hasattr(model, "log_evidence"):
        calls.append(lambda: model.log_evidence(x, PASSES, seeded()))
    for call in calls:
        with pytest.raises(error, match=message):
            call()


def test_images_in_double_precision_are_taken(name, seeded):
    results = [losses_of(make(name), seeded, x) for x in (batch(5).double(), batch(5))]
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("look", ["eval", "no_grad", "inference_mode"])
def test_a_look_changes_nothing(name, look, seeded):
    """What is not training leaves model and training as they are; it may take any mode of torch."""
    model = make(name)
    model.loss(batch(), seeded())

    def state():
        training = model.training_state() if hasattr(model, "training_state") else {}
        return copy.deepcopy(model.state_dict() | training)

    before = state()
    model.train(look != "eval")
    with torch.enable_grad() if look == "eval" else getattr(torch, look)():
        values = losses_of(model, seeded, 1 - batch())
        images = model.sample(3, seeded())
    assert all(value.isfinite().all() for value in [*values, images])
    after = state()
    assert after.keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in after.items())


@pytest.mark.parametrize("way", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_copy_is_alike_and_independent(name, way, compiled, seeded):
    model = make(name)
    adam_losses(model, IMAGE_SHAPE, 2)
    if compiled:
        model.compile(backend="eager")
    images = model.sample(3, seeded())
    other = way(model)
    assert torch.equal(other.sample(3, seeded()), images)
    adam_losses(other, IMAGE_SHAPE, 2)
    if hasattr(other, "after_update"):
        other.after_update(3, 10)
    assert not torch.equal(other.sample(3, seeded()), images)
    assert torch.equal(model.sample(3, seeded()), images)


@pytest.mark.parametrize("buffers", [False, True])
def test_weights_can_be_averaged(name, buffers, seeded):
    model = make(name)
    average = AveragedModel(model, use_buffers=buffers)
    met = []
    for n in (4, 9):  # a model may remember what it has seen
        adam_losses(model, IMAGE_SHAPE, 1)
        model.loss(batch(n), seeded())
        average.update_parameters(model)
        met.append([p.detach().clone() for p in model.parameters()])
    for mean, *values in zip(average.module.parameters(), *met, strict=True):
        torch.testing.assert_close(mean.detach(), sum(values) / 2, rtol=0, atol=1e-6)
    assert average.module.sample(3, seeded()).isfinite().all()


def test_no_images_can_be_drawn(name, seeded):
    model = make(name)
    assert model.sample(0, seeded()).shape == (0, *IMAGE_SHAPE)
    assert model.sample(0, PhiloxStreams(5, 3, 3)).shape == (0, *IMAGE_SHAPE)


def test_the_gradient_reaches_every_parameter(name, seeded):
    model = make(name)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert trained
    model.loss(batch(), seeded())[0].backward()
    for parameter_name, parameter in trained.items():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


# Most losses are in nats, and the unexplained variance of the pixels is what can be learnt: tens
# of them. Diffusion's is the error of predicted unit noise. The pixel EBM's is a gap that the two
# sides keep closing: tests/baselines/test_pixel_ebm.py shows that it learns.
FALLS = {"ddpm": 0.3, "pixel_ebm": None}


def test_the_loss_falls(name):
    if FALLS.get(name, 10) is None:
        pytest.skip("the loss of this model is a balance: that it learns is shown elsewhere")
    losses = adam_losses(make(name), IMAGE_SHAPE, 60)
    assert sum(losses[-10:]) / 10 < sum(losses[:10]) / 10 - FALLS.get(name, 10)


@pytest.mark.parametrize("n", [1, 5])
def test_samples_are_images(name, n, seeded):
    images = make(name).sample(n, seeded())
    assert images.shape == (n, *IMAGE_SHAPE)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert not images.requires_grad
    assert len(images.flatten(1).unique(dim=0)) == n


def test_a_seed_decides_weights_loss_and_samples(name, seeded):
    def results(weights_seed, noise_seed):
        model = make(name, weights_seed)
        loss = model.loss(batch(), seeded(noise_seed))[0].item()
        return loss, model.sample(4, seeded(noise_seed))

    loss, images = results(0, 0)
    torch.rand(3)  # the state of the global generator is no matter
    assert results(0, 0)[0] == loss
    assert torch.equal(results(0, 0)[1], images)
    for seeds in ((0, 1), (1, 0)):
        other_loss, other_images = results(*seeds)
        assert other_loss != loss
        assert not torch.equal(other_images, images)


def test_training_twice_ends_in_the_same_weights(name):
    changes = {f"models.{name}": ENTRY_SETTINGS[name], "training.updates": 3}
    job = job_of(tiny_config(changes), "training", "digits", name)
    runs = [train_model(job, bars_dataset(), torch.device("cpu"), "none") for _ in range(2)]
    one, other = (run.model.state_dict() for run in runs)
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]), key
    assert runs[0].history.final() == runs[1].history.final()


def test_without_a_generator_the_global_one_serves(name):
    model = make(name)
    images = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        images.append(model.sample(3))
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


@pytest.mark.parametrize("sizes", [(1,) * 7, (3, 4), (6, 1)])
def test_with_a_stream_per_image_the_batch_is_no_matter(name, sizes):
    model = make(name)
    together = model.sample(7, PhiloxStreams(5, 0, 7))
    assert len(together.flatten(1).unique(dim=0)) == 7
    parts, start = [], 0
    for size in sizes:
        parts.append(model.sample(size, PhiloxStreams(5, start, start + size)))
        start += size
    torch.testing.assert_close(torch.cat(parts), together, atol=1e-4, rtol=0)


def test_a_saved_state_gives_the_same_samples(name, seeded, tmp_path):
    model = make(name)
    adam_losses(model, IMAGE_SHAPE, 3)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    other = make(name, seed=1)
    before = other.sample(4, seeded())  # a model may keep tables of its parameters
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(other.sample(4, seeded()), model.sample(4, seeded()))
    assert not torch.equal(other.sample(4, seeded()), before)


def test_sampling_changes_nothing(name, seeded):
    model = make(name).eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    first = model.sample(4, seeded())
    assert torch.equal(model.sample(4, seeded()), first)
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_the_evidence_of_each_datum(name, seeded):
    model, x = make(name).eval(), batch(5)
    if not hasattr(model, "log_evidence"):
        pytest.skip("this model gives images no likelihood: there is no evidence to estimate")
    evidence = model.log_evidence(x, PASSES, seeded())
    for values in evidence:
        assert values.shape == (5,)
        assert values.isfinite().all()
        assert not values.requires_grad
    assert (evidence.standard_error >= 0).all()
    again = model.log_evidence(x, PASSES, seeded())
    assert torch.equal(again.log_evidence, evidence.log_evidence)


def test_a_fitted_sigma_is_a_copys_alone(name, seeded, monkeypatch):
    monkeypatch.setattr(sigma, "PASSES", 80)
    model = make(name).eval()
    if not hasattr(model, "log_evidence"):
        pytest.skip("this model gives images no likelihood: there is no sigma to fit")
    state, before = {k: v.clone() for k, v in model.state_dict().items()}, model.sigma
    fitted = sigma.with_best_sigma(model, to_uint8(batch(4)), seeded(), torch.device("cpu"))
    assert model.sigma == before != fitted.sigma
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(model.sample(3, seeded()), fitted.sample(3, seeded()))  # mean images


def test_it_can_be_timed(name):
    model = make(name).eval()
    options = {"batch_sizes": [2], "longest_call": 60, "limits": Limits(1, 3, 1)}
    cpu = torch.device("cpu")
    result = time_sampling({name: model}, cpu, mode="eager", **options)
    rows = [rows[name][0] for rows in result if rows]
    assert all(row["latency_ms"]["median"] > 0 for row in rows)
    assert len(rows) == 1 + hasattr(model, "sample_features")
    assert flops_per_image(model, cpu) > 0


def test_what_sampling_runs_can_be_compiled(name, monkeypatch):
    """With a compiler that counts: it compiles the same call, and nothing that is not run."""
    calls = []

    def compiler(function, **options):
        assert options == {"mode": "fast"}

        def compiled(*args, **kwargs):
            calls.append(function)
            return function(*args, **kwargs)

        return compiled

    monkeypatch.setattr(torch, "compile", compiler)
    model = make(name).eval()
    methods = [model.sample]
    methods += [model.sample_features] if hasattr(model, "sample_features") else []
    expected = [method(2, PhiloxStreams(5, 0, 2)) for method in methods]
    model.compile(mode="fast")
    assert not calls
    for method, values in zip(methods, expected, strict=True):
        before = len(calls)
        assert torch.equal(method(2, PhiloxStreams(5, 0, 2)), values)
        # A VAE's latents are one call of the random numbers' source, which is never compiled.
        assert len(calls) > before or (method.__name__, name) in UNCOMPILED


def test_nfe_is_how_often_a_sample_goes_through_a_network(name, seeded):
    model = make(name).eval()
    assert type(model.nfe) is int
    networks = {getattr(m, child) for m in model.modules() for child in getattr(m, "row_wise", ())}
    networks |= {model.ema.module} if hasattr(model, "ema") else set()
    passes = []
    for network in networks:
        network.register_forward_hook(lambda *_: passes.append(1))
    model.sample(3, seeded())
    assert len(passes) == model.nfe > 0


def test_diagnostics_are_small_arrays(name):
    model = make(name)
    if hasattr(model, "diagnostics"):
        result = model.diagnostics()
        assert result
        assert all(not value.requires_grad and value.numel() < 1e6 for value in result.values())

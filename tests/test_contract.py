"""What `benchmark.config.registry` says of a model, held against every registered model.

A new model needs one entry in `support.configs.MODEL_SETTINGS` and no test of its own here.
"""

import math

import pytest
import torch
from support.configs import MODEL_SETTINGS, bars_dataset, tiny_config
from support.images import adam_losses
from support.models import IMAGE_SHAPE, batch, make

from benchmark.base.seeding import PhiloxStreams
from benchmark.config.jobs import job_of
from benchmark.config.registry import MODELS
from benchmark.data.pixels import to_uint8
from benchmark.evaluation.sigma import with_best_sigma
from benchmark.timing.sampling import flops_per_image, time_sampling
from benchmark.timing.series import Limits
from benchmark.training.train import train_model

PASSES = 100
UNCOMPILED = {("sample_latents", "vae"), ("sample_latents", "sigma_vae")}

pytestmark = pytest.mark.parametrize("name", MODELS)


def test_there_are_settings_for_it(name):
    assert name in MODEL_SETTINGS
    assert MODEL_SETTINGS.keys() <= MODELS.keys()


def test_the_loss_is_a_finite_scalar_and_the_rest_are_floats(name, seeded):
    loss, info = make(name).loss(batch(), seeded())
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss.requires_grad
    assert loss.isfinite()
    assert all(type(value) is float and math.isfinite(value) for value in info.values())
    # The history has columns of these names of its own.
    assert not {"update", "seconds", "loss"} & info.keys()


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
    changes = {f"models.{name}": MODEL_SETTINGS[name], "training.updates": 3}
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


def test_a_fitted_sigma_is_a_copys_alone(name, seeded):
    model = make(name).eval()
    if not hasattr(model, "log_evidence"):
        pytest.skip("this model gives images no likelihood: there is no sigma to fit")
    state, sigma = {k: v.clone() for k, v in model.state_dict().items()}, model.sigma
    fitted = with_best_sigma(model, to_uint8(batch(4)), seeded(), torch.device("cpu"))
    assert model.sigma == sigma != fitted.sigma
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(model.sample(3, seeded()), fitted.sample(3, seeded()))  # mean images


def test_it_can_be_timed(name):
    model = make(name).eval()
    options = {"batch_sizes": [2], "longest_call": 60, "limits": Limits(1, 3, 1)}
    cpu = torch.device("cpu")
    result = time_sampling({name: model}, cpu, mode="eager", **options)
    rows = [rows[name][0] for rows in result if rows]
    assert all(row["latency_ms"]["median"] > 0 for row in rows)
    assert len(rows) == 1 + hasattr(model, "sample_latents")
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
    methods = [model.sample, *([model.sample_latents] if hasattr(model, "sample_latents") else [])]
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

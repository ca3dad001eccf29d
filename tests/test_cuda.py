"""On a GPU, where there is one: what the other tests show on a CPU.

Rounding differs between the two, and so do the random numbers of a seed: what is deterministic is
compared with the CPU's, draws with their distribution.
"""

import numpy as np
import pytest
import torch
from reference.densities import densities_of_log_prob
from reference.quadrature import smallest_p_value
from support.configs import bars_dataset, tiny_config
from support.kills import UPDATES, settings
from support.models import batch, make
from support.priors import DOMAIN, kinds, make_prior, shapes, sharp
from support.trainings import Interrupted, MemoryCheckpoints
from torch.profiler import ProfilerActivity, profile

from benchmark.base.seeding import PhiloxStreams
from benchmark.config.jobs import job_of
from benchmark.config.registry import MODELS
from benchmark.timing.gpu import EnergyMeter, gpu_state
from benchmark.timing.sampling import MODES, set_mode
from benchmark.timing.series import Limits, Series, run_in_turns
from benchmark.training.train import train_model
from kaem.graphs import CALLS, Graph
from kaem.random import rand, randn

DENSE = np.linspace(*DOMAIN, 50_001)
KS_DRAWS, KS_LEVEL = 200_000, 1e-3
CPU, CUDA = torch.device("cpu"), torch.device("cuda")

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")


def on_gpu(seed: int = 0) -> torch.Generator:
    return torch.Generator(device=CUDA).manual_seed(seed)


# The prior ---------------------------------------------------------------------------------------


@kinds
@shapes
def test_the_density_and_its_inverse_are_the_cpus(kind, shape, seeded):
    prior = make_prior(kind, "gaussian", shape)
    z = prior.sample(5000, seeded())
    u = torch.rand(5000, prior.q, prior.p, generator=seeded())
    here = prior.log_prob(z).detach(), prior.cdf(prior.icdf(u)).detach()
    prior.to(CUDA)
    log_prob, cdf = prior.log_prob(z.to(CUDA)), prior.cdf(prior.icdf(u.to(CUDA)))
    torch.testing.assert_close(log_prob.detach().cpu(), here[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(cdf.detach().cpu(), here[1], atol=1e-5, rtol=0)


# Two to four latents a setting, each at level 1e-3, as in tests/kaem/test_priors.py.
@kinds
@shapes
def test_samples_follow_the_density(kind, shape):
    prior = make_prior(kind, "gaussian", shape)
    draws = make_prior(kind, "gaussian", shape).to(CUDA).sample(KS_DRAWS, on_gpu())
    assert draws.device.type == "cuda"
    densities = densities_of_log_prob(prior, DENSE)
    assert smallest_p_value(draws.cpu().numpy(), densities, DENSE) > KS_LEVEL


@kinds
def test_uniforms_become_latents_in_one_kernel(kind):
    pytest.importorskip("triton")
    prior, u = make_prior(kind, "gaussian", shape=sharp), torch.rand(2, 5000)
    expected, u = prior.transport()(u), u.to(CUDA)
    transport = prior.to(CUDA).transport()
    torch.testing.assert_close(transport(u).cpu(), expected, atol=1e-4, rtol=0)
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        transport(u)
        torch.cuda.synchronize()
    assert [event.name for event in profiled.events()] == ["_look_up"]


@pytest.mark.parametrize("draw", [rand, randn])
def test_streams_are_the_cpus(draw):
    here, there = (
        draw(300, (3, 5), PhiloxStreams(0, 0, 300), torch.zeros((), device=device))
        for device in (CPU, CUDA)
    )
    assert there.device.type == "cuda"
    assert torch.equal(there.cpu(), here)


# The models --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_model_trains_and_draws(name):
    model = make(name).to(CUDA)
    loss, _ = model.loss(batch().to(CUDA), on_gpu())
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert loss.isfinite()
    assert all(each is not None and each.isfinite().all() for each in gradients)
    images = model.sample(5, on_gpu())
    assert images.device.type == "cuda"
    assert images.shape == (5, 1, 8, 8)
    assert torch.equal(model.sample(5, on_gpu()), images)


@pytest.mark.parametrize("name", ["kaem_ula", "kaem_ula_univariate", "vae", "latent_ebm", "ddpm"])
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "eager"])
def test_a_mode_draws_the_same_images(name, mode, monkeypatch):
    # In TF32, as convolutions are by default, another order of sums shows in the third digit.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    expected = make(name).to(CUDA).eval().sample(8, on_gpu())
    torch.compiler.reset()
    model = make(name).to(CUDA).eval()
    set_mode(model, mode)
    for _ in range(4):  # a graph is captured after some calls
        torch.compiler.cudagraph_mark_step_begin()
        with torch.no_grad():
            images = model.sample(8, on_gpu()).clone()
    torch.testing.assert_close(images, expected, atol=2e-3, rtol=0)


# Training ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_a_training_goes_on_from_its_state(model):
    job = job_of(tiny_config(settings(model)), "training", "digits", model)

    def train(checkpoints=None):
        return train_model(job, bars_dataset(), CUDA, "none", checkpoints)

    whole, first = train(), MemoryCheckpoints(8)
    with pytest.raises(Interrupted):
        train(first)
    rest = MemoryCheckpoints(state=first.state)
    resumed = train(rest)
    assert rest.updates == UPDATES - 8
    # Sums of floats in any order: parameters that no loss depends on, such as biases before a
    # normalisation, follow the rounding errors of their gradients.
    losses = ([row["loss"] for row in run.history.rows] for run in (whole, resumed))
    assert next(losses) == pytest.approx(next(losses), rel=1e-2)


def test_chains_are_the_same_with_a_graph_of_the_decoder(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    graphed, eager = make("kaem_ula").to(CUDA), make("kaem_ula").to(CUDA)
    monkeypatch.setattr(eager.graphs, "call", lambda _, function, *inputs: function(*inputs))
    x, index = batch().to(CUDA), torch.arange(len(batch()))
    for model in (graphed, eager):
        optimiser, draws = torch.optim.Adam(model.parameters(), 1e-3), on_gpu()
        for _ in range(2 * CALLS):  # the parameters move after the graph was made, too
            loss, _ = model.loss(x, draws, index)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    assert [type(call) for call in graphed.graphs._graphs.values()] == [Graph]
    chains = (model.chains.store.table for model in (graphed, eager))
    torch.testing.assert_close(*chains, atol=2e-2, rtol=0)


# What the device says of itself ------------------------------------------------------------------


def test_the_driver_says_which_gpu_it_is():
    state = gpu_state(CUDA)
    assert state["uuid"].startswith("GPU-")
    assert state["sm_clock_mhz"] > 0
    assert gpu_state(CPU)["uuid"] is None


def test_energy_and_memory_are_measured():
    a = torch.rand(2048, 2048, device=CUDA)
    series = Series(lambda: a @ a, CUDA)
    run_in_turns([series], Limits(2, 10, 1))
    found = series.summary()
    assert found["peak_memory_bytes"] >= a.numel() * a.element_size()
    assert EnergyMeter(CUDA).counts == (found["joules"] is not None)
    assert found["joules"] is None or found["joules"] > 0
    assert not EnergyMeter(CPU).counts

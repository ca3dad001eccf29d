"""The speeds that this suite promises, each as two calls, of whose cost `bench` takes the ratio.

Models are untrained, which their cost does not notice, but where importance sampling trains: how
many draws survive depends on what was learned.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch.nn.functional import interpolate

from benchmark.config.registry import MODELS, build
from benchmark.config.validation import merge
from benchmark.timing.sampling import set_mode
from benchmark.timing.series import Call, generator_on, image_call, step_call
from kaem import MixturePrior, UnivariatePrior

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
BATCH = 100
IS_UPDATES = 300  # of training, by when most proposals have no weight for any image
CONV = {"kind": "conv", "width": 64}
PRIOR = {"q": 16, "p": 4}
DIFFUSION = {
    "channels": [48, 96, 96],
    "layers": 2,
    "attention": True,
    "ema_decay": 0.999,
}

Sides = Callable[[torch.device], tuple[Call, Call]]


@dataclass(frozen=True)
class Row:
    """A promise.

    Attributes:
        what: the two sides, in words.
        target: the ratio promised; at most it, or at least it where `at_least`.
        sides: builds the two calls on a device; ratio = time of the first / time of the second.
        devices: where it is promised; elsewhere it is measured and not judged.
        only: where it can be measured.
        memory: the ratio is of the calls' peak memory instead of their times.
    """

    what: str
    target: float
    sides: Sides
    at_least: bool = False
    devices: tuple[str, ...] = ("cpu", "cuda")
    only: tuple[str, ...] = ("cpu", "cuda")
    memory: bool = False


def promises() -> Iterator[Row]:
    """Every promise."""
    yield Row("mixture prior Q=100 P=50, 10,000 draws / as many normals", 4, _mixture_draws)
    yield Row("univariate prior Q=41 P=20, 10,000 draws / as many normals", 4, _univariate_draws)
    yield Row("KAEM images, univariate prior, P=20 / P=1, batch 64", 1.1, _more_summands)
    for size, target in ((1, 1.10), (64, 1.05), (1024, 1.02)):
        yield Row(f"KAEM images / VAE images, batch {size}", target, _against_vae(size))
    yield Row("KAEM images / VAE images, batch 1, both compiled", 1.10, _against_vae(1, "compiled"))
    yield Row("DDPM-1000 images / KAEM images, 32x32, batch 1", 1000, _diffusion(1000), True)
    yield Row("DDIM-50 images / KAEM images, 32x32, batch 1", 50, _diffusion(50), True)
    yield Row(
        "latent EBM images / KAEM images, batch 1", 5, _against_latent_ebm, True, devices=("cuda",)
    )
    trained = f"after {IS_UPDATES} updates"
    yield Row(f"IS step {trained}, S = 10 x batch / VAE step (CPU)", 2.5, _is_step, only=("cpu",))
    yield Row(f"IS step {trained}, S = 10 x batch / VAE step (GPU)", 1.5, _is_step, only=("cuda",))
    yield Row("ULA step, n=20 / 20 bare passes and a VAE step", 1.15, _ula_step)
    temperatures = _thermodynamic_steps((20, 4), (2, 4))
    yield Row("thermodynamic step, 20 / 2 temperatures", 5, temperatures, devices=("cuda",))
    memory = "memory of a thermodynamic step"
    linear, flat = (20, 4), (10, 16)
    yield Row(
        f"{memory}, 20 / 10 temperatures", 2.05, _thermodynamic_steps(linear, (10, 4)), memory=True
    )
    yield Row(
        f"{memory}, 16 / 4 Langevin steps", 1.05, _thermodynamic_steps(flat, (10, 4)), memory=True
    )
    yield Row(
        f"{memory}, 20 temperatures / one gradient of 20 batches",
        1.5,
        _step_and_gradient,
        memory=True,
    )


def _mixture_draws(device: torch.device) -> tuple[Call, Call]:
    return _draws(MixturePrior(q=100, p=50, n_nodes=200), device)


def _univariate_draws(device: torch.device) -> tuple[Call, Call]:
    return _draws(UnivariatePrior(q=41, p=20), device)


def _draws(prior: torch.nn.Module, device: torch.device) -> tuple[Call, Call]:
    prior, draws = prior.to(device), generator_on(device)
    shape = (10_000, *prior.event_shape)
    return (
        lambda: prior.sample(10_000, draws),
        lambda: torch.randn(shape, generator=draws, device=device),
    )


def _more_summands(device: torch.device) -> tuple[Call, Call]:
    return tuple(
        image_call(kaem_model("kaem_is_univariate", device, prior={"q": 16, "p": p}), 64, device)
        for p in (20, 1)
    )


def _against_vae(size: int, mode: str = "eager") -> Sides:
    def sides(device: torch.device) -> tuple[Call, Call]:
        models = kaem_model("kaem_ula", device), _vae(device)
        for model in models:
            set_mode(model, mode)
        return tuple(image_call(model, size, device) for model in models)

    return sides


def _against_latent_ebm(device: torch.device) -> tuple[Call, Call]:
    settings = {"decoder": CONV, "sigma": 0.3, "latents": 16, "energy_width": 200}
    models = _built("latent_ebm", settings, GREY, device), kaem_model("kaem_ula", device)
    return tuple(image_call(model, 1, device) for model in models)


def _diffusion(steps: int) -> Sides:
    sampler = {"kind": "ddpm" if steps == 1000 else "ddim", "steps": steps}

    def sides(device: torch.device) -> tuple[Call, Call]:
        diffusion = _built("ddpm", {**DIFFUSION, "sampler": sampler}, COLOUR, device)
        return (
            image_call(diffusion, 1, device),
            image_call(kaem_model("kaem_ula", device, COLOUR), 1, device),
        )

    return sides


def _is_step(device: torch.device) -> tuple[Call, Call]:
    sampler = {"proposals": 10 * BATCH, "survivors": 20}
    model = kaem_model("kaem_is", device, prior={"q": 8, "p": 4}, sampler=sampler)
    images = _digits().to(device)
    step = step_call(model, images)
    for _ in range(IS_UPDATES):
        step()
    return step, step_call(_vae(device), images)


def _digits() -> torch.Tensor:
    """A batch of scikit-learn's digits, enlarged to the grey images' size."""
    digits = torch.from_numpy(load_digits().images[:BATCH]).float() / 16
    return interpolate(digits[:, None], GREY[1:], mode="bilinear")


def _ula_step(device: torch.device) -> tuple[Call, Call]:
    model = kaem_model(
        "kaem_ula", device, sampler={"steps": 20, "step_size": 0.01, "persistent": False}
    )
    vae_step = step_call(_vae(device), _noise(device))
    decoder = kaem_model("kaem_ula", device).decoder.requires_grad_(False)
    x = torch.rand(BATCH, *GREY, device=device)

    def bare() -> None:
        h = torch.randn(BATCH, PRIOR["q"], device=device)
        for _ in range(20):
            h.requires_grad_(True)
            (gradient,) = torch.autograd.grad((decoder(h) - x).square().sum(), h)
            h = h.detach() - 1e-4 * gradient
        vae_step()

    return step_call(model, _noise(device)), bare


def _thermodynamic_steps(first: tuple[int, int], second: tuple[int, int]) -> Sides:
    """Two steps, each with its numbers of temperatures and of Langevin steps."""

    def sides(device: torch.device) -> tuple[Call, Call]:
        return tuple(_thermodynamic_step(*numbers, device) for numbers in (first, second))

    return sides


def _thermodynamic_step(temperatures: int, steps: int, device: torch.device) -> Call:
    sampler = {"temperatures": temperatures, "steps": steps, "step_size": 0.01}
    sampler["persistent"] = False
    return step_call(kaem_model("kaem_thermo", device, sampler=sampler), _noise(device))


def _step_and_gradient(device: torch.device) -> tuple[Call, Call]:
    decoder = kaem_model("kaem_ula", device).decoder.requires_grad_(False)
    x = torch.rand(20 * BATCH, *GREY, device=device)

    def gradient() -> None:
        h = torch.randn(20 * BATCH, PRIOR["q"], device=device).requires_grad_()
        torch.autograd.grad((decoder(h) - x).square().sum(), h)

    return _thermodynamic_step(20, 4, device), gradient


SAMPLERS = {
    "kaem_is": {"proposals": 500, "survivors": 20},
    "kaem_is_univariate": {"proposals": 500, "survivors": 20},
    "kaem_ula": {"steps": 5, "step_size": 0.01},
}


def kaem_model(
    name: str, device: torch.device, shape: tuple[int, int, int] = GREY, **settings
) -> torch.nn.Module:
    """KAEM of a registered kind, with these settings in the place of the promises' own."""
    defaults = {"decoder": CONV, "sigma": 0.3, "prior": PRIOR, "sampler": SAMPLERS.get(name)}
    return _built(name, defaults | settings, shape, device)


def _built(
    name: str, settings: dict, shape: tuple[int, int, int], device: torch.device
) -> torch.nn.Module:
    return build(name, merge(settings, MODELS[name].fixed), shape).to(device)


def _noise(device: torch.device) -> torch.Tensor:
    return torch.rand(BATCH, *GREY, device=device)


def _vae(device: torch.device) -> torch.nn.Module:
    settings = {"decoder": CONV, "sigma": 0.3, "latents": PRIOR["q"], "encoder_width": 64}
    return _built("vae", settings, GREY, device)

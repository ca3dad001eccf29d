"""The speeds that this suite promises, each as two calls, of whose cost `bench` takes the ratio.

Models are untrained, which their cost does not notice, but where importance sampling trains: how
many draws survive depends on what was learned.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import interpolate

from benchmark.config.registry import MODELS, build
from benchmark.config.validation import merge
from benchmark.timing.sampling import set_mode
from benchmark.timing.series import Call, generator_on, image_call, step_call
from kaem import MixturePrior, UnivariatePrior

Shape = tuple[int, int, int]

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
BATCH = 100
IS_UPDATES = 300  # of training, by when most proposals have no weight for any image
CONV = {"kind": "conv", "width": 64}
PRIOR = {"q": 16, "p": 4}
IMPORTANCE = {"proposals": 500, "survivors": 20}
SAMPLERS = {
    "kaem_is": IMPORTANCE,
    "kaem_is_univariate": IMPORTANCE,
    "kaem_ula": {"steps": 5, "step_size": 0.01},
}
DIFFUSION = {"channels": [48, 96, 96], "layers": 2, "attention": True, "ema_decay": 0.999}


@dataclass(frozen=True)
class Promise:
    """A ratio of costs, and what it should be.

    Attributes:
        what: the two sides, in words.
        target: the ratio promised; at most it, or at least it where `at_least`.
        sides: builds the two calls on a device; ratio = cost of the first / cost of the second.
        devices: where it is promised; elsewhere it is measured and not judged.
        only: where it can be measured.
        memory: the cost is the calls' peak memory instead of their time.
    """

    what: str
    target: float
    sides: Callable[[torch.device], tuple[Call, Call]]
    at_least: bool = False
    devices: tuple[str, ...] = ("cpu", "cuda")
    only: tuple[str, ...] = ("cpu", "cuda")
    memory: bool = False


def promises() -> list[Promise]:
    """List every promise."""
    mixture = partial(_draws, prior=MixturePrior, q=100, p=50, n_nodes=200)
    univariate = partial(_draws, prior=UnivariatePrior, q=41, p=20)
    images, gpu = "KAEM images / VAE images, batch", ("cuda",)
    importance = f"IS step after {IS_UPDATES} updates, S = 10 x batch / VAE step"
    memory = "memory of a thermodynamic step"
    return [
        Promise("mixture prior Q=100 P=50, 10,000 draws / as many normals", 4, mixture),
        Promise("univariate prior Q=41 P=20, 10,000 draws / as many normals", 4, univariate),
        Promise("KAEM images, univariate prior, P=20 / P=1, batch 64", 1.1, _more_summands),
        Promise(f"{images} 1", 1.10, partial(_against_vae, size=1)),
        Promise(f"{images} 64", 1.05, partial(_against_vae, size=64)),
        Promise(f"{images} 1024", 1.02, partial(_against_vae, size=1024)),
        Promise(f"{images} 1, both compiled", 1.10, partial(_against_vae, size=1, mode="compiled")),
        Promise(
            "DDPM-1000 images / KAEM images, 32x32, batch 1",
            1000,
            partial(_diffusion, kind="ddpm", steps=1000),
            at_least=True,
        ),
        Promise(
            "DDIM-50 images / KAEM images, 32x32, batch 1",
            50,
            partial(_diffusion, kind="ddim", steps=50),
            at_least=True,
        ),
        Promise(
            "latent EBM images / KAEM images, batch 1",
            5,
            _against_latent_ebm,
            at_least=True,
            devices=gpu,
        ),
        Promise(f"{importance} (CPU)", 2.5, _is_step, only=("cpu",)),
        Promise(f"{importance} (GPU)", 1.5, _is_step, only=gpu),
        Promise("ULA step, n=20 / 20 bare passes and a VAE step", 1.15, _ula_step),
        Promise(
            "thermodynamic step, 20 / 2 temperatures",
            5,
            partial(_thermodynamic_steps, first=(20, 4), second=(2, 4)),
            devices=gpu,
        ),
        Promise(
            f"{memory}, 20 / 10 temperatures",
            2.05,
            partial(_thermodynamic_steps, first=(20, 4), second=(10, 4)),
            memory=True,
        ),
        Promise(
            f"{memory}, 16 / 4 Langevin steps",
            1.05,
            partial(_thermodynamic_steps, first=(10, 16), second=(10, 4)),
            memory=True,
        ),
        Promise(
            f"{memory}, 20 temperatures / one gradient of 20 batches",
            1.5,
            _step_and_gradient,
            memory=True,
        ),
    ]


def _draws(device: torch.device, prior: type[torch.nn.Module], **sizes: int) -> tuple[Call, Call]:
    """Draw latents, and as many normal numbers."""
    built, draws = prior(**sizes).to(device), generator_on(device)
    shape = (10_000, *built.event_shape)
    return (
        lambda: built.sample(10_000, draws),
        lambda: torch.randn(shape, generator=draws, device=device),
    )


def _more_summands(device: torch.device) -> tuple[Call, Call]:
    many, one = (kaem_model("kaem_is_univariate", device, prior={"q": 16, "p": p}) for p in (20, 1))
    return image_call(many, 64, device), image_call(one, 64, device)


def _against_vae(device: torch.device, size: int, mode: str = "eager") -> tuple[Call, Call]:
    models = kaem_model("kaem_ula", device), _vae(device)
    for model in models:
        set_mode(model, mode)
    return tuple(image_call(model, size, device) for model in models)


def _against_latent_ebm(device: torch.device) -> tuple[Call, Call]:
    settings = {"decoder": CONV, "sigma": 0.3, "latents": 16, "energy_width": 200}
    models = _built("latent_ebm", settings, GREY, device), kaem_model("kaem_ula", device)
    return tuple(image_call(model, 1, device) for model in models)


def _diffusion(device: torch.device, **sampler) -> tuple[Call, Call]:
    diffusion = _built("ddpm", DIFFUSION | {"sampler": sampler}, COLOUR, device)
    models = diffusion, kaem_model("kaem_ula", device, COLOUR)
    return tuple(image_call(model, 1, device) for model in models)


def _is_step(device: torch.device) -> tuple[Call, Call]:
    """Make an update of a model that has trained on a batch of scikit-learn's digits, enlarged."""
    sampler = {"proposals": 10 * BATCH, "survivors": 20}
    model = kaem_model("kaem_is", device, prior={"q": 8, "p": 4}, sampler=sampler)
    digits = torch.from_numpy(load_digits().images[:BATCH]).float() / 16
    images = interpolate(digits[:, None], GREY[1:], mode="bilinear").to(device)
    step = step_call(model, images)
    for _ in range(IS_UPDATES):
        step()
    return step, step_call(_vae(device), images)


def _ula_step(device: torch.device) -> tuple[Call, Call]:
    sampler = {"steps": 20, "step_size": 0.01, "persistent": False}
    model = kaem_model("kaem_ula", device, sampler=sampler)
    vae_step = step_call(_vae(device), noise(device))
    decoder = kaem_model("kaem_ula", device).generator.requires_grad_(False)
    x = torch.rand(BATCH, *GREY, device=device)

    def bare() -> None:
        h = torch.randn(BATCH, PRIOR["q"], device=device)
        for _ in range(20):
            h = h.detach() - 1e-4 * _gradient(decoder, h, x)
        vae_step()

    return step_call(model, noise(device)), bare


def _thermodynamic_steps(
    device: torch.device, first: tuple[int, int], second: tuple[int, int]
) -> tuple[Call, Call]:
    """Make two steps, each with its numbers of temperatures and of Langevin steps."""
    return thermodynamic_step(*first, device), thermodynamic_step(*second, device)


def _step_and_gradient(device: torch.device) -> tuple[Call, Call]:
    decoder = kaem_model("kaem_ula", device).generator.requires_grad_(False)
    x = torch.rand(20 * BATCH, *GREY, device=device)

    def gradient() -> None:
        _gradient(decoder, torch.randn(20 * BATCH, PRIOR["q"], device=device), x)

    return thermodynamic_step(20, 4, device), gradient


def _gradient(decoder: torch.nn.Module, h: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of the squared error by what the decoder is given."""
    h.requires_grad_()
    return torch.autograd.grad((decoder(h) - x).square().sum(), h)[0]


def thermodynamic_step(temperatures: int, steps: int, device: torch.device) -> Call:
    """Return a call that makes an update with so many temperatures and Langevin steps."""
    sampler = {"temperatures": temperatures, "steps": steps, "step_size": 0.01}
    sampler["persistent"] = False
    return step_call(kaem_model("kaem_thermo", device, sampler=sampler), noise(device))


def kaem_model(name: str, device: torch.device, shape: Shape = GREY, **settings) -> torch.nn.Module:
    """Build KAEM of a registered kind, with these settings in place of the promises' own."""
    defaults = {"decoder": CONV, "sigma": 0.3, "prior": PRIOR, "sampler": SAMPLERS.get(name)}
    return _built(name, defaults | settings, shape, device)


def _vae(device: torch.device) -> torch.nn.Module:
    settings = {"decoder": CONV, "sigma": 0.3, "latents": PRIOR["q"], "encoder_width": 64}
    return _built("vae", settings, GREY, device)


def _built(name: str, settings: dict, shape: Shape, device: torch.device) -> torch.nn.Module:
    return build(name, merge(settings, MODELS[name].fixed), shape).to(device)


def noise(device: torch.device, shape: Shape = GREY) -> Tensor:
    """Return a batch of random images."""
    return torch.rand(BATCH, *shape, device=device)

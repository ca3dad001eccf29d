"""The speeds that this suite promises, each as two calls, of whose cost `bench` takes the ratio.

Models are untrained, which their cost does not notice, but where importance sampling trains: how
many draws survive depends on what was learned.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import interpolate

from benchmark.base.devices import DEVICE_LABELS
from benchmark.config.registry import MODELS, build
from benchmark.config.validation import merge
from benchmark.timing.sampling import set_mode
from benchmark.timing.series import Call, generator_on, image_call, step_call
from kaem import MixturePrior, UnivariatePrior
from kaem.langevin import ula_step
from kaem.posterior import Posterior

Shape = tuple[int, int, int]
Sides = Callable[[torch.device], tuple[Call, Call]]

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
BATCH = 100
IS_UPDATES = 300  # of training, by when most proposals have no weight for any image
MANY, FEW = (20, 4), (10, 4)  # temperatures, and Langevin steps at each
CONV = {"kind": "conv", "width": 64}
PRIOR = {"q": 16, "p": 4}
IMPORTANCE = {"proposals": 500, "survivors": 20}
LANGEVIN = {"step_size": 0.01, "persistent": False}
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
        cost: "time", "memory" at its peak, or "operations": of these the first side's beyond the
            second's is promised, not the ratio.
    """

    what: str
    target: float
    sides: Sides
    at_least: bool = False
    devices: tuple[str, ...] = ("cpu", "cuda")
    only: tuple[str, ...] = ("cpu", "cuda")
    cost: str = "time"


def promises() -> list[Promise]:
    """List every promise."""
    mixture = _draws(MixturePrior, q=100, p=50, n_nodes=200)
    univariate = _draws(UnivariatePrior, q=41, p=20)
    normals, vae = "10,000 draws / as many normals", "KAEM images / VAE images, batch"
    beside_vae = [
        Promise(f"{vae} {n} ({DEVICE_LABELS[device]})", target, _beside_vae(n), only=(device,))
        for device, targets in (("cpu", (1.10, 1.05, 1.02)), ("cuda", (1.15, 1.10, 1.05)))
        for n, target in zip((1, 64, 1024), targets, strict=True)
    ]
    diffusion = "images / KAEM images, 32x32, batch 1"
    importance = f"IS step after {IS_UPDATES} updates, S = 10 x batch / VAE step"
    memory = "memory of a thermodynamic step"
    gradient = "20 temperatures / one gradient of 20 batches"
    gpu = ("cuda",)
    beyond = [
        Promise(what, target, sides, cost="operations")
        for what, target, sides in (
            ("KAEM images beyond the decoder, batch 64", 8, _draw_and_decoder),
            ("a copula's draw beyond the product's, batch 64", 10, _copula_and_product),
            ("a ULA step beyond the decoder and its gradient", 16, _chain_and_gradient),
        )
    ]
    return [
        *beyond,
        Promise(f"mixture prior Q=100 P=50, {normals}", 2.5, mixture),
        Promise(f"univariate prior Q=41 P=20, {normals}", 2.5, univariate),
        Promise("KAEM images, univariate prior, P=20 / P=1, batch 64", 1.1, _more_summands),
        *beside_vae,
        Promise(f"{vae} 1, both compiled", 1.10, _beside_vae(1, "compiled")),
        Promise(f"DDPM-1000 {diffusion}", 1000, _diffusion("ddpm", 1000), at_least=True),
        Promise(f"DDIM-50 {diffusion}", 50, _diffusion("ddim", 50), at_least=True),
        Promise("latent EBM images / KAEM images, batch 1", 5, _latent_ebm, True, devices=gpu),
        Promise(f"{importance} (CPU)", 2.0, _is_step, only=("cpu",)),
        Promise(f"{importance} (GPU)", 1.5, _is_step, only=gpu),
        Promise("ULA step, n=20 / 20 bare passes and a VAE step", 1.15, _ula_step),
        Promise("thermodynamic step, 20 / 2 temperatures", 5, _steps(MANY, (2, 4)), devices=gpu),
        Promise(f"{memory}, 20 / 10 temperatures", 2.05, _steps(MANY, FEW), cost="memory"),
        Promise(f"{memory}, 16 / 4 Langevin steps", 1.05, _steps((10, 16), FEW), cost="memory"),
        Promise(f"{memory}, {gradient}", 1.5, _step_and_gradient, cost="memory"),
    ]


def _draws(prior: type[torch.nn.Module], **sizes: int) -> Sides:
    """Draw latents, and as many normal numbers."""

    def sides(device: torch.device) -> tuple[Call, Call]:
        built, draws = prior(**sizes).to(device), generator_on(device)
        shape = (10_000, *built.event_shape)
        return (
            lambda: built.sample(10_000, draws),
            lambda: torch.randn(shape, generator=draws, device=device),
        )

    return sides


def _more_summands(device: torch.device) -> tuple[Call, Call]:
    many, one = (kaem_model("kaem_is_univariate", device, prior={"q": 16, "p": p}) for p in (20, 1))
    return image_call(many, 64, device), image_call(one, 64, device)


def _beside_vae(size: int, mode: str = "eager") -> Sides:
    def sides(device: torch.device) -> tuple[Call, Call]:
        models = kaem_model("kaem_ula", device), _vae(device)
        for model in models:
            set_mode(model, mode)
        return tuple(image_call(model, size, device) for model in models)

    return sides


def _draw_and_decoder(device: torch.device) -> tuple[Call, Call]:
    model = kaem_model("kaem_ula", device).eval()
    h = model.sample_features(64)
    return torch.no_grad()(lambda: model.sample(64)), torch.no_grad()(lambda: model.decoder(h))


def _copula_and_product(device: torch.device) -> tuple[Call, Call]:
    model = kaem_model("kaem_ula", device, copula={"components": 100}).eval()
    prior = model.prior
    draws = torch.randn(20_000, PRIOR["q"], device=device).cumsum(1) / PRIOR["q"]
    prior.fit(draws.clamp(*prior.domain), 1, torch.Generator().manual_seed(0))
    return lambda: prior.sample_features(64), lambda: prior.densities.sample_features(64)


def _chain_and_gradient(device: torch.device) -> tuple[Call, Call]:
    model = kaem_model("kaem_ula", device).requires_grad_(False)
    x = noise(device)
    posterior, z = Posterior(model, x), model.prior.sample(BATCH)
    return (
        lambda: ula_step(z, posterior.score(z), posterior.domain, 0.01),
        lambda: _gradient(model.decoder, z.detach().clone(), x),
    )


def _diffusion(kind: str, steps: int) -> Sides:
    settings = DIFFUSION | {"sampler": {"kind": kind, "steps": steps}}

    def sides(device: torch.device) -> tuple[Call, Call]:
        models = (
            built_model("ddpm", settings, COLOUR, device),
            kaem_model("kaem_ula", device, COLOUR),
        )
        return tuple(image_call(model, 1, device) for model in models)

    return sides


def _latent_ebm(device: torch.device) -> tuple[Call, Call]:
    settings = {"decoder": CONV, "sigma": 0.3, "latents": 16, "energy_width": 200}
    models = built_model("latent_ebm", settings, GREY, device), kaem_model("kaem_ula", device)
    return tuple(image_call(model, 1, device) for model in models)


def _is_step(device: torch.device) -> tuple[Call, Call]:
    sampler = {"proposals": 10 * BATCH, "survivors": 20}
    model = kaem_model("kaem_is", device, prior={"q": 8, "p": 4}, sampler=sampler)
    return trained_step(model, device), step_call(_vae(device), digits(device))


def trained_step(model: torch.nn.Module, device: torch.device) -> Call:
    """Return an update of a model that has trained on a batch of images. By importance sampling it
    decodes those proposals that have weight for an image: most, before it has learned."""
    step = step_call(model, digits(device))
    for _ in range(IS_UPDATES):
        step()
    return step


def digits(device: torch.device) -> torch.Tensor:
    """Return a batch of scikit-learn's digits, enlarged, (BATCH, 1, 28, 28)."""
    images = torch.from_numpy(load_digits().images[:BATCH]).float() / 16
    return interpolate(images[:, None], GREY[1:], mode="bilinear").to(device)


def _ula_step(device: torch.device) -> tuple[Call, Call]:
    model = kaem_model("kaem_ula", device, sampler=LANGEVIN | {"steps": 20})
    vae_step = step_call(_vae(device), noise(device))
    decoder = kaem_model("kaem_ula", device).decoder.requires_grad_(False)
    x = torch.rand(BATCH, *GREY, device=device)

    def bare() -> None:
        h = torch.randn(BATCH, PRIOR["q"], device=device)
        for _ in range(20):
            h = h.detach() - 1e-4 * _gradient(decoder, h, x)
        vae_step()

    return step_call(model, noise(device)), bare


def _steps(first: tuple[int, int], second: tuple[int, int]) -> Sides:
    return lambda device: (thermodynamic_step(*first, device), thermodynamic_step(*second, device))


def _step_and_gradient(device: torch.device) -> tuple[Call, Call]:
    decoder = kaem_model("kaem_ula", device).decoder.requires_grad_(False)
    x = torch.rand(20 * BATCH, *GREY, device=device)

    def gradient() -> None:
        _gradient(decoder, torch.randn(20 * BATCH, PRIOR["q"], device=device), x)

    return thermodynamic_step(*MANY, device), gradient


def _gradient(decoder: torch.nn.Module, h: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of the squared error by what the decoder is given."""
    h.requires_grad_()
    return torch.autograd.grad((decoder(h) - x).square().sum(), h)[0]


def thermodynamic_step(temperatures: int, steps: int, device: torch.device) -> Call:
    """Return a call that makes an update with so many temperatures and Langevin steps."""
    sampler = LANGEVIN | {"temperatures": temperatures, "steps": steps}
    return step_call(kaem_model("kaem_thermo", device, sampler=sampler), noise(device))


def kaem_model(name: str, device: torch.device, shape: Shape = GREY, **settings) -> torch.nn.Module:
    """Build KAEM of a registered kind, with these settings in place of the promises' own."""
    defaults = {"decoder": CONV, "sigma": 0.3, "prior": PRIOR, "sampler": SAMPLERS.get(name)}
    return built_model(name, defaults | settings, shape, device)


def _vae(device: torch.device) -> torch.nn.Module:
    settings = {"decoder": CONV, "sigma": 0.3, "latents": PRIOR["q"], "encoder_width": 64}
    return built_model("vae", settings, GREY, device)


def built_model(name: str, settings: dict, shape: Shape, device: torch.device) -> torch.nn.Module:
    """Build a model of a registered kind from its settings."""
    return build(name, merge(settings, MODELS[name].fixed), shape).to(device)


def noise(device: torch.device, shape: Shape = GREY) -> Tensor:
    """Return a batch of random images."""
    return torch.rand(BATCH, *shape, device=device)

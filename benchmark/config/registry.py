"""The models by name. Importing this module imports none of them.

A registered model is an `nn.Module` with `loss(x, generator=None) -> (scalar, dict of floats)`,
`sample(n, generator=None) -> (n, C, H, W)` in [0, 1], `nfe` (the network evaluations that a sample
costs) and a class method `from_settings(settings, image_shape)`.
"""

from dataclasses import dataclass, field
from importlib import import_module

from benchmark.base.typed import Strict
from benchmark.config import entries as e


@dataclass(frozen=True)
class ModelSpec:
    """How a registered model is built.

    Attributes:
        target: "module:Class".
        entry: the class of its entries in a configuration.
        variant: that of entries which sample the weights of another; None where there is one way.
        fixed: settings that the name itself implies.
    """

    target: str
    entry: type[Strict]
    variant: type[Strict] | None = None
    fixed: dict = field(default_factory=dict)

    @property
    def decoder(self) -> bool:
        """Whether it has the decoder that the latent models share."""
        return issubclass(self.entry, e.LatentEntry)


def _kaem(prior: str, sampler: str) -> ModelSpec:
    priors = {"mixture": e.MixturePrior, "univariate": e.UnivariatePrior}
    samplers = {
        "importance": e.ImportanceSampling,
        "langevin": e.Langevin,
        "thermodynamic": e.Thermodynamic,
    }
    entry = e.kaem_entry(priors[prior], samplers[sampler])
    fixed = {"prior": {"kind": prior}, "sampler": {"kind": sampler}}
    return ModelSpec("kaem.model:KAEM", entry, fixed=fixed)


MODELS = {
    "kaem_is": _kaem("mixture", "importance"),
    "kaem_ula": _kaem("mixture", "langevin"),
    "kaem_thermo": _kaem("mixture", "thermodynamic"),
    "kaem_is_univariate": _kaem("univariate", "importance"),
    "kaem_ula_univariate": _kaem("univariate", "langevin"),
    "kaem_thermo_univariate": _kaem("univariate", "thermodynamic"),
    "vae": ModelSpec("baselines.vae:VAE", e.VAEEntry),
    "sigma_vae": ModelSpec("baselines.vae:SigmaVAE", e.SigmaVAEEntry),
    "two_stage_vae": ModelSpec("baselines.vae:TwoStageVAE", e.TwoStageVAEEntry),
    "latent_ebm": ModelSpec("baselines.latent_ebm:LatentEBM", e.LatentEBMEntry, e.LatentEBMVariant),
    "pixel_ebm": ModelSpec("baselines.pixel_ebm:PixelEBM", e.PixelEBMEntry, e.PixelEBMVariant),
    "ddpm": ModelSpec("baselines.diffusion:Diffusion", e.DiffusionEntry, e.DiffusionVariant),
}


def build(name: str, settings: dict, image_shape: tuple[int, int, int]):
    """Return the model called `name`, freshly initialised from torch's global generator."""
    module, _, class_name = MODELS[name].target.partition(":")
    return getattr(import_module(module), class_name).from_settings(settings, image_shape)

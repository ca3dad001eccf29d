"""The models by name. Importing this module imports none of them.

To add a model, write an `nn.Module` that fulfils `benchmark.config.protocol.GenerativeModel`,
name it here, and describe its settings under `$defs/models` in `config/schema/config.schema.json`.
"""

from dataclasses import dataclass, field
from importlib import import_module


@dataclass(frozen=True)
class ModelSpec:
    """How a registered model is built.

    Attributes:
        target: "module:Class"; the class has `from_settings(settings, image_shape)`.
        fixed: settings that the name itself implies.
        decoder: whether it has the decoder that the latent models share.
    """

    target: str
    fixed: dict = field(default_factory=dict)
    decoder: bool = True


def _kaem(prior: str, sampler: str) -> ModelSpec:
    return ModelSpec("kaem.model:KAEM", {"prior": {"kind": prior}, "sampler": {"kind": sampler}})


MODELS = {
    "kaem_is": _kaem("mixture", "importance"),
    "kaem_ula": _kaem("mixture", "langevin"),
    "kaem_thermo": _kaem("mixture", "thermodynamic"),
    "kaem_is_univariate": _kaem("univariate", "importance"),
    "kaem_ula_univariate": _kaem("univariate", "langevin"),
    "kaem_thermo_univariate": _kaem("univariate", "thermodynamic"),
    "vae": ModelSpec("baselines.vae:VAE"),
    "sigma_vae": ModelSpec("baselines.vae:SigmaVAE"),
    "two_stage_vae": ModelSpec("baselines.vae:TwoStageVAE"),
    "latent_ebm": ModelSpec("baselines.latent_ebm:LatentEBM"),
    "pixel_ebm": ModelSpec("baselines.pixel_ebm:PixelEBM", decoder=False),
    "ddpm": ModelSpec("baselines.diffusion:Diffusion", decoder=False),
}


def build(name: str, settings: dict, image_shape: tuple[int, int, int]):
    """The model called `name`, freshly initialised from torch's global generator."""
    module, _, class_name = MODELS[name].target.partition(":")
    return getattr(import_module(module), class_name).from_settings(settings, image_shape)

"""The models by name. Importing this module imports none of them.

To add a model, write an `nn.Module` with a class method `from_settings(settings, image_shape)`,
name it here, and describe its settings under `$defs/models` in `config/schema/config.schema.json`.
It has

- `nfe`: the network evaluations that one sample costs.
- `row_wise`: the children that treat each row of a batch alone, and so may take a batch in parts.
- `loss(x, generator=None)`: x (n, C, H, W) in [0, 1] -> scalar to minimise, and floats to log.
- `sample(n, generator=None)`: n images in [0, 1], (n, C, H, W); with a list of generators, one per
  image, whatever the batch.
- `compile(**options)`: compiles what sampling runs, with the options of `torch.compile`.

It may also have

- `diagnostics() -> dict[str, Tensor]`: small arrays that show what it learned, stored before, after
  and a few times during training.
- `needs_index`: true if its `loss` takes `index` (n,), the places of the data in the training set,
  because it keeps something for every datum.
- `learning_rate_factors: dict[str, float]`: children whose parameters learn at the training's rate
  times this.
- `after_update(update, updates)`, called after each step of the optimiser.
- `training_state() -> dict[str, Tensor]` and `load_training_state(state)`: what belongs to a
  training and is not in the state_dict, as Markov chains, to go on after an interruption.
- `sample_latents(n, generator)`: the part of `sample` that draws what the decoder is given.
- `log_evidence(x, passes, generator) -> kaem.likelihood.Evidence`: log p(x) of each datum in nats
  with its standard error, from so many network evaluations for each.
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

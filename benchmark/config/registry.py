"""The models by name. Importing this module imports none of them.

A registered model is an `nn.Module` with `loss(x, generator=None) -> (scalar, dict of floats)`,
which checks x by `kaem.images.checked_images` and changes nothing outside training,
`sample(n, generator=None) -> (n, C, H, W)` in [0, 1] that draws by `kaem.random`, `nfe` (the
network evaluations that a sample costs), `row_wise` (names of its networks, each of which treats
every row of a batch alone) and a class method `from_settings(settings, image_shape)`. One with a
likelihood also has `log_evidence(x, passes, generator)`, a `sigma` that can be set and, unless it
is a KAEM, `posterior_log_likelihood(x, passes, generator)`, as `baselines.vae` has them.
"""

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from benchmark.base.typed import Strict
from benchmark.config import entries as e
from benchmark.config import kaem_entries

if TYPE_CHECKING:
    from benchmark.config.config import Config


@dataclass(frozen=True)
class ModelSpec:
    """How a registered model is built, and what shows it.

    Attributes:
        target: "module:Class".
        entry: the class of its entries in a configuration.
        label: what tables and figures call it.
        colour: its own in every figure, "#rrggbb".
        family: "kaem", "vae", "ebm" or "diffusion".
        variant: that of entries which sample the weights of another; None where there is one way.
        fixed: settings that the name itself implies.
        loss: what its loss is, where that bounds no evidence in nats.
    """

    target: str
    entry: type[Strict]
    label: str
    colour: str
    family: str
    variant: type[Strict] | None = None
    fixed: dict = field(default_factory=dict)
    loss: str | None = None

    @property
    def decoder(self) -> bool:
        """Whether it has the decoder that the latent models share."""
        return issubclass(self.entry, e.LatentEntry)

    @property
    def prior(self) -> str | None:
        """The kind of KAEM's prior."""
        return self.fixed.get("prior", {}).get("kind")


@dataclass(frozen=True)
class Variant:
    """What shows an entry of this name, which is no registered model's, in every run."""

    label: str
    colour: str


def _kaem(prior: str, sampler: str, label: str, colour: str) -> ModelSpec:
    priors = {"mixture": kaem_entries.MixturePrior, "univariate": kaem_entries.UnivariatePrior}
    samplers = {
        "importance": kaem_entries.ImportanceSampling,
        "langevin": kaem_entries.Langevin,
        "thermodynamic": kaem_entries.Thermodynamic,
    }
    entry = kaem_entries.kaem_entry(priors[prior], samplers[sampler])
    fixed = {"prior": {"kind": prior}, "sampler": {"kind": sampler}}
    return ModelSpec("kaem.model:KAEM", entry, label, colour, "kaem", fixed=fixed)


MODELS = {
    "kaem_is": _kaem("mixture", "importance", "KAEM-IS", "#0173b2"),
    "kaem_ula": _kaem("mixture", "langevin", "KAEM-ULA", "#de8f05"),
    "kaem_thermo": _kaem("mixture", "thermodynamic", "KAEM-thermo", "#029e73"),
    "kaem_is_univariate": _kaem("univariate", "importance", "KAEM-IS, univariate", "#d55e00"),
    "kaem_ula_univariate": _kaem("univariate", "langevin", "KAEM-ULA, univariate", "#cc78bc"),
    "kaem_thermo_univariate": _kaem(
        "univariate", "thermodynamic", "KAEM-thermo, univariate", "#ca9161"
    ),
    "vae": ModelSpec("baselines.vae:VAE", e.VAEEntry, "VAE", "#fbafe4", "vae"),
    "sigma_vae": ModelSpec(
        "baselines.vae:SigmaVAE", e.SigmaVAEEntry, "sigma-VAE", "#949494", "vae"
    ),
    "two_stage_vae": ModelSpec(
        "baselines.vae:TwoStageVAE", e.TwoStageVAEEntry, "two-stage VAE", "#ece133", "vae"
    ),
    "latent_ebm": ModelSpec(
        "baselines.latent_ebm:LatentEBM",
        e.LatentEBMEntry,
        "latent EBM",
        "#56b4e9",
        "ebm",
        variant=e.LatentEBMVariant,
    ),
    "latent_ebm_thermo": ModelSpec(
        "baselines.latent_ebm_thermo:ThermodynamicLatentEBM",
        e.ThermodynamicLatentEBMEntry,
        "thermodynamic latent EBM",
        "#1b4dff",
        "ebm",
        variant=e.LatentEBMVariant,
    ),
    "ddpm": ModelSpec(
        "baselines.diffusion:Diffusion",
        e.DiffusionEntry,
        "DDPM",
        "#12711c",
        "diffusion",
        variant=e.DiffusionVariant,
        loss="squared error of the noise",
    ),
    "pixel_ebm": ModelSpec(
        "baselines.pixel_ebm:PixelEBM",
        e.PixelEBMEntry,
        "pixel EBM",
        "#b1400d",
        "ebm",
        variant=e.PixelEBMVariant,
        loss="gap of energies",
    ),
}

VARIANTS = {
    "kaem_thermo_integral": Variant("KAEM-thermo, integral objective", "#6ccf8e"),
    "kaem_copula": Variant("KAEM with a copula (this suite's extension)", "#ff0069"),
    "kaem_is_copula": Variant("KAEM-IS with a copula (this suite's extension)", "#8fae1b"),
    "kaem_thermo_copula": Variant("KAEM-thermo with a copula (this suite's extension)", "#7a00ff"),
    "latent_ebm_gaussian": Variant("latent EBM, without prior steps", "#001c7f"),
    "ddpm_1000": Variant("DDPM-1000", "#8c0800"),
    "ddim_10": Variant("DDIM-10", "#591e71"),
    "ddim_20": Variant("DDIM-20", "#592f0d"),
    "ddim_50": Variant("DDIM-50", "#a23582"),
    "ddim_100": Variant("DDIM-100", "#3c3c3c"),
}


def build(name: str, settings: dict, image_shape: tuple[int, int, int]):
    """Return the model called `name`, freshly initialised from torch's global generator."""
    module, _, class_name = MODELS[name].target.partition(":")
    return getattr(import_module(module), class_name).from_settings(settings, image_shape)


def build_entry(config: "Config", dataset: str, entry: str):
    """Return the model of a configuration's entry for a dataset, freshly initialised.

    Raises:
        ValueError: there is none for images of this shape.
    """
    shape = config.facts(dataset).image_shape
    return build(config.architecture(entry), config.model_settings(dataset, entry), shape)

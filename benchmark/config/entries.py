"""What an entry under `models` may say, one class for each registered model.

Nothing here imports torch. A setting without a value of its own here has its default where the
model is built: what a configuration does not say is no part of a job's identity.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from benchmark.base.typed import (
    Count,
    Label,
    Natural,
    NotNegative,
    Number,
    Positive,
    Share,
    Strict,
)


def _ordered(domain: list) -> list:
    if domain[0] >= domain[1]:
        raise ValueError(f"must be [a, b] with a < b, not {domain}")
    return domain


AtLeastTwo = Annotated[int, Field(ge=2)]
BelowOne = Annotated[NotNegative, Field(lt=1)]
Betas = Annotated[list[BelowOne], Field(min_length=2, max_length=2)]
Domain = Annotated[list[Number], Field(min_length=2, max_length=2), AfterValidator(_ordered)]
Schedule = Literal["constant", "cosine"]
Basis = Literal["bspline", "rbf", "fourier", "chebyshev", "morlet"]


# What models share ------------------------------------------------------------------------------


class TrainingOverride(Strict):
    """What an entry changes of the training that all share."""

    updates: Count = None
    batch_size: Count = None
    learning_rate: Positive = None
    betas: Betas = None
    schedule: Schedule = None


class Training(TrainingOverride):
    """Adam and its schedule, and how long."""

    updates: Count
    batch_size: Count
    learning_rate: Positive
    betas: Betas
    schedule: Schedule


class ConvDecoder(Strict):
    """The small stack of transposed convolutions, for grey images."""

    kind: Literal["conv"]
    width: Count = None


class ConvStackDecoder(Strict):
    """A stack of transposed convolutions with these channels, as `kaem.decoders.ConvStack`."""

    kind: Literal["conv_stack"]
    channels: Annotated[list[Count], Field(min_length=1)]
    start: Count
    first: Literal["projection", "transposed"] = None
    end: Literal["sigmoid", "tanh"] = None

    @property
    def sides(self) -> tuple[int, int]:
        """Of the images that it can make: its last layer keeps the side or doubles it."""
        kept = self.start * 2 ** (len(self.channels) - 1)
        return kept, 2 * kept


class KANDecoder(Strict):
    """A Kolmogorov-Arnold network of widths (Q, 2Q, D).

    Attributes:
        domain: where its inputs lie; KAEM finds it from its prior, for others it is [-4, 4].
    """

    kind: Literal["kan"]
    basis: Basis = None
    degree: Natural = None
    grid_size: AtLeastTwo = None
    domain: Domain = None


Decoder = Annotated[ConvDecoder | ConvStackDecoder | KANDecoder, Field(discriminator="kind")]


class Population(Strict):
    """What chains at several temperatures have, of KAEM and of the latent EBM, as
    `kaem.tempering.Tempering` says it."""

    temperatures: Count
    sweeps: Count = None
    power_start: Positive = None
    power_end: Positive = None
    respace_every: Natural = None
    objective: Literal["posterior", "integral"] = None
    exchange: Literal["both", "alternating"] = None


class Entry(Strict):
    """What every entry under `models` may say, whatever its model."""

    label: Label = None


class TrainedEntry(Entry):
    """An entry with weights of its own.

    Attributes:
        model: the registered model; by default the one with the entry's name.
    """

    model: str = None
    training: TrainingOverride = None


class LatentEntry(TrainedEntry):
    """An entry of a model with the decoder that the latent models share."""

    decoder: Decoder = None


class VariantEntry(Entry):
    """An entry that samples the weights of another in another way.

    Attributes:
        timed_only: whether its images are timed, but not drawn for the metrics.
    """

    weights_of: str
    timed_only: bool = None


# Baselines --------------------------------------------------------------------------------------


class SigmaVAEEntry(LatentEntry):
    """A VAE that learns its sigma.

    Attributes:
        encoder_width: left out where the decoder is a conv_stack, which the encoder mirrors.
    """

    latents: Count
    encoder_width: Count = None


class VAEEntry(SigmaVAEEntry):
    """A VAE."""

    sigma: Positive


class TwoStageVAEEntry(SigmaVAEEntry):
    """A VAE, and a second one of its latents."""

    second_width: Count


class LatentEBMEntry(LatentEntry):
    """A latent-space EBM."""

    sigma: Positive
    latents: Count
    energy_width: Count
    prior_steps: Natural = None
    prior_step_size: Positive = None
    posterior_steps: Count = None
    posterior_step_size: Positive = None

    @property
    def passes(self) -> int | None:
        """As of `KAEMEntry`; the prior's chains do without the decoder."""
        return self.posterior_steps


class ThermodynamicLatentEBMEntry(LatentEBMEntry, Population):
    """A latent-space EBM whose posterior is sampled by a population."""

    posterior_steps: Count

    @property
    def passes(self) -> int:
        """As of `LatentEBMEntry`, over all chains."""
        return self.temperatures * self.posterior_steps * (self.sweeps or 1)


class LatentEBMVariant(VariantEntry):
    """A latent-space EBM with other steps of Langevin in its prior."""

    prior_steps: Natural


class PixelEBMEntry(TrainedEntry):
    """An EBM of the images themselves."""

    width: Count
    steps: Count = None
    sample_steps: Count = None
    step_size: Positive = None
    noise: Positive = None
    largest_gradient: Positive = None
    buffer_size: Count = None
    restart: Share = None
    penalty: NotNegative = None


class PixelEBMVariant(VariantEntry):
    """A pixel EBM with other steps of Langevin."""

    sample_steps: Count


class DiffusionSampler(Strict):
    """How a diffusion model samples; its steps divide the 1,000 of its training."""

    kind: Literal["ddpm", "ddim"]
    steps: Literal[1, 2, 4, 5, 8, 10, 20, 25, 40, 50, 100, 125, 200, 250, 500, 1000]


class DiffusionEntry(TrainedEntry):
    """A diffusion model."""

    channels: Annotated[list[Count], Field(min_length=1)]
    layers: Count
    attention: bool
    dropout: BelowOne = None
    ema_decay: BelowOne
    sampler: DiffusionSampler


class DiffusionVariant(VariantEntry):
    """A diffusion model with another sampler."""

    sampler: DiffusionSampler

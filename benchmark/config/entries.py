"""What an entry under `models` may say, one class for each registered model.

Nothing here imports torch. A setting without a value of its own here has its default where the
model is built: what a configuration does not say is no part of a job's identity.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

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
Optimiser = Literal["adam", "nesterov"]
Schedule = Literal["constant", "cosine", "milestones"]


# What models share ------------------------------------------------------------------------------


class TrainingOverride(Strict):
    """What an entry changes of the training that all share."""

    updates: Count = None
    batch_size: Count = None
    learning_rate: Positive = None
    betas: Betas = None
    optimiser: Optimiser = None
    momentum: BelowOne = None
    schedule: Schedule = None
    milestones: list[Count] = None
    factor: Share = None


class Training(TrainingOverride):
    """The optimiser and its schedule, and how long.

    Attributes:
        betas: of Adam, the optimiser unless told otherwise.
        momentum: of Nesterov's.
        milestones, factor: after each of these updates the learning rate is so many times itself.
    """

    updates: Count
    batch_size: Count
    learning_rate: Positive
    betas: Betas
    schedule: Schedule

    @model_validator(mode="after")
    def _has_milestones(self) -> Self:
        if self.schedule == "milestones" and not self.milestones:
            raise ValueError("schedule: milestones needs milestones: [updates, ...]")
        return self


class EdgeFunctions(Strict):
    """What a prior and a KAN decoder may say of their edge functions, see `kaem.univariate`.

    Attributes:
        base: the function beside the splines.
        train_scale: of basis rbf, whether the bumps' width is learned.
        smooth_start: of basis fourier, whether it starts with little of the high frequencies.
        train_grid: of basis morlet and grid_size 1, in a prior, whether place and scale are
            learned.
    """

    basis: Literal["bspline", "rbf", "fourier", "chebyshev", "morlet"] = None
    degree: Natural = None
    grid_size: Count = None
    base: Literal["silu", "relu", "none"] = None
    train_scale: bool = None
    smooth_start: bool = None
    train_grid: bool = None

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        owners = {"train_scale": "rbf", "smooth_start": "fourier", "train_grid": "morlet"}
        for option, basis in owners.items():
            if getattr(self, option) and (self.basis or "rbf") != basis:
                raise ValueError(f"{option} belongs to basis: {basis}")
        if self.train_grid and (self.grid_size != 1 or self.base):
            raise ValueError("train_grid needs grid_size: 1, and no base")
        if self.grid_size == 1 and not self.train_grid:
            raise ValueError("grid_size must be at least 2, unless basis morlet has train_grid")
        return self


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


class KANDecoder(EdgeFunctions):
    """A Kolmogorov-Arnold network of widths (Q, 2Q, D).

    Attributes:
        domain: where its inputs lie; KAEM finds it from its prior, for others it is [-4, 4].
    """

    kind: Literal["kan"]
    train_grid: Literal[False] = None
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
    second_rate: Positive = None  # times that of the first


class LatentEBMEntry(LatentEntry):
    """A latent-space EBM."""

    sigma: Positive
    latents: Count
    energy_width: Count
    prior_steps: Natural = None
    prior_step_size: Positive = None
    posterior_steps: Count = None
    posterior_step_size: Positive = None
    energy_rate: Positive = None  # times that of the decoder

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

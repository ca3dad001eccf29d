"""What an entry of a KAEM may say: its prior and copula, its posterior sampler, and what moves its
domain."""

from typing import Annotated, Literal

from pydantic import Field, create_model

from benchmark.base.typed import Count, Natural, NotNegative, Positive, Share, Strict
from benchmark.config.entries import (
    AtLeastTwo,
    Domain,
    EdgeFunctions,
    LatentEntry,
    Population,
)

Kernel = Literal["ula", "mala"]


class UnivariatePrior(EdgeFunctions):
    """The energy densities of `kaem.UnivariatePrior`."""

    q: Count
    p: Count
    reference: Literal["flat", "uniform", "gaussian", "lognormal", "learnable_gaussian"] = None
    domain: Domain = None
    n_nodes: AtLeastTwo = None


class MixturePrior(UnivariatePrior):
    """The energy densities of `kaem.MixturePrior`, and whether their weights are trained."""

    train_weights: bool = None


class ImportanceSampling(Strict):
    """The settings of `kaem.ImportanceSampling`."""

    proposals: Count
    survivors: Count
    ess_threshold: Share = None
    resampler: Literal["residual", "systematic", "stratified", "multinomial"] = None


class Langevin(Strict):
    """The settings of `kaem.Langevin`."""

    steps: Count
    step_size: Positive
    kernel: Kernel = None
    persistent: bool = None

    @property
    def passes(self) -> int:
        """Of the decoder with a gradient to the latents, for each datum in an update."""
        return self.steps


class Thermodynamic(Population):
    """The settings of `kaem.Thermodynamic`."""

    steps: Count
    step_size: Positive
    prior_step_size: Positive = None
    kernel: Kernel = None
    persistent: bool = None

    @property
    def passes(self) -> int:
        """As of `Langevin`, over all chains; those without a gradient, for exchanges, are left
        out."""
        return self.temperatures * self.steps * (self.sweeps or 1)


class DomainUpdate(Strict):
    """How often the prior's domain follows the posterior draws, and how."""

    every: Count
    margin: Positive = None
    even: Annotated[Positive, Field(le=1)] = None
    decay: Annotated[Positive, Field(le=1)] = None


class Copula(Strict):
    """The normals of `kaem.CopulaPrior`, and the settings of `kaem.CopulaFit`."""

    components: Count
    first: Count = None
    every: Natural = None
    draws: Count = None
    iterations: Count = None
    in_chains: bool = None


class Regulariser(Strict):
    """The weights of penalties on the edge functions."""

    l1: NotNegative = None
    entropy: NotNegative = None


class KAEMEntry(LatentEntry):
    """What the entries of every KAEM have in common."""

    sigma: Positive
    log_normalizer: Literal["exact", "contrastive"] = None
    prior_rate: Positive = None
    domain_update: DomainUpdate = None
    regulariser: Regulariser = None
    copula: Copula = None

    @property
    def passes(self) -> int | None:
        """Of the decoder that chains take to a posterior draw; None without chains."""
        return getattr(self.sampler, "passes", None)


def kaem_entry(prior: type[Strict], sampler: type[Strict]) -> type[KAEMEntry]:
    """Return the class of the entries of a KAEM with this prior and this posterior sampler."""
    return create_model(
        f"KAEM{prior.__name__}{sampler.__name__}",
        __base__=KAEMEntry,
        prior=(prior, ...),
        sampler=(sampler, ...),
    )

"""The Kolmogorov-Arnold Energy Model (P. Raj, arXiv 2506.14167).

    z ~ p(z),  a product of one-dimensional energy densities       (`kaem.priors`)
    x ~ N(g(h(z)), sigma^2 I)                                      (`kaem.decoders`)

It is trained by maximum likelihood; sampling is one exact draw of z and one pass of g. With the
univariate prior h is drawn, not z: from a table of the density of each sum.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kaem.chains import Index, Population, make_chains
from kaem.copula import CopulaFit, CopulaPrior, Prior
from kaem.decoders import ImageShape
from kaem.domain import FOLLOWED, DomainUpdate, follow, place_decoder
from kaem.draws import RecentDraws
from kaem.errors import KAEMError
from kaem.graphs import Graphs
from kaem.health import HealthWatch, check_loss, check_parameters
from kaem.images import checked_images
from kaem.importance import ImportanceSampling
from kaem.laplace import fewest_passes, laplace_importance
from kaem.likelihood import Evidence
from kaem.losses import chains_loss, importance_loss
from kaem.options import LOG_NORMALIZERS, Regulariser, Sampler, make_arguments, plain
from kaem.posterior import FeaturePosterior
from kaem.random import Generators


class KAEM(nn.Module):
    """KAEM with one of three posterior samplers.

    Args:
        prior: `UnivariatePrior` or `MixturePrior`, or a `CopulaPrior` around one.
        decoder: module from latent features (n, q) to mean images (n, C, H, W).
        sigma: standard deviation of the likelihood, in units of the image range [0, 1].
        sampler: how the posterior is sampled in training.
        log_normalizer: gradient of log Z: "exact" through the quadrature, or "contrastive" from
            as many prior draws as there are data in the batch.
        copula_fit: when the copula of a `CopulaPrior` is fitted; never by default.
        domain_update: move the prior's domain with the posterior; never by default.
        regulariser: sparsity of all edge functions, the decoder's included.
        prior_rate: how many times faster the prior's parameters are to learn than the others; for
            the training loop, which finds it under `learning_rate_factors`.

    Raises:
        ValueError: an option that no training can run with.

    >>> import torch
    >>> from kaem import KAEM, Langevin, MixturePrior
    >>> from kaem.decoders import ConvStack
    >>> prior, decoder = MixturePrior(q=8, p=4), ConvStack.small(q=8, image_shape=(1, 28, 28))
    >>> model = KAEM(prior, decoder, sigma=0.3, sampler=Langevin(steps=5, step_size=0.01))
    >>> loss, info = model.loss(torch.rand(10, 1, 28, 28), index=torch.arange(10))
    >>> loss.backward()
    >>> model.sample(3).shape
    torch.Size([3, 1, 28, 28])
    """

    nfe = 1  # network evaluations per sample: one pass of the decoder
    row_wise = ("decoder",)  # children that treat each row of a batch alone

    def __init__(
        self,
        prior: Prior,
        decoder: nn.Module,
        *,
        sigma: float,
        sampler: Sampler | None = None,
        log_normalizer: str = "exact",
        copula_fit: CopulaFit | None = None,
        domain_update: DomainUpdate | None = None,
        regulariser: Regulariser | None = None,
        prior_rate: float = 1.0,
    ):
        super().__init__()
        sigma, prior_rate = float(sigma), float(prior_rate)
        if not (0 < sigma < math.inf and 0 < prior_rate < math.inf):
            raise ValueError(f"sigma and prior_rate must be positive, got {sigma}, {prior_rate}")
        if log_normalizer not in LOG_NORMALIZERS:
            known = ", ".join(LOG_NORMALIZERS)
            raise ValueError(f"unknown log_normalizer {log_normalizer!r}; known: {known}")
        self.prior, self.decoder, self.sigma = prior, decoder, sigma
        self.sampler = sampler or ImportanceSampling()
        self.log_normalizer = log_normalizer
        self.learning_rate_factors = {"prior": prior_rate}
        self.regulariser = regulariser or Regulariser()
        self.chains = make_chains(self.sampler)
        if copula_fit and not isinstance(prior, CopulaPrior):
            raise ValueError("copula_fit belongs to a CopulaPrior")
        self.copula_fit, self.domain_update = copula_fit, domain_update
        wanted = (copula_fit.draws if copula_fit else 0, FOLLOWED if domain_update else 0)
        self.recent = RecentDraws(max(wanted))
        self.origin: tuple[dict[str, Any], ImageShape] | None = None  # what from_settings was given
        self.updates_done = 0
        self._last_info: dict[str, float] = {}
        self._health = HealthWatch()
        self.graphs = Graphs()

    @classmethod
    def from_settings(cls, settings: dict[str, Any], image_shape: ImageShape) -> "KAEM":
        """Build the model from plain settings, the entries of a configuration file.

        Args:
            settings: {"prior": {"kind": "mixture", "q", "p", ...}, "decoder": {"kind": "conv",
                ...}, "sigma": float, "sampler": {"kind": "langevin", ...}}; optionally
                "log_normalizer", "domain_update": {...}, "regulariser": {...}, "prior_rate", and
                "copula": {"components", ...} for a `CopulaPrior`, with the arguments of
                `CopulaFit`. The inner mappings hold the arguments of the classes that they name.
            image_shape: (C, H, W).

        Numbers and arrays of numpy and torch are taken as Python's.

        Raises:
            ValueError: an unknown kind, a missing entry, or a value out of bounds; TypeError: an
                unknown argument, or a value of another type.
        """
        settings, (channels, height, width) = plain(settings), plain(image_shape)
        image_shape = channels, height, width
        model = cls(**make_arguments(settings, image_shape))
        model.origin = settings, image_shape
        return model

    @property
    def needs_index(self) -> bool:
        """Say whether `loss` needs to know which datum is which: it has persistent chains."""
        return self.chains is not None and self.chains.options.persistent

    def decode(self, z: Tensor) -> Tensor:
        """Return mean images g(h(z)), (n, *event_shape) -> (n, C, H, W) in [0, 1]."""
        images: Tensor = self.decoder(self.prior.decoder_input(z))
        return images

    @torch.no_grad()
    def sample(self, n: int, generator: Generators = None) -> Tensor:
        """Draw n mean images, (n, C, H, W) in [0, 1]; no observation noise is added."""
        return self._images(self.prior.transport(), self.prior.noise(n, generator))

    @torch.no_grad()
    def sample_features(self, n: int, generator: Generators = None) -> Tensor:
        """Draw what the decoder is given, (n, q)."""
        return self._features(self.prior.transport(), self.prior.noise(n, generator))

    def _images(self, transport: Callable[[Tensor], Tensor], noise: Tensor) -> Tensor:
        """Decode the features that the prior makes of noise, (..., n) -> (n, C, H, W)."""
        images: Tensor = self.decoder(transport(noise).T)
        return images

    @staticmethod
    def _features(transport: Callable[[Tensor], Tensor], noise: Tensor) -> Tensor:
        """Return the features that the prior makes of noise, (..., n) -> (n, q)."""
        return transport(noise).T

    def compile(self, **options: Any) -> None:
        """Compile what sampling runs, noise to images and to features, with the options of
        `torch.compile`."""
        self._images = torch.compile(self._images, **options)  # type: ignore[method-assign]
        self._features = torch.compile(self._features, **options)  # type: ignore[method-assign]

    def __getstate__(self) -> dict[str, Any]:
        """Leave what was compiled out of copies: it is bound to this model."""
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        return {k: v for k, v in state.items() if k not in ("_images", "_features")}

    def loss(
        self, x: Tensor, generator: torch.Generator | None = None, index: Index | None = None
    ) -> tuple[Tensor, dict[str, float]]:
        """Estimate -log p(x), averaged over the batch, in nats, and above all its gradient.

        The gradient is that of -E[log p(x|z) + log p(z)] over draws from the posterior, the
        decoder's another if a population's `objective` says so. The value is -log((1/s) sum_s
        p(x|z_s)) with importance sampling, and with chains, which give no estimate of the evidence,
        -E[log p(x|z) + log p(z)]. Every constant and the regulariser's penalty are there.

        Outside training (in eval mode or without gradients) a copy of the chains moves, and nothing
        of it is kept.

        Args:
            x: (b, C, H, W), see `kaem.images.checked_images`.
            index: (b,) integers, places of the data in the training set; for persistent chains.

        Returns:
            The scalar loss, and what there is to log: "log_likelihood" (mean log p(x) in nats for
            importance sampling, mean log p(x|z) at the draws otherwise), and
            "ess", "survivors" (importance sampling); "log_prior", "outside", "walls", "acceptance"
            (MALA) or "stiffness" (ULA); "swap_1", ..., of the swaps of each gap (thermodynamic).

        Raises:
            NonFiniteError, ChainLeftDomainError: the number of the update says when.
            ValueError, TypeError: images or an index that this model cannot take.
        """
        training = self.training and torch.is_grad_enabled()
        try:
            x = checked_images(x, self.decoder)
            check_parameters(self)
            if self.chains is None:
                assert isinstance(self.sampler, ImportanceSampling)
                loss, info, z = importance_loss(self, self.sampler, x, generator)
            else:
                chains = self.chains if training else copy.deepcopy(self.chains)
                loss, info, z = chains_loss(self, chains, x, generator, index)
            loss = loss + self.regulariser.penalty(self)
            check_loss(loss)
        except KAEMError as error:
            raise type(error)(f"update {self.updates_done + 1}: {error}") from error
        if training:
            self._last_info = info
            self.recent.remember(z)
        return loss, info

    @torch.no_grad()
    def after_update(self, update: int, updates: int) -> None:
        """Change what changes over training other than by the optimiser, after its step.

        Anneals or re-spaces the temperatures, moves the domain and a KAN decoder's grids, fits the
        copula, and logs a warning (logger "kaem") where the last updates looked ill.

        Args:
            update: the number of the update that was just made, from 1.
            updates: how many there will be.
        """
        self.updates_done = update
        self._health.see(update, self._last_info)
        if self.chains is not None:
            self.chains.after_update(update, updates)
        moved = False
        if self.domain_update is not None:
            chains = self.chains.store.table if self.chains is not None else None
            moved = follow(self.domain_update, update, self.prior.densities, self.recent, chains)
        if self.copula_fit is not None:
            self.copula_fit.after_update(update, updates, self.prior, self.recent)
        place_decoder(self.decoder, self.prior, update, moved)

    def training_state(self) -> dict[str, Tensor]:
        """Return what a training has beside the state_dict, for a checkpoint.

        Those are the persistent chains, the draws that domain and copula follow, and counts. The
        tensors are the model's own.
        """
        state = {
            "updates_done": torch.tensor(self.updates_done),
            **{f"spell.{name}": torch.tensor(n) for name, n in self._health.spells.items()},
        }
        for part in (self.recent, self.chains):
            state |= {} if part is None else part.training_state()
        return state

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        """Go on with the training of which `training_state` gave the state.

        Args:
            state: on any device; copied to the model's.
        """
        state = {key: value.to(self.prior.nodes.device, copy=True) for key, value in state.items()}
        self.updates_done = int(state["updates_done"])
        for name in self._health.spells:  # a state of older code lacks a newer symptom's
            self._health.spells[name] = int(state.get(f"spell.{name}", 0))
        for part in (self.recent, self.chains):
            if part is not None:
                part.load_training_state(state)

    @property
    def fewest_passes(self) -> int:
        """Return the passes of the decoder that `log_evidence` takes at least, for each datum."""
        return fewest_passes(self.prior.q)

    def log_evidence(
        self, x: Tensor, passes: int, generator: torch.Generator | None = None
    ) -> Evidence:
        """Estimate log p(x) of each datum by `kaem.laplace.laplace_importance`, in nats.

        A stochastic lower bound, the tighter the more passes.

        Args:
            x: (b, C, H, W), see `kaem.images.checked_images`.
            passes: of the decoder, for each datum. With fewer than 400 the error is too small.

        Raises:
            ValueError: too few passes; what `checked_images` raises.
        """
        x = checked_images(x, self.decoder)
        return laplace_importance(FeaturePosterior(self, x), passes, generator)

    @torch.no_grad()
    def diagnostics(self) -> dict[str, Tensor]:
        """Return what there is to look at: {"nodes": (n,), "density": (..., n)} of each latent.

        With a population also its "temperatures".
        """
        marginals = self.prior.marginals()
        shown = {"nodes": marginals.nodes, "density": marginals.log_density.exp()}
        if isinstance(self.chains, Population):
            shown["temperatures"] = self.chains.temperatures
        return shown

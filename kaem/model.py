"""The Kolmogorov-Arnold Energy Model (P. Raj, arXiv 2506.14167).

    z ~ p(z),  a product of one-dimensional energy densities       (`kaem.priors`)
    x ~ N(g(h(z)), sigma^2 I)                                      (`kaem.decoders`)

It is trained by maximum likelihood; sampling is one exact draw of z and one pass of g. (Of h, from
a table of the density of each sum, with the univariate prior: `kaem.priors`.)
"""

import copy
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor, nn

from kaem.chains import LangevinChains, Population
from kaem.decoders import ImageShape, make_decoder
from kaem.errors import KAEMError, NonFiniteError
from kaem.health import HealthWatch
from kaem.importance import ImportanceSampling, select_particles
from kaem.laplace import fewest_passes, laplace_importance
from kaem.likelihood import (
    Evidence,
    log_constant,
    log_likelihood,
    log_mean_exp,
    pairwise_log_likelihood,
    weighted_squared_error,
)
from kaem.options import LOG_NORMALIZERS, DomainUpdate, Regulariser, Sampler, make_sampler
from kaem.posterior import FeaturePosterior, Posterior
from kaem.priors import MixturePrior, UnivariatePrior, make_prior
from kaem.random import Generators
from kaem.thermodynamic import Thermodynamic
from kaem.univariate import EdgeFunctions

REMEMBERED_BATCHES = 100  # of posterior draws, for the next move of the domain
PENALTY_POINTS = 100  # on each layer's domain


class KAEM(nn.Module):
    """KAEM with one of three posterior samplers.

    Args:
        prior: `UnivariatePrior` or `MixturePrior`.
        decoder: module from latent features (n, q) to mean images (n, C, H, W).
        sigma: standard deviation of the likelihood, in units of the image range [0, 1].
        sampler: how the posterior is sampled in training.
        log_normalizer: gradient of log Z: "exact" through the quadrature, or "contrastive" from
            as many prior draws as there are data in the batch.
        domain_update: move the prior's domain with the posterior; never by default.
        regulariser: sparsity of all edge functions, the decoder's included.
        prior_rate: how many times faster the prior's parameters are to learn than the others; for
            the training loop, which finds it under `learning_rate_factors`.
    """

    nfe = 1  # network evaluations per sample: one pass of the decoder
    row_wise = ("decoder",)  # children that treat each row of a batch alone

    def __init__(
        self,
        prior: UnivariatePrior | MixturePrior,
        decoder: nn.Module,
        *,
        sigma: float,
        sampler: Sampler | None = None,
        log_normalizer: str = "exact",
        domain_update: DomainUpdate | None = None,
        regulariser: Regulariser | None = None,
        prior_rate: float = 1.0,
    ):
        super().__init__()
        if not (sigma > 0 and prior_rate > 0):
            raise ValueError(f"sigma and prior_rate must be positive, got {sigma}, {prior_rate}")
        if log_normalizer not in LOG_NORMALIZERS:
            known = ", ".join(LOG_NORMALIZERS)
            raise ValueError(f"unknown log_normalizer {log_normalizer!r}; known: {known}")
        self.prior = prior
        self.decoder = decoder
        self.sigma = sigma
        self.sampler = sampler or ImportanceSampling()
        self.log_normalizer = log_normalizer
        self.learning_rate_factors = {"prior": prior_rate}
        self.domain_update = domain_update
        self.regulariser = regulariser or Regulariser()
        if isinstance(self.sampler, ImportanceSampling):
            self.chains = None
        elif isinstance(self.sampler, Thermodynamic):
            self.chains = Population(self.sampler)
        else:
            self.chains = LangevinChains(self.sampler)
        self.origin: tuple[dict, ImageShape] | None = None  # what from_settings was given
        self.updates_done = 0
        self._last_info: dict[str, float] = {}
        self._recent_draws: deque[Tensor] = deque(maxlen=REMEMBERED_BATCHES)
        self._health = HealthWatch()

    @classmethod
    def from_settings(cls, settings: dict, image_shape: ImageShape) -> "KAEM":
        """Build the model from plain settings, the entries of a configuration file.

        Args:
            settings: {"prior": {"kind": "mixture", "q", "p", ...}, "decoder": {"kind": "conv",
                ...}, "sigma": float, "sampler": {"kind": "langevin", ...}}; optionally
                "log_normalizer", "domain_update": {...}, "regulariser": {...}, "prior_rate". The
                inner mappings hold the arguments of the classes that they name.
            image_shape: (C, H, W).

        Raises:
            ValueError: an unknown kind, or a missing entry; TypeError: an unknown argument.
        """
        missing = [
            name for name in ("prior", "decoder", "sigma", "sampler") if name not in settings
        ]
        if missing:
            raise ValueError(f"KAEM's settings lack {', '.join(missing)}")
        origin = (copy.deepcopy(settings), tuple(image_shape))
        settings = dict(settings)
        prior = make_prior(**settings.pop("prior"))
        decoder = make_decoder(q=prior.q, image_shape=image_shape, **settings.pop("decoder"))
        sampler = make_sampler(**settings.pop("sampler"))
        if "domain_update" in settings:
            settings["domain_update"] = DomainUpdate(**settings["domain_update"])
        if "regulariser" in settings:
            settings["regulariser"] = Regulariser(**settings["regulariser"])
        model = cls(prior, decoder, sampler=sampler, **settings)
        model.origin = origin
        return model

    @property
    def needs_index(self) -> bool:
        """Whether `loss` needs to know which datum is which: it has persistent chains."""
        return self.chains is not None and self.chains.options.persistent

    def decode(self, z: Tensor) -> Tensor:
        """Mean images g(h(z)), (n, *event_shape) -> (n, C, H, W) in [0, 1]."""
        return self.decoder(self.prior.decoder_input(z))

    @torch.no_grad()
    def sample(self, n: int, generator: Generators = None) -> Tensor:
        """n mean images of prior draws, (n, C, H, W) in [0, 1]; no observation noise is added."""
        density = self.prior.feature_density()
        return self._images(density.inverse(), density.uniforms(n, generator))

    @torch.no_grad()
    def sample_latents(self, n: int, generator: Generators = None) -> Tensor:
        """n draws of what the decoder is given, (n, q)."""
        density = self.prior.feature_density()
        return self._features(density.inverse(), density.uniforms(n, generator))

    def _images(self, inverse: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
        """The decoder at F^{-1}(u), (q, n) -> (n, C, H, W)."""
        return self.decoder(inverse(u).T)

    @staticmethod
    def _features(inverse: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
        """F^{-1}(u), (q, n) -> (n, q)."""
        return inverse(u).T

    def compile(self, **options) -> None:
        """Compile what sampling runs, uniforms to images and to latents, with the options of
        `torch.compile`."""
        self._images = torch.compile(self._images, **options)
        self._features = torch.compile(self._features, **options)

    def loss(
        self, x: Tensor, generator: torch.Generator | None = None, index: Tensor | None = None
    ) -> tuple[Tensor, dict[str, float]]:
        """A scalar whose gradient estimates that of -log p(x), averaged over the batch, in nats.

        The gradient is that of -E[log p(x|z) + log p(z)] over draws from the posterior. The value
        is -log((1/s) sum_s p(x|z_s)) with importance sampling; Langevin draws give no estimate of
        the evidence, so with them the value is -E[log p(x|z) + log p(z)] itself. Every constant
        is there. The regulariser's penalty is added to both.

        Args:
            x: (b, C, H, W) in [0, 1].
            index: (b,), places of the data in the training set; for persistent chains.

        Returns:
            The scalar loss, and what there is to log: "log_likelihood" (mean log p(x) in nats for
            importance sampling, mean log p(x|z) at the draws otherwise), and
            "ess", "survivors" (importance sampling); "log_prior", "outside", "acceptance" (MALA);
            "swap_1", ..., the acceptance of the swaps of each gap (thermodynamic).

        Raises:
            NonFiniteError, ChainLeftDomainError: the number of the update says when.
            ValueError: persistent chains without an index.
        """
        try:
            self._check_data(x)
            self._check_parameters()
            if self.chains is None:
                loss, info = self._importance_loss(x, generator)
            else:
                loss, info = self._chains_loss(x, generator, index)
            loss = loss + self.penalty()
            self._check_loss(loss)
        except KAEMError as error:
            raise type(error)(f"update {self.updates_done + 1}: {error}") from error
        self._last_info = info
        return loss, info

    def _importance_loss(self, x: Tensor, generator) -> tuple[Tensor, dict]:
        """All proposals are scored without a graph; only the distinct survivors are decoded again
        for the backward pass."""
        with torch.no_grad():
            z = self.prior.sample(self.sampler.proposals, generator)
            scores = pairwise_log_likelihood(x, self.decode(z), self.sigma)
            particles = select_particles(scores, self.sampler, generator)
            log_evidence = log_mean_exp(scores).mean()
        z, weights = z[particles.indices], particles.weights
        self._remember(z)
        error = weighted_squared_error(x, self.decode(z), weights)
        likelihood = log_constant(x[0].numel(), self.sigma) - error / (2 * self.sigma**2 * len(x))
        log_prior = (weights.sum(0) * self._log_prior(z, len(x), generator)).sum() / len(x)
        expected = likelihood + log_prior
        # The value is the evidence, the gradient is that of the expected log joint density.
        loss = -expected + (expected.detach() - log_evidence)
        return loss, {
            "log_likelihood": log_evidence.item(),
            "ess": particles.ess.mean().item(),
            "survivors": float(len(particles.indices)),
        }

    def _chains_loss(self, x: Tensor, generator, index) -> tuple[Tensor, dict]:
        """The chains move without a graph; one pass at their ends carries the gradient."""
        z, info = self.chains.draw(Posterior(self, x), self.updates_done + 1, generator, index)
        self._remember(z)
        likelihood = log_likelihood(x, self.decode(z), self.sigma).mean()
        log_prior = self._log_prior(z, len(x), generator).mean()
        info = {"log_likelihood": likelihood.item(), "log_prior": log_prior.item(), **info}
        return -(likelihood + log_prior), info

    def _log_prior(self, z: Tensor, draws: int, generator) -> Tensor:
        """log p(z), (n,), with the gradient of log Z that was asked for."""
        if self.log_normalizer == "exact":
            return self.prior.log_prob(z)
        return self.prior.log_prob(z, self.prior.contrastive_log_normalizer(draws, generator))

    def penalty(self) -> Tensor | float:
        """The regulariser's share of the loss."""
        weights = self.regulariser
        if weights.l1 == 0 and weights.entropy == 0:
            return 0.0
        total = 0.0
        for layer in self.modules():
            if isinstance(layer, EdgeFunctions):
                points = torch.linspace(*layer.basis.domain, PENALTY_POINTS).to(layer.w_base)
                l1, entropy = layer.sparsity(points)
                total = total + weights.l1 * l1 + weights.entropy * entropy
        return total

    @torch.no_grad()
    def after_update(self, update: int, updates: int) -> None:
        """To be called after the optimiser's step: what changes over training other than by it.

        Anneals or re-spaces the temperatures, moves the domain, and logs a warning (logger
        "kaem") where the last updates looked ill. Without `domain_update` and the thermodynamic
        sampler the call only serves the warnings and the update's number in errors.

        Args:
            update: the number of the update that was just made, from 1.
            updates: how many there will be.
        """
        self.updates_done = update
        self._health.see(update, self._last_info)
        if self.chains is not None:
            self.chains.after_update(update, updates)
        if self.domain_update and update % self.domain_update.every == 0 and self._recent_draws:
            self._move_domain()

    def _move_domain(self) -> None:
        draws = torch.cat(list(self._recent_draws))
        self._recent_draws.clear()
        # Every stored chain must stay inside, those of data not seen for long included.
        kept = self.chains.store.table if self.needs_index else draws
        ends = torch.stack([*draws.aminmax(), *kept.aminmax()])
        domain = self.prior.covering_domain(ends, self.domain_update.margin)
        self.prior.set_domain(domain, draws, self.domain_update.even)

    def _remember(self, z: Tensor) -> None:
        if self.domain_update:
            self._recent_draws.append(z)

    def training_state(self) -> dict[str, Tensor]:
        """What a training has beside the state_dict, for a checkpoint: the persistent chains, the
        draws that the domain will next follow, and counts. The tensors are the model's own."""
        state = {
            "updates_done": torch.tensor(self.updates_done),
            "spells": torch.tensor(list(self._health.spells.values())),
        }
        # Keys in order of age: batches may differ in size.
        state |= {f"draws.{age:03}": z for age, z in enumerate(self._recent_draws)}
        return state if self.chains is None else state | self.chains.training_state()

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        """Go on with the training of which `training_state` gave the state.

        Args:
            state: on any device; copied to the model's.
        """
        state = {key: value.to(self.prior.nodes.device, copy=True) for key, value in state.items()}
        self.updates_done = int(state["updates_done"])
        spells = zip(self._health.spells, state["spells"].tolist(), strict=True)
        self._health.spells.update(spells)
        self._recent_draws.clear()
        self._recent_draws.extend(state[key] for key in sorted(state) if key.startswith("draws."))
        if self.chains is not None:
            self.chains.load_training_state(state)

    @staticmethod
    def _check_data(x: Tensor) -> None:
        if x.isfinite().all():
            return
        place = (~x.isfinite()).nonzero()[0].tolist()
        images = int((~x.isfinite()).flatten(1).any(1).sum())
        raise NonFiniteError(
            f"{images} of the batch's {len(x)} images hold NaN or infinity; the first at "
            f"image {place[0]}, channel, row and column {place[1:]}"
        )

    @torch.no_grad()
    def _check_parameters(self) -> None:
        if torch.stack([p.sum() for p in self.parameters()]).isfinite().all():
            return
        ill = [name for name, p in self.named_parameters() if not p.isfinite().all()]
        if ill:  # otherwise the sum alone overflowed
            raise NonFiniteError(
                f"parameters are no longer finite: {', '.join(ill)}. Lower the learning rate or "
                "raise sigma."
            )

    @staticmethod
    def _check_loss(loss: Tensor) -> None:
        if not loss.isfinite():
            raise NonFiniteError(
                f"the loss is {loss.item()}, while data and parameters are finite: a likelihood or "
                "a prior density has overflowed. Raise sigma or lower the learning rate."
            )

    @property
    def fewest_passes(self) -> int:
        """Passes of the decoder that `log_evidence` takes at least, for each datum."""
        return fewest_passes(self.prior.q)

    def log_evidence(
        self, x: Tensor, passes: int, generator: torch.Generator | None = None
    ) -> Evidence:
        """log p(x) of each datum by `kaem.laplace.laplace_importance`, in nats.

        A stochastic lower bound, the tighter the more passes. `kaem.estimators` has others.

        Args:
            x: (b, C, H, W).
            passes: passes of the decoder to spend on each datum.

        Raises:
            NonFiniteError: in x; ValueError: too few passes.
        """
        self._check_data(x)
        return laplace_importance(FeaturePosterior(self, x), passes, generator)

    @torch.no_grad()
    def diagnostics(self) -> dict[str, Tensor]:
        """What there is to look at: {"nodes": (n,), "density": (..., n)} of each latent; with a
        population also its "temperatures"."""
        marginals = self.prior.marginals()
        found = {"nodes": marginals.nodes, "density": marginals.log_density.exp()}
        if isinstance(self.sampler, Thermodynamic):
            found["temperatures"] = self.chains.temperatures
        return found

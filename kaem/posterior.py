"""The power posteriors p_t(z|x), proportional to p(x|z)^t p(z), and their gradients in z.

t = 1 is the posterior, t = 0 the prior (paper, arXiv 2506.14167, section 4). A state keeps the
likelihood and the prior apart, so that one evaluation serves every temperature t: replicas swap
temperatures without another pass of the decoder.
"""

from typing import TYPE_CHECKING, NamedTuple, overload

import torch
from torch import Tensor

from kaem.copula import CopulaPrior
from kaem.copula_tables import Copula
from kaem.errors import ChainLeftDomainError, NonFiniteError
from kaem.graphs import kind_of_decoder
from kaem.likelihood import log_likelihood, log_likelihood_slope
from kaem.random import Generators
from kaem.tabulated import PiecewiseLinearDensity

if TYPE_CHECKING:
    from kaem.model import KAEM


STEEPEST = 50.0  # of a copula's score along one latent, which is infinite at the walls


class PosteriorState(NamedTuple):
    """Latents and everything that a Langevin step or a swap needs to know of them.

    Attributes:
        z: (n, *event_shape).
        log_likelihood: (n,), l = log p(x|z) in nats.
        log_prior: (n,), log p(z).
        grad_log_likelihood, grad_log_prior: (n, *event_shape), their gradients in z.
    """

    z: Tensor
    log_likelihood: Tensor
    log_prior: Tensor
    grad_log_likelihood: Tensor
    grad_log_prior: Tensor

    def log_density(self, temperature: float | Tensor) -> Tensor:
        """Return log p_t(z|x) up to a constant of z, (n,)."""
        return temperature * self.log_likelihood + self.log_prior

    def score(self, temperature: float | Tensor) -> Tensor:
        """Return the gradient of log p_t(z|x) in z, (n, *event_shape)."""
        temperature = per_row(temperature, self.z)
        return temperature * self.grad_log_likelihood + self.grad_log_prior

    def where(self, take: Tensor, other: "PosteriorState") -> "PosteriorState":
        """Take this state where `take` (n,) is true, the other elsewhere."""
        return PosteriorState(
            *(torch.where(per_row(take, a), a, b) for a, b in zip(self, other, strict=True))
        )


class Posterior:
    """The posterior of data x under a model whose parameters stand still.

    Latents come in k b rows, k of them for each datum: row j belongs to datum j mod b. The
    prior's table is read once; no parameter ever gets a gradient here.

    Args:
        model: its prior, decoder and sigma are what counts.
        x: (b, C, H, W).
        with_copula: whether the prior has its copula, if it is a `kaem.copula.CopulaPrior`.
    """

    def __init__(self, model: "KAEM", x: Tensor, with_copula: bool = True):
        self.model = model
        self.x, self.image_shape = x.flatten(1), x.shape[1:]
        with torch.no_grad():
            self.marginals = self._marginals()
            self.copula: Copula | None = None
            prior = model.prior
            if with_copula and isinstance(prior, CopulaPrior) and prior.dependent:
                self.copula = prior.copula()
        nodes = self.marginals.nodes
        self.domain = float(nodes[0]), float(nodes[-1])

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Return the shape of one datum's latents."""
        return tuple(self.marginals.batch_shape)

    def _marginals(self) -> PiecewiseLinearDensity:
        return self.model.prior.marginals()

    def decode(self, z: Tensor) -> Tensor:
        """Return mean images, (n, *event_shape) -> (n, C, H, W)."""
        return self.model.decode(z)

    def prior_draws(self, n: int, generator: Generators = None) -> Tensor:
        """Draw n times exactly from the prior, (n, *event_shape)."""
        prior = self.model.prior
        return (prior if self.copula else prior.densities).sample(n, generator)

    def log_likelihood(self, z: Tensor) -> Tensor:
        """Return log p(x|z) in nats with its constant, (k b, *event_shape) -> (k b,)."""
        return log_likelihood(self._data(z, self.x), self.decode(z), self.model.sigma)

    def _data(self, z: Tensor, x: Tensor) -> Tensor:
        """Return the datum of each row, (k b, ...), (b, D) -> (k b, C, H, W)."""
        rows = x.expand(len(z) // len(x), -1, -1).flatten(0, 1)
        images: Tensor = rows.unflatten(1, self.image_shape)
        return images

    def features(self, z: Tensor) -> Tensor:
        """Return the decoder's input, (n, *event_shape) -> (n, q)."""
        return self.model.prior.decoder_input(z)

    def log_densities(self, z: Tensor) -> Tensor:
        """Return log p(z) as it is without a copula, (n, *event_shape) -> (n,)."""
        return self.marginals.log_prob(z).flatten(1).sum(dim=1)

    def log_prior(self, z: Tensor) -> Tensor:
        """Return log p(z), (n, *event_shape) -> (n,)."""
        log_prior = self.log_densities(z)
        if self.copula is None:
            return log_prior
        return log_prior + self.copula.log_density(self.features(z))

    @torch.no_grad()
    def evaluate(self, z: Tensor) -> PosteriorState:
        """Evaluate z by one pass of the decoder and one backward pass to its input."""
        with torch.inference_mode(False), torch.enable_grad():
            z = z.detach().clone().requires_grad_()
            log_likelihood = self.log_likelihood(z)
            (grad_likelihood,) = torch.autograd.grad(log_likelihood.sum(), z)
        z, log_likelihood = z.detach(), log_likelihood.detach()
        log_prior, grad_prior = self.log_densities(z), self.marginals.score(z)
        if self.copula is not None:
            value, grad_copula = self._copula_score(z)
            log_prior, grad_prior = log_prior + value, grad_prior + grad_copula
        return PosteriorState(z, log_likelihood, log_prior, grad_likelihood, grad_prior)

    @torch.no_grad()
    def score(self, z: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
        """Return the gradient of log p_t(z|x) in z, (k b, *event_shape).

        It is all that an unadjusted step needs, and takes a fraction of the calls of `evaluate`.

        Args:
            temperature: t, a float or (k b,).
        """
        with torch.inference_mode(False), torch.enable_grad():
            kind = kind_of_decoder(self.model, z)
            kind = None if kind is None else (type(self), kind)
            grad_likelihood = self.model.graphs.call(kind, self._grad_log_likelihood, z, self.x)
        z = z.detach()
        score = scaled_add(self.marginals.score(z), grad_likelihood, temperature)
        return score if self.copula is None else score.add_(self._copula_score(z)[1])

    def _grad_log_likelihood(self, z: Tensor, x: Tensor) -> Tensor:
        """Return the gradient of log p(x|z) in z, (k b, *event_shape), of flat images x (b, D)."""
        z = z.detach().clone().requires_grad_()
        images = self.decode(z)
        pull = log_likelihood_slope(self._data(z, x), images.detach(), self.model.sigma)
        return torch.autograd.grad(images, z, pull)[0]

    def _copula_score(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the copula adds to log p(z), (n,), and to its gradient in z, held within
        STEEPEST."""
        assert self.copula is not None
        value, score = self.copula.evaluate(self.features(z))
        return value, per_row(score.clamp_(-STEEPEST, STEEPEST), z)

    def check(self, z: Tensor) -> None:
        """Raise where a chain, (k b, *event_shape), is not finite or is outside the domain.

        Raises:
            NonFiniteError, ChainLeftDomainError: with the datum's place in the batch.
        """
        a, b = self.domain
        if ((z >= a) & (z <= b)).all():  # false for NaN
            return
        finite = z.flatten(1).isfinite().all(dim=1)
        if not finite.all():
            row, count = int((~finite).nonzero()[0]), int((~finite).sum())
            raise NonFiniteError(
                f"the Langevin chain of datum {row % len(self.x)} of the batch is not finite, and "
                f"{count} of {len(z)} chains in all. Lower the step size or raise sigma."
            )
        beyond = torch.maximum(a - z, z - b).flatten(1)
        row = int(beyond.amax(dim=1).argmax())
        place = z[row].flatten()[beyond[row].argmax()].item()
        raise ChainLeftDomainError(
            f"the Langevin chain of datum {row % len(self.x)} of the batch is at {place:g}, "
            f"outside the domain [{a:g}, {b:g}]. Move the domain with prior.set_domain only to "
            "one that covers every chain."
        )


class FeaturePosterior(Posterior):
    """The posterior of the decoder's input h instead of the latents: p(h|x), h = h(z), (n, q).

    The decoder sees nothing of z but h. With `UnivariatePrior` that leaves q numbers of q p, and
    none that the data say nothing about.
    """

    def _marginals(self) -> PiecewiseLinearDensity:
        return self.model.prior.feature_density()

    def decode(self, z: Tensor) -> Tensor:
        images: Tensor = self.model.decoder(z)
        return images

    def features(self, z: Tensor) -> Tensor:
        return z

    def prior_draws(self, n: int, generator: Generators = None) -> Tensor:
        return self.model.prior.sample_features(n, generator)


@overload
def per_row(value: Tensor, like: Tensor) -> Tensor: ...
@overload
def per_row(value: float | Tensor, like: Tensor) -> float | Tensor: ...
def per_row(value: float | Tensor, like: Tensor) -> float | Tensor:
    """Shape a number per row, (n,), or per row and feature, to broadcast against `like` (n, ...);
    floats stay."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    return value.reshape(*value.shape, *[1] * (like.ndim - value.ndim))


def scaled_add(a: Tensor, b: Tensor, scale: float | Tensor) -> Tensor:
    """Return a + scale b, (n, ...), where the scale is a float or (n,): one call."""
    if isinstance(scale, Tensor) and scale.ndim:
        return torch.addcmul(a, per_row(scale, b), b)
    return torch.add(a, b, alpha=float(scale))

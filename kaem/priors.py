"""KAEM's priors: products of one-dimensional energy densities, sampled exactly.

Both are made of the component densities of `kaem.components` (paper, arXiv 2506.14167, section 3):
the univariate prior multiplies them, the mixture prior mixes those of a latent.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from kaem.components import ComponentDensities
from kaem.random import Generators, rand_rows
from kaem.splitting import split_sums
from kaem.sums import density_of_sum
from kaem.tabulated import PiecewiseLinearDensity


class ProductPrior(ComponentDensities):
    """What both priors share: the decoder's input has independent features, drawn by inversion."""

    @property
    def densities(self) -> Self:
        """Return the prior itself: where a copula ties features it is what the copula ties."""
        return self

    @abstractmethod
    def feature_density(self) -> PiecewiseLinearDensity:
        """Return the density of each feature, batch shape (q,)."""

    @abstractmethod
    def marginals(self, log_z: Tensor | None = None) -> PiecewiseLinearDensity:
        """Return the density of each latent."""

    @torch.no_grad()
    def sample_features(self, n: int, generator: Generators = None) -> Tensor:
        """Draw what the decoder sees, (n, q), by inverse transform of the density of each feature.

        The cost does not grow with p. How exact it is: see `feature_density`.
        """
        return self.feature_density().sample(n, generator)

    def noise(self, n: int, generator: Generators = None) -> Tensor:
        """Draw the random numbers that `transport` makes features of, (q, n)."""
        return rand_rows(self.q, n, generator, like=self.nodes)

    def transport(self) -> Callable[[Tensor], Tensor]:
        """Return the function from noise to features, (q, n) -> (q, n), of tables alone."""
        return self.feature_density().inverse


class UnivariatePrior(ProductPrior):
    """The theorem's form: latents z (q, p), all independent, p(z) = prod_qp pi_qp(z_qp).

    The decoder sees h_q = sum_p z_qp. Arguments: see `kaem.components.ComponentDensities`.

    >>> import torch
    >>> from kaem import UnivariatePrior
    >>> prior = UnivariatePrior(q=3, p=2, basis="bspline", reference="gaussian")
    >>> z = prior.sample(5)
    >>> z.shape, prior.log_prob(z).shape, prior.decoder_input(z).shape
    (torch.Size([5, 3, 2]), torch.Size([5]), torch.Size([5, 3]))
    >>> bool((prior.icdf(prior.cdf(z)) - z).abs().max() < 1e-3)
    True
    """

    @property
    def event_shape(self) -> tuple[int, int]:
        """Return (q, p), the shape of a draw."""
        return (self.q, self.p)

    def log_prob(self, z: Tensor, log_z: Tensor | None = None) -> Tensor:
        """Return log p(z), (n, q, p) -> (n,); -inf outside the domain. log_z: see `components`."""
        return self.marginals(log_z).log_prob(z).sum(dim=(1, 2))

    @torch.no_grad()
    def sample(self, n: int, generator: Generators = None) -> Tensor:
        """Draw n times exactly by inverse transform, (n, q, p)."""
        return self.marginals().sample(n, generator)

    @torch.no_grad()
    def latents_given(self, features: Tensor, generator: Generators = None) -> Tensor:
        """Draw latents whose sums are given, (n, q) -> (n, q, p), see `kaem.splitting`."""
        return split_sums(self.components(), features, generator)

    def decoder_input(self, z: Tensor) -> Tensor:
        """Return h_q = sum_p z_qp, (n, q, p) -> (n, q)."""
        return z.sum(dim=2)

    def marginals(self, log_z: Tensor | None = None) -> PiecewiseLinearDensity:
        """Return the density of each latent z_qp, batch shape (q, p). log_z: see `components`."""
        return self.components(log_z)

    def feature_density(self) -> PiecewiseLinearDensity:
        """Return the density of each h_q = sum_p z_qp, batch shape (q,): a p-fold convolution.

        Unlike all else here it is an approximation, good to 2e-4 in the distribution function: see
        `kaem.sums`. It carries no gradient.
        """
        with torch.no_grad():
            return self._tables.get("features", self, lambda: density_of_sum(self.components()))


class MixturePrior(ProductPrior):
    """Latents z (q,), each a mixture: p(z) = prod_q sum_p w_qp pi_qp(z_q), sum_p w_qp = 1.

    Args:
        train_weights: learn the mixture weights; otherwise w_qp = 1/p throughout.
        others: see `kaem.components.ComponentDensities`.

    >>> import torch
    >>> from kaem import MixturePrior
    >>> prior = MixturePrior(q=3, p=2, train_weights=True)
    >>> z = prior.sample(5, torch.Generator().manual_seed(0))
    >>> z.shape, prior.log_prob(z).shape
    (torch.Size([5, 3]), torch.Size([5]))
    >>> prior.log_weights().exp().tolist()
    [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]
    """

    weight_logits: Tensor

    def __init__(self, q: int, p: int, *, train_weights: bool = False, **density_options: Any):
        super().__init__(q, p, **density_options)
        logits = torch.zeros(q, p)
        if train_weights:
            self.weight_logits = nn.Parameter(logits)
        else:
            self.register_buffer("weight_logits", logits)

    @property
    def event_shape(self) -> tuple[int]:
        """Return (q,), the shape of a draw."""
        return (self.q,)

    def log_weights(self) -> Tensor:
        """Return log w_qp, (q, p)."""
        return self.weight_logits.log_softmax(dim=1)

    def log_prob(self, z: Tensor, log_z: Tensor | None = None) -> Tensor:
        """Return log p(z), (n, q) -> (n,); -inf outside the domain. log_z: see `components`."""
        return self.marginals(log_z).log_prob(z).sum(dim=1)

    @torch.no_grad()
    def sample(self, n: int, generator: Generators = None) -> Tensor:
        """Draw n times exactly by inverse transform of each latent's own mixture CDF, (n, q)."""
        return self.marginals().sample(n, generator)

    def latents_given(self, features: Tensor, _: Generators = None) -> Tensor:
        """Return the features, (n, q) -> (n, q): they are the latents."""
        return features

    def decoder_input(self, z: Tensor) -> Tensor:
        """Return the latents themselves, (n, q) -> (n, q)."""
        return z

    def feature_density(self) -> PiecewiseLinearDensity:
        """Return the density of each entry of the decoder's input, a latent: batch shape (q,)."""
        return self.marginals()

    def marginals(self, log_z: Tensor | None = None) -> PiecewiseLinearDensity:
        """Return the density of each latent z_q, batch shape (q,): its p components as one table.

        log_z: see `components`.
        """
        if log_z is not None:
            return self._build_marginals(log_z)
        return self._tables.get("marginals", self, self._build_marginals)

    def _build_marginals(self, log_z: Tensor | None = None) -> PiecewiseLinearDensity:
        # A convex combination of densities that are linear on the same cells is linear there.
        log_density = self.components(log_z).log_density + self.log_weights().unsqueeze(-1)
        return PiecewiseLinearDensity(torch.logsumexp(log_density, dim=1), self.nodes)


PRIORS: dict[str, Callable[..., UnivariatePrior | MixturePrior]] = {
    "mixture": MixturePrior,
    "univariate": UnivariatePrior,
}


def make_prior(kind: str, **options: Any) -> UnivariatePrior | MixturePrior:
    """Build the prior called `kind`; ValueError with the known names otherwise."""
    if kind not in PRIORS:
        raise ValueError(f"unknown prior {kind!r}; known: {', '.join(PRIORS)}")
    return PRIORS[kind](**options)

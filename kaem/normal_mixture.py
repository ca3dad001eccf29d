"""A mixture of normals on scores: the dependence that `kaem.copula` gives to latents.

Its joint density over the product of its margins is the density of a Gaussian-mixture copula
(Tewari et al. 2011, "Parametric characterization of multimodal distributions with non-Gaussian
modes"). Joint density, margins, conditionals and draws are all in closed form.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from kaem.expectation_maximisation import (
    Normals,
    fit,
    joint_log_prob,
    kmeans_start,
)
from kaem.random import Generators, randn

DEVIATIONS = 8.0  # of a margin, beyond which hardly a draw lies
DRAWN = 2**22  # numbers of factors, one for each row, that are there at once


class NormalMixture(nn.Module):
    """K normals in d dimensions with weights w_k, means mu_k and covariances L_k L_k^T.

    At first every component is N(0, I): the margins are independent.

    Args:
        components: K.
        dimensions: d.

    >>> import torch
    >>> from kaem.normal_mixture import NormalMixture
    >>> scores = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    >>> mixture = NormalMixture(components=4, dimensions=3).fitted(scores, iterations=8)
    >>> mixture.log_prob(scores).shape, mixture.margin_cdf(scores).shape
    (torch.Size([500]), torch.Size([500, 3]))
    """

    log_weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, components: int, dimensions: int):
        super().__init__()
        if components < 1 or dimensions < 1:
            raise ValueError(f"need at least one of each, got {components=}, {dimensions=}")
        self.register_buffer("log_weights", torch.full((components,), -math.log(components)))
        self.register_buffer("means", torch.zeros(components, dimensions))
        self.register_buffer("factors", torch.eye(dimensions).repeat(components, 1, 1))

    @property
    def components(self) -> int:
        """Return K."""
        return len(self.log_weights)

    @property
    def dimensions(self) -> int:
        """Return d."""
        return self.means.shape[1]

    @property
    def parameter_count(self) -> int:
        """Return how many numbers a fit finds: weights, means and covariances."""
        d = self.dimensions
        return self.components * (1 + d + d * (d + 1) // 2)

    def joint_log_prob(self, s: Tensor) -> Tensor:
        """Return log w_k + log N_k(s), (n, d) -> (n, k)."""
        return joint_log_prob(self._normals(), s)

    def log_prob(self, s: Tensor) -> Tensor:
        """Return the log density, (n, d) -> (n,)."""
        return self.joint_log_prob(s).logsumexp(dim=1)

    def margin_log_prob(self, s: Tensor) -> Tensor:
        """Return each margin's log density, (n, d) -> (n, d)."""
        deviations = self._deviations()
        noise = (s.unsqueeze(1) - self.means) / deviations
        log_scale = self.log_weights[:, None] - deviations.log() - 0.5 * math.log(2 * math.pi)
        return (log_scale - 0.5 * noise.square()).logsumexp(dim=1)

    def margin_cdf(self, s: Tensor) -> Tensor:
        """Return each margin's distribution function, (n, d) -> (n, d)."""
        below: Tensor = torch.special.ndtr((s.unsqueeze(1) - self.means) / self._deviations())
        return (self.log_weights.exp()[:, None] * below).sum(dim=1)

    def spread(self) -> tuple[float, float]:
        """Return the range that holds 8 standard deviations around all means."""
        reach = DEVIATIONS * self._deviations()
        return float((self.means - reach).min()), float((self.means + reach).max())

    def transport(self, noise: Tensor) -> Tensor:
        """Draw s = mu_k + L_k eps. Row i depends on row i alone.

        Args:
            noise: (n, 1 + d), standard normal; the first picks the component, the others are eps.
        """
        return MixtureDraws(self)(noise)

    def sample(self, n: int, generator: Generators = None, component: int | None = None) -> Tensor:
        """Draw n times, (n, d), from one component or from the mixture."""
        noise = randn(n, (1 + self.dimensions,), generator, like=self.means)
        if component is None:
            return self.transport(noise)
        if not 0 <= component < self.components:
            raise ValueError(f"component is 0 to {self.components - 1}, got {component}")
        k = torch.full((n,), component, device=noise.device)
        return MixtureDraws(self).of_components(k, noise[:, 1:])

    def transport_given(self, known: dict[int, Tensor | float], noise: Tensor) -> Tensor:
        """Draw from the conditional given some dimensions, (n, d): those hold their values.

        Args:
            known: values of dimensions, each a number or (n,).
            noise: see `transport`; the component is picked by its weight given the known values.

        Raises:
            ValueError: a dimension that is not there.
        """
        if not set(known) <= set(range(self.dimensions)):
            raise ValueError(f"dimensions are 0 to {self.dimensions - 1}, got {sorted(known)}")
        if not known:
            return self.transport(noise)
        u, normal = torch.special.ndtr(noise[:, :1]), noise[:, 1:]
        order = [*known, *(q for q in range(self.dimensions) if q not in known)]
        mixture = self._reordered(order)
        values = torch.empty_like(normal[:, : len(known)])
        for column, value in zip(values.T, known.values(), strict=True):
            column[:] = value
        noise, log_weights = mixture._explain(values)
        k = _pick(u, torch.softmax(log_weights, dim=1))
        explained = noise[torch.arange(len(k), device=k.device), k]
        eps = torch.cat([explained, normal[:, order[len(known) :]]], dim=1)
        drawn = MixtureDraws(mixture).of_components(k, eps)
        s = torch.empty_like(normal)
        s[:, order] = torch.cat([values, drawn[:, len(known) :]], dim=1)
        return s

    @torch.no_grad()
    def fitted(
        self,
        scores: Tensor,
        iterations: int,
        ridge: float = 1e-3,
        generator: Generators = None,
    ) -> "NormalMixture":
        """Return a mixture fitted to scores (n, d) by EM from this one, in float64.

        A mixture whose components coincide, as a new one's do, starts from k-means++ instead; that
        alone needs random numbers. What EM maximises: see `kaem.expectation_maximisation`.

        Args:
            ridge: variance that is added to each covariance's diagonal.

        Raises:
            ValueError: fewer scores than components, another number of dimensions, NaN or infinity.
        """
        if scores.ndim != 2 or scores.shape[1] != self.dimensions:
            raise ValueError(f"need scores (n, {self.dimensions}), got {tuple(scores.shape)}")
        if len(scores) < self.components:
            few = f"{len(scores)} scores are too few for {self.components} components"
            raise ValueError(f"{few}: fit fewer of them, or to more scores")
        if not scores.isfinite().all():
            raise ValueError("scores hold NaN or infinity")
        scores = scores.double()
        # Around their mean, products of scores lose no digits.
        centre = scores.mean(dim=0)
        scores = scores - centre
        if (self.means == self.means[0]).all() and (self.factors == self.factors[0]).all():
            start = kmeans_start(scores, self.components, ridge, generator)
        else:
            log_weights, means, factors = (tensor.to(scores) for tensor in self._normals())
            start = Normals(log_weights, means - centre, factors)
        normals = fit(start, scores, iterations, ridge)
        return self._like(normals._replace(means=normals.means + centre))

    @torch.no_grad()
    def standardised(self) -> "NormalMixture":
        """Return the mixture with every margin shifted and scaled to mean 0 and variance 1.

        The copula stays the same. Without it the ridge would widen the margins at every fit to
        scores of the last fit's margins.
        """
        weights, means, factors = (tensor.double() for tensor in self._normals())
        weights = torch.softmax(weights, dim=0)[:, None]
        means = means - (weights * means).sum(dim=0)
        squares = means.square() + factors.square().sum(dim=2)
        scale = (weights * squares).sum(dim=0).sqrt()
        return self._like(Normals(self.log_weights, means / scale, factors / scale[:, None]))

    def _normals(self) -> Normals:
        return Normals(self.log_weights, self.means, self.factors)

    def _like(self, normals: Normals) -> "NormalMixture":
        """Return a mixture of these normals with the dtype and device of this one."""
        mixture = NormalMixture(self.components, self.dimensions).to(self.means)
        for name, tensor in normals._asdict().items():
            getattr(mixture, name).copy_(tensor)
        return mixture

    def _deviations(self) -> Tensor:
        """Return the standard deviation of each component's margins, (k, d)."""
        return self.factors.square().sum(dim=2).sqrt()

    def _reordered(self, order: list[int]) -> "NormalMixture":
        """Return the mixture with its dimensions in another order."""
        # L permuted is no longer triangular; with L^T = Q R, L L^T = R^T R.
        factors = torch.linalg.qr(self.factors[:, order].mT)[1].mT
        signs = factors.diagonal(dim1=1, dim2=2).sign().unsqueeze(1)
        return self._like(Normals(self.log_weights, self.means[:, order], factors * signs))

    def _explain(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the noise that puts each component's first dimensions at the values (n, a), as
        (n, k, a), and log w_k + log N_k(values), up to a constant, (n, k)."""
        noise = values.new_empty(len(values), self.components, 0)
        log_weights = self.log_weights
        # By substitution, so that a row's bits depend on no other row.
        for j in range(values.shape[1]):
            mean = self.means[:, j] + (self.factors[:, j, :j] * noise).sum(dim=2)
            scale = self.factors[:, j, j]
            eps = (values[:, j, None] - mean) / scale
            noise = torch.cat([noise, eps.unsqueeze(2)], dim=2)
            log_weights = log_weights - 0.5 * eps.square() - scale.log()
        return noise, log_weights


class MixtureDraws:
    """Draws from a mixture that stands still, in few calls."""

    def __init__(self, mixture: NormalMixture):
        below = torch.softmax(mixture.log_weights.double(), dim=0).cumsum(dim=0)[:-1]
        self._ends = torch.special.ndtri(below).to(mixture.means)
        self._rows = torch.cat([mixture.means.unsqueeze(2), mixture.factors], dim=2)

    def __call__(self, noise: Tensor) -> Tensor:
        """Do what `NormalMixture.transport` says, (n, 1 + d) -> (n, d)."""
        k = torch.bucketize(noise[:, 0].contiguous(), self._ends, right=True)
        return self.of_components(k, noise[:, 1:])

    def of_components(self, k: Tensor, normal: Tensor) -> Tensor:
        """Return mu_k + L_k eps, (n,), (n, d) -> (n, d). Bits of a row depend on no other, unlike
        those of a matrix product."""
        ones = pad(normal, (1, 0), value=1.0)
        pieces = max(1, DRAWN // self._rows[0].numel())
        blocks = zip(k.split(pieces), ones.split(pieces), strict=True)
        drawn = [(self._rows[k] * eps.unsqueeze(1)).sum(dim=2) for k, eps in blocks]
        return drawn[0] if len(drawn) == 1 else torch.cat(drawn)


def _pick(u: Tensor, weights: Tensor) -> Tensor:
    """Return the component that u (n, 1) falls into by its weights (n, k), (n,)."""
    ends = weights.cumsum(dim=-1)
    return (u * ends[..., -1:] >= ends).sum(dim=1).clamp(max=weights.shape[-1] - 1)

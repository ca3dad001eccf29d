"""A mixture of normals on scores: the dependence that `kaem.copula` gives to latents.

Its joint density over the product of its margins is the density of a Gaussian-mixture copula
(Tewari et al. 2011, "Parametric characterization of multimodal distributions with non-Gaussian
modes"). Joint density, margins, conditionals and draws are all in closed form.
"""

import copy
import math

import torch
from torch import Tensor, nn

from kaem.expectation_maximisation import (
    Normals,
    fit,
    full_precision,
    joint_log_prob,
    kmeans_start,
    whitening,
)
from kaem.random import Generators, rand, randn
from kaem.tabulated import PiecewiseLinearDensity, log_integral

DEVIATIONS = 8.0  # of a margin, beyond which hardly a draw lies
NODES = 4096  # of the table of the margins
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
    def numbers(self) -> int:
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

    def place(self, u: Tensor, normal: Tensor) -> Tensor:
        """Draw by inverse transform: s = mu_k + L_k eps. Row i depends on row i alone.

        Args:
            u: (n, 1), uniform on [0, 1), picks the component.
            normal: (n, d), standard normal.
        """
        return self._draw(_pick(u, self.log_weights.exp()), normal)

    def sample(self, n: int, generator: Generators = None, component: int | None = None) -> Tensor:
        """Draw n times, (n, d), from one component or from the mixture."""
        if component is None:
            u = rand(n, (1,), generator, like=self.means)
            return self.place(u, randn(n, (self.dimensions,), generator, like=self.means))
        if not 0 <= component < self.components:
            raise ValueError(f"component is 0 to {self.components - 1}, got {component}")
        normal = randn(n, (self.dimensions,), generator, like=self.means)
        return self._draw(torch.full((n,), component, device=normal.device), normal)

    def place_given(self, known: dict[int, Tensor | float], u: Tensor, normal: Tensor) -> Tensor:
        """Draw from the conditional given some dimensions, (n, d): those hold their values.

        Args:
            known: values of dimensions, each a number or (n,).
            u, normal: see `place`; u picks from the component's weights given the known values.

        Raises:
            ValueError: a dimension that is not there.
        """
        if not set(known) <= set(range(self.dimensions)):
            raise ValueError(f"dimensions are 0 to {self.dimensions - 1}, got {sorted(known)}")
        if not known:
            return self.place(u, normal)
        order = [*known, *(q for q in range(self.dimensions) if q not in known)]
        mixture = self._reordered(order)
        values = torch.empty_like(normal[:, : len(known)])
        for column, value in zip(values.T, known.values(), strict=True):
            column[:] = value
        noise, log_weights = mixture._explain(values)
        k = _pick(u, torch.softmax(log_weights, dim=1))
        explained = noise[torch.arange(len(k), device=k.device), k]
        drawn = mixture._draw(k, torch.cat([explained, normal[:, order[len(known) :]]], dim=1))
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

    def _draw(self, k: Tensor, normal: Tensor) -> Tensor:
        """Return mu_k + L_k eps, row by row; bits of a row depend on no other, unlike those of a
        matrix product."""
        rows = max(1, DRAWN // self.dimensions**2)
        blocks = zip(k.split(rows), normal.split(rows), strict=True)
        noise = [(self.factors[k] * eps.unsqueeze(1)).sum(dim=2) for k, eps in blocks]
        return self.means[k] + torch.cat(noise)

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


class MixtureTables:
    """What chains and draws ask of a mixture that stands still, from tables.

    Attributes:
        margins: G_q and its inverse, batch shape (d,). The mass between any two scores is right
            to 1e-5.
    """

    def __init__(self, mixture: NormalMixture):
        low, high = mixture.spread()
        nodes = torch.linspace(low, high, NODES, dtype=torch.float64, device=mixture.means.device)
        exact = copy.deepcopy(mixture).double()
        log_density = exact.margin_log_prob(nodes[:, None].expand(-1, mixture.dimensions)).T
        log_density -= log_integral(log_density, nodes)[:, None]
        nodes = nodes.to(mixture.means)
        self.margins = PiecewiseLinearDensity(log_density.to(nodes), nodes)
        self._whitening = whitening(mixture._normals())
        self._means, deviations = mixture.means, mixture._deviations()
        self._precisions = deviations.square().reciprocal()
        log_scale = mixture.log_weights[:, None] - deviations.log()
        self._log_scales = log_scale - 0.5 * math.log(2 * math.pi)

    def log_prob(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log density and its gradient, (n, d) -> (n,), (n, d)."""
        noise, log_joint = self._whitening.explain(s)
        value = log_joint.logsumexp(dim=1)
        shares = (log_joint - value[:, None]).exp()
        with full_precision(s):
            return value, -(shares.unsqueeze(2) * noise).flatten(1) @ self._whitening.factors.mT

    def margin_log_prob(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return each margin's log density and its derivative, (n, d) -> (n, d), (n, d)."""
        away = s.unsqueeze(1) - self._means
        pull = away * self._precisions
        log_joint = self._log_scales - 0.5 * away * pull
        value = log_joint.logsumexp(dim=1)
        shares = (log_joint - value.unsqueeze(1)).exp()
        return value, -(shares * pull).sum(dim=1)


def _pick(u: Tensor, weights: Tensor) -> Tensor:
    """Return the component that u (n, 1) falls into, (n,): weights (k,), or (n, k)."""
    ends = weights.cumsum(dim=-1)
    return (u * ends[..., -1:] >= ends).sum(dim=1).clamp(max=weights.shape[-1] - 1)

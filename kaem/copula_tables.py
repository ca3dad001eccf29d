"""A copula that stands still, from tables: what chains and draws ask of it, in few calls.

With the mixture's density f, its margins G_q with densities g_q, and the features' densities pi_q
with distribution functions F_q, at scores s_q = G_q^{-1}(F_q(h_q)) of features h,

    log c = log f(s) - sum_q log g_q(s_q),      ds_q/dh_q = pi_q(h_q) / g_q(s_q)
"""

import copy
import math
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from kaem.expectation_maximisation import whitening
from kaem.inverse import PiecewiseQuadraticInverse, look_up, quadratic_cells
from kaem.normal_mixture import MixtureDraws, NormalMixture
from kaem.precision import full_precision
from kaem.tabulated import PiecewiseLinearDensity, log_integral

NODES = 4096  # of the table of the margins
MANY = 256  # scores of a feature: a CPU is then faster with two small tables than with one large


class MixtureTables:
    """What chains and draws ask of a mixture that stands still, from tables.

    Attributes:
        draws: from it.
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
        self.draws = MixtureDraws(mixture)
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


class Copula:
    """The dependence between features, with all tables that it needs, until the next fit.

    Args:
        densities: of the features, batch shape (q,).
        tables: of the mixture of the scores.
    """

    def __init__(self, densities: PiecewiseLinearDensity, tables: MixtureTables):
        self.densities, self.tables = densities, tables

    def scores(self, h: Tensor) -> Tensor:
        """Return s_q = G_q^{-1}(F_q(h_q)), (n, q) -> (n, q)."""
        # Nearer to 0 or 1 rounding leaves no digits of a score.
        edge = 4 * torch.finfo(h.dtype).eps
        u = self.densities.cdf(h).clamp(edge, 1 - edge)
        return self.tables.margins.inverse(u.T).T

    def log_density(self, h: Tensor) -> Tensor:
        """Return log c, (n, q) -> (n,), differentiable in h."""
        # Beyond the walls the densities are zero. An infinite h would make a NaN of that here.
        h = h.clamp(self.densities.nodes[0], self.densities.nodes[-1])
        value, score = self.evaluate(h.detach())
        return value + (score * (h - h.detach())).sum(dim=1)

    @torch.no_grad()
    def evaluate(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return log c and its gradient in h, (n, q) -> (n,), (n, q)."""
        s = self.scores(h)
        joint, of_joint = self.tables.log_prob(s)
        margins, of_margins = self.tables.margin_log_prob(s)
        slope = (self.densities.log_prob(h) - margins).exp()  # ds/dh
        return joint - margins.sum(dim=1), slope * (of_joint - of_margins)

    @torch.no_grad()
    def features(self, s: Tensor) -> Tensor:
        """Return F_q^{-1}(G_q(s_q)), (n, q) -> (n, q)."""
        rows = s.T.contiguous()
        if rows.is_cpu and rows.shape[1] >= MANY and not torch.compiler.is_compiling():
            return self.densities.inverse(self.tables.margins.cdf(rows.T).T).T
        return self.quantiles(rows).T

    @cached_property
    def quantiles(self) -> "QuantilesOfScores":
        """Return the table from scores to features."""
        return QuantilesOfScores(self.tables.margins, self.densities)

    def __call__(self, noise: Tensor) -> Tensor:
        """Make features of noise, (1 + q, n) -> (q, n)."""
        return self.features(self.tables.draws(noise.T)).T


class QuantilesOfScores:
    """s -> F^{-1}(G(s)), row by row, as one table: no other function than one after the other.

    Its cells end where one of G or F^{-1} does. Within, G(s) is a quadratic and F^{-1} a root.

    Args:
        margins: G, batch shape (q,).
        densities: those of F, batch shape (q,).
    """

    def __init__(self, margins: PiecewiseLinearDensity, densities: PiecewiseLinearDensity):
        dtype, nodes = densities.nodes.dtype, margins.nodes.double()
        slope, below = margins.double_tables()
        density, cumulative = densities.double_tables()
        back = PiecewiseQuadraticInverse(slope, below, nodes)
        # Both are monotone, so that sorted apart they still belong together.
        s = torch.cat([nodes.expand_as(below), back(cumulative)], dim=1).sort(dim=1).values
        u = torch.cat([below, cumulative], dim=1).sort(dim=1).values
        # On a cell G grows by a share x (2 - x) g_0 + x^2 g_1 of what it grows by in all, over
        # g_0 + g_1: of the cell as rounding leaves it, so that F's cells are never left.
        place = (s - nodes[0]) / (nodes[1] - nodes[0])
        cell = (0.5 * (place[:, 1:] + place[:, :-1])).long().clamp_(0, len(nodes) - 2)
        ends = slope.gather(1, cell), slope.gather(1, cell + 1)
        first, second = (torch.lerp(*ends, p - cell) for p in (place[:, :-1], place[:, 1:]))
        share = torch.where(first + second > 0, 2 * first / (first + second), 1.0).clamp_(0, 2)
        start = s.to(dtype)
        width, growth = start.double().diff(dim=1), u.diff(dim=1)
        rise = torch.where(width > 0, growth / width, 0.0)
        bend = torch.where(width > 0, (1 - share) * rise / width, 0.0)
        # The first piece is before all cells, the last behind: there nothing grows.
        grows = [pad(column, (1, 1)) for column in (rise * share, bend)]
        edges, columns = quadratic_cells(density, cumulative, densities.nodes.double(), dtype)
        middle = torch.cat([u[:, :1], 0.5 * (u[:, 1:] + u[:, :-1]), u[:, -1:]], dim=1)
        number = torch.searchsorted(edges, middle, right=True) - 1
        u = torch.cat([u[:, :1], u], dim=1)
        mass = (u - cumulative.gather(1, number)).clamp_(min=0)
        start = torch.cat([start[:, :1], start], dim=1)
        own = [start, *(column.to(dtype) for column in (mass, *grows))]
        self._ends = start[:, 1:].contiguous()
        self._columns = torch.stack([*own, *(c.gather(1, number) for c in columns[1:])])

    def __call__(self, s: Tensor) -> Tensor:
        """Return F^{-1}(G(s)), (q, n) -> (q, n), both contiguous; NaN stays NaN."""
        return look_up(self._ends, self._columns, s)

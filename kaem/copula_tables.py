"""A copula that stands still, from tables: what chains and draws ask of it, in few calls.

With the mixture's density f, its margins G_q with densities g_q, and the features' densities pi_q
with distribution functions F_q, at scores s_q = G_q^{-1}(F_q(h_q)) of features h,

    log c = log f(s) - sum_q log g_q(s_q),      ds_q/dh_q = pi_q(h_q) / g_q(s_q)
"""

import copy
import math

import torch
from torch import Tensor

from kaem.expectation_maximisation import full_precision, whitening
from kaem.normal_mixture import MixtureDraws, NormalMixture
from kaem.tabulated import PiecewiseLinearDensity, log_integral

NODES = 4096  # of the table of the margins


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
        return self.tables.margins.inverse()(u.T).T

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
        return self.densities.inverse()(self.tables.margins.cdf(s).T).T

    def __call__(self, noise: Tensor) -> Tensor:
        """Make features of noise, (1 + q, n) -> (q, n)."""
        return self.features(self.tables.draws(noise.T)).T

"""The one-dimensional component densities that KAEM's priors are made of.

Every one is pi_qp(z) = exp(f_qp(z)) pi_0(z) / Z_qp on a domain [a, b], with a
KAN edge function f_qp and a reference density pi_0 (paper, arXiv 2506.14167, section 3).
exp(f_qp) pi_0 is evaluated at `n_nodes` equally spaced nodes and is linear between them; that
piecewise linear density is the model, so the normaliser, the CDF and its inverse are all in
closed form (see `kaem.tabulated`).
"""

from typing import Any

import torch
from torch import Tensor, nn

from kaem.bases import EVEN, check_domain
from kaem.caching import Tables
from kaem.precision import full_precision
from kaem.random import Generators, rand
from kaem.reference import make_reference
from kaem.tabulated import PiecewiseLinearDensity, log_integral
from kaem.univariate import make_functions

SMALLEST_RANGE = 0.01  # of the samples that a domain is to cover, relative to the old domain


class ComponentDensities(nn.Module):
    """The q x p component densities pi_qp that both priors are made of.

    Args:
        q, p: numbers of outer and inner functions.
        basis: basis of the edge functions, see `kaem.bases.BASES`.
        grid_size: basis functions per edge function.
        reference: reference density pi_0, see `kaem.reference.REFERENCES`.
        domain: (a, b), the support at first; `set_domain` moves it.
        n_nodes: nodes of the piecewise linear density.
        basis_options: {"degree": int} for B-splines, and "base", "train_scale", "smooth_start" of
            `kaem.univariate.EdgeFunctions`; {"train_grid": True} for its `MorletFunctions`.

    The sampling tables follow the parameters by themselves: they are built on first use and
    again after any change that torch counts, see `refresh`.
    """

    nodes: Tensor

    def __init__(
        self,
        q: int,
        p: int,
        *,
        basis: str = "rbf",
        grid_size: int = 20,
        reference: str = "gaussian",
        domain: tuple[float, float] = (-4.0, 4.0),
        n_nodes: int = 200,
        **basis_options: Any,
    ) -> None:
        super().__init__()
        if q < 1 or p < 1 or n_nodes < 2:
            raise ValueError(f"need q >= 1, p >= 1, n_nodes >= 2, got {q}, {p}, {n_nodes}")
        self.q, self.p = q, p
        domain = check_domain(domain)
        self.functions = make_functions(
            q, p, basis=basis, grid_size=grid_size, domain=domain, **basis_options
        )
        self.reference = make_reference(reference, q, p, domain)
        self.register_buffer("nodes", torch.linspace(*domain, n_nodes))
        self._tables = Tables()

    @property
    def domain(self) -> tuple[float, float]:
        """Return (a, b), the support."""
        return float(self.nodes[0]), float(self.nodes[-1])

    def refresh(self) -> None:
        """Forget the tables: for edits through `.data`, which torch does not count as changes."""
        self._tables.clear()

    @torch.no_grad()
    def set_domain(
        self, domain: tuple[float, float], samples: Tensor | None = None, even: float = EVEN
    ) -> None:
        """Move the support, the grid of the basis and the nodes; refit the edge functions.

        Args:
            domain: the new (a, b).
            samples, even: where the grid is to be dense, see `kaem.bases.Basis.place`.

        Raises:
            ValueError: arguments that cannot be used, or a domain beyond the support of pi_0;
                nothing has changed then.
        """
        # What can refuse comes before what changes.
        self.reference.check(domain)
        self.functions.place(domain, samples, even)
        self.reference.place(domain)
        self.nodes.copy_(torch.linspace(*domain, len(self.nodes), dtype=torch.float64))

    def covering_domain(self, samples: Tensor, margin: float = 0.1) -> tuple[float, float]:
        """Widen the samples' range by `margin` of it on both sides, within the support of pi_0.

        Args:
            samples: latents, any shape.
        """
        low, high = samples.min().item(), samples.max().item()
        # Samples on one spot get room too, as a share of the present domain.
        a, b = self.domain
        room = margin * max(high - low, SMALLEST_RANGE * (b - a))
        lowest, highest = self.reference.support
        return max(low - room, lowest), min(high + room, highest)

    def log_normalizer(self) -> Tensor:
        """Return log Z_qp, (q, p), differentiable: the trapezoid rule is exact for this density."""
        return log_integral(self._log_unnormalised(), self.nodes)

    def contrastive_log_normalizer(self, n: int, generator: Generators = None) -> Tensor:
        """Return log Z_qp, (q, p), exact in value; estimate its gradient from n prior draws.

        grad log Z_qp = E_{z ~ pi_qp}[grad(f_qp(z) + log pi_0(z))], the "contrastive divergence"
        form in which the paper trains (arXiv 2506.14167, section 4).
        """
        unnormalised = PiecewiseLinearDensity(self._log_unnormalised(), self.nodes)
        with torch.no_grad():
            z = self.icdf(rand(n, (self.q, self.p), generator, like=self.nodes))
            value = self.log_normalizer()
        estimate = unnormalised.log_prob(z).mean(dim=0)
        return value + (estimate - estimate.detach())

    def components(self, log_z: Tensor | None = None) -> PiecewiseLinearDensity:
        """Return the component densities, batch shape (q, p).

        Args:
            log_z: (q, p), log Z_qp with a gradient of the caller's choice; exact by default.
        """
        if log_z is not None:
            return self._build_components(log_z)
        return self._tables.get("components", self, self._build_components)

    @torch.no_grad()
    def cdf(self, z: Tensor) -> Tensor:
        """Return the distribution functions F_qp, elementwise: (n, q, p) -> (n, q, p)."""
        return self.components().cdf(z)

    @torch.no_grad()
    def icdf(self, u: Tensor) -> Tensor:
        """Return the quantile functions F_qp^{-1}, elementwise: (n, q, p) -> (n, q, p)."""
        return self.components().icdf(u)

    def _log_unnormalised(self) -> Tensor:
        with full_precision(self.nodes):
            return self.functions.curves(self.nodes) + self.reference(self.nodes)

    def _build_components(self, log_z: Tensor | None = None) -> PiecewiseLinearDensity:
        log_density = self._log_unnormalised()
        if log_z is None:
            log_z = log_integral(log_density, self.nodes)
        return PiecewiseLinearDensity(log_density - log_z.unsqueeze(-1), self.nodes)

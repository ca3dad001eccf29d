"""KAEM's priors: products of one-dimensional energy densities, sampled exactly.

Every component density is pi_qp(z) = exp(f_qp(z)) pi_0(z) / Z_qp on a domain [a, b], with a
KAN edge function f_qp and a reference density pi_0 (paper, arXiv 2506.14167, section 3).
exp(f_qp) pi_0 is evaluated at `n_nodes` equally spaced nodes and is linear between them; that
piecewise linear density is the model, so the normaliser, the CDF and its inverse are all in
closed form (see `kaem.tabulated`).
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from kaem.bases import EVEN, check_domain
from kaem.random import Generators, rand
from kaem.reference import make_reference
from kaem.tabulated import PiecewiseLinearDensity, log_integral
from kaem.univariate import EdgeFunctions

# Of the nodes, for the density of a sum of p latents: this over p, the sum being the smoother the
# more there are, and at most the second.
REFINEMENT, FINEST = 40, 4
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
        basis_options: {"degree": int} for B-splines.

    The sampling tables follow the parameters by themselves: they are built on first use and
    again after any change of a parameter.
    """

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
        **basis_options,
    ):
        super().__init__()
        if q < 1 or p < 1 or n_nodes < 2:
            raise ValueError(f"need q >= 1, p >= 1, n_nodes >= 2, got {q}, {p}, {n_nodes}")
        self.q, self.p = q, p
        domain = check_domain(domain)
        self.functions = EdgeFunctions(
            q, p, basis=basis, grid_size=grid_size, domain=domain, **basis_options
        )
        self.reference = make_reference(reference, q, p, domain)
        self.register_buffer("nodes", torch.linspace(*domain, n_nodes))
        self._cache: dict[str, tuple[Tensor, PiecewiseLinearDensity]] = {}
        self._parts = tuple(self.modules())

    @property
    def domain(self) -> tuple[float, float]:
        """(a, b), the support."""
        return float(self.nodes[0]), float(self.nodes[-1])

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
        """The samples' range, wider by `margin` of it on both sides, within the support of pi_0.

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
        """log Z_qp, (q, p), differentiable: the trapezoid rule is exact for this density."""
        return log_integral(self._log_unnormalised(), self.nodes)

    def contrastive_log_normalizer(self, n: int, generator: Generators = None) -> Tensor:
        """log Z_qp, (q, p): its value is exact, its gradient is estimated from n prior draws.

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
        """The component densities, batch shape (q, p).

        Args:
            log_z: (q, p), log Z_qp with a gradient of the caller's choice; exact by default.
        """
        if log_z is not None:
            return self._build_components(log_z)
        return self._cached("components", self._build_components)

    @torch.no_grad()
    def cdf(self, z: Tensor) -> Tensor:
        """The components' distribution functions F_qp, elementwise: (n, q, p) -> (n, q, p)."""
        return self.components().cdf(z)

    @torch.no_grad()
    def icdf(self, u: Tensor) -> Tensor:
        """The components' quantile functions F_qp^{-1}, elementwise: (n, q, p) -> (n, q, p)."""
        return self.components().icdf(u)

    def _log_unnormalised(self) -> Tensor:
        return self.functions.curves(self.nodes) + self.reference(self.nodes)

    def _build_components(self, log_z: Tensor | None = None) -> PiecewiseLinearDensity:
        log_density = self._log_unnormalised()
        if log_z is None:
            log_z = log_integral(log_density, self.nodes)
        return PiecewiseLinearDensity(log_density - log_z.unsqueeze(-1), self.nodes)

    def _cached(self, name: str, build) -> PiecewiseLinearDensity:
        """`build()`, remembered until a parameter changes; never remembered with a graph."""
        if torch.is_grad_enabled():
            return build()
        # Values are compared, which is cheap beside the table: versions and addresses of tensors
        # miss edits through `.data`, and memory that is freed and given out again.
        state = torch.cat([tensor.detach().flatten() for tensor in self._tensors()])
        if name not in self._cache or not _same(self._cache[name][0], state):
            self._cache[name] = (state, build())
        return self._cache[name][1]

    def _tensors(self) -> Iterator[Tensor]:
        """Parameters and buffers. `Module.parameters` and `Module.buffers`, which look for
        duplicates, take as long as a whole draw of one latent vector."""
        for module in self._parts:
            yield from module._parameters.values()
            yield from module._buffers.values()


def _same(old: Tensor, new: Tensor) -> bool:
    return old.dtype == new.dtype and old.device == new.device and torch.equal(old, new)


class UnivariatePrior(ComponentDensities):
    """The theorem's form: latents z (q, p), all independent, p(z) = prod_qp pi_qp(z_qp).

    The decoder sees h_q = sum_p z_qp. Arguments: see `ComponentDensities`.
    """

    @property
    def event_shape(self) -> tuple[int, int]:
        return (self.q, self.p)

    def log_prob(self, z: Tensor, log_z: Tensor | None = None) -> Tensor:
        """log p(z), (n, q, p) -> (n,); -inf outside the domain. log_z: see `components`."""
        return self.marginals(log_z).log_prob(z).sum(dim=(1, 2))

    @torch.no_grad()
    def sample(self, n: int, generator: Generators = None) -> Tensor:
        """n exact draws by inverse transform, (n, q, p)."""
        return self.marginals().sample(n, generator)

    @torch.no_grad()
    def sample_features(self, n: int, generator: Generators = None) -> Tensor:
        """n draws of what the decoder sees, (n, q), by inverse transform of the density of each
        sum: the cost does not grow with p. Their distribution function is that of summed draws to
        2e-4 at 200 nodes, see `feature_density`."""
        return self.feature_density().sample(n, generator)

    def decoder_input(self, z: Tensor) -> Tensor:
        """h_q = sum_p z_qp, (n, q, p) -> (n, q)."""
        return z.sum(dim=2)

    def marginals(self, log_z: Tensor | None = None) -> PiecewiseLinearDensity:
        """The density of each latent z_qp, batch shape (q, p). log_z: see `components`."""
        return self.components(log_z)

    def feature_density(self) -> PiecewiseLinearDensity:
        """The density of each h_q = sum_p z_qp, batch shape (q,): a convolution of p densities.

        Unlike all else here it is an approximation, by the trapezoid rule on a grid finer than the
        prior's; its error falls as the square of the spacing. It carries no gradient.
        """
        with torch.no_grad():
            return self._cached("features", self._build_feature_density)

    def _build_feature_density(self) -> PiecewiseLinearDensity:
        density = self.components().log_density.double().exp()  # (q, p, n)
        n, (a, b) = density.shape[-1], self.domain
        refinement = min(max(REFINEMENT // self.p, 1), FINEST)
        fine = torch.nn.functional.interpolate(
            density, refinement * (n - 1) + 1, mode="linear", align_corners=True
        )
        if self.p > 1:
            # The densities may jump to zero at the ends of the domain: half the value there.
            fine[..., [0, -1]] *= 0.5
        fine *= (b - a) / (fine.shape[-1] - 1)
        total = fine[:, 0].unsqueeze(0)
        for p in range(1, self.p):
            kernel = fine[:, p].flip(-1).unsqueeze(1)
            total = torch.nn.functional.conv1d(
                total, kernel, padding=fine.shape[-1] - 1, groups=self.q
            )
        ends = (a * self.p, b * self.p)
        nodes = torch.linspace(*ends, total.shape[-1], dtype=torch.float64, device=total.device)
        log_density = total.squeeze(0).clamp_min(torch.finfo(torch.float64).tiny).log()
        log_density -= log_integral(log_density, nodes).unsqueeze(-1)
        return PiecewiseLinearDensity(log_density.to(self.nodes.dtype), nodes.to(self.nodes.dtype))


class MixturePrior(ComponentDensities):
    """Latents z (q,), each a mixture: p(z) = prod_q sum_p w_qp pi_qp(z_q), sum_p w_qp = 1.

    Args:
        train_weights: learn the mixture weights; otherwise w_qp = 1/p throughout.
        others: see `ComponentDensities`.
    """

    def __init__(self, q: int, p: int, *, train_weights: bool = False, **density_options):
        super().__init__(q, p, **density_options)
        logits = torch.zeros(q, p)
        if train_weights:
            self.weight_logits = nn.Parameter(logits)
        else:
            self.register_buffer("weight_logits", logits)

    @property
    def event_shape(self) -> tuple[int]:
        return (self.q,)

    def log_weights(self) -> Tensor:
        """log w_qp, (q, p)."""
        return self.weight_logits.log_softmax(dim=1)

    def log_prob(self, z: Tensor, log_z: Tensor | None = None) -> Tensor:
        """log p(z), (n, q) -> (n,); -inf outside the domain. log_z: see `components`."""
        return self.marginals(log_z).log_prob(z).sum(dim=1)

    @torch.no_grad()
    def sample(self, n: int, generator: Generators = None) -> Tensor:
        """n exact draws by inverse transform of each latent's own mixture CDF, (n, q)."""
        return self.marginals().sample(n, generator)

    def sample_features(self, n: int, generator: Generators = None) -> Tensor:
        """n exact draws of what the decoder sees: of the latents themselves, (n, q)."""
        return self.sample(n, generator)

    def decoder_input(self, z: Tensor) -> Tensor:
        """The latents themselves, (n, q) -> (n, q)."""
        return z

    def feature_density(self) -> PiecewiseLinearDensity:
        """The density of each entry of the decoder's input: of each latent, batch shape (q,)."""
        return self.marginals()

    def marginals(self, log_z: Tensor | None = None) -> PiecewiseLinearDensity:
        """The density of each latent z_q, batch shape (q,): its p components as one table.

        log_z: see `components`.
        """
        if log_z is not None:
            return self._build_marginals(log_z)
        return self._cached("marginals", self._build_marginals)

    def _build_marginals(self, log_z: Tensor | None = None) -> PiecewiseLinearDensity:
        # A convex combination of densities that are linear on the same cells is linear there.
        log_density = self.components(log_z).log_density + self.log_weights().unsqueeze(-1)
        return PiecewiseLinearDensity(torch.logsumexp(log_density, dim=1), self.nodes)


PRIORS = {"mixture": MixturePrior, "univariate": UnivariatePrior}


def make_prior(kind: str, **options) -> UnivariatePrior | MixturePrior:
    """The prior called `kind`; ValueError with the known names otherwise."""
    if kind not in PRIORS:
        raise ValueError(f"unknown prior {kind!r}; known: {', '.join(PRIORS)}")
    return PRIORS[kind](**options)

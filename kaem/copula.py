"""A prior with dependent latents: KAEM's densities, tied by a copula (this suite's extension).

A product of densities cannot hold the dependence of real images' latents. A copula adds it and
leaves every density exactly what it is (Sklar 1959). With features h, what the decoder sees, that
have the densities pi_q and distribution functions F_q,

    p(h) = c(F_1(h_1), ..., F_q(h_q)) prod_q pi_q(h_q)

c is the copula of a mixture of normals (Tewari et al. 2011; Bilgrau et al. 2016, the R package
GMCM): with its density f on scores s and its margins G_q with densities g_q,

    s_q = G_q^{-1}(F_q(h_q)),      c = f(s) / prod_q g_q(s_q)

Drawing is one pass: s from the mixture, then h_q = F_q^{-1}(G_q(s_q)). It is learned in two stages
("inference functions for margins", Joe 2005): the densities by KAEM's own gradient, the mixture by
EM on the scores of posterior draws. So no parameter has a gradient through the copula. G_q and its
inverse are a table, see `kaem.normal_mixture`; all else is in closed form.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kaem.caching import Tables
from kaem.copula_tables import Copula, MixtureTables
from kaem.draws import RecentDraws
from kaem.normal_mixture import NormalMixture
from kaem.priors import MixturePrior, UnivariatePrior
from kaem.random import Generators, randn
from kaem.tabulated import PiecewiseLinearDensity


@dataclass(frozen=True)
class CopulaFit:
    """When and how a training fits the copula of its prior to posterior draws.

    Args:
        first: the update after which it is fitted first.
        every: updates between two fits from then on; 0 for none. It is also fitted after the last.
        draws: the latest posterior draws that it is fitted to.
        iterations: of EM in each fit, which starts at the last one's mixture.
        in_chains: the chains feel the copula's score; otherwise the densities' alone.

    >>> from kaem import CopulaFit
    >>> CopulaFit(every=500).due(update=1250, updates=8000)
    True
    """

    first: int = 750
    every: int = 250
    draws: int = 20_000
    iterations: int = 8
    in_chains: bool = True

    def __post_init__(self) -> None:
        if min(self.first, self.draws, self.iterations) < 1 or self.every < 0:
            raise ValueError(
                "a copula's fit needs first, draws and iterations >= 1 and every >= 0, got "
                f"{self.first}, {self.draws}, {self.iterations}, {self.every}"
            )

    def due(self, update: int, updates: int) -> bool:
        """Say whether the copula is fitted after this update of so many."""
        regular = update >= self.first and (
            (update - self.first) % self.every == 0 if self.every else update == self.first
        )
        return regular or update == updates

    def after_update(self, update: int, updates: int, prior: "Prior", recent: RecentDraws) -> None:
        """Fit the prior's copula where the update's number says so."""
        draws = recent.latest(self.draws) if self.due(update, updates) else None
        if draws is not None:
            assert isinstance(prior, CopulaPrior)
            features = prior.decoder_input(draws.to(prior.nodes))
            prior.fit(features, self.iterations, torch.Generator().manual_seed(update))


class CopulaPrior(nn.Module):
    """A prior whose features depend on one another by the copula of a mixture of normals.

    With the mixture prior the features are the latents; with the univariate one they are the sums,
    p(z) = c(H_1(h_1), ...) prod_qp pi_qp(z_qp). Before the first `fit` the features are
    independent.

    Args:
        prior: the densities.
        components: normals of the mixture.

    Raises:
        ValueError: no component, or fewer than two features to tie.

    Attributes:
        densities: `prior`, whose densities the copula leaves as they are.
        mixture: of the scores.

    >>> import torch
    >>> from kaem import CopulaPrior, MixturePrior
    >>> prior = CopulaPrior(MixturePrior(q=3, p=2), components=2)
    >>> draws = prior.sample(500)[:, :1] + 0.1 * torch.randn(500, 3)  # three that are nearly one
    >>> prior.fit(draws, iterations=5)
    >>> z = prior.sample(1000)
    >>> bool(z.T.corrcoef()[0, 1] > 0.5)
    True
    >>> prior.sample_given(4, {0: 1.0})[:, 0].tolist()
    [1.0, 1.0, 1.0, 1.0]
    """

    def __init__(self, prior: UnivariatePrior | MixturePrior, components: int):
        super().__init__()
        if prior.q < 2:
            raise ValueError(f"a copula ties two features or more together, got q = {prior.q}")
        self.densities = prior
        self.mixture = NormalMixture(components, prior.q)
        self.q = prior.q
        self._tables = Tables()

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Return the shape of a draw."""
        return self.densities.event_shape

    @property
    def nodes(self) -> Tensor:
        """Return the nodes of the densities, see `kaem.components`."""
        return self.densities.nodes

    @property
    def domain(self) -> tuple[float, float]:
        """Return (a, b), the support."""
        return self.densities.domain

    def refresh(self) -> None:
        """Forget the tables, see `kaem.components`."""
        self._tables.clear()
        self.densities.refresh()

    @property
    def dependent(self) -> bool:
        """Say whether the features depend on one another, as they do from the first fit on."""
        with torch.no_grad():
            return self._tables.get("dependent", self.mixture, self._is_dependent)

    def _is_dependent(self) -> bool:
        eye = torch.eye(self.q).to(self.nodes)
        return bool(self.mixture.means.any() or (self.mixture.factors != eye).any())

    @torch.no_grad()
    def copula(self) -> Copula:
        """Return the copula with its tables, of the present parameters."""
        return self._tables.get("copula", self, self._build_copula)

    def _build_copula(self) -> Copula:
        tables = self._tables.get("mixture", self.mixture, lambda: MixtureTables(self.mixture))
        return Copula(self.feature_density(), tables)

    def log_prob(self, z: Tensor, log_z: Tensor | None = None) -> Tensor:
        """Return log p(z), (n, *event_shape) -> (n,); -inf outside the domain.

        Differentiable in z, and in the densities' parameters through these. log_z: see there.
        """
        return self.densities.log_prob(z, log_z) + self.log_copula(self.decoder_input(z))

    def log_copula(self, h: Tensor) -> Tensor:
        """Return log c of features, (n, q) -> (n,), differentiable in h."""
        return self.copula().log_density(h)

    def scores(self, h: Tensor) -> Tensor:
        """Return the scores of features, (n, q) -> (n, q)."""
        return self.copula().scores(h)

    def features(self, s: Tensor) -> Tensor:
        """Return the features of scores, (n, q) -> (n, q)."""
        return self.copula().features(s)

    @torch.no_grad()
    def responsibilities(self, h: Tensor) -> Tensor:
        """Return the probability of each component given features, (n, q) -> (n, components)."""
        return self.mixture.joint_log_prob(self.scores(h)).softmax(dim=1)

    @torch.no_grad()
    def fit(self, h: Tensor, iterations: int, generator: Generators = None) -> None:
        """Fit the mixture to the scores of features (n, q), in place.

        The scores are those of the present mixture: a pseudo-EM (Bilgrau et al. 2016), which finds
        a Gaussian copula exactly, and a mixture's but for some per cent of its information.
        """
        fitted = self.mixture.fitted(self.scores(h), iterations, generator=generator)
        self.mixture.load_state_dict(fitted.standardised().state_dict())

    @torch.no_grad()
    def sample(self, n: int, generator: Generators = None, component: int | None = None) -> Tensor:
        """Draw n times, (n, *event_shape), or from one component of the mixture alone."""
        if component is None and not self.dependent:
            return self.densities.sample(n, generator)
        features = self.sample_features(n, generator, component)
        return self.densities.latents_given(features, generator)

    @torch.no_grad()
    def sample_features(
        self, n: int, generator: Generators = None, component: int | None = None
    ) -> Tensor:
        """Draw what the decoder sees, (n, q), or from one component of the mixture alone."""
        if component is None:
            return self.copula()(self.noise(n, generator)).T
        return self.features(self.mixture.sample(n, generator, component))

    @torch.no_grad()
    def sample_given(
        self, n: int, given: Mapping[int, float | Tensor], generator: Generators = None
    ) -> Tensor:
        """Draw features (n, q) of which some are given, the others from their conditional.

        Args:
            given: number of a feature -> its value, or a value for each draw (n,).

        Raises:
            ValueError: a feature that is not there, or a value that it cannot have.
        """
        dtype, device = self.nodes.dtype, self.nodes.device
        values = {q: torch.as_tensor(v, dtype=dtype, device=device) for q, v in given.items()}
        h = self.nodes.new_zeros(n, self.q)
        low, high = self.feature_density().nodes[[0, -1]].tolist()
        for q, value in values.items():
            if not (0 <= q < self.q and ((value >= low) & (value <= high)).all()):
                wanted = f"features are 0 to {self.q - 1}, their values {low:g} to {high:g}"
                raise ValueError(f"{wanted}, got one outside for feature {q}")
            h[:, q] = value
        scores = self.scores(h)
        known: dict[int, Tensor | float] = {q: scores[:, q] for q in values}
        drawn = self.features(self.mixture.transport_given(known, self.noise(n, generator).T))
        for q, value in values.items():
            drawn[:, q] = value
        return drawn

    def noise(self, n: int, generator: Generators = None) -> Tensor:
        """Draw the random numbers that `transport` makes features of, (1 + q, n), standard normal:
        the first picks the component."""
        return randn(n, (1 + self.q,), generator, like=self.nodes).T

    def transport(self) -> Callable[[Tensor], Tensor]:
        """Return the function from noise to features, (1 + q, n) -> (q, n), of tables alone."""
        copula = self.copula()
        _ = copula.quantiles  # built here: a compiled call could not
        return copula

    def decoder_input(self, z: Tensor) -> Tensor:
        """Return the features of latents, (n, *event_shape) -> (n, q)."""
        return self.densities.decoder_input(z)

    def marginals(self, log_z: Tensor | None = None) -> PiecewiseLinearDensity:
        """Return the density of each latent, see `kaem.priors`."""
        return self.densities.marginals(log_z)

    def feature_density(self) -> PiecewiseLinearDensity:
        """Return the density of each feature, batch shape (q,)."""
        return self.densities.feature_density()

    def contrastive_log_normalizer(self, n: int, generator: Generators = None) -> Tensor:
        """Return log Z_qp, see `kaem.components`."""
        return self.densities.contrastive_log_normalizer(n, generator)

    def log_normalizer(self) -> Tensor:
        """Return log Z_qp, (q, p), see `kaem.components`."""
        return self.densities.log_normalizer()


Prior = UnivariatePrior | MixturePrior | CopulaPrior

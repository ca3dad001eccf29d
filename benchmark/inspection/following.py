"""Moving one score of a mixture of normals while the others follow, without a jump.

A draw from the conditional with the same random numbers at every place would jump wherever another
component is picked. Here the others keep their conditional quantiles (Rosenblatt 1952, "Remarks on
a multivariate transformation"), F(s_j | s_1, ..., s_(j-1)), of which each is a continuous function
of what is given. Of a draw from the mixture these are uniform and independent of the moved score:
wherever that goes, the others are an exact draw given it. Where it was, they are as they were.
"""

import torch
from torch import Tensor

from kaem.normal_mixture import NormalMixture

HALVINGS = 60  # of the interval that an inverted distribution function is looked for in


@torch.no_grad()
def follow(mixture: NormalMixture, s: Tensor, order: list[int], values: Tensor) -> Tensor:
    """Move the score order[0] to values (m,), and let the others follow one after the other.

    Args:
        s: (n, d), draws from the mixture.
        order: of all d scores.

    Returns:
        (n, m, d).
    """
    moved = s.double()[:, None, order].repeat(1, len(values), 1)
    moved[..., 0] = values.double()
    start, place = _Conditionals(mixture, order), _Conditionals(mixture, order)
    start.give(s[:, None, order[0]].double())
    place.give(moved[..., 0])
    for j, q in enumerate(order[1:], 1):
        quantile = start.cdf(s[:, None, q].double())
        moved[..., j] = _inverted(place.cdf, quantile.expand(moved.shape[:2]), mixture.spread())
        start.give(s[:, None, q].double())
        place.give(moved[..., j])
    result = torch.empty_like(moved)
    result[..., order] = moved
    return result.to(s)


@torch.no_grad()
def between(
    mixture: NormalMixture, start: Tensor, end: Tensor, order: list[int], shares: Tensor
) -> Tensor:
    """Go from scores to others while all conditional quantiles go evenly from one to the other.

    Args:
        start, end: (n, d); order: of all d scores; shares: (m,), of the way.

    Returns:
        (n, m, d).
    """
    start, end = (s.double()[:, None, order] for s in (start, end))
    shares = shares.double()
    way = torch.lerp(start, end, shares[:, None])
    begun, ended, place = (_Conditionals(mixture, order) for _ in range(3))
    for j in range(len(order)):
        level = torch.lerp(begun.cdf(start[..., j]), ended.cdf(end[..., j]), shares)
        way[..., j] = _inverted(place.cdf, level, mixture.spread())
        for given, s in ((begun, start), (ended, end), (place, way)):
            given.give(s[..., j])
    result = torch.empty_like(way)
    result[..., order] = way
    return result.to(mixture.means)


class _Conditionals:
    """The distributions of one score after the other, given those before."""

    def __init__(self, mixture: NormalMixture, order: list[int]):
        factors, self.means = mixture.factors.double()[:, order], mixture.means.double()[:, order]
        self.factors = torch.linalg.cholesky(factors @ factors.mT)
        self.log_weights = mixture.log_weights.double()
        self.noise: list[Tensor] = []  # of each component, for the scores that are given

    def _standard(self, s: Tensor) -> Tensor:
        """Return the next score (...) as standard noise of each component, (..., k)."""
        j = len(self.noise)
        mean = self.means[:, j] + sum(self.factors[:, j, i] * e for i, e in enumerate(self.noise))
        return (s.unsqueeze(-1) - mean) / self.factors[:, j, j]

    def cdf(self, s: Tensor) -> Tensor:
        """Return the conditional distribution function of the next score, (...) -> (...)."""
        return (self.log_weights.softmax(-1) * torch.special.ndtr(self._standard(s))).sum(-1)

    def give(self, s: Tensor) -> None:
        """Take the next score as given."""
        noise = self._standard(s)
        scale = self.factors[:, len(self.noise), len(self.noise)]
        self.log_weights = self.log_weights - 0.5 * noise.square() - scale.log()
        self.noise.append(noise)


def _inverted(cdf, u: Tensor, interval: tuple[float, float]) -> Tensor:
    low, high = (torch.full_like(u, end) for end in interval)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        below = cdf(middle) < u
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return 0.5 * (low + high)

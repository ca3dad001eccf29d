"""One-dimensional densities that are known at equally spaced nodes and linear between them.

This is the one interpolant that makes "exact sampling" mean what it says. The density is
*defined* as piecewise linear, and then nothing else is approximated: its integral is the
trapezoid rule, its CDF is piecewise quadratic, and the CDF's inverse solves one quadratic
equation. `log_prob`, `cdf` and `icdf` therefore describe the same density to rounding error.
A mixture of such densities on common nodes is again such a density, so a mixture costs no
more to sample than one component.
"""

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from kaem.errors import NonFiniteError
from kaem.inverse import PiecewiseQuadraticInverse
from kaem.random import Generators, rand_rows

UNCOVERED = 1e-3  # of a density's mass on either side, which a domain that follows it may leave out


def log_trapezoid_weights(nodes: Tensor) -> Tensor:
    """Return log of the trapezoid rule's weights on equally spaced nodes (n,) -> (n,)."""
    step = (nodes[-1] - nodes[0]) / (len(nodes) - 1)
    weights = step.expand(len(nodes)).clone()
    weights[[0, -1]] *= 0.5
    return weights.log()


def log_integral(log_values: Tensor, nodes: Tensor) -> Tensor:
    """Return log of the integral of the piecewise linear exp(log_values): (..., n) -> (...)."""
    return torch.logsumexp(log_values + log_trapezoid_weights(nodes), dim=-1)


class PiecewiseLinearDensity:
    """A batch of normalised piecewise linear densities on common, equally spaced nodes.

    Args:
        log_density: (*batch, n), the log density at the nodes; each must integrate to one.
        nodes: (n,), equally spaced from a to b.

    >>> import torch
    >>> from kaem.tabulated import PiecewiseLinearDensity
    >>> nodes = torch.tensor([0.0, 0.5, 1.0])
    >>> density = PiecewiseLinearDensity(torch.tensor([[0.0, 1.0, 2.0]]).log(), nodes)  # 2 z
    >>> u = torch.tensor([[0.25], [0.81]])  # two of the one density
    >>> [round(z, 4) for z in density.icdf(u).flatten().tolist()]
    [0.5, 0.9]

    `log_prob` is differentiable in `log_density` and in z; `cdf` and `icdf` carry no gradient.
    They raise NonFiniteError where a density has overflowed.
    """

    def __init__(self, log_density: Tensor, nodes: Tensor):
        self.batch_shape = log_density.shape[:-1]
        self.nodes = nodes
        self._log_density = log_density.reshape(-1, len(nodes))
        self._start = float(nodes[0])
        self._step = float(nodes[-1] - nodes[0]) / (len(nodes) - 1)

    @property
    def log_density(self) -> Tensor:
        """Return the log density at the nodes, (*batch, n)."""
        return self._log_density.reshape(*self.batch_shape, -1)

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log density, elementwise: (m, *batch) -> (m, *batch); -inf outside."""
        rows = self._rows(z)
        cell, fraction = self._locate(rows)
        left = self._log_density.gather(1, cell)
        right = self._log_density.gather(1, cell + 1)
        # log((1 - t) e^left + t e^right), relative to the larger end so that nothing overflows.
        # The floor only acts where the density falls by a factor over 1/tiny within one cell.
        top = torch.maximum(left, right).detach()
        value = (1 - fraction) * (left - top).exp() + fraction * (right - top).exp()
        log_prob = top + value.clamp_min(torch.finfo(value.dtype).tiny).log()
        inside = (rows >= self.nodes[0]) & (rows <= self.nodes[-1])
        return self._unrows(torch.where(inside, log_prob, -math.inf), z)

    @torch.no_grad()
    def cdf(self, z: Tensor) -> Tensor:
        """Return F(z), elementwise: (m, *batch) -> (m, *batch); 0 below and 1 above the domain."""
        position = self._position(self._rows(z)).clamp_(0, len(self.nodes) - 1)
        fraction, (below, left, rise) = self._look_up(position, self._cdf_columns)
        value = below.addcmul_(left.addcmul_(rise, fraction), fraction)
        return self._unrows(value.clamp_(max=1.0), z)

    @torch.no_grad()
    def score(self, z: Tensor) -> Tensor:
        """Return the slope of the log density, elementwise: (m, *batch) -> (m, *batch).

        What `log_prob` has for a gradient, in a third of the calls; z must lie in the domain.
        """
        fraction, (left, rise, slope) = self._look_up(
            self._position(self._rows(z)), self._score_columns
        )
        value = left.addcmul_(rise, fraction).clamp_min_(torch.finfo(left.dtype).tiny)
        return self._unrows(slope.div_(value), z)

    @torch.no_grad()
    def icdf(self, u: Tensor) -> Tensor:
        """Return F^{-1}(u), elementwise: (m, *batch) -> (m, *batch).

        Raises:
            ValueError: a u outside [0, 1], NaN included.
        """
        if not ((u >= 0) & (u <= 1)).all():
            raise ValueError("a probability to invert is outside [0, 1]")
        return self._unrows(self.inverse(self._rows(u)), u)

    def interval(self, outside: float) -> Tensor:
        """Return the ends that leave out so much of each density's mass on either side,
        (2, *batch)."""
        levels = self.nodes.new_tensor([outside, 1 - outside])
        levels = levels.reshape(2, *[1] * len(self.batch_shape))
        return self.icdf(levels.expand(2, *self.batch_shape))

    @torch.no_grad()
    def sample(self, n: int, generator: Generators = None) -> Tensor:
        """Draw n times exactly by inverse transform, (n, *batch). In memory each density's draws
        lie side by side, which is how they are made fastest."""
        u = rand_rows(len(self._log_density), n, generator, like=self.nodes)
        return torch.unflatten(self.inverse(u).T, 1, self.batch_shape)

    @cached_property
    def inverse(self) -> PiecewiseQuadraticInverse:
        """Return F^{-1} row by row: (densities, n) -> (densities, n)."""
        return PiecewiseQuadraticInverse(*self._tables, self.nodes)

    def variance(self) -> Tensor:
        """Return the variance of each density, (*batch)."""
        # Of a density that is linear on a cell, by Simpson's rule: exact for cubics.
        density, z = self._tables[0].double(), self.nodes.double() - self.nodes.double().mean()
        middle, centre = 0.5 * (density[:, 1:] + density[:, :-1]), 0.5 * (z[1:] + z[:-1])

        def mean(f: Callable[[Tensor], Tensor]) -> Tensor:
            ends = density * f(z)
            return self._step / 6 * (ends[:, 1:] + ends[:, :-1] + 4 * middle * f(centre)).sum(1)

        variance = mean(torch.square) - mean(torch.clone).square()
        return variance.to(self._log_density.dtype).reshape(self.batch_shape)

    @cached_property
    def _tables(self) -> tuple[Tensor, Tensor]:
        density, cumulative = self.double_tables()
        return density.to(self._log_density.dtype), cumulative.to(self._log_density.dtype)

    def double_tables(self) -> tuple[Tensor, Tensor]:
        """Return density and CDF at the nodes, each (batch, n), in float64."""
        if (dtype := self._log_density.dtype) not in (torch.float32, torch.float64):
            raise TypeError(f"priors are float32 or float64, not {dtype}; see torch.autocast")
        density = self._log_density.detach().double().exp()
        masses = 0.5 * self._step * (density[:, 1:] + density[:, :-1])
        cumulative = pad(masses.cumsum(1), (1, 0))
        total = cumulative[:, -1:]  # one, up to the rounding of log_density
        if not ((total > 0) & total.isfinite()).all():
            raise NonFiniteError(
                "a density of the prior is not finite: its edge function has grown beyond what "
                "the exponential can hold. Lower the learning rate."
            )
        return density / total, cumulative / total

    @cached_property
    def _cdf_columns(self) -> Tensor:
        """Return the CDF at a cell's left node, and its two coefficients, (3, batch, n)."""
        density, cumulative = self._tables
        left, rise = self._step * density, 0.5 * self._step * density.diff(dim=1)
        return torch.stack([cumulative, left, pad(rise, (0, 1))])

    @cached_property
    def _score_columns(self) -> Tensor:
        """Return a cell's density on the left, its rise, and its slope, (3, batch, n), in units of
        its larger end so that nothing overflows."""
        left, right = self._log_density[:, :-1], self._log_density[:, 1:]
        top = torch.maximum(left, right)
        left = (left - top).exp()
        rise = (right - top).exp() - left
        return pad(torch.stack([left, rise, rise / self._step]), (0, 1))

    @cached_property
    def _origin(self) -> Tensor:
        """Return how many cells lie below zero."""
        return self.nodes.new_tensor(-self._start / self._step)

    def _position(self, rows: Tensor) -> Tensor:
        """Return how many cells lie below each number."""
        return torch.add(self._origin, rows, alpha=1 / self._step)

    def _look_up(self, position: Tensor, columns: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Return where in its cell each position (batch, m) is, in [0, 1], and its entries of each
        of the columns (k, batch, n), k times (batch, m). `position` is overwritten."""
        cell = position.long().clamp_(0, len(self.nodes) - 2)  # of NaN too
        entries = columns.gather(2, cell.expand(len(columns), -1, -1))
        return position.sub_(cell), entries.unbind(0)

    def _locate(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Find the cell of each number and its position in [0, 1] within the cell."""
        position = (rows - self._start) / self._step
        cell = position.detach().floor().long().clamp(0, len(self.nodes) - 2)
        return cell, (position - cell).clamp(0.0, 1.0)

    def _rows(self, z: Tensor) -> Tensor:
        if z.shape[1:] != self.batch_shape:
            raise ValueError(
                f"expected shape (n, {', '.join(map(str, self.batch_shape))}), got {tuple(z.shape)}"
            )
        return z.flatten(1).T

    @staticmethod
    def _unrows(rows: Tensor, like: Tensor) -> Tensor:
        return rows.T.reshape(like.shape)

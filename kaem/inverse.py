"""Inverting many piecewise quadratic distribution functions at once, without a search.

A guide table holds, for each of many buckets of u, the cell where the search for u begins, so that
hardly anything is left to search (Chen & Asau 1974; Devroye 1986, Non-Uniform Random Variate
Generation, section III.2.4). The buckets are spaced as floating-point numbers are, by octaves, from
both ends of [0, 1]: so tails, where many cells share little mass, are resolved as finely as the
middle. The cell found is the one that a full search finds, whatever the distribution; only how many
rounds it takes depends on that.
"""

import torch
from torch import Tensor

PER_OCTAVE_BITS = 5  # 32 buckets between a number and its double
OCTAVES = 16  # nearer to an end than 2^-17 all is one bucket
SMALLEST = 2.0 ** -(OCTAVES + 1)
SIDE = OCTAVES * 2**PER_OCTAVE_BITS + 1  # buckets in [0, 0.5]; as many in [0.5, 1]

# The integer that holds a float's bits, and how many of them are its mantissa.
_LAYOUT = {torch.float32: (torch.int32, 23), torch.float64: (torch.int64, 52)}


class GuideTable:
    """Finds, for u in [0, 1], the last entry of a sorted row that is not above u.

    Args:
        rows: (batch, n), float32 or float64, each nondecreasing from 0.

    Attributes:
        stride: distance between the starts of rows that are laid one after the other.
        row_start: (batch,), int32, those starts.
        rounds: of bisection that are left after the look into the table.
    """

    def __init__(self, rows: Tensor):
        self._integer, mantissa = _LAYOUT[rows.dtype]
        self._shift = mantissa - PER_OCTAVE_BITS
        self._lowest = int(self._bits(torch.tensor(SMALLEST, dtype=rows.dtype)))
        first, last = (
            torch.searchsorted(rows, ends.expand(len(rows), -1).contiguous(), side="right") - 1
            for ends in _bucket_ends(rows)
        )
        # Halving a span of s entries takes as many rounds as s has binary digits.
        self.rounds = int((last - first).max()).bit_length()
        self.stride = rows.shape[1] + 2**self.rounds
        self._rows = self.lay_out(rows, torch.inf)
        number = torch.arange(len(rows), device=rows.device, dtype=torch.int32)
        self.row_start = number * self.stride
        self._guide = (first.int() + self.row_start[:, None]).flatten()
        self._guide_start = number * (2 * SIDE) - self._lowest

    def lay_out(self, table: Tensor, padding: float = 0.0) -> Tensor:
        """A table (batch, up to n) as the places of `find` count: (batch * stride,)."""
        missing = self.stride - table.shape[1]
        return torch.nn.functional.pad(table, (0, missing), value=padding).flatten()

    def find(self, u: Tensor) -> Tensor:
        """The entry's place, (m, batch) -> (m * batch,), int32."""
        from_end = 1 - u  # exact from 0.5 on
        near = torch.minimum(u, from_end)
        near = torch.fmax(near, near.new_tensor(SMALLEST))  # takes NaN too, to the first bucket
        bucket = self._bits(near)
        mirrored = (2 * self._lowest + 2 * SIDE - 1) - bucket
        bucket = torch.where(u <= from_end, bucket, mirrored) + self._guide_start
        place, u = self._guide.index_select(0, bucket.flatten()), u.flatten()
        for step in (2**k for k in reversed(range(self.rounds))):
            place.add_(u >= self._rows.index_select(0, place + step), alpha=step)
        return place

    def _bits(self, numbers: Tensor) -> Tensor:
        """The leading bits, which count the buckets."""
        return numbers.view(self._integer) >> self._shift


def _bucket_ends(like: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper ends of all buckets in the order of u, (2 * SIDE,) each."""
    number, per_octave = torch.arange(SIDE + 1), 2**PER_OCTAVE_BITS
    ends = SMALLEST * 2.0 ** (number // per_octave) * (1 + number % per_octave / per_octave)
    ends[0] = 0  # all below SMALLEST is in the first bucket
    low, high = ends[:-1].to(like), ends[1:].to(like)
    return torch.cat([low, 1 - high.flip(0)]), torch.cat([high, 1 - low.flip(0)])


class PiecewiseQuadraticInverse:
    """F^{-1} of distribution functions whose densities are linear on equal cells.

    Args:
        density: (batch, n), at the nodes.
        cumulative: (batch, n), the distribution function there, from 0 to 1.
        start, step: the first node and the width of the cells.
    """

    def __init__(self, density: Tensor, cumulative: Tensor, start: float, step: float):
        self._start, self._step = start, step
        # Cells of zero mass are stepped over, so their points are never drawn; u = 1 belongs to the
        # last cell that has mass.
        last = torch.searchsorted(cumulative, cumulative[:, -1:].contiguous()) - 1
        number = torch.arange(cumulative.shape[1], device=cumulative.device)
        self._guide = GuideTable(torch.where(number > last, torch.inf, cumulative))
        self._cumulative = self._guide.lay_out(cumulative)
        self._left = self._guide.lay_out(density)
        self._slope = self._guide.lay_out(2 * density.diff(dim=1) / step)
        self._tiny = torch.finfo(density.dtype).tiny

    def __call__(self, u: Tensor) -> Tensor:
        """(m, batch) -> (m, batch)."""
        place = self._guide.find(u)
        # Solve left s + (right - left) s^2 / (2 step) = mass for the distance s into the cell,
        # in the form of the quadratic formula that does not cancel when left = right.
        mass = u.flatten() - self._cumulative.index_select(0, place)
        mass.clamp_(min=0.0)
        left, root = (t.index_select(0, place) for t in (self._left, self._slope))
        root.mul_(mass).addcmul_(left, left).clamp_(min=0.0).sqrt_()
        distance = mass.mul_(2).div_(root.add_(left).clamp_(min=self._tiny)).clamp_(max=self._step)
        cell = place.view(u.shape) - self._guide.row_start
        return cell.to(u.dtype).mul_(self._step).add_(self._start).add_(distance.view(u.shape))

"""Inverting many piecewise quadratic distribution functions at once, on a CPU without a search,
on a GPU in one kernel (`kaem.kernels`).

A guide table holds, for each of many buckets of u, the cell where the search for u begins, so that
hardly anything is left to search (Chen & Asau 1974; Devroye 1986, Non-Uniform Random Variate
Generation, section III.2.4). The buckets are spaced as floating-point numbers are, by octaves, from
both ends of [0, 1]: so tails, where many cells share little mass, are resolved as finely as the
middle. The cell found is the one that a full search finds, whatever the distribution; only how many
rounds it takes depends on that.
"""

from collections.abc import Callable
from functools import cache, cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

PIECE = 2**16  # numbers of each thread at once: calls cost little beside, and a cache holds them

LEAST = 1e-15  # of a density that is divided by, and whose square must not be lost

PER_OCTAVE_BITS = 5  # 32 buckets between a number and its double
OCTAVES = 16
SIDE = OCTAVES * 2**PER_OCTAVE_BITS  # buckets in [0, 0.5]; as many in (0.5, 1]
SMALLEST = 0.5 / 2**OCTAVES  # nearer to an end than this all is one bucket

# The integer that holds a float's bits, how many of them are its mantissa, and all of them.
_LAYOUT = {torch.float32: (torch.int32, 23, 32), torch.float64: (torch.int64, 52, 64)}


class GuideTable:
    """A table that leads from u in [0, 1] to the last entry of a sorted row that is not above u.

    Args:
        rows: (batch, n), float32 or float64, each nondecreasing from 0.

    Attributes:
        stride: distance between the starts of rows that are laid one after the other.
        row_start: (batch, 1), int32, those starts.
        rounds: of bisection that are left after the look into the table, of each row.
    """

    def __init__(self, rows: Tensor):
        self._integer, mantissa, bits = _LAYOUT[rows.dtype]
        self._shift, self._sign = mantissa - PER_OCTAVE_BITS, bits - 1
        self._lowest = int(rows.new_tensor(SMALLEST).view(self._integer) >> self._shift)
        first, last = (
            torch.searchsorted(rows, ends.expand(len(rows), -1).contiguous(), side="right") - 1
            for ends in _bucket_ends(rows)
        )
        # Halving a span of s entries takes as many rounds as s has binary digits.
        self.rounds = [span.bit_length() for span in (last - first).amax(dim=1).tolist()]
        self.stride = rows.shape[1] + 2 ** max(self.rounds)
        self._rows = self.lay_out(rows, torch.inf)
        number = torch.arange(len(rows), device=rows.device, dtype=torch.int32)[:, None]
        self.row_start = number * self.stride
        self._guide = (first.int() + self.row_start).flatten()
        self._guide_start = (number * (2 * SIDE) + SIDE).to(self._integer)

    def lay_out(self, table: Tensor, padding: float = 0.0) -> Tensor:
        """Lay out a table (batch, up to n) as the places of `find` count: (batch * stride,)."""
        missing = self.stride - table.shape[1]
        return pad(table, (0, missing), value=padding).flatten()

    def find(self, u: Tensor, first: int) -> Tensor:
        """Find the entries' places, (batch, m) -> (batch * m,), int32.

        Args:
            u: for the rows from number `first` on.
        """
        near = 1 - u  # exact from 0.5 on
        upper = (near - u).view(self._integer).bitwise_right_shift_(self._sign)  # all bits, or none
        bucket = torch.minimum(u, near, out=near).view(self._integer)
        bucket = bucket.bitwise_right_shift_(self._shift).sub_(self._lowest)
        # The clamp takes what is nearer to an end than SMALLEST, and NaN. Buckets of (0.5, 1] are
        # counted from -1 down.
        bucket.clamp_(0, SIDE - 1).bitwise_xor_(upper)
        bucket.add_(self._guide_start[first : first + len(u)])
        place: Tensor = self._guide.index_select(0, bucket.flatten())
        rounds = max(self.rounds[first : first + len(u)])
        u = u.flatten()
        for step in (2**k for k in reversed(range(rounds))):
            ahead = u - self._rows.index_select(0, place.add_(step))
            # All bits where u is below, or none: on a CPU a third of what a comparison takes.
            below = ahead.view(self._integer).bitwise_right_shift_(self._sign)
            place.add_(below, alpha=step)
        return place


def _bucket_ends(like: Tensor) -> tuple[Tensor, Tensor]:
    """Return lower and upper ends of all buckets, (2 * SIDE,) each.

    First come those of (0.5, 1], then those of [0, 0.5]. The upper ones may belong to the bucket
    themselves.
    """
    number, per_octave = torch.arange(SIDE + 1), 2**PER_OCTAVE_BITS
    ends = SMALLEST * 2.0 ** (number // per_octave) * (1 + number % per_octave / per_octave)
    ends[0] = 0  # all below SMALLEST is in the first bucket
    low, high = ends[:-1].to(like), ends[1:].to(like)
    return torch.cat([1 - high.flip(0), low]), torch.cat([1 - low.flip(0), high])


class PiecewiseQuadraticInverse:
    """F^{-1} of distribution functions whose densities are linear on equal cells.

    Within a cell it solves  d_0 x + (d_1 - d_0) x^2 / (2 step) = mass  by the form of the quadratic
    formula that does not cancel where the density is flat,

        x = 2 mass / (d_0 + sqrt(d_0^2 + 2 mass (d_1 - d_0) / step))

    Args:
        density: (batch, n), at the nodes.
        cumulative: (batch, n), the distribution function there, from 0 to 1.
        nodes: (n,), equally spaced.
    """

    def __init__(self, density: Tensor, cumulative: Tensor, nodes: Tensor):
        self._ends, self._cells = quadratic_cells(density, cumulative, nodes, density.dtype)
        # Every u is at or beyond the first end: no column belongs to what is before it.
        self._columns = pad(torch.stack(self._cells), (1, 0))

    @cached_property
    def _guide(self) -> GuideTable:
        return GuideTable(self._ends)

    @cached_property
    def _flat(self) -> list[Tensor]:
        cumulative, left, _, slope, place = map(self._guide.lay_out, self._cells)
        return [cumulative, left, slope, place]

    def __call__(self, u: Tensor) -> Tensor:
        """Invert u, (batch, m) -> (batch, m), contiguous; NaN stays NaN."""
        # On a GPU a search of any size is one launch, and launches are what an inversion costs.
        # A guide is built anew for each update of a training: not for fewer numbers than it has
        # buckets, nor by a compiled call.
        if u.shape[1] < 2 * SIDE or not u.is_cpu or torch.compiler.is_compiling():
            return look_up(self._ends, self._columns, u.contiguous())
        z = torch.empty_like(u, memory_format=torch.contiguous_format)
        # Row by row: their tables and what lies between stay in a CPU's cache.
        size = max(1, PIECE * torch.get_num_threads() // u.shape[1])
        for first in range(0, len(u), size):
            rows = slice(first, first + size)
            piece = u[rows].contiguous()
            place = self._guide.find(piece, first)
            cumulative, left, slope, cell = (
                column.index_select(0, place).view(piece.shape) for column in self._flat
            )
            mass = torch.sub(piece, cumulative, out=cumulative)
            solve(mass, left, left * left, slope, cell, out=z[rows])
        return z


def quadratic_cells(
    density: Tensor, cumulative: Tensor, nodes: Tensor, dtype: torch.dtype
) -> tuple[Tensor, list[Tensor]]:
    """Return where a search for u ends, and each cell's columns, (batch, n) each, as `dtype`.

    Those are the distribution function and the density at its left node, the square of that, twice
    the density's slope, and the node. A search for u counts the ends that are not above it.

    Args:
        others: see `PiecewiseQuadraticInverse`.
    """
    start, end = nodes[[0, -1]].tolist()
    step = (end - start) / (len(nodes) - 1)
    # Cells of zero mass are stepped over, so their points are never drawn; u = 1 belongs to the
    # last cell that has mass.
    last = torch.searchsorted(cumulative, cumulative[:, -1:].contiguous()) - 1
    number = torch.arange(cumulative.shape[1], device=cumulative.device)
    ends = torch.where(number > last, torch.inf, cumulative).contiguous()
    # Of a cell's mass, as rounding leaves it, what its densities say how it is spread.
    low, high = density.double()[:, :-1], density.double()[:, 1:]
    share = torch.where(low + high > 0, 2 * low / (low + high), 1.0)
    height = cumulative.double().diff(dim=1) / step
    left = pad(share * height, (0, 1)).to(dtype)
    slope = pad(4 * (1 - share) * height / step, (0, 1)).to(dtype)
    # What calls would take in every draw, the columns have: no root of a negative number, no
    # division by zero, and no draw beyond the last node.
    slope = torch.where(slope < 0, slope * (1 - 8 * torch.finfo(dtype).eps), slope)
    left = left.clamp_min(LEAST)
    places = (start + step * number.double()).to(dtype)
    last_place = torch.nextafter(places[-1], places[0]) - step
    place = torch.minimum(places, last_place).expand_as(density)
    return ends, [cumulative.to(dtype), left, left * left, slope, place]


def solve(
    mass: Tensor,
    left: Tensor,
    square: Tensor,
    slope: Tensor,
    place: Tensor,
    out: Tensor | None = None,
) -> Tensor:
    """Return where in their cells the distribution function has grown by these masses.

    Args:
        mass: beyond the cell's left node.
        others: columns of `quadratic_cells`, for each number; `square` is overwritten.
    """
    below = square.addcmul_(slope, mass).sqrt_().add_(left)
    return torch.addcdiv(place, mass, below, value=2, out=out)


def look_up(ends: Tensor, columns: Tensor, keys: Tensor) -> Tensor:
    """Find the cell of each key and solve there, with as few calls as possible.

    Args:
        ends: (batch, n), sorted; a key's cell has the number of the ends that are not above it.
        columns: (k, batch, n + 1), of each cell: what is taken from the key to get the mass, and
            the last four of `quadratic_cells`. Between them may be three more: the mass is then
            the first of these plus the key's distance times the second and its square times the
            third.
        keys: (batch, m), contiguous.

    Returns:
        (batch, m).
    """
    fit = keys.is_cuda and keys.dtype == torch.float32 and not keys.requires_grad
    if fit and not torch.compiler.is_compiling():
        kernel = _kernel_on(keys.device)
        if kernel is not None:
            return kernel(ends, columns, keys)
    return _look_up(ends, columns, keys)


def _look_up(ends: Tensor, columns: Tensor, keys: Tensor) -> Tensor:
    cell = torch.searchsorted(ends, keys, right=True)
    start, *own = columns.gather(2, cell.expand(len(columns), -1, -1)).unbind(0)
    mass = keys - start
    if len(own) > 4:
        first, rise, bend, *own = own
        mass = first.addcmul_(rise.addcmul_(bend, mass), mass)
    return solve(mass, *own)


@cache
def _kernel_on(device: torch.device) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
    """Return `kaem.kernels.look_up` where it runs and finds what torch's calls find, else None."""
    draws = torch.Generator().manual_seed(0)
    ends, keys = (torch.rand(2, n, generator=draws).sort().values.to(device) for n in (9, 99))
    columns = torch.rand(8, 2, 10, generator=draws).to(device)
    try:
        from kaem.kernels import look_up as kernel

        alike = torch.allclose(kernel(ends, columns, keys), _look_up(ends, columns, keys))
    except Exception:  # no Triton, no compiler that it could call, a GPU that it does not know
        return None
    return kernel if alike else None

"""Latents given their sum: z_1, ..., z_p of known densities, conditioned on sum_p z_p = h.

One latent after another, each from its density times that of the sum of those still to come. Both
are linear on cells of one width: mixtures of ramps, rising or falling over a cell. A latent and the
sum of the others are a pair of ramps whose places sum to h; there are few kinds of pairs, and the
probability of each is a polynomial of where h lies between the nodes, times masses of the ramps.
Kind and block of cells are drawn first, by tables, then the cell in the block, then the place in
the cell: no interpolation, no quadrature.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from kaem.random import Generators, rand
from kaem.sums import closer, densities_of_partial_sums
from kaem.tabulated import PiecewiseLinearDensity

ROWS = 2**11  # that are drawn at once: so that they stay in the cache
NUMBERS = 6  # random ones that a latent takes


@torch.no_grad()
def split_sums(latents: PiecewiseLinearDensity, h: Tensor, generator: Generators = None) -> Tensor:
    """Draw independent latents given their sums over p, (n, q) -> (n, q, p).

    Exact for p = 2; beyond, as far as `kaem.sums` knows the density of a sum of fewer latents. Row
    i depends on row i of h and of the random numbers alone. A sum that the latents cannot reach
    becomes the nearest that they can.

    Args:
        latents: their densities, batch shape (q, p).
        h: (n, q), their sums.
    """
    start, end = float(latents.nodes[0]), float(latents.nodes[-1])
    rest, drawn = h.double(), []
    sums = densities_of_partial_sums(latents)
    for last, others in reversed(list(enumerate(sums, start=1))):
        rest = rest.clamp((last + 1) * start, (last + 1) * end)
        numbers = rand(len(h), (h.shape[1], NUMBERS), generator, like=h).double()
        step = (end - start) * last / (len(others.nodes) - 1)
        cells = round((end - start) / step)
        density = closer(latents.log_density[:, last].double().exp(), cells + 1)
        place = torch.empty_like(rest)
        for q, (one, other) in enumerate(zip(density, others.log_density.exp(), strict=True)):
            pair = _Pair(one, other)
            for rows in torch.arange(len(h), device=h.device).split(ROWS):
                total = (rest[rows, q] - (last + 1) * start) / step
                place[rows, q] = pair.place(total, numbers[rows, q])
        drawn.append(start + step * place)
        rest = rest - drawn[-1]
    drawn.append(rest)
    return torch.stack(drawn[::-1], dim=2).clamp(start, end).to(h.dtype)


class _Pair:
    """Two independent numbers of piecewise linear densities, given their sum.

    Args:
        one, other: the densities' values at the nodes 0, 1, 2, ..., (cells + 1,).
    """

    def __init__(self, one: Tensor, other: Tensor) -> None:
        self.cells = len(one) - 1, len(other) - 1
        # Few numbers to choose among: 8 kinds times the blocks, then the cells of a block.
        self.width = math.ceil(math.sqrt(8 * self.cells[0]))
        self.blocks = -(-self.cells[0] // self.width)
        every = self.blocks * self.width
        # A falling ramp has its mass by the value at its cell's left, a rising one at the right.
        ones = torch.stack([pad(side, (0, every - len(side))) for side in (one[:-1], one[1:])])
        # Backwards in each block, so that where one goes up the other goes down.
        self.ones = ones.unflatten(1, (self.blocks, self.width)).flip(2).flatten(0, 1)
        others = pad(torch.stack([other[:-1], other[1:]]), (every, self.cells[0]))
        windows = others.unfold(1, self.width, 1)
        self.windows, self.each = windows.flatten(0, 1), windows.shape[1]
        products = (self.windows @ self.ones.T).unflatten(0, (2, -1))
        # By the sum of the two cells' numbers, from -1 on; (sums, 2 others, 2 ones, blocks).
        sums = torch.arange(-1, sum(self.cells), device=one.device)
        blocks = torch.arange(self.blocks, device=one.device)
        products = products.unflatten(2, (2, self.blocks)).transpose(2, 3)
        masses = products[:, self._window(sums[:, None], blocks), blocks]
        self.masses = masses.permute(1, 0, 3, 2).flatten(1)

    def place(self, total: Tensor, numbers: Tensor) -> Tensor:
        """Draw the first given the sum, both in cells: (n,), uniforms (n, 6) -> (n,)."""
        n, row = len(total), torch.arange(len(total), device=total.device)
        cell = total.floor().long().clamp(0, sum(self.cells) - 1)
        # The places within the two cells sum to less than one, or to one more.
        within = torch.stack([total - cell, total - cell + 1], dim=1)
        low, high = (within - 1).clamp_min(0), within.clamp_max(1)
        shapes = _products(low, high, within)
        pairs = (high - low)[..., None, None] * shapes.sum(-1)
        masses = self.masses.index_select(0, torch.stack([cell + 1, cell], dim=1).flatten())
        masses = masses.unflatten(0, (n, 2)).unflatten(2, (2, 2, self.blocks))
        kind = _chosen((pairs[..., None] * masses).flatten(1), numbers[:, 0])
        kind, block = kind // self.blocks, kind % self.blocks
        carry, other, one = kind // 4, kind // 2 % 2, kind % 2
        window = other * self.each + self._window(cell - carry, block)
        ramps = self.ones.index_select(0, one * self.blocks + block)
        ramp = _chosen(ramps.mul_(self.windows.index_select(0, window)), numbers[:, 1])
        order = _chosen(shapes[row, carry, other, one], numbers[:, 2])
        share = numbers[:, 3:].sort(dim=1).values[row, order]
        low, high = low[row, carry], high[row, carry]
        place = (block + 1) * self.width - 1 - ramp + low + (high - low) * share
        # Rounding alone, and sums of no probability, lead outside.
        lowest, highest = (total - self.cells[1]).clamp_min(0), total.clamp_max(self.cells[0])
        return torch.minimum(torch.maximum(place, lowest), highest)

    def _window(self, sums: Tensor, block: Tensor) -> Tensor:
        """Return where the others' window begins, for such sums of the two cells' numbers."""
        return sums + 1 + (self.blocks - 1 - block) * self.width


def _products(low: Tensor, high: Tensor, total: Tensor) -> Tensor:
    """Return what products of two ramps are made of on [low, high]: (n, 2) -> (n, 2, 2, 2, 3).

    x is the place of the one, total - x of the other; (..., other, one, :) are the masses, over
    high - low, of the product's Bernstein polynomials: their densities are those of the smallest,
    the middle and the largest of three uniform numbers.
    """
    one = [torch.stack([1 - x, x], dim=-1)[..., None, :] for x in (low, high)]
    other = [torch.stack([1 - y, y], dim=-1)[..., :, None] for y in (total - low, total - high)]
    middle = (one[0] * other[1] + one[1] * other[0]) / 6
    return torch.stack([one[0] * other[0] / 3, middle, one[1] * other[1] / 3], dim=-1)


def _chosen(masses: Tensor, u: Tensor) -> Tensor:
    """Draw an index with probabilities in proportion to the masses: (n, k), (n,) -> (n,)."""
    cumulative = masses.cumsum(dim=1)
    level = u[:, None] * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, level, right=True)[:, 0]
    return index.clamp_max(masses.shape[1] - 1)

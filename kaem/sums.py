"""The density of a sum of independent latents whose densities are piecewise linear.

Each latent becomes point masses at the nodes that have its moments up to the second, as far as two
nodes at a wall can; the masses are convolved, and the result is linear between the nodes of the
sum. Moments of sums are sums of moments, so that the error falls with the third power of the
spacing, or with the second where a sum of two has a jump at a wall. The nodes are refined until
that is small.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from kaem.tabulated import PiecewiseLinearDensity

TOLERANCE = 2e-4  # of the distribution function
MOST_NODES = 2**15  # of a sum
BLOCK = 64  # numbers that one matrix product convolves with as many


def density_of_sum(latents: PiecewiseLinearDensity) -> PiecewiseLinearDensity:
    """Return the density of each sum over the last batch dimension, (q, p) -> (q,), as a table.

    The distribution function is right to TOLERANCE, at 200 nodes and up to 20 latents whatever the
    densities: the hardest are those with all mass in a wall's first cell. Where MOST_NODES end the
    refinement before, what the last one changed bounds the error. It carries no gradient.
    """
    dtype, p = latents.nodes.dtype, latents.batch_shape[1]
    if p == 1:
        return PiecewiseLinearDensity(latents.log_density[:, 0].detach(), latents.nodes)
    density = _densities_of_sums(latents, [p])[0]
    return PiecewiseLinearDensity(density.log_density.to(dtype), density.nodes.to(dtype))


def densities_of_partial_sums(latents: PiecewiseLinearDensity) -> list[PiecewiseLinearDensity]:
    """Return the densities of the sums of the first one, two, ..., p - 1 of the p latents,
    (q, p) -> (q,) each, in float64. Errors: see `density_of_sum`; the first is exact."""
    counts = range(1, latents.batch_shape[1])
    return _densities_of_sums(latents, counts) if counts else []


def _densities_of_sums(
    latents: PiecewiseLinearDensity, counts: Sequence[int]
) -> list[PiecewiseLinearDensity]:
    """Return the densities of the sums of so many of the first latents, (q, p) -> (q,) each."""
    values = latents.log_density[:, : max(counts)].detach().double().exp()
    start, end = float(latents.nodes[0]), float(latents.nodes[-1])
    cells = len(latents.nodes) - 1
    step = (end - start) / cells
    fine, refinement = _refined(values, step, 1, counts), 2
    while values.shape[1] > 1 and refinement * values.shape[1] * cells < MOST_NODES:
        coarse, fine = fine, _refined(values, step, refinement, counts)
        # What a refinement changes is at least three times the error that is left.
        changes = map(_change, coarse, fine)
        if max(changes) * step / refinement < TOLERANCE:
            break
        refinement *= 2
    densities = []
    for count, sums in zip(counts, fine, strict=True):
        nodes = torch.linspace(count * start, count * end, sums.shape[1], dtype=sums.dtype)
        log_density = sums.clamp_min(torch.finfo(sums.dtype).tiny).log()
        densities.append(PiecewiseLinearDensity(log_density, nodes.to(sums.device)))
    return densities


def _change(coarse: Tensor, fine: Tensor) -> float:
    """Return the largest change of a running integral, in steps of the fine nodes."""
    change = fine - closer(coarse, fine.shape[1])
    return float(0.5 * (change[:, 1:] + change[:, :-1]).cumsum(1).abs().max())


def closer(values: Tensor, nodes: int) -> Tensor:
    """Interpolate linearly to closer nodes, (q, n) -> (q, nodes)."""
    return interpolate(values[:, None], nodes, mode="linear", align_corners=True)[:, 0]


def _refined(values: Tensor, step: float, refinement: int, counts: Sequence[int]) -> list[Tensor]:
    """Convolve the first so many densities of (q, p, n), on nodes so many times closer."""
    step, cells = step / refinement, refinement * (values.shape[2] - 1)
    latents = [closer(latent, cells + 1) for latent in values.unbind(1)]
    sums = latents[:1]
    # The sum is read as hats on the nodes: one latent goes in as hats, the others as masses.
    total = _at_walls(latents[0], latents[0], -2 / 3, 1 / 6)
    for latent in latents[1:]:
        total = _convolved(total, _masses(latent) * step)
        sums.append(total / torch.trapezoid(total, dx=step).unsqueeze(1))
    return [sums[count - 1] for count in counts]


def _masses(values: Tensor) -> Tensor:
    """Return the masses at the nodes, over the spacing, of densities (..., n).

    A hat of height one has mass 1 and variance 1/6, as 1/12, 10/12 and 1/12 at three nodes; the
    half of one at a wall has mass 1/2 and mean 1/3, as 7/24, 6/24 and -1/24 at the first three.
    """
    padded = pad(values, (1, 1))
    masses = (padded[..., :-2] + 10 * values + padded[..., 2:]) / 12
    return _at_walls(masses, values, -13 / 24, 4 / 24, -1 / 24)


def _at_walls(masses: Tensor, values: Tensor, *corrections: float) -> Tensor:
    """Add corrections, as shares of the values at the two ends, to the masses next to them."""
    masses = masses.clone()
    for node, correction in enumerate(corrections):
        masses[..., node] += correction * values[..., 0]
        masses[..., -1 - node] += correction * values[..., -1]
    return masses


def _convolved(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve row by row, (q, m), (q, n) -> (q, m + n - 1).

    By matrix products: sums of products alone, so that tails keep all their digits, of which a
    Fourier transform leaves none beyond eight standard deviations.
    """
    # Backwards in each block, so that where the kernel goes up x goes down.
    blocks = pad(x, (0, -x.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK)).flip(2)
    pieces = -(-kernel.shape[1] // BLOCK) + 1
    kernel_padded = pad(kernel, (BLOCK - 1, pieces * BLOCK - kernel.shape[1]))
    products = blocks @ kernel_padded.unfold(1, BLOCK, 1).transpose(1, 2)
    count = blocks.shape[1]
    total = x.new_zeros(len(x), count + pieces, BLOCK)
    for place, piece in enumerate(products.split(BLOCK, dim=2)):
        total[:, place : place + count] += piece
    return total.flatten(1)[:, : x.shape[1] + kernel.shape[1] - 1]

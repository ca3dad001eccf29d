"""The density of a sum of independent latents whose densities are piecewise linear.

Each latent becomes point masses at the nodes that have its moments up to the second, as far as two
nodes at a wall can; the masses are convolved, and the result is linear between the nodes of the
sum. Moments of sums are sums of moments, so that the error falls with the third power of the
spacing, or with the second where a sum of two has a jump at a wall. The nodes are refined until
that is small.
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from kaem.tabulated import PiecewiseLinearDensity, log_integral

TOLERANCE = 2e-4  # of the distribution function
MOST_NODES = 2**15  # of a sum
BLOCK = 64  # numbers that one matrix product convolves with as many


def density_of_sum(latents: PiecewiseLinearDensity) -> PiecewiseLinearDensity:
    """Return the density of each sum over the last batch dimension, (q, p) -> (q,), as a table.

    The distribution function is right to TOLERANCE, at 200 nodes and up to 20 latents whatever the
    densities: the hardest are those with all mass in a wall's first cell. Where MOST_NODES end the
    refinement before, what the last one changed bounds the error. It carries no gradient.
    """
    if latents.batch_shape[1] == 1:
        return PiecewiseLinearDensity(latents.log_density[:, 0].detach(), latents.nodes)
    values = latents.log_density.detach().double().exp()
    p, cells = values.shape[1], values.shape[2] - 1
    ends = p * float(latents.nodes[0]), p * float(latents.nodes[-1])
    fine, refinement = _refined(values, ends, 1), 2
    while refinement * p * cells < MOST_NODES:
        coarse, fine = fine, _refined(values, ends, refinement)
        # What a refinement changes is at least three times the error that is left.
        points = fine.nodes[:, None].expand(-1, len(values))
        if (coarse.cdf(points) - fine.cdf(points)).abs().max() < TOLERANCE:
            break
        refinement *= 2
    nodes = fine.nodes.to(latents.nodes.dtype)
    return PiecewiseLinearDensity(fine.log_density.to(nodes.dtype), nodes)


def _refined(values: Tensor, ends: tuple[float, float], refinement: int) -> PiecewiseLinearDensity:
    """Convolve the densities (q, p, n), p > 1, on nodes so many times closer."""
    p, cells = values.shape[1], refinement * (values.shape[2] - 1)
    values = interpolate(values, cells + 1, mode="linear", align_corners=True)
    nodes = torch.linspace(*ends, p * cells + 1, dtype=values.dtype, device=values.device)
    # The sum is read as hats on the nodes: one latent goes in as hats, the others as masses.
    total = _at_walls(values[:, 0], values[:, 0], -2 / 3, 1 / 6)
    for latent in (_masses(values[:, 1:]) * (nodes[1] - nodes[0])).unbind(1):
        total = _convolved(total, latent)
    log_density = total.clamp_min(torch.finfo(total.dtype).tiny).log()
    log_density -= log_integral(log_density, nodes).unsqueeze(-1)
    return PiecewiseLinearDensity(log_density, nodes)


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
    blocks = pad(x, (0, -x.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
    width = blocks.shape[1] * BLOCK
    total = x.new_zeros(len(x), width + kernel.shape[1] + 2 * BLOCK)
    for start, part in enumerate(kernel.split(BLOCK, dim=1)):
        part = pad(part, (BLOCK - 1, 2 * BLOCK - part.shape[1]))
        # Row i of this matrix is the part of the kernel, i places to the right.
        toeplitz = part.unfold(1, 2 * BLOCK, 1).flip(1)
        for side, piece in enumerate((blocks @ toeplitz).split(BLOCK, dim=2)):
            first = (start + side) * BLOCK
            total[:, first : first + width] += piece.flatten(1)
    return total[:, : x.shape[1] + kernel.shape[1] - 1]

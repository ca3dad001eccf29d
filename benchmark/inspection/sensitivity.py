"""Which latents matter: to the decoded images under the prior, and to the images' classes."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class TotalIndices(NamedTuple):
    """Shares of the decoded images' variance.

    Attributes:
        total: (d,), total Sobol index of each latent; they sum to one or more.
        error: (d,), Monte Carlo standard error, the variance taken as known.
    """

    total: Tensor
    error: Tensor


@torch.no_grad()
def total_sobol_indices(
    decode: Callable[[Tensor], Tensor], one: Tensor, other: Tensor
) -> TotalIndices:
    """Estimate the share of the variance that would be left if all other latents were known.

    Jansen's estimator (Saltelli et al. 2010, Comput. Phys. Commun. 181, table 2f):
    E|g(a) - g(a')|^2 / 2 Var g, where a' differs from a in one latent alone. The variances of the
    pixels are summed (Gamboa et al. 2014, Electron. J. Stat. 8): a share of the whole picture. It
    takes (d + 2) n passes.

    Args:
        decode: (n, d) -> (n, ...).
        one, other: (n, d), independent draws of independent latents; a copula is left out.
    """
    images = decode(one).flatten(1).double()
    both = torch.cat([images, decode(other).flatten(1).double()])
    variance = both.var(dim=0).sum()
    total, error = [], []
    for j in range(one.shape[1]):
        changed = one.clone()
        changed[:, j] = other[:, j]
        squares = (images - decode(changed).flatten(1).double()).square().sum(dim=1)
        total.append(squares.mean() / (2 * variance))
        error.append(squares.std() / len(squares) ** 0.5 / (2 * variance))
    return TotalIndices(torch.stack(total), torch.stack(error))


def eta_squared(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute the share of each latent's variance between classes: (n, d), (n,) to (d,).

    With k classes and labels that have nothing to do with the values it is (k - 1)/(n - 1) on
    average.
    """
    centred = values - values.mean(axis=0)
    between = sum(
        (labels == c).sum() * centred[labels == c].mean(axis=0) ** 2 for c in np.unique(labels)
    )
    return between / (centred**2).sum(axis=0)

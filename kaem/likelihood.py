"""The Gaussian likelihood p(x|z) = N(x; g(z), sigma^2 I), and means of weights given as logs."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kaem.precision import full_precision


def log_constant(dimension: int, sigma: float) -> float:
    """Return -D/2 log(2 pi sigma^2), in nats."""
    return -0.5 * dimension * math.log(2 * math.pi * sigma**2)


def log_likelihood(x: Tensor, mean: Tensor, sigma: float) -> Tensor:
    """Return log N(x; mean, sigma^2 I) in nats, row by row: (n, ...), (n, ...) -> (n,).

    Raises:
        ValueError: x and mean have different shapes, which would be broadcast.
    """
    _check_shapes(x.shape, mean.shape, x, mean)
    squares = (x - mean).flatten(1).square().sum(dim=1)
    return log_constant(mean.shape[1:].numel(), sigma) - squares / (2 * sigma**2)


def log_likelihood_slope(x: Tensor, mean: Tensor, sigma: float) -> Tensor:
    """Return the gradient of `log_likelihood` in the mean, (n, ...) as both; errors as there."""
    _check_shapes(x.shape, mean.shape, x, mean)
    return (x - mean).mul_(1 / sigma**2)


def pairwise_log_likelihood(x: Tensor, mean: Tensor, sigma: float) -> Tensor:
    """Return log N(x_b; mean_s, sigma^2 I) in nats for every pair: (b, ...), (s, ...) -> (b, s).

    One matrix product. Both sides are centred on the data first: |x|^2 + |m|^2 - 2 x.m
    cancels, and centring keeps the lost digits few.

    Raises:
        ValueError: x and mean are of different shapes, which would be flattened.
    """
    _check_shapes(x.shape[1:], mean.shape[1:], x, mean)
    x, mean = x.flatten(1), mean.flatten(1)
    centre = x.mean(dim=0)
    x, mean = x - centre, mean - centre
    with full_precision(x):
        squares = x.square().sum(1, keepdim=True) + mean.square().sum(1) - 2 * x @ mean.T
    return log_constant(x.shape[1], sigma) - squares.clamp_min(0.0) / (2 * sigma**2)


def weighted_squared_error(x: Tensor, mean: Tensor, weights: Tensor) -> Tensor:
    """Return sum_bs weights_bs |x_b - mean_s|^2 without the (b, s, D) differences.

    Args:
        x: (b, ...); mean: (s, ...), differentiable; weights: (b, s).
    """
    x, mean = x.flatten(1), mean.flatten(1)
    centre = x.mean(dim=0)
    x, mean = x - centre, mean - centre
    from_x = (weights.sum(1) * x.square().sum(1)).sum()
    from_mean = (weights.sum(0) * mean.square().sum(1)).sum()
    with full_precision(x):
        return from_x + from_mean - 2 * (mean * (weights.T @ x)).sum()


def effective_sample_size(weights: Tensor) -> Tensor:
    """Return 1 / sum_s w_s^2 for normalised weights: (..., s) -> (...)."""
    return 1.0 / weights.square().sum(dim=-1)


def log_mean_exp(log_weights: Tensor) -> Tensor:
    """Return log of the mean of exp(log_weights) over the last dimension: (..., s) -> (...)."""
    return torch.logsumexp(log_weights, dim=-1) - math.log(log_weights.shape[-1])


class Evidence(NamedTuple):
    """Estimates of log p(x_b).

    Attributes:
        log_evidence: (b,), in nats.
        standard_error: (b,), its standard error, in nats.
        ess: (b,), effective sample size of the weights that it is the mean of. Below about two the
            estimate is too low by an amount that the standard error does not hold. 0 where all
            weights are zero and the estimate -inf.
    """

    log_evidence: Tensor
    standard_error: Tensor
    ess: Tensor

    def mean(self) -> tuple[float, float]:
        """Return the mean over the data and its Monte Carlo standard error, given these data.

        The error takes the estimates as independent, which those that share draws are not. It is
        the scatter of such means, which all err downwards; not their distance from the truth.
        """
        error = self.standard_error.square().sum().sqrt() / len(self.standard_error)
        return self.log_evidence.mean().item(), error.item()


def bits_per_dimension(nats: float | Tensor, dimension: int, levels: int = 256) -> float | Tensor:
    """Convert nats to bits per dimension, for data on `levels` equally spaced values in [0, 1].

    The density at such a value times the distance of two values, 1/(levels - 1), stands for the
    probability of the value: a good approximation while the density varies slowly between two.
    """
    return -nats / (dimension * math.log(2)) + math.log2(levels - 1)


def evidence_from_weights(log_weights: Tensor, strata: int = 1) -> Evidence:
    """Estimate the evidence as the mean of importance weights whose logs are (b, s), s > 1.

    The standard error is the jackknife's, over the estimates that leave out one weight. Where many
    weights count it is the relative standard error of their mean. That is at most one, and where
    one weight outdoes all others the log is uncertain by more: by how far they lie apart.

    Args:
        strata: how many proposals the draws came from, one after the other and as many from each.

    Raises:
        ValueError: fewer than two weights have no standard error.
    """
    s = log_weights.shape[1]
    if s < 2:
        raise ValueError(f"a standard error takes at least 2 weights per datum, got {s}")
    value = log_mean_exp(log_weights)
    shares = log_weights.softmax(dim=1)
    # The others' share of the sum. For the largest weight they are summed: one minus it cancels.
    largest = log_weights.argmax(dim=1, keepdim=True)
    rest = torch.logsumexp(log_weights.scatter(1, largest, -math.inf), dim=1, keepdim=True)
    total = torch.logsumexp(log_weights, dim=1, keepdim=True)
    others = torch.log1p(-shares).scatter(1, largest, rest - total)
    within = others.unflatten(1, (strata, -1)).var(dim=2, correction=0).sum(dim=1)
    # A draw that is left out of its stratum gives the others there more weight: the log moves more
    # than where it is left out of the sum of all, to first order (s - 1) / (s - strata) times.
    error = (s - 1) / strata * (within / (s // strata - 1)).sqrt()
    ess = effective_sample_size(shares)
    # Where every weight is zero there is no estimate; where all but one are, no error.
    error = error.masked_fill(error.isnan(), math.inf)
    return Evidence(value, error, ess.masked_fill(value == -math.inf, 0.0))


def _check_shapes(one: torch.Size, other: torch.Size, x: Tensor, mean: Tensor) -> None:
    if one != other:
        raise ValueError(f"data of shape {tuple(x.shape)} for means of {tuple(mean.shape)}")

"""Fitting a mixture of normals to scores by EM (Dempster, Laird & Rubin 1977), with a ridge.

The ridge lambda is added to each covariance in the M-step. That step maximises, whatever the
responsibilities, the expected log-likelihood of scores that are blurred by N(0, lambda I); with
the E-step for the same blur, r_ik ~ w_k N_k(s_i) exp(-lambda/2 tr Sigma_k^{-1}), EM is exact: no
iteration lowers

    sum_i log sum_k w_k N_k(s_i) exp(-lambda/2 tr Sigma_k^{-1}).

scikit-learn's `reg_covar` has the same M-step and lacks the penalty in the E-step, so that its
likelihood may fall; without a ridge both are the same.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kaem.precision import full_precision
from kaem.random import Generators, rand

BLOCK = 2**19  # numbers that the E-step holds at once: they stay in a CPU's cache
LLOYD_STEPS = 5
SMALLEST_COUNT = 1e-30  # of draws in a component, where the logarithm is taken


class Normals(NamedTuple):
    """The parameters of K normals in d dimensions: log w (k,), means (k, d), and lower Cholesky
    factors of the covariances (k, d, d)."""

    log_weights: Tensor
    means: Tensor
    factors: Tensor


class Moments(NamedTuple):
    """Sums over the scores, weighted by the responsibilities: of 1 (k,), s (k, d), s s^T
    (k, d, d)."""

    counts: Tensor
    sums: Tensor
    products: Tensor


class Whitening(NamedTuple):
    """What makes the noise of every component of s, eps_k = L_k^{-1} (s - mu_k), side by side:
    s @ (d, k d) - (k d,); and the logs of the components' heights, (k,)."""

    factors: Tensor
    centres: Tensor
    log_heights: Tensor

    def explain(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return the noise and log w_k + log N_k(s), (n, d) -> (n, k, d), (n, k)."""
        with full_precision(s):
            noise = (s @ self.factors - self.centres).unflatten(1, (-1, s.shape[1]))
        return noise, self.log_heights - 0.5 * noise.square().sum(dim=2)


def joint_log_prob(normals: Normals, s: Tensor) -> Tensor:
    """Return log w_k + log N_k(s), (n, d) -> (n, k), by one matrix product."""
    return whitening(normals).explain(s)[1]


def whitening(normals: Normals) -> Whitening:
    """Return the whitening of every component."""
    d = normals.means.shape[1]
    whiten = _inverse(normals.factors)
    with full_precision(whiten):
        centres = (whiten @ normals.means.unsqueeze(-1)).flatten()
    log_scale = whiten.diagonal(dim1=1, dim2=2).log().sum(dim=1) - d / 2 * math.log(2 * math.pi)
    return Whitening(whiten.flatten(0, 1).mT, centres, normals.log_weights + log_scale)


def fit(start: Normals, scores: Tensor, iterations: int, ridge: float) -> Normals:
    """Improve the normals by EM, in the dtype of the scores (n, d).

    In the first half of the iterations, components with fewer than d + 1 draws move to the scores
    of the least density. That alone may lower the objective.
    """
    normals = start
    for i in range(iterations):
        moments, log_density = expectation(normals, scores, ridge)
        normals = maximisation(moments, ridge)
        if i < iterations // 2:
            normals = _reseeded(normals, moments, scores, log_density, ridge)
    return normals


def expectation(normals: Normals, scores: Tensor, ridge: float) -> tuple[Moments, Tensor]:
    """Return the moments and each score's penalised log density, (n,), whose sum EM maximises."""
    penalty = ridge / 2 * _inverse(normals.factors).square().sum(dim=(1, 2))
    penalised = normals._replace(log_weights=normals.log_weights - penalty)
    moments, log_density = [], []
    for rows in scores.split(max(1, BLOCK // normals.means.numel())):
        joint = joint_log_prob(penalised, rows)
        log_density.append(joint.logsumexp(dim=1))
        moments.append(_moments(rows, torch.softmax(joint, dim=1)))
    return _added(moments), torch.cat(log_density)


def maximisation(moments: Moments, ridge: float) -> Normals:
    """Return the normals that have these moments, and the ridge on each covariance's diagonal.

    Raises:
        ValueError: a covariance is singular, which a large enough ridge mends.
    """
    counts = moments.counts.clamp_min(SMALLEST_COUNT)
    means = moments.sums / counts[:, None]
    squares = moments.products / counts[:, None, None]
    covariances = squares - means.unsqueeze(2) * means.unsqueeze(1)
    log_weights = (counts / counts.sum()).log()
    return Normals(log_weights, means, _factors(covariances, ridge))


def kmeans_start(scores: Tensor, components: int, ridge: float, generator: Generators) -> Normals:
    """Return the normals of k-means clusters, found by k-means++ (Arthur & Vassilvitskii 2007) and
    a few of Lloyd's steps."""
    u = rand(components, (), generator, like=scores)
    centres = scores[(u[:1] * len(scores)).long()]
    distance = torch.full_like(scores[:, 0], torch.inf)
    for number in u[1:]:
        distance = torch.minimum(distance, (scores - centres[-1]).square().sum(dim=1))
        cumulative = distance.cumsum(dim=0)
        place = torch.searchsorted(cumulative, number * cumulative[-1], right=True)
        centres = torch.cat([centres, scores[place.clamp(max=len(scores) - 1)][None]])
    for _ in range(LLOYD_STEPS):
        moments = _clusters(scores, centres)
        counts = moments.counts[:, None]
        centres = torch.where(counts > 0, moments.sums / counts.clamp_min(1), centres)
    return maximisation(_clusters(scores, centres), ridge)


def _clusters(scores: Tensor, centres: Tensor) -> Moments:
    """Return the moments of the scores that are nearest to each centre."""
    moments = []
    for rows in scores.split(max(1, BLOCK // centres.numel())):
        nearest = torch.cdist(rows, centres).argmin(dim=1)
        hard = torch.nn.functional.one_hot(nearest, len(centres)).to(rows)
        moments.append(_moments(rows, hard))
    return _added(moments)


def _moments(rows: Tensor, responsibilities: Tensor) -> Moments:
    k, d = responsibilities.shape[1], rows.shape[1]
    weighted = (responsibilities.unsqueeze(2) * rows.unsqueeze(1)).flatten(1)
    products = (weighted.mT @ rows).view(k, d, d)
    return Moments(responsibilities.sum(dim=0), weighted.sum(dim=0).view(k, d), products)


def _added(moments: list[Moments]) -> Moments:
    return Moments(*(torch.stack(part).sum(dim=0) for part in zip(*moments, strict=True)))


def _reseeded(
    normals: Normals, moments: Moments, scores: Tensor, log_density: Tensor, ridge: float
) -> Normals:
    """Put each component with fewer than d + 1 draws where the density is least, as wide as all
    scores and as heavy as an average component."""
    k, d = normals.means.shape
    small = moments.counts < d + 1
    places = log_density.topk(min(int(small.sum()), len(scores)), largest=False).indices
    if not len(places):
        return normals
    log_weights, means, factors = (tensor.clone() for tensor in normals)
    means[small] = scores[places]
    factors[small] = _factors(torch.cov(scores.mT, correction=0).view(1, d, d), ridge)
    log_weights[small] = -math.log(k)
    return Normals(log_weights - log_weights.logsumexp(dim=0), means, factors)


def _factors(covariances: Tensor, ridge: float) -> Tensor:
    eye = torch.eye(covariances.shape[-1]).to(covariances)
    factors: Tensor
    factors, failed = torch.linalg.cholesky_ex(covariances + ridge * eye)
    if failed.any():
        raise ValueError(f"a component's covariance is singular with a ridge of {ridge}")
    return factors


def _inverse(factors: Tensor) -> Tensor:
    eye = torch.eye(factors.shape[-1]).to(factors)
    inverse: Tensor = torch.linalg.solve_triangular(factors, eye, upper=False)
    return inverse

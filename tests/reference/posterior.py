"""A toy model whose evidence, posterior and gradients are known by dense quadrature.

One or two latents, a two-layer decoder to k numbers, everything in float64. Gradients go
through the quadrature by autograd.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kaem import KAEM, ImportanceSampling
from kaem.priors import PRIORS
from reference.copula import Copula
from reference.densities import latent_densities, log_prior
from reference.quadrature import gauss_legendre_cells

REFERENCE = "gaussian"


class TinyDecoder(nn.Module):
    """A smooth non-linear map (n, q) -> (n, 1, 1, k)."""

    def __init__(self, q: int, k: int, hidden: int = 3):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(q, hidden), nn.Tanh(), nn.Linear(hidden, k))

    def forward(self, h: Tensor) -> Tensor:
        return self.layers(h)[:, None, None, :]


def toy_model(kind: str, q: int, p: int, seed: int = 0, **sampler) -> KAEM:
    """A KAEM with few parameters, none of them at a special value."""
    torch.manual_seed(seed)
    prior = PRIORS[kind](
        q, p, grid_size=5, reference=REFERENCE, domain=(-3.0, 3.0), n_nodes=25
    ).double()
    decoder = TinyDecoder(q, k=2).double()
    with torch.no_grad():
        prior.functions.coefficients.normal_(0, 0.7)
        for parameter in decoder.parameters():
            parameter.normal_(0, 0.8)
    return KAEM(prior, decoder, sigma=0.4, sampler=ImportanceSampling(**sampler))


def toy_data() -> Tensor:
    """Two data, (2, 1, 1, 2)."""
    return torch.tensor([[0.3, 0.9], [-0.6, 0.4]], dtype=torch.float64)[:, None, None, :]


def log_likelihoods(model: KAEM, x: Tensor, z: Tensor) -> Tensor:
    """log p(x_b | z_s) by torch.distributions, (b, s)."""
    mean = model.decoder(z.sum(2) if z.ndim == 3 else z).flatten(1)
    return torch.distributions.Normal(mean, model.sigma).log_prob(x.flatten(1)[:, None]).sum(2)


def flat_gradient(scalar: Tensor, model: nn.Module) -> Tensor:
    """d scalar / d all parameters as one vector; the graph stays usable."""
    gradients = torch.autograd.grad(scalar, list(model.parameters()), retain_graph=True)
    return torch.cat([g.flatten() for g in gradients])


@dataclass
class ExactPosterior:
    """Quadrature over the latent grid for data x (b, 1, 1, k).

    Attributes:
        model, x: what the posterior is of.
        z: (n, *event_shape), grid points.
        log_weights: (n,), log quadrature weights.
        log_likelihood: (b, n), log p(x_b|z_n), differentiable.
        log_prior: (n,), log p(z_n), differentiable; of a copula in its densities alone.
        log_evidence: (b,), log p(x_b), differentiable.
        score: (b, parameters), grad log p(x_b).
    """

    model: KAEM
    x: Tensor
    z: Tensor
    log_weights: Tensor
    log_likelihood: Tensor
    log_prior: Tensor
    log_evidence: Tensor
    score: Tensor

    @classmethod
    def of(cls, model: KAEM, x: Tensor) -> "ExactPosterior":
        prior = model.prior.densities
        latents = math.prod(prior.event_shape)
        points, weights = (
            torch.from_numpy(a) for a in gauss_legendre_cells(*prior.domain, len(prior.nodes) - 1)
        )
        index = torch.cartesian_prod(*[torch.arange(len(points))] * latents).reshape(-1, latents)
        z = points[index].reshape(-1, *prior.event_shape)
        log_weights = weights.log()[index].sum(1)
        density = latent_densities(prior, REFERENCE, points).reshape(latents, -1)
        log_p = sum(density[i].log()[index[:, i]] for i in range(latents))
        if prior is not model.prior:
            log_p = log_p + torch.from_numpy(Copula.of(model.prior).log_copula(z.numpy()))
        log_likelihood = log_likelihoods(model, x, z)
        log_evidence = torch.logsumexp(log_likelihood + log_p + log_weights, dim=1)
        score = torch.stack([flat_gradient(value, model) for value in log_evidence])
        return cls(model, x, z, log_weights, log_likelihood, log_p, log_evidence, score)

    def loss_gradient(self) -> Tensor:
        """Gradient of the mean of -log p(x_b)."""
        return -self.score.mean(0)

    def mean_level(self, t: float) -> Tensor:
        """E[log p(x_b|z)] under the power posterior at t, (b,), differentiable at its points."""
        tempered = t * self.log_likelihood + self.log_prior + self.log_weights
        return (tempered.detach().softmax(1) * self.log_likelihood).sum(1)

    def integral_gradient(self, t: Tensor) -> Tensor:
        """Gradient of the loss with the integral objective at exact draws of each t, (n + 1,)."""
        learnt = t[1] * self.mean_level(0.0)
        for k in range(1, len(t)):
            learnt = learnt + (t[k] - t[k - 1]) * self.mean_level(float(t[k]))
        posterior = (self.log_likelihood + self.log_prior + self.log_weights).detach().softmax(1)
        log_prior = (posterior * self.log_prior).sum(1)
        return -flat_gradient((learnt + log_prior).mean(), self.model)

    def variance_of_ratio(self) -> Tensor:
        """Var_prior[p(x_b|z) / p(x_b)], (b,)."""
        log_r = self.log_likelihood - self.log_evidence[:, None]
        return (2 * log_r + self.log_prior + self.log_weights).exp().sum(1).detach() - 1

    def leading_bias(self) -> Tensor:
        """c in E[self-normalised gradient of the loss] = gradient of the loss + c/S + O(1/S^2).

        By the delta method c = mean_b E_prior[r_b^2 (grad log p(x_b, z) - grad log p(x_b))],
        r_b = p(x_b|z) / p(x_b).
        """
        log_r = self.log_likelihood - self.log_evidence[:, None]
        c = (2 * log_r + self.log_prior + self.log_weights).exp().detach()
        return self._centred_gradient(c, self.log_likelihood + self.log_prior)

    def linear_term(self, z: Tensor) -> Tensor:
        """mean_bs r_bs (grad log p(x_b, z_s) - grad log p(x_b)) at prior draws z (s, ...).

        Minus this is the part of the error of the loss's self-normalised gradient that falls
        as S^{-1/2}. Its expectation is exactly zero: adding it leaves the bias in plain sight.
        """
        likelihood = log_likelihoods(self.model, self.x, z)
        r = (likelihood - self.log_evidence[:, None]).detach().exp() / len(z)
        log_joint = likelihood + log_prior(self.model.prior.densities, REFERENCE, z)
        return self._centred_gradient(r, log_joint)

    def _centred_gradient(self, c: Tensor, log_joint: Tensor) -> Tensor:
        weighted = flat_gradient((c * log_joint).sum() / len(c), self.model)
        return weighted - (c.sum(1, keepdim=True) * self.score).mean(0)

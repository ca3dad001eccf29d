"""The Kolmogorov-Arnold Energy Model (P. Raj, arXiv 2506.14167).

    z ~ p(z),  a product of one-dimensional energy densities       (`kaem.priors`)
    x ~ N(g(h(z)), sigma^2 I)                                      (`kaem.generators`)

It is trained by maximum likelihood; sampling is one exact draw of z and one pass of g.
"""

import torch
from torch import Tensor, nn

from kaem.generators import ImageShape, make_generator
from kaem.importance import ImportanceSampling, select_particles
from kaem.likelihood import (
    log_constant,
    log_mean_exp,
    pairwise_log_likelihood,
    weighted_squared_error,
)
from kaem.priors import MixturePrior, UnivariatePrior, make_prior
from kaem.random import Generators


class KAEM(nn.Module):
    """KAEM, trained by importance sampling.

    Args:
        prior: `UnivariatePrior` or `MixturePrior`.
        generator: module from latent features (n, q) to mean images (n, C, H, W).
        sigma: standard deviation of the likelihood, in units of the image range [0, 1].
        sampler: how the posterior is sampled in training.
    """

    nfe = 1  # network evaluations per sample: one pass of the generator

    def __init__(
        self,
        prior: UnivariatePrior | MixturePrior,
        generator: nn.Module,
        *,
        sigma: float,
        sampler: ImportanceSampling | None = None,
    ):
        super().__init__()
        if sigma <= 0:
            raise ValueError(f"sigma must be positive, got {sigma}")
        self.prior = prior
        self.generator = generator
        self.sigma = sigma
        self.sampler = sampler or ImportanceSampling()

    @classmethod
    def from_settings(cls, settings: dict, image_shape: ImageShape) -> "KAEM":
        """Build the model from plain settings, the entries of a configuration file.

        Args:
            settings: {"prior": {"kind", "q", "p", ...}, "decoder": {"kind", ...},
                "sigma": float, "sampler": {...}}; see `config/schema/config.schema.json`.
            image_shape: (C, H, W).
        """
        prior = make_prior(**settings["prior"])
        generator = make_generator(q=prior.q, image_shape=image_shape, **settings["decoder"])
        sampler = ImportanceSampling(**settings["sampler"])
        return cls(prior, generator, sigma=settings["sigma"], sampler=sampler)

    def decode(self, z: Tensor) -> Tensor:
        """Mean images g(h(z)), (n, *event_shape) -> (n, C, H, W) in [0, 1]."""
        return self.generator(self.prior.generator_input(z))

    @torch.no_grad()
    def sample(self, n: int, generator: Generators = None) -> Tensor:
        """n mean images of prior draws, (n, C, H, W) in [0, 1]; no observation noise is added."""
        return self.decode(self.prior.sample(n, generator))

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, dict]:
        """The negative log-likelihood per image, in nats, estimated by importance sampling.

        Its value is -log((1/s) sum_s p(x|z_s)), averaged over the batch, with every constant.
        Its gradient is the estimate of -grad log p(x) from the resampled particles. All s
        proposals are scored without a graph; only the distinct survivors are decoded again
        for the backward pass.

        Args:
            x: (n, C, H, W) in [0, 1].

        Returns:
            The scalar loss, and {"log_likelihood", "ess", "survivors"}: mean log p(x) in nats,
            mean effective sample size, number of proposals that carry a gradient.
        """
        with torch.no_grad():
            z = self.prior.sample(self.sampler.proposals, generator)
            log_likelihood = pairwise_log_likelihood(x, self.decode(z), self.sigma)
            particles = select_particles(log_likelihood, self.sampler, generator)
            log_evidence = log_mean_exp(log_likelihood).mean()
        expected = self._expected_log_joint(x, z[particles.indices], particles.weights)
        # The value is the evidence, the gradient is that of the expected log joint density.
        loss = -expected + (expected.detach() - log_evidence)
        return loss, {
            "log_likelihood": log_evidence.item(),
            "ess": particles.ess.mean().item(),
            "survivors": float(len(particles.indices)),
        }

    def _expected_log_joint(self, x: Tensor, z: Tensor, weights: Tensor) -> Tensor:
        """mean_b sum_k w_bk [log p(x_b|z_k) + log p(z_k)], scalar; gradients to all parameters."""
        error = weighted_squared_error(x, self.decode(z), weights)
        likelihood = log_constant(x[0].numel(), self.sigma) - error / (2 * self.sigma**2 * len(x))
        return likelihood + (weights.sum(0) * self.prior.log_prob(z)).sum() / len(x)

    @torch.no_grad()
    def diagnostics(self) -> dict[str, Tensor]:
        """What there is to look at: {"nodes": (n,), "density": (..., n)} of each latent."""
        marginals = self.prior.marginals()
        return {"nodes": marginals.nodes, "density": marginals.log_density.exp()}

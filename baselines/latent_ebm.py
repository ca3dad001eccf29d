"""Latent energy-based model (Pang et al. 2020, arXiv 2006.08205), KAEM's closest relative.

p(z) = exp(f(z)) N(z; 0, I) / Z with a network f of all latents together. Neither Z nor exact
draws are to be had, so prior and posterior are both sampled by short runs of Langevin dynamics,
begun at N(0, I).
"""

import math

import torch
from torch import Tensor, nn

from baselines.langevin import short_run
from baselines.networks import mlp
from kaem.decoders import ImageShape, make_decoder
from kaem.images import checked_images
from kaem.likelihood import log_likelihood
from kaem.random import Generators, randn


class LatentEBM(nn.Module):
    """A latent EBM, trained and sampled by short runs of Langevin dynamics.

    Args:
        energy: module (n, latents) -> (n, 1), the exponential tilt f; -f is the energy.
        decoder: module (n, latents) -> (n, C, H, W) in [0, 1].
        latents: dimension of z.
        sigma: standard deviation of the likelihood, in units of the image range [0, 1].
        prior_steps, prior_step_size: of the runs towards p(z); in sampling too. No steps at all
            leave draws of N(0, I).
        posterior_steps, posterior_step_size: of the runs towards p(z|x).
        energy_rate: how many times faster the energy is to learn than the decoder; for the training
            loop, which finds it under `learning_rate_factors`. Pang et al. train it five times
            more slowly (2e-5 against 1e-4).

    Raises:
        ValueError: sigma or energy_rate is not positive, or a number of steps is negative.
    """

    row_wise = ("energy", "decoder")

    def __init__(
        self,
        energy: nn.Module,
        decoder: nn.Module,
        *,
        latents: int,
        sigma: float,
        prior_steps: int = 60,
        prior_step_size: float = 0.4,
        posterior_steps: int = 20,
        posterior_step_size: float = 0.1,
        energy_rate: float = 0.2,
    ):
        super().__init__()
        if not sigma > 0:
            raise ValueError(f"sigma must be positive, got {sigma}")
        if not 0 < energy_rate < math.inf:
            raise ValueError(f"energy_rate must be positive, got {energy_rate}")
        if prior_steps < 0 or posterior_steps < 0:
            raise ValueError(f"no run has {min(prior_steps, posterior_steps)} steps")
        self.energy, self.decoder = energy, decoder
        self.latents, self.sigma = latents, float(sigma)
        self.learning_rate_factors = {"energy": float(energy_rate)}
        self.prior_run = {"steps": prior_steps, "step_size": prior_step_size}
        self.posterior_run = {"steps": posterior_steps, "step_size": posterior_step_size}

    @classmethod
    def from_settings(cls, settings: dict, image_shape: ImageShape) -> "LatentEBM":
        """Build from {"latents", "energy_width", "decoder": {"kind", ...}} and the arguments."""
        settings = dict(settings)
        latents, width = settings["latents"], settings.pop("energy_width")
        # No last bias: a constant of f cancels in p(z).
        energy = mlp([latents, width, width, 1], nn.GELU, last_bias=False)
        decoder = make_decoder(q=latents, image_shape=image_shape, **settings.pop("decoder"))
        return cls(energy, decoder, **settings)

    @property
    def nfe(self) -> int:
        """Count a gradient of the energy network per prior step, and one pass of the decoder."""
        return self.prior_run["steps"] + 1

    def log_prior(self, z: Tensor) -> Tensor:
        """Return log p(z) up to log Z, (n, latents) -> (n,)."""
        return self.energy(z).squeeze(1) + log_likelihood(z, torch.zeros_like(z), 1.0)

    def prior_draws(self, n: int, generator: Generators = None) -> Tensor:
        """Return the ends of n short runs towards p(z), (n, latents)."""
        start = self._start(n, generator)
        return short_run(start, self.log_prior, generator=generator, **self.prior_run)

    def posterior_draws(self, x: Tensor, generator: Generators = None) -> Tensor:
        """Return the ends of short runs towards p(z|x), one per datum, (n, latents)."""

        def log_joint(z: Tensor) -> Tensor:
            return log_likelihood(x, self.decoder(z), self.sigma) + self.log_prior(z)

        start = self._start(len(x), generator)
        return short_run(start, log_joint, generator=generator, **self.posterior_run)

    def _start(self, n: int, generator: Generators) -> Tensor:
        return randn(n, (self.latents,), generator, like=next(self.parameters()))

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, dict]:
        """Return a scalar with the gradient of -log p(x), were the runs exact (Pang et al. 2020).

        Args:
            x: (n, C, H, W), see `kaem.images.checked_images`.

        Returns:
            -E[log p(x|z+)] - E[f(z+)] + E[f(z-)] with draws z+ of the posterior and z- of the
            prior, and {"log_likelihood", "energy_gap"}: the first term's mean, in nats, and the
            mean of f(z+) less that of f(z-).
        """
        x = checked_images(x, self.decoder)
        posterior, prior = self.posterior_draws(x, generator), self.prior_draws(len(x), generator)
        likelihood = log_likelihood(x, self.decoder(posterior), self.sigma).mean()
        gap = self.energy(posterior).mean() - self.energy(prior).mean()
        info = {"log_likelihood": likelihood.item(), "energy_gap": gap.item()}
        return -likelihood - gap, info

    @torch.no_grad()
    def sample(self, n: int, generator: Generators = None) -> Tensor:
        """Draw n mean images, (n, C, H, W) in [0, 1]; no observation noise is added."""
        return self.decoder(self.sample_features(n, generator))

    @torch.no_grad()
    def sample_features(self, n: int, generator: Generators = None) -> Tensor:
        """Draw what the decoder is given, (n, latents)."""
        return self.prior_draws(n, generator)

    def compile(self, **options) -> None:
        """Compile what sampling runs, with the options of `torch.compile`."""
        self.energy.compile(**options)
        self.decoder.compile(**options)

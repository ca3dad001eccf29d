"""Variational autoencoder (Kingma & Welling 2014, arXiv 1312.6114) with a fixed sigma.

z ~ N(0, I),  x ~ N(g(z), sigma^2 I),  q(z|x) = N(mu(x), diag exp(log_var(x)))
"""

import torch
from torch import Tensor, nn

from baselines.networks import ConvEncoder
from kaem.generators import ImageShape, make_generator
from kaem.likelihood import Evidence, evidence_from_weights, log_likelihood
from kaem.random import Generators, randn


class VAE(nn.Module):
    """A VAE whose decoder is one of KAEM's generators.

    Args:
        latents: dimension of z.
        encoder: module (n, C, H, W) -> (n, 2 latents): mean and log variance of q(z|x).
        decoder: module (n, latents) -> (n, C, H, W) in [0, 1].
        sigma: standard deviation of the likelihood, in units of the image range [0, 1].
    """

    nfe = 1

    def __init__(self, latents: int, encoder: nn.Module, decoder: nn.Module, *, sigma: float):
        super().__init__()
        if sigma <= 0:
            raise ValueError(f"sigma must be positive, got {sigma}")
        self.latents, self.sigma = latents, sigma
        self.encoder, self.decoder = encoder, decoder

    @classmethod
    def from_settings(cls, settings: dict, image_shape: ImageShape) -> "VAE":
        """Build from {"latents", "sigma", "encoder_width", "decoder": {"kind", ...}}."""
        latents = settings["latents"]
        encoder = ConvEncoder(image_shape, 2 * latents, width=settings["encoder_width"])
        decoder = make_generator(q=latents, image_shape=image_shape, **settings["decoder"])
        return cls(latents, encoder, decoder, sigma=settings["sigma"])

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, dict]:
        """The negative evidence lower bound per image, in nats, with every constant.

        Args:
            x: (n, C, H, W) in [0, 1].

        Returns:
            The scalar loss, and {"log_likelihood", "kl"}: mean reconstruction term and mean
            KL(q(z|x) || p(z)), both in nats.
        """
        mean, log_var = self.encoder(x).chunk(2, dim=1)
        noise = randn(len(x), (self.latents,), generator, like=mean)
        z = mean + (0.5 * log_var).exp() * noise
        reconstruction = log_likelihood(x, self.decoder(z), self.sigma).mean()
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(dim=1).mean()
        return kl - reconstruction, {"log_likelihood": reconstruction.item(), "kl": kl.item()}

    @torch.no_grad()
    def sample(self, n: int, generator: Generators = None) -> Tensor:
        """n mean images of prior draws, (n, C, H, W) in [0, 1]; no observation noise is added."""
        like = next(self.decoder.parameters())
        return self.decoder(randn(n, (self.latents,), generator, like=like))

    @torch.no_grad()
    def log_evidence(
        self, x: Tensor, passes: int, generator: torch.Generator | None = None
    ) -> Evidence:
        """log p(x) of each datum by importance sampling from q(z|x), in nats.

        A stochastic lower bound (Burda et al. 2016, arXiv 1509.00519).

        Args:
            x: (b, C, H, W).
            passes: draws, and so passes of the decoder, for each datum.
        """
        encoded = self.encoder(x).chunk(2, dim=1)
        weights = [self._log_weight(x, *encoded, generator) for _ in range(passes)]
        return evidence_from_weights(torch.stack(weights, dim=1).double())

    def _log_weight(self, x: Tensor, mean: Tensor, log_var: Tensor, generator) -> Tensor:
        """log p(x|z) + log p(z) - log q(z|x) at one draw of z per datum, (n,)."""
        noise = randn(len(x), (self.latents,), generator, like=mean)
        z = mean + (0.5 * log_var).exp() * noise
        # The constants of the two Gaussians of z cancel.
        log_ratio = 0.5 * (noise.square() + log_var - z.square()).sum(dim=1)
        return log_likelihood(x, self.decoder(z), self.sigma) + log_ratio

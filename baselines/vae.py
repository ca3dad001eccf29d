"""Variational autoencoders with the decoder that KAEM has.

- `VAE`: a fixed sigma (Kingma & Welling 2014, arXiv 1312.6114).
- `SigmaVAE`: the sigma that is optimal for each batch (Rybkin et al. 2021, arXiv 2006.13202).
- `TwoStageVAE`: a second VAE learns the latents of the first (Dai & Wipf 2019, arXiv 1903.05789).

z ~ N(0, I),  x ~ N(g(z), sigma^2 I),  q(z|x) = N(mu(x), diag exp(log_var(x)))
"""

import math

import torch
from torch import Tensor, nn

from baselines.networks import ConvEncoder, SkipMLP
from kaem.decoders import ImageShape, make_decoder, small_stack
from kaem.images import checked_images
from kaem.likelihood import Evidence, evidence_from_weights, log_likelihood
from kaem.random import Generators, randn

MEMORY = 0.99  # of the running mean of the optimal variance


class OptimalSigma(nn.Module):
    """The sigma that suits a batch best (Rybkin et al. 2021, section 3.3), and its running mean.

    The first is what training uses; the second, `sigma`, is what the trained model has.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("variance", torch.tensor(1.0))
        self.register_buffer("updates", torch.tensor(0))

    @property
    def sigma(self) -> float:
        """Return the running mean's sigma, in the units of the data."""
        return float(self.variance.sqrt())

    def forward(self, x: Tensor, mean: Tensor) -> Tensor:
        """Return the mean log-likelihood at the best sigma, -D/2 (log(2 pi sigma^2) + 1)."""
        variance = (x - mean).square().mean()
        if self.training and torch.is_grad_enabled():
            self.updates += 1
            # Early on a plain mean, so that the beginning is soon forgotten.
            share = max(1 - MEMORY, 1 / float(self.updates))
            self.variance += share * (variance.detach() - self.variance)
        return -0.5 * x[0].numel() * ((2 * math.pi * variance).log() + 1)


class GaussianPair(nn.Module):
    """An encoder and a decoder with diagonal Gaussians between: what all VAEs here are made of.

    Args:
        latents: dimension of z.
        encoder: (n, ...) -> (n, 2 latents), mean and log variance of q(z|x).
        decoder: (n, latents) -> (n, ...).
    """

    row_wise = ("encoder", "decoder")

    def __init__(self, latents: int, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        self.latents = latents
        self.encoder, self.decoder = encoder, decoder

    def draw(self, x: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """Draw from q(z|x) per datum: z (n, latents), KL(q || p) (n,), log q(z|x)/p(z) (n,)."""
        return self.draw_from(self.encoder(x), generator)

    def draw_from(
        self, encoded: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw likewise for data that the encoder has seen, (n, 2 latents)."""
        mean, log_var = encoded.chunk(2, dim=1)
        noise = randn(len(mean), (self.latents,), generator, like=mean)
        z = mean + (0.5 * log_var).exp() * noise
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(dim=1)
        # The constants of the two Gaussians of z cancel.
        return z, kl, 0.5 * (z.square() - noise.square() - log_var).sum(dim=1)

    def compile(self, **options) -> None:
        """Compile what sampling runs, with the options of `torch.compile`."""
        self.decoder.compile(**options)

    def prior_draws(self, n: int, generator: Generators) -> Tensor:
        """Draw z ~ N(0, I), (n, latents)."""
        return randn(n, (self.latents,), generator, like=next(self.decoder.parameters()))


class VAE(GaussianPair):
    """A VAE whose decoder is one of KAEM's decoders.

    Args:
        latents: dimension of z.
        encoder: module (n, C, H, W) -> (n, 2 latents): mean and log variance of q(z|x).
        decoder: module (n, latents) -> (n, C, H, W) in [0, 1].
        sigma: standard deviation of the likelihood, in units of the image range [0, 1].
    """

    nfe = 1

    def __init__(self, latents: int, encoder: nn.Module, decoder: nn.Module, *, sigma: float):
        super().__init__(latents, encoder, decoder)
        if not sigma > 0:
            raise ValueError(f"sigma must be positive, got {sigma}")
        self.sigma = float(sigma)

    @classmethod
    def from_settings(cls, settings: dict, image_shape: ImageShape) -> "VAE":
        """Build from {"latents", "encoder_width", "decoder": {"kind", ...}} and the arguments
        that the class adds. The encoder mirrors a "conv_stack", and then has no width."""
        settings = dict(settings)
        latents, described = settings.pop("latents"), settings.pop("decoder")
        if described["kind"] == "conv_stack":
            mirrored = {key: described[key] for key in ("channels", "start")}
        else:
            mirrored = small_stack(image_shape, settings.pop("encoder_width"))
        encoder = ConvEncoder(image_shape, 2 * latents, **mirrored)
        decoder = make_decoder(q=latents, image_shape=image_shape, **described)
        return cls(latents, encoder, decoder, **settings)

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, dict]:
        """Return the negative evidence lower bound per image, in nats, with every constant.

        Args:
            x: (n, C, H, W), see `kaem.images.checked_images`.

        Returns:
            The scalar loss, and {"log_likelihood", "kl"}: mean reconstruction term and mean
            KL(q(z|x) || p(z)), both in nats.
        """
        x = checked_images(x, self.decoder)
        return self._loss(x, self.draw(x, generator))

    def _loss(self, x: Tensor, drawn: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, dict]:
        z, kl, _ = drawn
        reconstruction, kl = self._reconstruction(x, self.decoder(z)), kl.mean()
        return kl - reconstruction, {"log_likelihood": reconstruction.item(), "kl": kl.item()}

    def _reconstruction(self, x: Tensor, mean: Tensor) -> Tensor:
        """Return the mean log p(x|z) of the batch, in nats."""
        return log_likelihood(x, mean, self.sigma).mean()

    @torch.no_grad()
    def sample(self, n: int, generator: Generators = None) -> Tensor:
        """Draw n mean images, (n, C, H, W) in [0, 1]; no observation noise is added."""
        return self.decoder(self.sample_features(n, generator))

    @torch.no_grad()
    def sample_features(self, n: int, generator: Generators = None) -> Tensor:
        """Draw what the decoder is given, (n, latents)."""
        return self.prior_draws(n, generator)

    @torch.no_grad()
    def log_evidence(
        self, x: Tensor, passes: int, generator: torch.Generator | None = None
    ) -> Evidence:
        """Estimate log p(x) of each datum by importance sampling from q(z|x), in nats.

        A stochastic lower bound (Burda et al. 2016, arXiv 1509.00519).

        Args:
            x: (b, C, H, W), see `kaem.images.checked_images`.
            passes: draws, and so passes of the decoder, for each datum.
        """
        return evidence_from_weights(self._weighed(x, passes, generator)[1])

    @torch.no_grad()
    def posterior_log_likelihood(
        self, x: Tensor, passes: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Estimate the mean of log p(x|z) over the posterior of each datum, (b,), in nats, by the
        weights of `log_evidence`."""
        values, log_weights = self._weighed(x, passes, generator)
        return (log_weights.softmax(dim=1) * values).sum(dim=1)

    def _weighed(self, x: Tensor, passes: int, generator) -> tuple[Tensor, Tensor]:
        """Return log p(x|z) at draws of z, and the logs of their weights: (b, passes) each."""
        x = checked_images(x, self.decoder)
        encoded = self.encoder(x)
        draws = [self._draw(x, encoded, generator) for _ in range(passes)]
        values, log_ratios = (
            torch.stack(each, dim=1).double() for each in zip(*draws, strict=True)
        )
        return values, values - log_ratios

    def _draw(self, x: Tensor, encoded: Tensor, generator) -> tuple[Tensor, Tensor]:
        """Return log p(x|z) and log q(z|x)/p(z) at one draw of z per datum, (b,) each."""
        z, _, log_ratio = self.draw_from(encoded, generator)
        return log_likelihood(x, self.decoder(z), self.sigma), log_ratio


class SigmaVAE(VAE):
    """A VAE whose sigma is the root mean squared error of each batch: `OptimalSigma`."""

    def __init__(self, latents: int, encoder: nn.Module, decoder: nn.Module):
        GaussianPair.__init__(self, latents, encoder, decoder)
        self.noise = OptimalSigma()

    @property
    def sigma(self) -> float:
        """Return the standard deviation of the likelihood, in units of the image range."""
        return self.noise.sigma

    @sigma.setter
    def sigma(self, value: float) -> None:
        self.noise.variance.fill_(value**2)

    def _reconstruction(self, x: Tensor, mean: Tensor) -> Tensor:
        return self.noise(x, mean)


class TwoStageVAE(SigmaVAE):
    """A sigma-VAE, and a second VAE that learns the latents z of the first.

    Dai & Wipf train one after the other. Here they learn side by side, with as many updates each;
    the second sees z without a gradient, so that the first is what it would be alone. A sample
    goes through both: u ~ N(0, I), z ~ N(g_2(u), sigma_2^2 I), and the image g(z).

    Args:
        second_width: hidden units of the second VAE's networks, which have three hidden layers, the
            input joined to the third as in Dai & Wipf's code; u has the dimension of z.
        second_rate: how many times faster the second VAE is to learn than the first; for the
            training loop, which finds it under `learning_rate_factors`.

    Raises:
        ValueError: a rate that is not positive.
    """

    nfe = 2

    def __init__(
        self,
        latents: int,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        second_width: int,
        second_rate: float = 1.0,
    ):
        super().__init__(latents, encoder, decoder)
        if not 0 < second_rate < math.inf:
            raise ValueError(f"second_rate must be positive, got {second_rate}")
        self.learning_rate_factors = {"second": float(second_rate)}
        hidden = [second_width] * 3
        self.second = GaussianPair(
            latents, SkipMLP([latents, *hidden, 2 * latents]), SkipMLP([latents, *hidden, latents])
        )
        self.second_noise = OptimalSigma()

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, dict]:
        """Return the sum of both negative bounds, each per image and in nats: not a bound itself.

        Returns, beside what `VAE.loss` does: {"second_log_likelihood", "second_kl"}.
        """
        x = checked_images(x, self.decoder)
        drawn = self.draw(x, generator)
        first, info = self._loss(x, drawn)
        z = drawn[0].detach()
        u, kl, _ = self.second.draw(z, generator)
        reconstruction, kl = self.second_noise(z, self.second.decoder(u)), kl.mean()
        info |= {"second_log_likelihood": reconstruction.item(), "second_kl": kl.item()}
        return first + kl - reconstruction, info

    def compile(self, **options) -> None:
        """Compile what sampling runs, with the options of `torch.compile`."""
        self.second.compile(**options)
        super().compile(**options)

    @torch.no_grad()
    def sample_features(self, n: int, generator: Generators = None) -> Tensor:
        """Draw through the second stage, (n, latents)."""
        mean = self.second.decoder(self.second.prior_draws(n, generator))
        noise = randn(n, (self.latents,), generator, like=mean)
        return mean + self.second_noise.sigma * noise

    def _draw(self, x: Tensor, encoded: Tensor, generator) -> tuple[Tensor, Tensor]:
        """Draw both z ~ q(z|x) and u ~ q(u|z), with p(z) = int p(z|u) p(u) du."""
        z, _, log_ratio = self.draw_from(encoded, generator)
        u, _, second_log_ratio = self.second.draw(z, generator)
        # log_ratio has N(z; 0, I) where p(z|u) belongs.
        log_standard = log_likelihood(z, torch.zeros_like(z), 1.0)
        log_z = log_likelihood(z, self.second.decoder(u), self.second_noise.sigma)
        log_x = log_likelihood(x, self.decoder(z), self.sigma)
        return log_x, log_ratio + log_standard - log_z + second_log_ratio

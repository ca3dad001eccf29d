"""A KAEM whose evidence is known in closed form: z ~ N(0, I), x = W z + b + noise.

The prior's edge functions are zero, so that each latent follows its Gaussian reference; the
domain is wide enough for its tails (2e-9 beyond it) and the nodes are dense. Then
x ~ N(b, W W^T + sigma^2 I).
"""

import torch
from torch import Tensor, nn

from kaem import KAEM, MixturePrior
from kaem.posterior import Posterior


class LinearDecoder(nn.Module):
    """(n, q) -> (n, 1, 1, d)."""

    def __init__(self, q: int, d: int):
        super().__init__()
        self.linear = nn.Linear(q, d)

    def forward(self, h: Tensor) -> Tensor:
        return self.linear(h)[:, None, None, :]


def linear_gaussian_model(latents: int, sigma: float = 0.5, seed: int = 0) -> KAEM:
    """Data of latents + 2 numbers; the posterior of every latent is narrower than its prior."""
    torch.manual_seed(seed)
    prior = MixturePrior(
        latents, 1, grid_size=4, reference="gaussian", domain=(-6.0, 6.0), n_nodes=600
    ).double()
    decoder = LinearDecoder(latents, latents + 2).double()
    with torch.no_grad():
        prior.functions.coefficients.zero_()
        prior.functions.w_base.zero_()
        decoder.linear.weight.normal_(0, latents**-0.5)
        decoder.linear.bias.normal_(0, 0.5)
    return KAEM(prior, decoder, sigma=sigma)


def draw_data(model: KAEM, n: int, seed: int = 0) -> Tensor:
    """n data of the model itself, noise included: (n, 1, 1, d)."""
    generator = torch.Generator().manual_seed(seed)
    mean = model.sample(n, generator)
    return mean + model.sigma * torch.randn(mean.shape, generator=generator, dtype=mean.dtype)


def log_evidence(model: KAEM, x: Tensor) -> Tensor:
    """log N(x; b, W W^T + sigma^2 I), (n, 1, 1, d) -> (n,)."""
    weight, bias = model.decoder.linear.weight.detach(), model.decoder.linear.bias.detach()
    covariance = weight @ weight.T + model.sigma**2 * torch.eye(len(bias), dtype=bias.dtype)
    return torch.distributions.MultivariateNormal(bias, covariance).log_prob(x.flatten(1))


def linear_gaussian(latents: int, n: int, seed: int = 0) -> tuple[Posterior, Tensor]:
    """The posterior of n data, and their true log p(x), (n,)."""
    model = linear_gaussian_model(latents, seed=seed)
    x = draw_data(model, n, seed)
    return Posterior(model, x), log_evidence(model, x)

"""The sigma at which a trained model explains images best, and the likelihood of a constant image.

Bits per dimension are mostly a matter of sigma: at the sigma of its training a model may be behind
a constant image that has its own best one. So every model is measured at its best sigma as well,
found after training on images held back from it; the decoder stays as it is.
"""

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmark.data.pixels import to_float
from kaem.laplace import annealed
from kaem.likelihood import Evidence, log_constant, log_likelihood
from kaem.model import KAEM
from kaem.posterior import FeaturePosterior

# Images of each round of EM; the first need not be exact.
ROUNDS = (25, 100)
IMAGES = max(ROUNDS)
PASSES = 800  # of the decoder, for each image in a round: with 200 more chains end in bad modes
SMALLEST = 1 / 255  # of 8-bit values: a smaller sigma would say nothing about them
CHUNK = 4096  # images that are turned to floats at once


def held_back(images: dict[str, Tensor]) -> tuple[str, Tensor]:
    """Return the split that sigma is fitted on and its images; "train" where a dataset has no
    "validation", which makes sigma a little too small."""
    split = "validation" if "validation" in images else "train"
    return split, images[split]


@torch.no_grad()
def with_best_sigma(
    model: nn.Module, images: Tensor, generator: torch.Generator, device: torch.device
) -> nn.Module:
    """Return a copy of a model that has the sigma at which it explains the last `IMAGES` best.

    By EM (Dempster et al. 1977): sigma^2 is the mean square of x - g(z) per pixel, with z from the
    posterior at the last sigma. A round brings it about D/d times nearer the best sigma, with d
    latents of D pixels. Unlike the maximum of estimates of log p(x), that does not move where these
    are loose.

    Args:
        model: a KAEM, or has `posterior_log_likelihood(x, passes, generator)`; `sigma` is its own.
        images: uint8, (n, C, H, W).
    """
    model = copy.deepcopy(model)
    dimension = images[0].numel()
    for count in ROUNDS:
        x = to_float(images[-count:].to(device))
        value = _posterior_log_likelihood(model, x, generator).double().mean().item()
        ratio = 2 * (log_constant(dimension, model.sigma) - value) / dimension
        model.sigma = max(model.sigma * math.sqrt(ratio), SMALLEST)
    return model


def _posterior_log_likelihood(model: nn.Module, x: Tensor, generator: torch.Generator) -> Tensor:
    """Estimate the mean of log p(x|z) over the posterior of each datum, (b,), in nats."""
    if not isinstance(model, KAEM):
        return model.posterior_log_likelihood(x, PASSES, generator)
    posterior = FeaturePosterior(model, x)
    z = posterior.prior_draws(len(x), generator)
    return annealed(posterior, z, PASSES, generator)[0].log_likelihood


class ConstantImage(nn.Module):
    """The normal distribution around the mean of the training images, with one sigma: what a
    likelihood is worth that knows no latents.

    Args:
        training: uint8, (n, C, H, W), of which the mean is taken.
        held_back: uint8, (m, C, H, W), for which the sigma is best.
    """

    def __init__(self, training: Tensor, held_back: Tensor):
        super().__init__()
        self.image = _mean(training, lambda x: x)
        self.sigma = math.sqrt(_mean(held_back, lambda x: (x - self.image).square()).mean())

    def log_evidence(self, x: Tensor, *_unused: object) -> Evidence:
        """Return log p(x) of each datum in nats, (b, C, H, W) -> (b,), without an error."""
        image = self.image.to(x.device).expand(len(x), *self.image.shape)
        value = log_likelihood(x.double(), image, self.sigma)
        return Evidence(value, torch.zeros_like(value), torch.full_like(value, math.inf))


def _mean(images: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the mean over 8-bit images of a function of theirs as float64, (C, H, W)."""
    return sum(of(to_float(each).double()).sum(0) for each in images.split(CHUNK)) / len(images)

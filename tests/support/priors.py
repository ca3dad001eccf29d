"""Priors of several shapes, of few latents, for the tests of the priors."""

import pytest
import torch
from torch import nn

from kaem.priors import PRIORS
from kaem.reference import REFERENCES

DOMAIN = (-4.0, 4.0)


def initial(prior):
    pass


def sharp(prior):
    prior.functions.coefficients.mul_(10)
    prior.functions.w_base.mul_(3)


def very_sharp(prior):
    prior.functions.coefficients.mul_(80)


def multimodal(prior):
    """Two or more separate peaks in every component, of unequal height."""
    prior.functions.coefficients.sub_(6)
    prior.functions.coefficients[..., 4::6] += 8 + torch.randn(())
    prior.functions.w_spline.add_(0.2 * torch.rand_like(prior.functions.w_spline))


SHAPES = [initial, sharp, very_sharp, multimodal]


def make_prior(kind: str, reference: str, shape=initial, **options):
    """A prior of few latents; the mixture's weights are trained ones, far from equal."""
    torch.manual_seed(SHAPES.index(shape) + 1)
    if kind == "mixture":
        options = {"train_weights": True, **options}
    sizes = {"q": 2, "p": 3 if kind == "mixture" else 2, "n_nodes": 60, "domain": DOMAIN}
    prior = PRIORS[kind](reference=reference, **{**sizes, **options})
    with torch.no_grad():
        shape(prior)
        if kind == "mixture" and isinstance(prior.weight_logits, nn.Parameter):
            prior.weight_logits.normal_()
    return prior


kinds = pytest.mark.parametrize("kind", PRIORS)
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
every_reference = pytest.mark.parametrize("reference", REFERENCES)

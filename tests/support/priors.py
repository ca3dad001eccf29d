"""Priors of several shapes, of few latents, for the tests of the priors."""

import pytest
import torch
from torch import nn

from kaem.copula import CopulaPrior
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


def make_copula(kind: str = "mixture", q: int = 2, components: int = 3, **options) -> CopulaPrior:
    """A prior of dependent latents, in float64: `depend` on that of `make_prior`."""
    options = {"reference": "gaussian", "shape": sharp, **options}
    prior = make_prior(kind, options.pop("reference"), options.pop("shape"), q=q, **options)
    return depend(CopulaPrior(prior, components=components).double())


@torch.no_grad()
def depend(prior: CopulaPrior, seed: int = 11) -> CopulaPrior:
    """Give the copula components of unequal weights that lie apart and lean different ways."""
    generator = torch.Generator().manual_seed(seed)
    log_weights, means, factors = prior.mixture.state_dict().values()
    log_weights.copy_(torch.rand(log_weights.shape, generator=generator).add(0.5))
    log_weights.copy_((log_weights / log_weights.sum()).log())
    means.copy_(2 * torch.randn(means.shape, generator=generator))
    factors.copy_(0.8 * torch.randn(factors.shape, generator=generator).tril(-1))
    spread = torch.rand(means.shape, generator=generator)
    factors.add_(torch.diag_embed(0.3 + 0.4 * spread).to(factors))
    return prior


@torch.no_grad()
def correlate(prior: CopulaPrior, correlation: float) -> CopulaPrior:
    """Make the one component of two latents a normal of this correlation.

    Its place and scale are no part of a copula: they are not those of standard scores.
    """
    shape = torch.tensor([[1.0, 0.0], [correlation, (1 - correlation**2) ** 0.5]])
    prior.mixture.means.copy_(torch.tensor([[3.0, -2.0]]))
    prior.mixture.factors.copy_(torch.tensor([2.0, 0.5]).diag() @ shape)
    return prior

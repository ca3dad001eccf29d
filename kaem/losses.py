"""The two losses of KAEM: by importance sampling, and at the ends of Markov chains.

The gradient of each estimates that of -log p(x) (paper, arXiv 2506.14167, section 4), averaged over
the batch, in nats; every constant is there. With a population's integral objective the decoder's
gradient is another, see `kaem.tempering.Tempering`.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kaem.chains import Index, LangevinChains, Population
from kaem.importance import ImportanceSampling, select_particles
from kaem.likelihood import (
    log_constant,
    log_likelihood,
    log_mean_exp,
    pairwise_log_likelihood,
    weighted_squared_error,
)
from kaem.posterior import Posterior
from kaem.resampling import multinomial

if TYPE_CHECKING:
    from kaem.model import KAEM


Loss = tuple[Tensor, dict[str, float], Tensor]
"""A batch's loss, scalar, with its gradient; what there is to log, see `kaem.model.KAEM.loss`; and
draws of the posterior, (n, *event_shape), for `kaem.draws.RecentDraws`."""


def importance_loss(
    model: "KAEM", sampler: ImportanceSampling, x: Tensor, generator: torch.Generator | None
) -> Loss:
    """Score all proposals without a graph, and decode only the distinct survivors again for the
    backward pass.

    Args:
        x: (b, C, H, W).
    """
    with torch.no_grad():
        z = model.prior.sample(sampler.proposals, generator)
        scores = pairwise_log_likelihood(x, model.decode(z), model.sigma)
        particles = select_particles(scores, sampler, generator)
        log_evidence = log_mean_exp(scores).mean()
    z, weights = z[particles.indices], particles.weights
    error = weighted_squared_error(x, model.decode(z), weights)
    likelihood = log_constant(x[0].numel(), model.sigma) - error / (2 * model.sigma**2 * len(x))
    log_prior = (weights.sum(0) * _log_prior(model, z, len(x), generator)).sum() / len(x)
    expected = likelihood + log_prior
    # The value is the evidence, the gradient is that of the expected log joint density.
    value = -expected + (expected.detach() - log_evidence)
    info = {
        "log_likelihood": log_evidence.item(),
        "ess": particles.ess.mean().item(),
        "survivors": float(len(particles.indices)),
    }
    if model.recent.most:  # nobody else wants draws, which take random numbers
        z = z[multinomial(weights, 1, generator).squeeze(1)]
    return value, info, z


def chains_loss(
    model: "KAEM",
    chains: LangevinChains,
    x: Tensor,
    generator: torch.Generator | None,
    index: Index | None,
) -> Loss:
    """Move the chains without a graph; one pass at their ends carries the gradient.

    Args:
        x: (b, C, H, W).
        index: (b,), see `kaem.chains.LangevinChains.draw`.
    """
    felt = model.copula_fit is None or model.copula_fit.in_chains
    posterior = Posterior(model, x, with_copula=felt)
    z, info = chains.draw(posterior, model.updates_done + 1, generator, index)
    if isinstance(chains, Population) and chains.options.objective == "integral":
        with torch.no_grad():
            start = posterior.prior_draws(len(x), generator)
        levels = posterior.log_likelihood(torch.cat([start, z.flatten(0, 1)]))
        levels = levels.unflatten(0, (-1, len(x))).mean(1)
        likelihood, learnt = levels[-1].detach(), (chains.weights() * levels).sum()
    else:
        likelihood = learnt = log_likelihood(x, model.decode(z[-1]), model.sigma).mean()
    log_prior = _log_prior(model, z[-1], len(x), generator).mean()
    info = {"log_likelihood": likelihood.item(), "log_prior": log_prior.item(), **info}
    # The value is that at t = 1, whatever is learnt from.
    return -(learnt + log_prior) + (learnt - likelihood).detach(), info, z[-1]


def _log_prior(model: "KAEM", z: Tensor, draws: int, generator: torch.Generator | None) -> Tensor:
    """Return log p(z), (n,), with the gradient of log Z that `log_normalizer` names."""
    if model.log_normalizer == "exact":
        return model.prior.log_prob(z)
    return model.prior.log_prob(z, model.prior.contrastive_log_normalizer(draws, generator))

"""Estimators of the evidence log p(x) of each datum, with standard errors, in nats.

- `importance`: the mean likelihood of prior draws.
- `annealed_importance`: weights along a path of power posteriors (Neal 2001); a stochastic lower
  bound of log p(x), as Wu et al. 2017 (arXiv 1611.04273) evaluate decoder-based models.
- `thermodynamic_integration`: int_0^1 E_{p_t}[log p(x|z)] dt.
- `stepping_stone`: sum_k log E_{p_{t_k}}[p(x|z)^(t_{k+1} - t_k)] (Xie et al. 2011).

The last two read the trace of a population that `run_population` draws. All chains use MALA, so
that no step size biases them. (Paper, arXiv 2506.14167, section 4, for the power posteriors.)
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from kaem.langevin import adapted, mala_step
from kaem.likelihood import (
    Evidence,
    evidence_from_weights,
    log_mean_exp,
    pairwise_log_likelihood,
)
from kaem.posterior import Posterior
from kaem.thermodynamic import power_schedule, sweep

FIRST_STEP_SIZE = 0.05  # of the search for step sizes, which moves it by orders of magnitude
PILOT_GAIN = 0.5


def bits_per_dimension(nats: float | Tensor, dimension: int, levels: int = 256) -> float | Tensor:
    """Bits per dimension of data that take `levels` equally spaced values in [0, 1].

    The density at such a value times the distance of two values, 1/(levels - 1), stands for the
    probability of the value: a good approximation while the density varies slowly between two.
    """
    return -nats / (dimension * math.log(2)) + math.log2(levels - 1)


@torch.no_grad()
def importance(
    posterior: Posterior,
    draws: int,
    generator: torch.Generator | None = None,
    batch_size: int = 1000,
) -> Evidence:
    """The mean likelihood of prior draws, shared by the data.

    Its standard error is far too small where the ESS is near one: then no draw has come near the
    posterior.

    Raises:
        ValueError: fewer than two draws.
    """
    if draws < 2:
        raise ValueError(f"a standard error takes at least 2 draws, got {draws}")
    model, parts = posterior.model, []
    for start in range(0, draws, batch_size):
        z = posterior.prior_draws(min(batch_size, draws - start), generator)
        parts.append(pairwise_log_likelihood(posterior.x, posterior.decode(z), model.sigma))
    return evidence_from_weights(torch.cat(parts, dim=1))


@torch.no_grad()
def annealed_importance(
    posterior: Posterior,
    *,
    chains: int = 16,
    temperatures: int = 100,
    power: float = 3.0,
    steps: int = 1,
    generator: torch.Generator | None = None,
) -> Evidence:
    """Annealed importance sampling from the prior to the posterior.

    A pilot pass along the same path finds a step size per temperature; the second pass, with those
    held fixed and chains of its own, gives the weights. For images of hundreds of pixels it takes
    thousands of temperatures; `kaem.laplace` gets by with fewer passes.

    Args:
        chains: independent weights per datum.
        temperatures, power: the path t_k = (k/n)^power.
        steps: MALA steps per temperature.
    """
    _check_chains(chains)
    path = power_schedule(temperatures, power).tolist()
    b = len(posterior.x)
    sizes = _pilot(posterior, path, steps, generator)
    state = posterior.evaluate(posterior.prior_draws(chains * b, generator))
    log_weights = path[1] * state.log_likelihood.double()
    # Between the last weight, at t = 1, and the end nothing more has to move.
    for (t, following), size in zip(pairwise(path[1:]), sizes, strict=True):
        for _ in range(steps):
            state, _ = mala_step(state, posterior.evaluate, posterior.domain, size, t, generator)
        log_weights += (following - t) * state.log_likelihood
    return evidence_from_weights(log_weights.unflatten(0, (chains, b)).T)


def _pilot(posterior: Posterior, path: list[float], steps: int, generator) -> list[Tensor]:
    """A step size for each of t_1, ..., t_{n-1}, found while annealing one chain per datum."""
    state = posterior.evaluate(posterior.prior_draws(len(posterior.x), generator))
    size = torch.tensor(FIRST_STEP_SIZE, dtype=state.z.dtype, device=state.z.device)
    sizes = []
    for t in path[1:-1]:
        for _ in range(steps + 1):  # one more than the pass itself: the size must keep up
            state, info = mala_step(state, posterior.evaluate, posterior.domain, size, t, generator)
            size = adapted(size, info.acceptance.mean(), PILOT_GAIN)
        sizes.append(size)
    return sizes


@dataclass(frozen=True)
class PopulationTrace:
    """What `run_population` saw.

    Attributes:
        temperatures: (n + 1,), from 0 to 1.
        log_likelihood: (draws, n + 1, chains, b), l at every temperature.
        z: (draws, chains, b, *event_shape), the draws at t = 1.
        swap_acceptance: (n,), mean acceptance of the swaps of each gap.
        step_size: (n,), of MALA at t_1..t_n.
        acceptance: (n,), of the MALA steps.
    """

    temperatures: Tensor
    log_likelihood: Tensor
    z: Tensor
    swap_acceptance: Tensor
    step_size: Tensor
    acceptance: Tensor


@torch.no_grad()
def run_population(
    posterior: Posterior,
    *,
    chains: int = 16,
    draws: int = 200,
    burn_in: int = 100,
    temperatures: int = 16,
    power: float = 3.0,
    steps: int = 3,
    generator: torch.Generator | None = None,
) -> PopulationTrace:
    """Independent populations per datum, with MALA steps and replica exchange.

    Step sizes adapt during burn-in and then stay.

    Args:
        chains: independent populations per datum.
        draws: sweeps after burn-in.
        temperatures, power: t_k = (k/n)^power.
        steps: MALA steps per sweep.
    """
    _check_chains(chains)
    if draws < 1:
        raise ValueError(f"need at least 1 draw, got {draws}")
    model, b = posterior.model, len(posterior.x)
    x = posterior.x.repeat(chains, 1)
    posterior = type(posterior)(model, x)
    z = posterior.prior_draws(temperatures * len(x), generator).unflatten(0, (temperatures, -1))
    t = power_schedule(temperatures, power).to(z)
    size = torch.full_like(t[1:], FIRST_STEP_SIZE)
    likelihoods, latents, swaps, accepted = [], [], [], []
    for number in range(burn_in + draws):
        z, info = sweep(
            posterior,
            z,
            t,
            steps=steps,
            step_size=size,
            parity=number,
            kernel="mala",
            generator=generator,
        )
        if number < burn_in:
            size = adapted(size, info.acceptance.mean(1), PILOT_GAIN / (1 + 4 * number / burn_in))
        else:
            likelihoods.append(info.log_likelihood.unflatten(1, (chains, b)))
            latents.append(z[-1].unflatten(0, (chains, b)))
            swaps.append(info.swap_acceptance)
            accepted.append(info.acceptance.mean(1))
    return PopulationTrace(
        t,
        torch.stack(likelihoods),
        torch.stack(latents),
        torch.stack(swaps).mean(0),
        size,
        torch.stack(accepted).mean(0),
    )


def thermodynamic_integration(trace: PopulationTrace, corrected: bool = True) -> Evidence:
    """The trapezoid rule over temperatures for int_0^1 E_{p_t}[log p(x|z)] dt.

    Args:
        corrected: subtract the rule's leading error, dt^2/12 times the change of the derivative
            dE_t[l]/dt = Var_t(l) over a gap (Friel, Hurn & Wyse 2014).
    """
    gaps = trace.temperatures.double().diff()[:, None]

    def integrate(mean: Tensor, variance: Tensor) -> Tensor:
        """(n + 1, b), (n + 1, b) -> (b,)."""
        value = (gaps * 0.5 * (mean[1:] + mean[:-1])).sum(0)
        return value - (gaps**2 / 12 * variance.diff(dim=0)).sum(0) if corrected else value

    values = trace.log_likelihood.double()
    mean = values.mean((0, 2))
    squares = (values - mean[:, None]).square()
    # Each population gives an estimate of its own; their spread knows all correlations.
    each = torch.stack(
        [
            integrate(values[:, :, c].mean(0), squares[:, :, c].mean(0))
            for c in range(values.shape[2])
        ]
    )
    return Evidence(each.mean(0), each.std(0) / len(each) ** 0.5)


def stepping_stone(trace: PopulationTrace) -> Evidence:
    """The product of the ratios of normalisers of neighbouring power posteriors."""
    gaps = trace.temperatures.double().diff()[:, None, None]
    values = trace.log_likelihood.double()[:, :-1]
    log_ratio = log_mean_exp((gaps * values).movedim(0, -1))  # (n, chains, b)
    total = log_mean_exp(log_ratio.movedim(1, -1))  # (n, b)
    # Delta method: a population moves log R_k by its own ratio's relative deviation.
    influence = (log_ratio - total[:, None]).exp().sum(0)  # (chains, b)
    return Evidence(total.sum(0), influence.std(0) / len(influence) ** 0.5)


def _check_chains(chains: int) -> None:
    if chains < 2:
        raise ValueError(f"a standard error takes at least 2 independent chains, got {chains}")

"""Langevin dynamics on power posteriors, unadjusted (ULA) and Metropolis-adjusted (MALA).

    z' = z + eta grad log p_t(z|x) + sqrt(2 eta) xi,   xi ~ N(0, I)

A step is a pure function of a state and random numbers; it returns where it leads and what
happened. ULA reflects at the walls of the prior's domain, and its stationary distribution is off
by a bias that vanishes with eta. MALA rejects beyond the walls and has no bias (Roberts & Tweedie
1996).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from kaem.posterior import Posterior, PosteriorState, per_row, scaled_add
from kaem.precision import full_precision
from kaem.random import rand, randn

Evaluate = Callable[[Tensor], PosteriorState]
Info = TypeVar("Info", bound=NamedTuple)

STIFF_SHARE, POWER_ITERATIONS = 10, 20  # for `stiffness`: one datum in ten
DIFFERENCE = 1e-2  # in z, for the decoder's directional derivatives

MALA_ACCEPTANCE = 0.574  # the optimum in high dimension (Roberts & Rosenthal 1998)


class StepInfo(NamedTuple):
    """What a step did.

    Attributes:
        acceptance: (n,), the probability with which the proposal was accepted; one for ULA.
        outside: scalar tensor, the share of proposed coordinates beyond the walls.
    """

    acceptance: Tensor
    outside: Tensor


@torch.no_grad()
def ula_step(
    z: Tensor,
    score: Tensor,
    domain: tuple[float, float],
    step_size: float | Tensor,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Take an unadjusted step, reflected into the domain.

    Args:
        z: (n, *event_shape), n chains.
        score: alike, the gradient of the log density at z.
        domain: (a, b), the prior's.
        step_size: eta, a float or (n,).

    Returns:
        The new z, and how many proposed coordinates were beyond the walls, a scalar tensor.
    """
    proposal = _propose(z, score, step_size, generator)
    inside, beyond = _split(proposal, domain)
    return _fold(inside, beyond, domain), beyond.count_nonzero()


@torch.no_grad()
def mala_step(
    state: PosteriorState,
    evaluate: Evaluate,
    domain: tuple[float, float],
    step_size: float | Tensor,
    temperature: float | Tensor = 1.0,
    generator: torch.Generator | None = None,
) -> tuple[PosteriorState, StepInfo]:
    """Take an adjusted step and return the new state.

    The density is zero beyond the walls, so a proposal there is rejected.

    Args:
        evaluate: z (n, *event_shape) -> PosteriorState.
        temperature: t, a float or (n,).
        others: see `ula_step`.
    """
    proposal = _propose(state.z, state.score(temperature), step_size, generator)
    outside = _outside(proposal, domain)
    # Rejected proposals are evaluated too, at a place where the prior has a gradient.
    new = evaluate(proposal.clamp(*domain))
    log_ratio = new.log_density(temperature) - state.log_density(temperature)
    log_ratio += _log_transition(new, state.z, step_size, temperature)
    log_ratio -= _log_transition(state, new.z, step_size, temperature)
    # Where a gradient overflowed the ratio is NaN, and such a proposal is rejected too.
    possible = ~outside.flatten(1).any(1) & ~log_ratio.isnan()
    acceptance = torch.where(possible, log_ratio.clamp(max=0.0).exp(), 0.0)
    accept = rand(len(acceptance), (), generator, like=acceptance) < acceptance
    return new.where(accept, state), StepInfo(acceptance, outside.to(proposal).mean())


KERNELS = ("ula", "mala")


@dataclass(frozen=True)
class Langevin:
    """Hyperparameters of Langevin sampling of the posterior.

    Args:
        steps: Langevin steps per update.
        step_size: eta.
        kernel: "ula" or "mala".
        persistent: a chain per datum goes on from update to update; otherwise each update starts
            its chains at draws from the prior.

    >>> from kaem import Langevin
    >>> sampler = Langevin(steps=20, step_size=0.01, kernel="mala")
    >>> sampler.persistent
    True
    """

    steps: int = 5
    step_size: float = 0.01
    kernel: str = "ula"
    persistent: bool = True

    def __post_init__(self) -> None:
        check_kernel(self.kernel, self.steps, self.step_size)


def check_kernel(kernel: str, steps: int, step_size: float) -> None:
    """Raise a ValueError for hyperparameters that no chain can run with."""
    if kernel not in KERNELS:
        raise ValueError(f"unknown kernel {kernel!r}; known: {', '.join(KERNELS)}")
    if steps < 1 or not 0 < step_size < math.inf:
        raise ValueError(f"need steps >= 1 and step_size > 0, got {steps}, {step_size}")


@torch.no_grad()
def run_chains(
    posterior: Posterior,
    z: Tensor,
    *,
    steps: int,
    step_size: float | Tensor,
    kernel: str = "ula",
    temperature: float | Tensor = 1.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, StepInfo]:
    """Take `steps` steps of every chain; average the info over them.

    ULA costs `steps` evaluations: where the last step leads is left to the caller to evaluate.
    MALA costs one more.

    Args:
        z: (n, *event_shape); step_size, temperature: floats or (n,).
    """
    domain = posterior.domain
    if kernel == "ula":
        outside = z.new_zeros(())
        for _ in range(steps):
            score = posterior.score(z, temperature)
            z, beyond = ula_step(z, score, domain, step_size, generator)
            outside = outside + beyond
        return z, StepInfo(z.new_ones(len(z)), outside / (steps * z.numel()))
    state, infos = posterior.evaluate(z), []
    for _ in range(steps):
        state, info = mala_step(
            state, posterior.evaluate, domain, step_size, temperature, generator
        )
        infos.append(info)
    return state.z, mean_info(infos)


def mean_info(infos: list[Info]) -> Info:
    """Average what several steps did: named tuples of tensors, all of one kind."""
    return infos[0]._make(torch.stack(parts).mean(0) for parts in zip(*infos, strict=True))


def reflect(z: Tensor, domain: tuple[float, float]) -> Tensor:
    """Fold z back into [a, b], as often as it takes; NaN and infinity become NaN."""
    return _fold(*_split(z, domain), domain)


def _split(z: Tensor, domain: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Return the nearest place in [a, b], and how far beyond it z is: exactly zero inside."""
    inside = z.clamp(*domain)
    return inside, z - inside


def _fold(inside: Tensor, beyond: Tensor, domain: tuple[float, float]) -> Tensor:
    """Return what `reflect` does of the two parts that `_split` makes; `inside` is overwritten."""
    a, b = domain
    period = 2 * (b - a)
    # Full periods change nothing; what is left points inwards, whatever its sign.
    left = torch.add(beyond, (beyond / period).round_(), alpha=-period)
    return inside.sub_(left.copysign_(beyond)).clamp_(a, b)


def stiffness(posterior: Posterior, z: Tensor, step_size: float) -> float:
    """Return eta times the largest curvature of -log p(x|z) in z, the median over a tenth of the
    data.

    On a Gaussian ULA's variance along that direction is 1/(1 - stiffness/2) times the exact one,
    and beyond 2 it diverges. The curvature is that of Gauss and Newton, J^T J / sigma^2 with J the
    decoder's Jacobian, by power iteration. It costs as much as two Langevin steps of all data, and
    draws no random numbers of the training.

    Args:
        z: (b, *event_shape), posterior draws.
    """
    with torch.inference_mode(False), torch.no_grad(), full_precision(z):
        with torch.enable_grad():
            z = z[: -(-len(z) // STIFF_SHARE)].detach().clone().requires_grad_()
            images = posterior.decode(z)
        direction = randn(len(z), z.shape[1:], torch.Generator().manual_seed(0), like=z)
        for _ in range(POWER_ITERATIONS):
            length = direction.flatten(1).norm(dim=1)
            unit = direction / per_row(length.clamp_min(torch.finfo(z.dtype).tiny), z)
            change = (posterior.decode(z + DIFFERENCE * unit) - images) / DIFFERENCE
            (direction,) = torch.autograd.grad(images, z, change, retain_graph=True)
    curvature = direction.flatten(1).norm(dim=1).median().item() / posterior.model.sigma**2
    return float(step_size * curvature)


def near_walls(z: Tensor, domain: tuple[float, float]) -> float:
    """Return the share of coordinates within a sixteenth of the domain's width of one of its
    walls; 1/8 where the density is uniform."""
    a, b = domain
    return float(((z - a).minimum(b - z) < (b - a) / 16).double().mean())


def adapted(step_size: Tensor, acceptance: Tensor, gain: float = 0.1) -> Tensor:
    """Move step sizes towards the acceptance that suits MALA best; for burn-in only."""
    return step_size * torch.exp(gain * (acceptance - MALA_ACCEPTANCE))


def _propose(
    z: Tensor, score: Tensor, step_size: float | Tensor, generator: torch.Generator | None
) -> Tensor:
    noise = randn(len(z), z.shape[1:], generator, like=z)
    return scaled_add(scaled_add(z, score, step_size), noise, (2 * step_size) ** 0.5)


def _outside(z: Tensor, domain: tuple[float, float]) -> Tensor:
    return ~((z >= domain[0]) & (z <= domain[1]))


def _log_transition(
    origin: PosteriorState, z: Tensor, step_size: float | Tensor, temperature: float | Tensor
) -> Tensor:
    """Return log of the proposal's density from `origin` to z, up to what both directions share."""
    eta = per_row(step_size, z)
    squares = (z - origin.z - eta * origin.score(temperature)).square() / (4 * eta)
    return -squares.flatten(1).sum(dim=1)

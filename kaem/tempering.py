"""Temperatures between the prior and the posterior, and the exchange of chains between them.

Nothing here knows what is sampled. t_k, 0 = t_0 < ... < t_N = 1, is the temperature of
p(x|z)^t p(z); l = log p(x|z).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kaem.random import rand

OBJECTIVES = ("posterior", "integral")
EXCHANGES = ("both", "alternating")


@dataclass(frozen=True)
class Tempering:
    """Hyperparameters of chains at several temperatures, and of what the decoder learns from.

    `objective="integral"` is the gradient, at draws that stand still, of what the model's author
    takes (KAEM@0326d9b, src/KAEM/train_steps/thermodynamic.jl):

        t_1 log p(x|z_0) + sum_k (t_k - t_{k-1}) log p(x|z_k),   k = 1..N

    with z_0 from the prior. As N grows that is the integral over t of E_t[grad log p(x|z)], and not
    the gradient of log p(x), which needs t = 1 alone: "posterior". (His thermo-ebms@8c8ff16 takes
    the trapezoid without 1/(2 sigma^2), which is not offered.) The prior learns from t = 1 in both.

    Args:
        temperatures: N, chains beside the one at t = 0.
        steps: Langevin steps per sweep; each sweep ends with exchanges.
        sweeps: sweeps per update.
        step_size: eta at t = 1.
        prior_step_size: eta at t = 0; between the two, see `step_sizes`. As at t = 1 by default.
        power_start, power_end: t_k = (k/N)^power, annealed over training from start to end.
        respace_every: updates between re-spacings of the temperatures; 0 for never. The power
            then only sets the temperatures to begin with.
        objective: "posterior" or "integral".
        exchange: "both": after each sweep across the even gaps, then across the odd ones.
            "alternating": even and odd gaps in turn, sweep by sweep over the whole training
            (deterministic even-odd, Syed et al. 2022, arXiv 1905.02939).
    """

    temperatures: int = 4
    steps: int = 5
    sweeps: int = 1
    step_size: float = 0.01
    prior_step_size: float | None = None
    power_start: float = 4.0
    power_end: float = 2.0
    respace_every: int = 0
    objective: str = "posterior"
    exchange: str = "both"

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.step_size < math.inf:
            raise ValueError(
                f"need steps >= 1 and step_size > 0, got {self.steps}, {self.step_size}"
            )
        if self.prior_step_size is not None and not 0 < self.prior_step_size < math.inf:
            raise ValueError(f"need prior_step_size > 0, got {self.prior_step_size}")
        if self.temperatures < 1 or self.sweeps < 1 or self.respace_every < 0:
            raise ValueError("need temperatures >= 1, sweeps >= 1 and respace_every >= 0")
        if not (self.power_start > 0 and self.power_end > 0):
            raise ValueError("power_start and power_end must be positive")
        for name, known in (("objective", OBJECTIVES), ("exchange", EXCHANGES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"unknown {name} {getattr(self, name)!r}; known: {', '.join(known)}"
                )


def power_schedule(n: int, power: float) -> Tensor:
    """Return t_k = (k/n)^power, k = 0..n: (n + 1,), float64."""
    return torch.linspace(0, 1, n + 1, dtype=torch.float64) ** power


def annealed_power(start: float, end: float, progress: float) -> float:
    """Return the power at `progress` in [0, 1] of training: half a cosine from start to end."""
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))


def step_sizes(temperatures: Tensor, step_size: float, prior_step_size: float | None) -> Tensor:
    """Return eta_t with 1/eta_t = t/eta_1 + (1 - t)/eta_0, for each temperature.

    The curvature of log p_t is that of the prior plus t times that of the likelihood, and the
    stable step size is inverse to the curvature.
    """
    at_zero = step_size if prior_step_size is None else prior_step_size
    return 1 / (temperatures / step_size + (1 - temperatures) / at_zero)


def respaced(temperatures: Tensor, log_likelihood: Tensor) -> Tensor:
    """Place temperatures so that exchanges between them are equally hard.

    The difficulty of a gap is std(l) dt. As dE_t[l]/dt = Var_t(l), the mean log-likelihoods at
    the temperatures are enough to know it: std(l) dt = sqrt(dE dt). The new temperatures divide
    its running sum, taken as linear within each gap, into equal parts.

    Args:
        temperatures: (n + 1,), ascending from 0 to 1.
        log_likelihood: (n + 1,), the mean of l at each; rounded up to be ascending, which
            noise may have hidden.
    """
    t = temperatures.double()
    rise = log_likelihood.double().cummax(0).values.diff()
    hardness = torch.sqrt(rise * t.diff())
    # An empty gap keeps a little length, so that the running sum can be inverted.
    hardness = hardness.clamp_min(1e-6 * hardness.sum().clamp_min(1e-300))
    position = torch.nn.functional.pad(hardness.cumsum(0), (1, 0))
    wanted = torch.linspace(0, 1, len(t), dtype=t.dtype, device=t.device) * position[-1]
    gap = (torch.searchsorted(position, wanted, right=True) - 1).clamp(0, len(t) - 2)
    fraction = (wanted - position[gap]) / hardness[gap]
    new = t[gap] + fraction * t.diff()[gap]
    new[0], new[-1] = 0.0, 1.0
    return new.to(temperatures)


class Swaps(NamedTuple):
    """Outcome of an exchange.

    Attributes:
        source: (n + 1, b), for each temperature and datum the temperature that its chain had.
        acceptance: (n,), mean probability over the data of swapping across each gap, also of
            those whose turn it was not.
    """

    source: Tensor
    acceptance: Tensor


@torch.no_grad()
def exchange(
    log_likelihood: Tensor,
    temperatures: Tensor,
    parity: int,
    generator: torch.Generator | None = None,
) -> Swaps:
    """Propose to swap neighbouring temperatures, independently for every datum.

    Gap (k, k + 1) is tried where k has the given parity, and accepted for a datum with
    probability min(1, exp((t_{k+1} - t_k) (l_k - l_{k+1}))).

    Args:
        log_likelihood: (n + 1, b), l at each temperature for each datum.
        temperatures: (n + 1,).
        parity: 0 for even gaps, 1 for odd ones.
    """
    n, b = len(temperatures) - 1, log_likelihood.shape[1]
    log_ratio = temperatures.diff().unsqueeze(1) * -log_likelihood.diff(dim=0)
    probability = log_ratio.clamp(max=0.0).exp()
    tried = torch.arange(n, device=log_likelihood.device) % 2 == parity % 2
    swap = rand(n, (b,), generator, like=probability) < probability
    swap &= tried.unsqueeze(1)
    source = torch.arange(n + 1, device=log_likelihood.device).unsqueeze(1).repeat(1, b)
    source[:-1] += swap.long()
    source[1:] -= swap.long()
    return Swaps(source, probability.mean(dim=1))


def exchange_in_turn(
    z: Tensor,
    log_likelihood: Tensor,
    temperatures: Tensor,
    parities: Sequence[int],
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Exchange chains across the gaps of one parity after the other.

    Args:
        z: (n + 1, b, ...); log_likelihood, temperatures: see `exchange`.
        parities: one or two of 0 and 1.

    Returns:
        The chains after it, and each gap's mean probability of a swap, (n,): when it was tried; of
        those that were not, when the others were.
    """
    data, rates = torch.arange(z.shape[1], device=z.device), []
    for parity in parities:
        source, acceptance = exchange(log_likelihood, temperatures, parity, generator)
        z, log_likelihood = z[source, data], log_likelihood[source, data]
        rates.append(acceptance)
    of_gaps = rates[-1].clone()
    of_gaps[::2] = rates[0][::2]
    return z, of_gaps


class Ladder(nn.Module):
    """What of a population follows its training: the temperatures. A base for those that have one.

    Attributes:
        temperatures: (N + 1,), from 0 to 1.
        level_sum: (N + 1,), mean log-likelihood at each, summed since the last re-spacing.
    """

    options: Tempering
    temperatures: Tensor
    level_sum: Tensor

    def set_up(self, options: Tempering) -> None:
        """Begin with the temperatures of a new training."""
        self.options = options
        start = power_schedule(options.temperatures, options.power_start)
        self.register_buffer("temperatures", start.to(torch.get_default_dtype()))
        self.register_buffer("level_sum", torch.zeros_like(self.temperatures), persistent=False)

    def step_sizes(self) -> Tensor:
        """Return eta at t_1..t_N, (N,)."""
        options = self.options
        return step_sizes(self.temperatures[1:], options.step_size, options.prior_step_size)

    def parities(self, update: int, sweep: int) -> tuple[int, ...]:
        """Say which gaps a sweep tries, for its number in an update from 0, updates from 1."""
        if self.options.exchange == "both":
            return 0, 1
        return (((update - 1) * self.options.sweeps + sweep) % 2,)

    def weights(self) -> Tensor:
        """Return what log p(x|z) at t_0..t_N weighs in the integral, (N + 1,): 1 + t_1 in all."""
        gaps = self.temperatures.diff()
        return torch.cat([gaps[:1], gaps])

    def after_update(self, update: int, updates: int) -> None:
        """Anneal or re-space the temperatures."""
        options = self.options
        if not options.respace_every:
            power = annealed_power(options.power_start, options.power_end, update / updates)
            self.temperatures.copy_(power_schedule(options.temperatures, power))
        elif update % options.respace_every == 0 and self.level_sum.any():
            self.temperatures.copy_(respaced(self.temperatures, self.level_sum))
            self.level_sum.zero_()

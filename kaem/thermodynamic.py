"""A population of tempered posteriors with replica exchange (paper, arXiv 2506.14167, section 4).

One chain per temperature t_k, 0 = t_0 < ... < t_N = 1, follows p_{t_k}(z|x). Chains at low
temperatures t cross between modes; exchanges carry what they found up to t = 1. All
temperatures advance in one batch, and t = 0 is the prior, which is drawn exactly.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kaem.langevin import check_kernel, run_chains
from kaem.posterior import Posterior
from kaem.random import rand


@dataclass(frozen=True)
class Thermodynamic:
    """Hyperparameters of the population.

    Args:
        temperatures: N, chains beside the exact one at t = 0.
        steps: Langevin steps per sweep; each sweep ends with exchanges across every gap.
        sweeps: sweeps per update.
        step_size: eta at t = 1.
        prior_step_size: eta at t = 0; between the two, see `step_sizes`. As at t = 1 by default.
        power_start, power_end: t_k = (k/N)^power, annealed over training from start to end.
        respace_every: updates between re-spacings of the temperatures; 0 for never. The power
            then only sets the temperatures to begin with.
        kernel: "ula" or "mala".
        persistent: a population per datum goes on from update to update.

    >>> from kaem import Thermodynamic
    >>> from kaem.thermodynamic import power_schedule
    >>> sampler = Thermodynamic(temperatures=4, power_start=2.0)
    >>> power_schedule(sampler.temperatures, sampler.power_start).tolist()
    [0.0, 0.0625, 0.25, 0.5625, 1.0]
    """

    temperatures: int = 4
    steps: int = 5
    sweeps: int = 1
    step_size: float = 0.01
    prior_step_size: float | None = None
    power_start: float = 4.0
    power_end: float = 2.0
    respace_every: int = 0
    kernel: str = "ula"
    persistent: bool = True

    def __post_init__(self) -> None:
        check_kernel(self.kernel, self.steps, self.step_size)
        if self.prior_step_size is not None and not 0 < self.prior_step_size < math.inf:
            raise ValueError(f"need prior_step_size > 0, got {self.prior_step_size}")
        if self.temperatures < 1 or self.sweeps < 1 or self.respace_every < 0:
            raise ValueError("need temperatures >= 1, sweeps >= 1 and respace_every >= 0")
        if not (self.power_start > 0 and self.power_end > 0):
            raise ValueError("power_start and power_end must be positive")


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


class SweepInfo(NamedTuple):
    """What a sweep did.

    Attributes:
        log_likelihood: (n + 1, b), l before the exchanges.
        swap_acceptance: (n,), of each gap when it was tried, see `Swaps`.
        acceptance: (n, b), of the Langevin steps at t_1..t_n.
        outside: scalar tensor, share of proposed coordinates beyond the walls.
    """

    log_likelihood: Tensor
    swap_acceptance: Tensor
    acceptance: Tensor
    outside: Tensor


@torch.no_grad()
def sweep(
    posterior: Posterior,
    z: Tensor,
    temperatures: Tensor,
    *,
    steps: int,
    step_size: Tensor,
    kernel: str = "ula",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, SweepInfo]:
    """Take Langevin steps at t_1..t_n in one batch, an exact draw at t_0, and two exchanges.

    The even gaps are tried first, then the odd ones: at no further pass of the decoder each gap is
    tried in every sweep, and a draw of the prior may rise by two temperatures.

    Args:
        z: (n, b, *event_shape), the chains at t_1..t_n.
        temperatures: (n + 1,).
        step_size: (n,), for t_1..t_n.

    Returns:
        The chains at t_1..t_n after the exchanges, and what happened.
    """
    b = len(posterior.x)
    z, steps_info = run_chains(
        posterior,
        z.flatten(0, 1),
        steps=steps,
        step_size=step_size.repeat_interleave(b),
        kernel=kernel,
        temperature=temperatures[1:].repeat_interleave(b),
        generator=generator,
    )
    z = torch.cat([posterior.prior_draws(b, generator), z])
    log_likelihood = level = posterior.log_likelihood(z).unflatten(0, (-1, b))
    z, data = z.unflatten(0, (-1, b)), torch.arange(b, device=z.device)
    swap_acceptance = torch.empty_like(level[1:, 0])
    for parity in (0, 1):
        source, rates = exchange(level, temperatures, parity, generator)
        z, level = z[source, data], level[source, data]
        swap_acceptance[parity::2] = rates[parity::2]
    acceptance = steps_info.acceptance.unflatten(0, (-1, b))
    return z[1:], SweepInfo(log_likelihood, swap_acceptance, acceptance, steps_info.outside)

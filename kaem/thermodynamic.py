"""A population of tempered posteriors with replica exchange (paper, arXiv 2506.14167, section 4).

One chain per temperature follows p_{t_k}(z|x), see `kaem.tempering`. Chains at low temperatures t
cross between modes; exchanges carry what they found up to t = 1. All temperatures advance in one
batch, and t = 0 is the prior, which is drawn exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kaem.langevin import check_kernel, run_chains
from kaem.posterior import Posterior
from kaem.tempering import Tempering, exchange_in_turn


@dataclass(frozen=True)
class Thermodynamic(Tempering):
    """Hyperparameters of the population: those of `kaem.tempering.Tempering`, and of its chains.

    Args:
        kernel: "ula" or "mala".
        persistent: a population per datum goes on from update to update.

    >>> from kaem import Thermodynamic
    >>> from kaem.tempering import power_schedule
    >>> sampler = Thermodynamic(temperatures=4, power_start=2.0)
    >>> power_schedule(sampler.temperatures, sampler.power_start).tolist()
    [0.0, 0.0625, 0.25, 0.5625, 1.0]
    """

    kernel: str = "ula"
    persistent: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kernel(self.kernel, self.steps, self.step_size)


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
    parities: Sequence[int] = (0, 1),
    generator: torch.Generator | None = None,
) -> tuple[Tensor, SweepInfo]:
    """Take Langevin steps at t_1..t_n in one batch, an exact draw at t_0, and exchanges.

    By default the even gaps are tried first, then the odd ones: at no further pass of the decoder
    each gap is tried in every sweep, and a draw of the prior may rise by two temperatures.

    Args:
        z: (n, b, *event_shape), the chains at t_1..t_n.
        temperatures: (n + 1,).
        step_size: (n,), for t_1..t_n.
        parities: of the gaps to be tried, see `kaem.tempering.exchange_in_turn`.

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
    level = posterior.log_likelihood(z).unflatten(0, (-1, b))
    z, swaps = exchange_in_turn(z.unflatten(0, (-1, b)), level, temperatures, parities, generator)
    acceptance = steps_info.acceptance.unflatten(0, (-1, b))
    return z[1:], SweepInfo(level, swaps, acceptance, steps_info.outside)

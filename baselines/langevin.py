"""Short runs of Langevin dynamics, in the convention of energy-based models.

    z' = z + (s^2 / 2) grad log p(z) + s xi,   xi ~ N(0, I)

as Nijkamp et al. 2019 (arXiv 1904.09770) and Pang et al. 2020 (arXiv 2006.08205) write it: the
step s here is sqrt(2 eta) in the terms of `kaem.langevin`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from kaem.random import Generators, randn


def short_run(
    z: Tensor,
    log_density: Callable[[Tensor], Tensor],
    *,
    steps: int,
    step_size: float | Tensor,
    generator: Generators = None,
) -> Tensor:
    """Follow the unnormalised log density (n, ...) -> (n,) for some steps.

    Args:
        z: (n, ...), where the chains begin.
        step_size: s, a float or (n, 1).
    """
    for _ in range(steps):
        noise = randn(len(z), z.shape[1:], generator, like=z)
        z = z + 0.5 * step_size**2 * gradient(log_density, z) + step_size * noise
    return z


def gradient(log_density: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Return the gradient of the log density at z, (n, ...), detached; no parameter gets one."""
    with torch.inference_mode(False), torch.enable_grad():
        z = z.detach().clone().requires_grad_()
        return torch.autograd.grad(log_density(z).sum(), z)[0]

"""What ends a training that cannot go on, and warnings about one that does not learn."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from kaem.errors import NonFiniteError

PATIENCE = 100  # updates in a row
LOW_ESS = 1.1
LOW_ACCEPTANCE = 0.1
MANY_OUTSIDE = 0.05
STIFF = 1.0

logger = logging.getLogger("kaem")

# What each watched value of a loss's info may not do for `PATIENCE` updates in a row.
SYMPTOMS: dict[str, tuple[Callable[[float], bool], str]] = {
    "ess": (
        lambda value: value <= LOW_ESS,
        f"the effective sample size was at most {LOW_ESS}: each datum's gradient stands on one "
        "proposal. Use more proposals, fewer latents, a larger sigma, or a Langevin sampler",
    ),
    "acceptance": (
        lambda value: value < LOW_ACCEPTANCE,
        f"fewer than {LOW_ACCEPTANCE:.0%} of the MALA proposals were accepted. Lower step_size",
    ),
    "outside": (
        lambda value: value > MANY_OUTSIDE,
        f"more than {MANY_OUTSIDE:.0%} of the Langevin proposals left the prior's domain and were "
        "sent back. Widen the domain, let domain_update move it, or lower step_size",
    ),
    "stiffness": (
        lambda value: value > STIFF,
        f"step_size times the posterior's largest curvature was above {STIFF:g}: ULA's variance "
        "along that direction is more than twice the exact one. Lower step_size, raise sigma, or "
        'take the kernel "mala"',
    ),
}


class HealthWatch:
    """A count of how many updates in a row each symptom lasts; it logs a symptom once per spell."""

    def __init__(self) -> None:
        self.spells = dict.fromkeys(SYMPTOMS, 0)

    def see(self, update: int, info: dict[str, float]) -> None:
        """Look at one update's info; log a warning when a symptom has lasted `PATIENCE` updates."""
        for name, (ill, advice) in SYMPTOMS.items():
            self.spells[name] = self.spells[name] + 1 if name in info and ill(info[name]) else 0
            if self.spells[name] == PATIENCE:
                first = update - PATIENCE + 1
                logger.warning("updates %d to %d: %s.", first, update, advice)


@torch.no_grad()
def check_parameters(model: nn.Module) -> None:
    """Raise a NonFiniteError with the names of parameters that are no longer finite."""
    if torch.stack([p.sum() for p in model.parameters()]).isfinite().all():
        return
    ill = [name for name, p in model.named_parameters() if not p.isfinite().all()]
    if ill:  # otherwise the sum alone overflowed
        raise NonFiniteError(
            f"parameters are no longer finite: {', '.join(ill)}. Lower the learning rate or "
            "raise sigma."
        )


def check_loss(loss: Tensor) -> None:
    """Raise a NonFiniteError for a loss that is not finite, when data and parameters are."""
    if not loss.isfinite():
        raise NonFiniteError(
            f"the loss is {loss.item()}, while data and parameters are finite: a likelihood or "
            "a prior density has overflowed. Raise sigma or lower the learning rate."
        )

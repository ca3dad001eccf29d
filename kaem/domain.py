"""The prior's domain, as it follows the posterior over a training."""

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from kaem.bases import EVEN
from kaem.priors import Prior

REMEMBERED_BATCHES = 100  # of posterior draws, for the next move


@dataclass(frozen=True)
class DomainUpdate:
    """When and how the prior's domain follows the posterior.

    Args:
        every: updates between two moves.
        margin: room on both sides, as a share of the draws' range.
        even: share of equal spacing in the new grid; the rest follows the draws' quantiles.

    >>> from kaem.domain import DomainUpdate
    >>> DomainUpdate(every=500).margin
    0.1
    """

    every: int
    margin: float = 0.1
    even: float = EVEN

    def __post_init__(self) -> None:
        if self.every < 1 or not 0 < self.margin < float("inf") or not 0 < self.even <= 1:
            raise ValueError(
                "a domain update needs every >= 1, margin > 0 and even in (0, 1], "
                f"got {self.every}, {self.margin}, {self.even}"
            )


class DomainFollower:
    """The latest posterior draws of a training, to which it moves the prior's domain.

    Args:
        options: when and how.
    """

    def __init__(self, options: DomainUpdate):
        self.options = options
        self.draws: deque[Tensor] = deque(maxlen=REMEMBERED_BATCHES)

    def remember(self, z: Tensor) -> None:
        """Keep an update's posterior draws, (n, *event_shape), for the next move."""
        self.draws.append(z)

    def after_update(self, update: int, prior: Prior, chains: Tensor | None) -> None:
        """Move the domain where the update's number says so, and forget the draws.

        Args:
            chains: every stored chain; those of data not seen for long must stay inside too.
        """
        if update % self.options.every or not self.draws:
            return
        draws = torch.cat(list(self.draws))
        self.draws.clear()
        ends = torch.stack([*draws.aminmax(), *(draws if chains is None else chains).aminmax()])
        domain = prior.covering_domain(ends, self.options.margin)
        prior.set_domain(domain, draws, self.options.even)

    def training_state(self) -> dict[str, Tensor]:
        """Return the draws under keys in order of age: batches may differ in size."""
        return {f"draws.{age:03}": z for age, z in enumerate(self.draws)}

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        """Take up the draws of `training_state`; other keys are left alone."""
        self.draws.clear()
        self.draws.extend(state[key] for key in sorted(state) if key.startswith("draws."))

"""The latest posterior draws of a training, from which the domain and the copula learn."""

from collections import deque

import torch
from torch import Tensor


class RecentDraws:
    """The latest draws, as many as anyone asks for.

    Args:
        most: draws that `latest` may be asked for; 0 where nobody will.
    """

    def __init__(self, most: int):
        self.most = most
        self._batches: deque[Tensor] = deque()

    def remember(self, z: Tensor) -> None:
        """Keep an update's draws (n, *event_shape), and none that are older than the latest."""
        self._batches.append(z)
        while self._batches and sum(map(len, self._batches)) - len(self._batches[0]) >= self.most:
            self._batches.popleft()

    def latest(self, count: int) -> Tensor | None:
        """Return so many draws, or all there are, (n, *event_shape); None where there are none."""
        return torch.cat(list(self._batches))[-count:] if self._batches else None

    def training_state(self) -> dict[str, Tensor]:
        """Return {"draws": (n, *event_shape)}, nothing before the first."""
        draws = self.latest(self.most)
        return {} if draws is None else {"draws": draws}

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        """Take up the draws of `training_state`; other keys are left alone."""
        self._batches = deque([state["draws"]] if "draws" in state else [])

"""What every model of the benchmark offers; `tests/test_contract.py` holds them to it."""

from typing import Protocol

import torch
from torch import Tensor

from kaem.random import Generators


class GenerativeModel(Protocol):
    """An `nn.Module` that learns from images in [0, 1] and draws new ones.

    A model may also have

    - `diagnostics() -> dict[str, Tensor]`: small arrays that show what it learned. They are
      stored before and after training and a few times in between.
    - `needs_index`: true if its `loss` takes `index` (n,), the places of the data in the training
      set, because it keeps something for every datum.
    - `learning_rate_factors: dict[str, float]`: children whose parameters learn at the training's
      rate times this.
    - `after_update(update, updates)`, called after each step of the optimiser.
    - `training_state() -> dict[str, Tensor]` and `load_training_state(state)`: what belongs to a
      training and is not in the state_dict, as Markov chains, to go on after an interruption.
    - `sample_latents(n, generator)`: the part of `sample` that draws what the decoder is given.
    - `log_evidence(x, passes, generator) -> kaem.likelihood.Evidence`: log p(x) of each datum in
      nats with its standard error, from so many network evaluations for each.
    """

    nfe: int
    """Network evaluations that one sample costs."""

    row_wise: tuple[str, ...]
    """The children that treat each row of a batch alone, and so may take a batch in parts."""

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, dict]:
        """x (n, C, H, W) in [0, 1] -> scalar to minimise, and floats to log."""

    def sample(self, n: int, generator: Generators = None) -> Tensor:
        """n images in [0, 1], (n, C, H, W); with one generator per image, whatever the batch."""

    def compile(self, **options) -> None:
        """Compile what sampling runs, with the options of `torch.compile`."""

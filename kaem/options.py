"""KAEM's training options as plain values, and the objects that they make."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kaem.importance import ImportanceSampling
from kaem.langevin import Langevin
from kaem.thermodynamic import Thermodynamic
from kaem.univariate import EdgeFunctions

Sampler = ImportanceSampling | Langevin | Thermodynamic

SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "importance": ImportanceSampling,
    "langevin": Langevin,
    "thermodynamic": Thermodynamic,
}
LOG_NORMALIZERS = ("exact", "contrastive")
PENALTY_POINTS = 100  # on each layer's domain


def make_sampler(kind: str, **options: Any) -> Sampler:
    """Build the posterior sampler called `kind`; ValueError with the known names otherwise."""
    if kind not in SAMPLERS:
        raise ValueError(f"unknown sampler {kind!r}; known: {', '.join(SAMPLERS)}")
    return SAMPLERS[kind](**options)


@dataclass(frozen=True)
class Regulariser:
    """Weights of the KAN regulariser (arXiv 2404.19756, equation 2.20), summed over all layers.

    Args:
        l1: of the summed mean magnitude of the edge functions on their domain.
        entropy: of the entropy of their shares in it.

    >>> from kaem import MixturePrior
    >>> from kaem.options import Regulariser
    >>> Regulariser(l1=0.1, entropy=0.1).penalty(MixturePrior(q=3, p=2)).shape  # a scalar
    torch.Size([])
    """

    l1: float = 0.0
    entropy: float = 0.0

    def __post_init__(self) -> None:
        if not (self.l1 >= 0 and self.entropy >= 0):
            raise ValueError(
                f"a regulariser's weights are at least 0, got {self.l1}, {self.entropy}"
            )

    def penalty(self, model: nn.Module) -> Tensor | float:
        """Return the penalty on all edge functions of a model, a scalar."""
        if self.l1 == 0 and self.entropy == 0:
            return 0.0
        total: Tensor | float = 0.0
        for layer in model.modules():
            if isinstance(layer, EdgeFunctions):
                points = torch.linspace(*layer.basis.domain, PENALTY_POINTS).to(layer.w_base)
                l1, entropy = layer.sparsity(points)
                total = total + self.l1 * l1 + self.entropy * entropy
        return total

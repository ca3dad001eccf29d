"""KAEM's training options as plain values, and the objects that they make."""

from dataclasses import dataclass

from kaem.bases import EVEN
from kaem.importance import ImportanceSampling
from kaem.langevin import Langevin
from kaem.thermodynamic import Thermodynamic

Sampler = ImportanceSampling | Langevin | Thermodynamic

SAMPLERS = {"importance": ImportanceSampling, "langevin": Langevin, "thermodynamic": Thermodynamic}
LOG_NORMALIZERS = ("exact", "contrastive")


def make_sampler(kind: str, **options) -> Sampler:
    """The posterior sampler called `kind`; ValueError with the known names otherwise."""
    if kind not in SAMPLERS:
        raise ValueError(f"unknown sampler {kind!r}; known: {', '.join(SAMPLERS)}")
    return SAMPLERS[kind](**options)


@dataclass(frozen=True)
class DomainUpdate:
    """When and how the prior's domain follows the posterior.

    Args:
        every: updates between two moves.
        margin: room on both sides, as a share of the draws' range.
        even: share of equal spacing in the new grid; the rest follows the draws' quantiles.
    """

    every: int
    margin: float = 0.1
    even: float = EVEN

    def __post_init__(self):
        if self.every < 1 or not self.margin > 0 or not 0 < self.even <= 1:
            raise ValueError(
                "a domain update needs every >= 1, margin > 0 and even in (0, 1], "
                f"got {self.every}, {self.margin}, {self.even}"
            )


@dataclass(frozen=True)
class Regulariser:
    """Weights of the KAN regulariser (arXiv 2404.19756, equation 2.20), summed over all layers.

    Args:
        l1: of the summed mean magnitude of the edge functions on their domain.
        entropy: of the entropy of their shares in it.
    """

    l1: float = 0.0
    entropy: float = 0.0

    def __post_init__(self):
        if not (self.l1 >= 0 and self.entropy >= 0):
            raise ValueError(
                f"a regulariser's weights are at least 0, got {self.l1}, {self.entropy}"
            )

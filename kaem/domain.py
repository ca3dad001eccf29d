"""The prior's domain, as it follows the posterior over a training."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kaem.bases import EVEN
from kaem.copula import Prior
from kaem.decoders import GRID, KANDecoder
from kaem.draws import RecentDraws
from kaem.priors import ProductPrior
from kaem.tabulated import UNCOVERED

FOLLOWED = 10_000  # posterior draws, the latest, that the domain is to cover
BESIDE = 0.05  # of the domain's width, what lies beside a wall
FEW = 20  # draws that are no evidence of anything
PLACE_EVERY = 500  # updates: how often a KAN decoder's grids are looked after
PLACING = 1000  # features, after which they are placed


@dataclass(frozen=True)
class DomainUpdate:
    """When and how the prior's domain follows the posterior.

    Args:
        every: updates before the first move.
        decay: after a move at update u the wait is (2 - decay)^u times longer, rounded down, as
            the author's; with 1 it is always `every`.
        margin: room on both sides, as a share of the draws' range; see `moved_domain`.
        even: share of equal spacing in the new grid; the rest follows the draws' quantiles.

    >>> from kaem.domain import DomainUpdate
    >>> DomainUpdate(every=500).margin
    0.1
    """

    every: int
    margin: float = 0.1
    even: float = EVEN
    decay: float = 1.0

    def __post_init__(self) -> None:
        shares = 0 < self.even <= 1 and 0 < self.decay <= 1
        if self.every < 1 or not 0 < self.margin < math.inf or not shares:
            raise ValueError(
                "a domain update needs every >= 1, margin > 0 and even, decay in (0, 1], "
                f"got {self.every}, {self.margin}, {self.even}, {self.decay}"
            )

    def due(self, update: int) -> bool:
        """Say whether the domain moves after this update, counted from 1."""
        if self.decay == 1:
            return update % self.every == 0
        move = wait = self.every
        while move < update:
            # The exponent's bound is beyond every training, and below what a float holds.
            wait = int(wait * math.exp(min(move * math.log(2 - self.decay), 100.0)))
            move += wait
        return move == update


def moved_domain(prior: ProductPrior, draws: Tensor, margin: float) -> tuple[float, float]:
    """Return the domain that covers prior and posterior; it grows only where the data push.

    It covers each latent but for UNCOVERED of its mass on either side, with a margin. A wall moves
    outwards only where some latent has more than twice the draws beside it that the prior has
    there. Without data the posterior is the prior, so that no wall moves outwards, however flat
    the densities are; and each move outwards gives the prior a share of what lies beyond, so that
    with data that stay the same the moves come to an end.

    Args:
        draws: (n, *event_shape), of the posteriors of the data under the present domain.
    """
    n, (a, b), marginals = len(draws), prior.domain, prior.marginals()
    least = 1 + int(UNCOVERED * n)
    covered = [draws.kthvalue(k, dim=0).values for k in (least, n + 1 - least)]
    ends = torch.cat([torch.stack(covered), marginals.interval(UNCOVERED)])
    low, high = prior.covering_domain(ends, margin)
    inner = draws.new_tensor([a, b]).lerp(draws.new_tensor([b, a]), BESIDE)
    inner = inner.reshape(2, *[1] * (draws.ndim - 1)).expand(2, *draws.shape[1:])
    below, above = marginals.cdf(inner)
    pushed = [
        bool((beside.sum(0) > 2 * n * share + FEW).any())
        for beside, share in ((draws < inner[0], below), (draws > inner[1], 1 - above))
    ]
    return low if pushed[0] else max(low, a), high if pushed[1] else min(high, b)


def feature_domain(prior: Prior) -> tuple[float, float]:
    """Return where the prior's features, which a decoder sees, lie but for UNCOVERED on a side."""
    if prior.nodes.is_meta:  # where nothing but shapes is asked for
        return GRID
    ends = prior.feature_density().interval(UNCOVERED)
    return ends.min().item(), ends.max().item()


def place_decoder(decoder: nn.Module, prior: Prior, update: int, moved: bool) -> None:
    """Move a KAN's grids to what the prior's features bring them; other decoders have none.

    Args:
        update: looked after every PLACE_EVERY updates, for what the prior learns,
        moved: and whenever the prior's domain has moved.
    """
    if isinstance(decoder, KANDecoder) and (moved or update % PLACE_EVERY == 0):
        decoder.place(prior.sample_features(PLACING, torch.Generator().manual_seed(0)))


def follow(
    options: DomainUpdate,
    update: int,
    prior: ProductPrior,
    recent: RecentDraws,
    chains: Tensor | None,
) -> bool:
    """Move the prior's domain where the update's number says so; say whether.

    Args:
        chains: every stored chain; those of data not seen for long must stay inside too.
    """
    draws = recent.latest(FOLLOWED) if options.due(update) else None
    if draws is None:
        return False
    draws = draws.to(prior.nodes)
    low, high = moved_domain(prior, draws, options.margin)
    if chains is not None:
        low, high = min(low, chains.min().item()), max(high, chains.max().item())
    prior.set_domain((low, high), draws, options.even)
    return True

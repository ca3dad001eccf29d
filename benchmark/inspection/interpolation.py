"""Ways from one draw of the prior to another, decoded: along an arc, or along quantiles."""

import numpy as np
import torch
from torch import Tensor

from benchmark.inspection.decoding import decoded
from benchmark.inspection.following import between
from kaem.copula import CopulaPrior
from kaem.model import KAEM

PAIRS, POSITIONS = 3, 11


@torch.no_grad()
def interpolations(
    model: KAEM, ranking: list[int], random: torch.Generator
) -> dict[str, np.ndarray]:
    """Decode images on the way between pairs of prior draws, of what the decoder sees.

    Returns:
        "path_arc": (pairs, positions, C, H, W), see `slerp`, which may leave the densities.
        "path_quantiles": likewise; each latent goes evenly through its quantiles, u = F(z).
        "path_conditional": likewise, with a copula; each goes through its quantiles given the
        latents before it in `ranking`. Without a copula these are the quantiles.
    """
    prior = model.prior
    density = prior.feature_density()
    start, end = prior.sample_features(2 * PAIRS, random).chunk(2)
    shares = torch.linspace(0, 1, POSITIONS).to(start)
    levels = torch.lerp(density.cdf(start)[:, None], density.cdf(end)[:, None], shares[:, None])
    paths = {
        "path_arc": slerp(start, end, shares),
        "path_quantiles": density.icdf(levels.flatten(0, 1)).unflatten(0, levels.shape[:2]),
    }
    if isinstance(prior, CopulaPrior):
        scores = between(prior.mixture, prior.scores(start), prior.scores(end), ranking, shares)
        paths["path_conditional"] = prior.features(scores.flatten(0, 1)).view_as(scores)
    return {name: decoded(model, h).numpy() for name, h in paths.items()}


def slerp(start: Tensor, end: Tensor, shares: Tensor) -> Tensor:
    """Interpolate spherically about the origin (Shoemake 1985), (n, d), (n, d), (m,) -> (n, m, d).

    Where both have one length so has all that lies between.
    """
    cosine = torch.cosine_similarity(start, end, dim=1).clamp(-1, 1)
    angle = torch.acos(cosine)[:, None, None]
    shares = shares[:, None]
    weights = ((1 - shares) * angle).sin(), (shares * angle).sin()
    mixed = weights[0] * start[:, None] + weights[1] * end[:, None]
    straight = torch.lerp(start[:, None], end[:, None], shares)  # its limit for no angle
    return torch.where(angle.sin() > 1e-6, mixed / angle.sin(), straight)

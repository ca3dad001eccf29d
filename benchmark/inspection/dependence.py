"""How the latents of a KAEM with a copula depend on one another, and what its components are."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from benchmark.inspection.decoding import decoded
from benchmark.inspection.following import follow
from kaem.copula import CopulaPrior
from kaem.model import KAEM
from kaem.normal_mixture import NormalMixture

DRAWS = 10_000  # of the copula, whose rank correlations are compared with the posterior draws'
SCORES = 2000  # draws for the mutual information of each pair
OF_COMPONENT = 8  # images from one component alone
SHOWN_PAIRS = 3
FILLED, FILLINGS = 6, 3  # images, and how often the latents that are not held are drawn

Findings = tuple[dict[str, np.ndarray], dict]
Random = Callable[[str], torch.Generator]  # a new one for each use of a name, always the same


@torch.no_grad()
def inspect_copula(
    model: KAEM, arrays: dict[str, np.ndarray], ranking: Tensor, random: Random
) -> Findings:
    """Look at the components of a copula, at pairs of latents, and at latents given others.

    Args:
        arrays: "posterior_draws" (s, b, q), "labels" (b,) where there are any, and "points",
            "moved", "positions" and "bases" of `benchmark.inspection.inspect`.
        ranking: (q,), the latents, first the one that matters most.

    Returns:
        Arrays, and a record's `Dependence`.
    """
    draws = torch.from_numpy(arrays["posterior_draws"]).to(model.prior.nodes)
    found, numbers = _ranks(model.prior, draws, random("copula"))
    found |= _components(model, random("components"))
    if "labels" in arrays:
        found["component_classes"] = component_classes(model.prior, draws, arrays["labels"])
    found |= _pairs(model.prior, torch.from_numpy(arrays["points"]), random("scores"))
    found |= _filled(model, draws[-1, :FILLED], ranking.tolist(), random)
    found |= _followed(model, arrays, ranking.tolist())
    return found, numbers


def _ranks(prior: CopulaPrior, draws: Tensor, random: torch.Generator) -> Findings:
    """Compare rank correlations and the copula's density at the posterior's draws and its own."""
    flat, own = draws.flatten(0, 1), prior.sample_features(DRAWS, random)
    posterior, copula = (rank_correlations(h.cpu().numpy()) for h in (flat, own))
    pairs = np.triu_indices(len(copula), k=1)
    difference = (copula - posterior)[pairs]
    numbers = {
        "rank_rms": float(np.sqrt(np.mean(posterior[pairs] ** 2))),
        "rank_rms_difference": float(np.sqrt(np.mean(difference**2))),
        "rank_largest_difference": float(np.abs(difference).max()),
        "rank_error": (draws.shape[1] - 1) ** -0.5,
        "log_copula_posterior": prior.log_copula(flat).mean().item(),
        "log_copula_prior": prior.log_copula(own).mean().item(),
    }
    return {"rank_posterior": posterior, "rank_copula": copula}, numbers


def rank_correlations(values: np.ndarray) -> np.ndarray:
    """Compute Spearman's correlations of the columns, (n, q) -> (q, q)."""
    return np.corrcoef(rankdata(values, axis=0), rowvar=False)


def _components(model: KAEM, random: torch.Generator) -> dict[str, np.ndarray]:
    """Decode the centre of each component, and draws from it alone.

    Returns:
        "component_weights": (k,); "component_images": (k, C, H, W), the centres;
        "component_draws": (k, n, C, H, W).
    """
    prior: CopulaPrior = model.prior
    weights = prior.mixture.log_weights.exp()
    own = [prior.sample_features(OF_COMPONENT, random, component=k) for k in range(len(weights))]
    return {
        "component_weights": weights.cpu().numpy(),
        "component_images": decoded(model, prior.features(prior.mixture.means)).numpy(),
        "component_draws": decoded(model, torch.stack(own)).numpy(),
    }


def component_classes(prior: CopulaPrior, draws: Tensor, labels: np.ndarray) -> np.ndarray:
    """Compute how likely each component is given the posterior draws of each class's images.

    Args:
        draws: (s, b, q); labels: (b,).

    Returns:
        (k, classes), where each class's numbers sum to one.
    """
    likely = prior.responsibilities(draws.flatten(0, 1)).unflatten(0, draws.shape[:2]).mean(dim=0)
    of_images = likely.cpu().numpy()
    return np.stack([of_images[labels == c].mean(axis=0) for c in np.unique(labels)], axis=1)


def pair_mixture(mixture: NormalMixture, pair: tuple[int, int]) -> MixtureSameFamily:
    """Return the mixture's margin in two dimensions, which is a mixture of normals again."""
    factors = mixture.factors[:, pair]
    normals = MultivariateNormal(mixture.means[:, pair], factors @ factors.mT)
    return MixtureSameFamily(Categorical(logits=mixture.log_weights), normals)


def _pairs(prior: CopulaPrior, points: Tensor, random: torch.Generator) -> dict[str, np.ndarray]:
    """Tabulate the density of the pairs of latents that tell most about one another.

    Args:
        points: (q, m), places of each latent.

    Returns:
        "information": (q, q), their mutual information in nats, estimated by draws;
        "pairs": (n, 2); "pair_density": (n, m, m), p(h_i, h_j) at the points of i and j.
    """
    mixture = prior.mixture
    s = mixture.sample(SCORES, random)
    margins = mixture.margin_log_prob(s)
    information = torch.zeros(prior.q, prior.q)
    pairs = list(combinations(range(prior.q), 2))
    for pair in pairs:
        joint = pair_mixture(mixture, pair).log_prob(s[:, pair])
        information[pair] = (joint - margins[:, pair].sum(dim=1)).mean()
    shown = sorted(pairs, key=lambda pair: information[pair].item(), reverse=True)[:SHOWN_PAIRS]
    h = points.T.to(prior.nodes)
    scores = prior.scores(h)
    slopes = prior.feature_density().log_prob(h) - mixture.margin_log_prob(scores)  # log ds/dh
    densities = []
    for i, j in shown:
        grid = torch.cartesian_prod(scores[:, i], scores[:, j]).unflatten(0, (len(h), len(h)))
        joint = pair_mixture(mixture, (i, j)).log_prob(grid)
        densities.append((joint + slopes[:, i, None] + slopes[:, j]).exp())
    return {
        "information": (information + information.T).numpy(),
        "pairs": np.array(shown),
        "pair_density": torch.stack(densities).cpu().numpy(),
    }


def _filled(model: KAEM, h: Tensor, ranking: list[int], random: Random) -> dict[str, np.ndarray]:
    """Hold ever more latents of a posterior draw, and draw the others given those.

    Args:
        h: (b, q), a draw for each of the first b images.

    Returns:
        "held": (m,), how many are held; "filled": (m, b, n, C, H, W), n drawings of each;
        "filled_from": (b, C, H, W), the posterior draws decoded: all latents are held.
    """
    held = [0, *(2**power for power in range(len(ranking)) if 2**power < len(ranking))]
    rows = h.repeat_interleave(FILLINGS, dim=0)
    known = [{q: rows[:, q] for q in ranking[:count]} for count in held]
    drawn = [model.prior.sample_given(len(rows), own, random("filled")) for own in known]
    return {
        "held": np.array(held),
        "filled": decoded(model, torch.stack(drawn).unflatten(1, (len(h), FILLINGS))).numpy(),
        "filled_from": decoded(model, h).numpy(),
    }


def _followed(
    model: KAEM, arrays: dict[str, np.ndarray], ranking: list[int]
) -> dict[str, np.ndarray]:
    """Decode images along one latent where the others follow, as "images" where they are held.

    Returns:
        "followed": (b, m, k, C, H, W), for b bases, m moved latents and k positions;
        "followed_latents": (b, m, k, m), where each of the moved latents is there.
    """
    prior: CopulaPrior = model.prior
    bases = prior.scores(torch.from_numpy(arrays["bases"]).to(prior.nodes))
    positions = torch.from_numpy(arrays["positions"]).to(prior.nodes)
    rows = []
    for q, own in zip(arrays["moved"].tolist(), positions, strict=True):
        values = prior.scores(own[:, None].expand(-1, prior.q))[:, q]
        order = [q, *(other for other in ranking if other != q)]
        rows.append(follow(prior.mixture, bases, order, values))
    scores = torch.stack(rows, dim=1)
    h = prior.features(scores.flatten(0, 2)).unflatten(0, scores.shape[:3])
    places = h[..., arrays["moved"]].cpu().numpy()
    return {"followed": decoded(model, h).numpy(), "followed_latents": places}

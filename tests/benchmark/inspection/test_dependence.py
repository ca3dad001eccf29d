"""What is found of a copula, on mixtures whose dependence is known; the decoder shows latents."""

import math

import numpy as np
import pytest
import torch

from benchmark.data.pixels import to_uint8
from benchmark.inspection.dependence import inspect_copula
from kaem import CopulaPrior, MixturePrior

RANKING = torch.tensor([2, 0, 1])
IMAGES = 50


class Model:
    """A prior, and a decoder whose pixels are the latents."""

    def __init__(self, prior: CopulaPrior):
        self.prior = prior

    def decoder(self, h):
        return (h[:, None, None] / 10 + 0.5).clamp(0, 1)


def make_prior(log_weights, means, correlation: float = 0.0) -> CopulaPrior:
    """Three latents, of which the first two are correlated within each component."""
    prior = MixturePrior(3, 2, grid_size=8, reference="gaussian", domain=(-5, 5), n_nodes=200)
    prior = CopulaPrior(prior, components=len(means))
    prior.mixture.log_weights.copy_(torch.tensor(log_weights).log())
    prior.mixture.means.copy_(torch.tensor(means))
    prior.mixture.factors[:, 1, :2] = torch.tensor([correlation, (1 - correlation**2) ** 0.5])
    return prior


def found(prior: CopulaPrior):
    """Arrays and numbers, of draws of the prior as those of a posterior; an image's class is the
    component that they are from."""
    density, random = prior.feature_density(), torch.Generator().manual_seed(0)
    labels = np.arange(IMAGES) % len(prior.mixture.means)
    draws = torch.stack([prior.sample_features(2, random, k) for k in labels.tolist()], dim=1)
    ends = density.interval(1e-4)
    shares = torch.linspace(0, 1, 200)[:, None]
    arrays = {
        "posterior_draws": draws,
        "points": (ends[0] + (ends[1] - ends[0]) * shares).T,
        "moved": RANKING[:2],
        "positions": torch.tensor([[-1.0, 0.0, 2.0], [-2.0, 0.0, 1.0]]),
        "bases": draws[0, :2],
    }
    arrays = {name: value.numpy() for name, value in arrays.items()} | {"labels": labels}

    def generator(name: str) -> torch.Generator:
        return torch.Generator().manual_seed(len(name))

    return inspect_copula(Model(prior), arrays, RANKING, generator), arrays


def test_a_gaussian_copula_has_its_known_dependence():
    correlation = 0.8
    prior = make_prior([1.0], [[0.0, 0.0, 0.0]], correlation)
    (arrays, numbers), given = found(prior)
    rank = 6 / math.pi * math.asin(correlation / 2)
    information = -0.5 * math.log(1 - correlation**2)
    # Five standard errors of 10,000 draws, and of 2,000.
    assert arrays["rank_copula"][0, 1] == pytest.approx(rank, abs=5 * (1 - rank**2) / 100)
    np.testing.assert_allclose(arrays["rank_copula"][2, :2], 0, atol=5 / 100)
    assert arrays["information"][0, 1] == pytest.approx(
        information, abs=5 * correlation / 2000**0.5
    )
    assert numbers["log_copula_prior"] == pytest.approx(information, abs=5 * correlation / 100)
    assert list(arrays["pairs"][0]) == [0, 1]
    # The pair's density integrates to one and has the latents' own densities as margins.
    x, y = given["points"][:2]
    density = arrays["pair_density"][0]
    own = prior.feature_density().log_prob(torch.from_numpy(given["points"].T)).exp().detach()
    assert np.trapezoid(np.trapezoid(density, y), x) == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(np.trapezoid(density, y), own[:, 0], atol=0.01)


def test_components_hold_the_classes_that_they_are_of():
    prior = make_prior([0.25, 0.75], [[-6.0, 0.0, 0.0], [6.0, 0.0, 0.0]])
    (arrays, _), _ = found(prior)
    np.testing.assert_allclose(arrays["component_classes"], np.eye(2), atol=1e-4)
    np.testing.assert_allclose(arrays["component_weights"], [0.25, 0.75])
    centres = to_uint8(Model(prior).decoder(prior.features(prior.mixture.means)))
    np.testing.assert_array_equal(arrays["component_images"], centres)
    # A latent's lowest quarter is the first component's.
    lowest = to_uint8(Model(prior).decoder(prior.feature_density().icdf(torch.full((1, 3), 0.25))))
    below = arrays["component_draws"][..., 0] <= int(lowest[0, 0, 0, 0])
    assert below[0].all()
    assert below[1].mean() < 0.2  # in the same level of grey


def test_known_and_moved_latents_hold_their_values():
    (arrays, _), given = found(make_prior([0.5, 0.5], [[-1.0, 0, 1], [1, 1, 0]], 0.5))
    assert arrays["held"].tolist() == [0, 1, 2]
    filled, pixels = arrays["filled"].astype(int), arrays["filled_from"][:, None].astype(int)
    for row, count in enumerate(arrays["held"]):
        known = RANKING[:count].numpy()
        np.testing.assert_array_equal(filled[row][..., known], pixels[..., known].repeat(3, axis=1))
        unknown = RANKING[count:].numpy()
        assert (filled[row][..., unknown] != pixels[..., unknown]).mean() > 0.8
    for row, q in enumerate(given["moved"]):
        own = to_uint8(torch.from_numpy(given["positions"][row] / 10 + 0.5)).numpy().astype(int)
        seen = arrays["followed"][:, row, :, 0, 0, q].astype(int)
        assert np.abs(seen - own).max() <= 1  # through the scores, and back
    places = to_uint8(torch.from_numpy(arrays["followed_latents"]) / 10 + 0.5)
    np.testing.assert_array_equal(places, arrays["followed"][..., 0, 0, given["moved"]])
    moving = arrays["followed"][:, 0, :, 0, 0, 0]
    assert (moving != moving[:, :1]).any()  # the others do follow

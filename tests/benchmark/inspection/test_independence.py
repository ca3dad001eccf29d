"""What independence costs: on a posterior whose dependence, and its price, are known."""

import math
from types import SimpleNamespace

import pytest
import torch

import benchmark.inspection.independence
from benchmark.data.pixels import to_float, to_uint8
from benchmark.evaluation.features import RealFeatures
from benchmark.evaluation.frechet import fit_gaussian
from benchmark.inspection.independence import independence, shuffled

N = 20_000


class Pixels:
    """Two pixels as features."""

    digest, dimension, device = "", 2, torch.device("cpu")

    def __call__(self, images):
        return to_float(images).flatten(1)


def decode(z):
    """Latents around 1/2, (n, 2), as images (n, 1, 1, 2)."""
    return z[:, None, None, :].clamp(0, 1)


@pytest.fixture
def equal_latents(monkeypatch) -> torch.Tensor:
    """Posterior draws whose two latents are equal, of standard deviation 0.1; one per image."""
    z = 0.5 + 0.1 * torch.randn(N, 1, generator=torch.Generator().manual_seed(0)).expand(-1, 2)
    batches = iter(z.split(benchmark.inspection.independence.BATCH_SIZE))
    monkeypatch.setattr(benchmark.inspection.independence, "FeaturePosterior", lambda _model, x: x)
    monkeypatch.setattr(
        benchmark.inspection.independence,
        "draw_posterior",
        lambda _x, **_: SimpleNamespace(z=next(batches)[None, None]),
    )
    return z


def test_dependence_and_its_price(equal_latents):
    def prior_draws(n, generator):
        return 0.5 + 0.1 * torch.randn(n, 2, generator=generator)

    prior = SimpleNamespace(sample_features=prior_draws)
    model = SimpleNamespace(decoder=decode, prior=prior)
    images = to_uint8(decode(equal_latents))
    reference = RealFeatures(Pixels()(images), fit_gaussian(Pixels()(images)))
    passes = {"annealing": 1, "burn_in": 1}
    random = torch.Generator().manual_seed(1)
    found = independence(model, images, Pixels(), reference, passes, random)
    assert found["fd_images"] == pytest.approx(0, abs=1e-9)
    assert found["fd_posterior"] == pytest.approx(0, abs=1e-9)
    # Covariances v [[1, 1], [1, 1]] and v I: v (4 - 2 sqrt 2). v has an error of 1%.
    price = 0.1**2 * (4 - 2 * math.sqrt(2))
    assert found["fd_shuffled"] == pytest.approx(price, rel=0.05)
    assert found["fd_prior"] == pytest.approx(price, rel=0.05)


def test_shuffling_keeps_each_latent_and_breaks_the_dependence(equal_latents):
    z = shuffled(equal_latents, torch.Generator().manual_seed(1))
    assert torch.equal(z.sort(0).values, equal_latents.sort(0).values)
    # A correlation of independent columns has a standard deviation of 1/sqrt(N).
    assert torch.corrcoef(z.T)[0, 1].abs() < 5 / math.sqrt(N)
    assert not torch.equal(z[:, 0], equal_latents[:, 0])

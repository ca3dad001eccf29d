"""The best sigma of a trained decoder against a closed form, and a constant image's likelihood."""

import math

import pytest
import torch
from reference.linear_gaussian import LinearDecoder, log_evidence
from scipy.optimize import minimize_scalar
from torch.distributions import Normal

from baselines.vae import VAE
from benchmark.data.pixels import to_float, to_uint8
from benchmark.evaluation.likelihood import likelihood_metrics
from benchmark.evaluation.sigma import (
    CHUNK,
    IMAGES,
    SMALLEST,
    ConstantImage,
    held_back,
    with_best_sigma,
)
from kaem import KAEM, MixturePrior

CPU = torch.device("cpu")
LATENTS, PIXELS, TRUTH = 2, 60, 0.12
SHAPE = (1, 8, 8)


@pytest.fixture
def linear() -> KAEM:
    """x ~ N(b, W W^T + sigma^2 I), with images between 0 and 1 and a wrong sigma."""
    torch.manual_seed(0)
    prior = MixturePrior(LATENTS, 1, reference="gaussian", domain=(-6.0, 6.0), n_nodes=600)
    model = KAEM(prior, LinearDecoder(LATENTS, PIXELS), sigma=0.3)
    with torch.no_grad():
        prior.functions.coefficients.zero_()
        prior.functions.w_base.zero_()
        model.decoder.linear.weight.normal_(0, 0.06)
        model.decoder.linear.bias.fill_(0.5)
    return model.double()


def images_of(model: KAEM, n: int = 200) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    mean = model.sample(n, generator)
    noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
    return to_uint8(mean + TRUTH * noise)


class Encoder(torch.nn.Module):
    """The posterior of a linear decoder at its sigma of training, without correlations."""

    def __init__(self, linear: torch.nn.Linear, sigma: float):
        super().__init__()
        weight = linear.weight.detach().double()
        precision = torch.eye(LATENTS) + weight.T @ weight / sigma**2
        self.gain = torch.linalg.solve(precision, weight.T) / sigma**2
        self.log_var = -precision.diagonal().log()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = (x.flatten(1).double() - 0.5) @ self.gain.T
        return torch.cat([mean, self.log_var.expand_as(mean)], dim=1)


def best_sigma(model: KAEM, images: torch.Tensor) -> float:
    """That of the closed form of the evidence."""
    x = to_float(images[-IMAGES:]).double()

    def cost(log_sigma: float) -> float:
        model.sigma = math.exp(log_sigma)
        return -log_evidence(model, x).mean().item()

    found = minimize_scalar(cost, bounds=(math.log(SMALLEST), 0), method="bounded")
    model.sigma = 0.3
    return math.exp(found.x)


@pytest.mark.parametrize("kind", ["kaem", "vae"])
def test_the_sigma_is_that_of_the_evidence_in_closed_form(linear, kind):
    images, generator = images_of(linear), torch.Generator().manual_seed(1)
    model = linear
    if kind == "vae":
        encoder = Encoder(linear.decoder.linear, linear.sigma)
        model = VAE(LATENTS, encoder, linear.decoder, sigma=0.3)
    truth = best_sigma(linear, images)
    assert truth == pytest.approx(TRUTH, rel=0.1)
    fitted = with_best_sigma(model, images, generator, CPU)
    # One draw of 2 latents for each of 100 images leaves 0.2% of sigma, the rounds another 0.2%.
    assert fitted.sigma == pytest.approx(truth, rel=0.02)
    assert model.sigma == 0.3


def test_images_that_are_met_exactly_keep_a_sigma(linear):
    with torch.no_grad():
        linear.decoder.linear.weight.zero_()
        linear.decoder.linear.bias.zero_()
    black = torch.zeros(3, 1, 1, PIXELS, dtype=torch.uint8)
    assert with_best_sigma(linear, black, torch.Generator(), CPU).sigma == SMALLEST


def test_a_constant_image_has_a_closed_form():
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, CHUNK + 5, *SHAPE), generator=draws, dtype=torch.uint8)
    training, validation, test = images[0], images[1, :300], images[2, :20]
    constant = ConstantImage(training, validation)
    mean = (training.double() / 255).mean(0)
    sigma = (validation.double() / 255 - mean).square().mean().sqrt().item()
    assert constant.sigma == pytest.approx(sigma, rel=1e-6)
    nats = Normal(mean, sigma).log_prob(test.double() / 255).flatten(1).sum(1).mean().item()
    found = likelihood_metrics(constant, test, "test", 1, draws, CPU, "_constant")
    assert found == {
        "nats_constant_test_20": pytest.approx(nats, rel=1e-6),
        "nats_error_constant_test_20": 0.0,
        "nats_low_ess_share_constant_test_20": 0.0,
        "bits_per_dimension_constant_test_20": pytest.approx(
            math.log2(255) - nats / 64 / math.log(2)
        ),
        "bits_per_dimension_error_constant_test_20": 0.0,
    }


def test_sigma_is_fitted_on_the_validation_split_where_there_is_one():
    splits = {name: torch.zeros(1) for name in ("train", "test", "validation")}
    assert held_back(splits) == ("validation", splits.pop("validation"))
    assert held_back(splits) == ("train", splits["train"])

"""The Gaussian likelihood against torch.distributions and naive sums; means of weights; bits."""

import math

import pytest
import torch
from torch.distributions import Normal

from kaem.likelihood import (
    Evidence,
    bits_per_dimension,
    effective_sample_size,
    evidence_from_weights,
    log_constant,
    log_likelihood,
    log_mean_exp,
    pairwise_log_likelihood,
    weighted_squared_error,
)

SHAPE = (2, 4, 3)
sigmas = pytest.mark.parametrize("sigma", [0.05, 0.3, 2.0])


@pytest.fixture
def images() -> tuple[torch.Tensor, torch.Tensor]:
    """Five data and seven means."""
    x, mean = torch.rand(5, *SHAPE), torch.rand(7, *SHAPE)
    return x.double(), mean.double()


def naive(x, mean, sigma):
    """log p(x_b | mean_s) from every difference, (b, s)."""
    return Normal(mean[None], sigma).log_prob(x[:, None]).flatten(2).sum(2)


@sigmas
def test_pairs_rows_and_torch_distributions_agree(images, sigma):
    x, mean = images
    pairs = pairwise_log_likelihood(x, mean, sigma)
    torch.testing.assert_close(pairs, naive(x, mean, sigma))
    rows = log_likelihood(x, mean[:5], sigma)
    torch.testing.assert_close(rows, pairs[:, :5].diagonal())


def test_data_and_means_of_other_shapes_are_not_broadcast():
    with pytest.raises(ValueError, match=r"data of shape \(5, 3, 3\) for means of \(5, 1, 3, 3\)"):
        log_likelihood(torch.rand(5, 3, 3), torch.rand(5, 1, 3, 3), 0.3)


@sigmas
def test_the_constant_is_the_value_at_the_mean(sigma):
    x = torch.rand(3, *SHAPE, dtype=torch.float64)
    expected = -0.5 * 24 * math.log(2 * math.pi * sigma**2)
    assert log_constant(24, sigma) == pytest.approx(expected)
    torch.testing.assert_close(log_likelihood(x, x, sigma), torch.full((3,), expected).double())


def test_pairs_in_single_precision_keep_their_digits_on_bright_images():
    # |x|^2 + |m|^2 - 2 x.m of nearly equal images cancels: without centring the error in the
    # exponent is about 0.1 nats here, with it below 0.01.
    x = 0.9 + 0.01 * torch.rand(10, 3 * 32 * 32)
    mean = 0.9 + 0.01 * torch.rand(20, 3 * 32 * 32)
    exact = naive(x.double(), mean.double(), 0.05)
    error = (pairwise_log_likelihood(x, mean, 0.05) - exact).abs().max()
    assert error < 0.01
    assert (pairwise_log_likelihood(x, x, 0.05).diagonal() <= log_constant(3072, 0.05)).all()


def test_weighted_squared_error_is_the_naive_sum_with_its_gradients(images):
    x, mean = images
    weights = torch.rand(5, 7, dtype=torch.float64)
    weights[0] = 0.0  # rows need not sum to one
    mean.requires_grad_()
    error = weighted_squared_error(x, mean, weights)
    differences = (x[:, None] - mean[None]).flatten(2).square().sum(2)
    expected = (weights * differences).sum()
    torch.testing.assert_close(error, expected)
    torch.testing.assert_close(
        torch.autograd.grad(error, mean), torch.autograd.grad(expected, mean)
    )


def test_autocast_takes_no_digits_of_differences():
    x, weights = 0.9 + 0.01 * torch.rand(10, 500), torch.rand(10, 20)
    mean = (0.9 + 0.01 * torch.rand(20, 500)).requires_grad_()

    def found() -> tuple[torch.Tensor, ...]:
        pairs = pairwise_log_likelihood(x, mean, 0.05)
        error = weighted_squared_error(x, mean, weights)
        return pairs.softmax(1), error, *torch.autograd.grad(error, mean)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = found()
    for value, expected in zip(within, found(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)


def test_effective_sample_size():
    weights = torch.tensor([[0.25] * 4, [1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.7, 0.1, 0.1, 0.1]])
    torch.testing.assert_close(
        effective_sample_size(weights), torch.tensor([4.0, 1.0, 2.0, 1 / 0.52])
    )


def test_evidence_from_weights_by_hand():
    # Weights 1 and 3: a mean of two, half of it from the one and one and a half from the other.
    log_weights = torch.tensor([[1.0, 3.0], [2.0, 2.0]], dtype=torch.float64).log() - 5000
    evidence = evidence_from_weights(log_weights)
    expected = torch.full((2,), math.log(2) - 5000, dtype=torch.float64)
    torch.testing.assert_close(evidence.log_evidence, expected)
    # Without the one the mean is 3, without the other 1.
    expected = torch.tensor([0.5 * math.log(3), 0.0]).double()
    torch.testing.assert_close(evidence.standard_error, expected)
    torch.testing.assert_close(evidence.ess, torch.tensor([1.6, 2.0]).double())


def test_evidence_from_random_weights():
    weights = torch.rand(3, 11, dtype=torch.float64)
    evidence = evidence_from_weights(weights.log())
    mean = weights.mean(1)
    others = torch.stack([weights[:, torch.arange(11) != i].mean(1).log() for i in range(11)])
    error = (10 * others.var(0, correction=0)).sqrt()
    torch.testing.assert_close(evidence.log_evidence, mean.log())
    torch.testing.assert_close(evidence.standard_error, error)
    torch.testing.assert_close(evidence.ess, weights.sum(1).square() / weights.square().sum(1))


def test_weights_of_zero_count():
    log_weights = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0]], dtype=torch.float64)
    value, error, ess = evidence_from_weights(log_weights)
    assert value.item() == pytest.approx(math.log(0.5))
    assert error.item() == pytest.approx(0.75**0.5 * math.log(2))
    assert ess.item() == pytest.approx(2)
    alone = evidence_from_weights(log_weights[:, :3])
    assert alone == (pytest.approx(-math.log(3)), math.inf, 1)


def test_one_weight_that_outdoes_all_others_makes_the_error():
    # A mean of 400 draws without it would be 700 nats lower, by a jackknife that cannot cancel.
    log_weights = torch.zeros(1, 400, dtype=torch.float64)
    log_weights[0, 7] = 700.0
    value, error, ess = evidence_from_weights(log_weights)
    assert value.item() == pytest.approx(700 - math.log(400))
    assert error.item() == pytest.approx(700 - math.log(400), rel=0.01)
    assert ess.item() == pytest.approx(1)


@pytest.mark.parametrize("sigma", [0.5, 2.0, 4.0, 10.0])
def test_the_standard_error_is_the_spread_however_unequal_the_weights(sigma):
    # Log-normal weights: 400 runs of 1000, whose effective sample size is 800 to 1.4. Their spread
    # is known to 4% where it is normal and to about 10% where it is not. 1e-3 for a new seed.
    normal = torch.randn(400, 1000, generator=torch.Generator().manual_seed(0)).double()
    result = evidence_from_weights(sigma * normal)
    stated = result.standard_error.square().mean().sqrt()
    assert 1 / 1.4 < stated / result.log_evidence.std() < 1.4


def test_draws_from_strata_have_the_scatter_within_them():
    one, other = torch.rand(2, 3, 200, dtype=torch.float64)
    weights = torch.cat([one, 5 + other], dim=1)
    error = evidence_from_weights(weights.log(), strata=2).standard_error
    expected = ((one.var(1) + other.var(1)) / 200).sqrt() / 2 / weights.mean(1)
    torch.testing.assert_close(error, expected, rtol=0.02, atol=0)


@pytest.mark.parametrize("count", [2, 10, 60])
def test_the_jackknife_leaves_each_draw_out_of_its_stratum(count):
    # Weights that hardly vary have a jackknife in closed form: the standard error of their mean.
    weights = 1 + 1e-4 * torch.rand(3, 6, count, dtype=torch.float64)
    error = evidence_from_weights(weights.flatten(1).log(), strata=6).standard_error
    expected = (weights.var(2).sum(1) / count).sqrt() / 6
    torch.testing.assert_close(error, expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("count", [10, 20])
def test_the_standard_error_of_few_draws_from_strata_is_the_spread(count):
    # 20,000 runs, whose spread is known to 0.5%: 3e-4 for a new seed. Where a draw is left out of
    # the sum of all strata the ratios are 0.93 and 0.96.
    normal = torch.randn(20_000, 6 * count, generator=torch.Generator().manual_seed(0)).double()
    level = torch.linspace(-1, 1, 6).repeat_interleave(count)
    result = evidence_from_weights(level + 0.3 * normal, strata=6)
    stated = result.standard_error.square().mean().sqrt()
    assert 0.98 < stated / result.log_evidence.std() < 1.04


@pytest.mark.parametrize("count", [0, 1])
def test_one_weight_has_no_standard_error(count):
    with pytest.raises(ValueError, match=f"at least 2 weights per datum, got {count}"):
        evidence_from_weights(torch.zeros(3, count))


def test_log_mean_exp():
    values = torch.randn(3, 11, dtype=torch.float64)
    torch.testing.assert_close(log_mean_exp(values), values.exp().mean(1).log())
    torch.testing.assert_close(log_mean_exp(values - 5000), values.exp().mean(1).log() - 5000)


def test_zero_weights_alone_estimate_nothing():
    log_weights = torch.tensor([[-math.inf, -math.inf], [0.0, 0.0]])
    result = evidence_from_weights(log_weights)
    assert result.log_evidence.tolist() == [-math.inf, 0.0]
    assert result.standard_error.tolist() == [math.inf, 0.0]
    assert result.ess.tolist() == [0.0, 2.0]


def test_the_mean_of_an_evidence():
    evidence = Evidence(torch.tensor([-1.0, -3.0]), torch.tensor([0.3, 0.4]), torch.ones(2))
    assert evidence.mean() == pytest.approx((-2.0, 0.25))
    assert all(isinstance(value, float) for value in evidence.mean())


def test_bits_per_dimension():
    # A uniform density on [0, 1]: log p = 0. 256 levels have 255 steps between them.
    assert bits_per_dimension(0.0, 784) == pytest.approx(math.log2(255))
    assert bits_per_dimension(0.0, 784, levels=2) == 0
    # As many nats as make up one bit per dimension.
    assert bits_per_dimension(-10 * math.log(2), 10) == pytest.approx(1 + math.log2(255))
    nats = torch.tensor([0.0, -20 * math.log(2), 30 * math.log(2)])
    expected = torch.tensor([0.0, 2.0, -3.0]) + math.log2(15)
    torch.testing.assert_close(bits_per_dimension(nats, 10, levels=16), expected)


def test_bits_per_dimension_of_a_discrete_distribution():
    # A density that is smooth on the scale of a step: the entropy of the levels themselves.
    levels = 256
    points = torch.linspace(0, 1, levels, dtype=torch.float64)
    density = torch.distributions.Beta(3.0, 4.0).log_prob(points[1:-1])
    mass = density.exp() / density.exp().sum()
    bits = (mass * bits_per_dimension(density, 1, levels)).sum()
    assert bits.item() == pytest.approx(-(mass * mass.log2()).sum().item(), abs=1e-4)

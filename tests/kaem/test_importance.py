"""Importance sampling against the exact posterior of a toy model (tests/reference/posterior.py).

The self-normalised estimate of grad log p(x) is consistent, not unbiased. Its error falls as
S^{-1/2} and its bias as 1/S; the bias is printed beside the value that the delta method
predicts by quadrature.
"""

import functools
import itertools

import numpy as np
import pytest
import torch
from reference.faulty import select_particles_softmax_twice
from reference.posterior import (
    ExactPosterior,
    flat_gradient,
    log_likelihoods,
    toy_data,
    toy_model,
)

from kaem import ImportanceSampling
from kaem.importance import select_particles
from kaem.resampling import RESAMPLERS

# kind, q, p: one latent that is a mixture of two, two latents, and two seen as one sum.
TOYS = {
    "one latent": ("mixture", 1, 2),
    "two latents": ("mixture", 2, 2),
    "a sum of two": ("univariate", 1, 2),
}
toys = pytest.mark.parametrize("toy", TOYS)

_table = ["S", "bias measured", "MC error", "bias predicted", "RMS error"]


@functools.cache
def exact_posterior(toy: str) -> ExactPosterior:
    return ExactPosterior.of(toy_model(*TOYS[toy]), toy_data())


def gradients(toy: str, repetitions: int, **sampler) -> torch.Tensor:
    """The loss's gradient from independent seeds, (repetitions, parameters)."""
    model, x = toy_model(*TOYS[toy], **sampler), toy_data()
    losses = (model.loss(x, torch.Generator().manual_seed(i))[0] for i in range(repetitions))
    return torch.stack([flat_gradient(loss, model) for loss in losses])


def linear_terms(toy: str, repetitions: int, size: int) -> torch.Tensor:
    """The linear terms of the errors of `gradients`: their expectation is zero.

    The same seeds give the proposals that the losses have used. Others would leave the
    expectation as it is, and take nothing off the noise.
    """
    exact = exact_posterior(toy)
    seeds = (torch.Generator().manual_seed(i) for i in range(repetitions))
    return torch.stack([exact.linear_term(exact.model.prior.sample(size, seed)) for seed in seeds])


# --- the exact side ---------------------------------------------------------------------------


@toys
def test_the_quadrature_is_converged(toy):
    # The posterior integrates to one, and a brute-force average over the prior agrees.
    exact = exact_posterior(toy)
    with torch.no_grad():
        mass = (exact.log_prior + exact.log_weights).exp().sum()
        assert mass.item() == pytest.approx(1, abs=1e-10)
        z = exact.model.prior.sample(200_000, torch.Generator().manual_seed(0))
        r = (log_likelihoods(exact.model, exact.x, z) - exact.log_evidence[:, None]).exp()
        # Five standard errors: 6e-7 a comparison for a new seed.
        assert ((r.mean(1) - 1).abs() < 5 * r.std(1) / len(z) ** 0.5).all()
        variance = exact.variance_of_ratio()
        torch.testing.assert_close(r.var(1), variance, rtol=0.1, atol=0)


@toys
def test_the_exact_gradient_passes_finite_differences(toy):
    model, exact = toy_model(*TOYS[toy]), exact_posterior(toy)
    direction = torch.randn(exact.score.shape[1], dtype=torch.float64)
    parameters = list(model.parameters())
    steps = torch.split(direction, [p.numel() for p in parameters])

    def evidence(scale: float) -> torch.Tensor:
        moved = toy_model(*TOYS[toy])
        with torch.no_grad():
            for parameter, step in zip(moved.parameters(), steps, strict=True):
                parameter += scale * step.reshape(parameter.shape)
        return ExactPosterior.of(moved, toy_data()).log_evidence.detach()

    slope = (evidence(1e-5) - evidence(-1e-5)) / 2e-5
    torch.testing.assert_close(exact.score @ direction, slope, rtol=1e-6, atol=1e-6)


# --- the value --------------------------------------------------------------------------------


@toys
def test_the_value_estimates_minus_log_evidence(toy):
    # exp(-loss) of a single datum is an unbiased estimate of p(x): five standard errors, a false
    # alarm of 6e-7 per comparison.
    model, x, exact = toy_model(*TOYS[toy], proposals=100), toy_data(), exact_posterior(toy)
    for datum, log_evidence in zip(x, exact.log_evidence.detach(), strict=True):
        ratios, reported = [], []
        for seed in range(200):
            loss, info = model.loss(datum[None], torch.Generator().manual_seed(seed))
            ratios.append((-loss.detach() - log_evidence).exp())
            reported.append(info["log_likelihood"] + loss.item())
        ratios = torch.stack(ratios)
        assert abs(ratios.mean() - 1) < 5 * ratios.std() / len(ratios) ** 0.5
        assert max(map(abs, reported)) < 1e-12


@toys
def test_the_value_of_many_proposals_is_close(toy):
    # The standard deviation is that of the mean of r = p(x|z) / p(x) over S draws.
    proposals = 20_000
    exact = exact_posterior(toy)
    loss, _ = toy_model(*TOYS[toy], proposals=proposals).loss(
        toy_data(), torch.Generator().manual_seed(0)
    )
    error = (exact.variance_of_ratio().max() / proposals).sqrt()
    assert abs(loss + exact.log_evidence.mean()) < 5 * error


# --- the gradient -----------------------------------------------------------------------------


@toys
@pytest.mark.parametrize("ess_threshold", [0.0, 1.0], ids=["weighted", "resampled"])
def test_the_gradients_error_falls_as_the_square_root_of_s(toy, ess_threshold):
    # Each RMS is known to about 10% from 60 repetitions, which leaves the slope over two and a
    # half decades a standard error of about 0.02: the tolerance is five of them.
    sizes = (10, 30, 100, 300, 1000, 3000)
    truth = exact_posterior(toy).loss_gradient()
    rms = []
    for size in sizes:
        estimates = gradients(toy, 60, proposals=size, survivors=size, ess_threshold=ess_threshold)
        rms.append((estimates - truth).square().sum(1).mean().sqrt().item())
    slope = np.polyfit(np.log(sizes), np.log(rms), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.1)
    assert rms[-1] < 0.1 * truth.norm()


# Projected on its predicted direction, the bias is compared at five standard errors of its Monte
# Carlo estimate (a false alarm of 6e-7 per comparison) plus the next order, 3/S of itself.
@toys
def test_the_bias_falls_as_one_over_s_and_is_what_the_delta_method_says(toy, capsys):
    exact = exact_posterior(toy)
    truth, c = exact.loss_gradient(), exact.leading_bias()
    repetitions, rows = 150, []
    for size in (10, 100, 1000):
        errors = gradients(toy, repetitions, proposals=size, ess_threshold=0) - truth
        projected = (errors + linear_terms(toy, repetitions, size)) @ c / c.norm()
        bias, noise = projected.mean(), projected.std() / repetitions**0.5
        predicted = c.norm() / size
        assert abs(bias - predicted) < 5 * noise + 3 * predicted / size
        assert bias > 3 * noise  # it is seen, not merely consistent with zero
        rms = errors.square().sum(1).mean().sqrt()
        rows.append([size, *(v / truth.norm() for v in (bias, noise, predicted, rms))])
    with capsys.disabled():
        print(f"\nBias of the importance-sampled gradient, {toy}, relative to the gradient")
        print("  ".join(f"{title:>14}" for title in _table))
        for size, *values in rows:
            print("  ".join([f"{size:14d}", *(f"{value:14.5f}" for value in values)]))


# 28 to 45 parameters at |z| < 4.5: a false alarm of at most 3e-4 per case for a new seed.
Z_LIMIT, REPETITIONS = 4.5, 300


@functools.cache
def weighted_gradients(toy: str, size: int) -> torch.Tensor:
    return gradients(toy, REPETITIONS, proposals=size, ess_threshold=0)


def largest_z(toy: str, select=None, monkeypatch=None, **sampler) -> float:
    """The largest |z| over parameters of (gradient with `sampler`) - (gradient with weights).

    Both use the same proposals. Given those, a resampled estimate has the weighted one for its
    expectation, so that the difference has mean zero.
    """
    size = 10
    weighted = weighted_gradients(toy, size)
    if select is not None:
        monkeypatch.setattr("kaem.losses.select_particles", select)
    other = gradients(toy, REPETITIONS, proposals=size, survivors=size, **sampler)
    difference = other - weighted
    return (difference.mean(0).abs() / (difference.std(0) / REPETITIONS**0.5 + 1e-12)).max().item()


@pytest.mark.parametrize("resampler", RESAMPLERS)
def test_resampled_and_weighted_gradients_agree_in_expectation(resampler):
    assert largest_z("one latent", ess_threshold=1.0, resampler=resampler) < Z_LIMIT


@pytest.mark.parametrize("ess_threshold", [0.0, 1.0], ids=["weighted", "resampled"])
def test_a_second_softmax_fails_the_same_check(ess_threshold, monkeypatch):
    z = largest_z(
        "one latent", select_particles_softmax_twice, monkeypatch, ess_threshold=ess_threshold
    )
    assert z > Z_LIMIT


@toys
def test_the_survivors_backward_pass_is_the_full_one(toy):
    # Nothing is dropped without resampling; with it, what is dropped has weight zero.
    x = toy_data()
    for ess_threshold, resampler in ((0.0, "residual"), *itertools.product((1.0,), RESAMPLERS)):
        model = toy_model(
            *TOYS[toy],
            proposals=200,
            survivors=15,
            ess_threshold=ess_threshold,
            resampler=resampler,
        )
        loss, info = model.loss(x, torch.Generator().manual_seed(1))
        generator = torch.Generator().manual_seed(1)
        z = model.prior.sample(200, generator)
        likelihood = log_likelihoods(model, x, z)
        weights = likelihood.detach().softmax(1)
        if ess_threshold:
            drawn = RESAMPLERS[resampler](weights, 15, generator)
            counts = torch.stack([torch.bincount(row, minlength=200) for row in drawn])
            weights = counts.double() / 15
        full = -(weights * (likelihood + model.prior.log_prob(z))).sum() / len(x)
        assert info["survivors"] == ((weights > 0).any(0)).sum().item()
        torch.testing.assert_close(
            flat_gradient(loss, model), flat_gradient(full, model), rtol=1e-9, atol=1e-9
        )


# --- the particles ----------------------------------------------------------------------------


def select(log_likelihood, **sampler):
    sampler = ImportanceSampling(proposals=log_likelihood.shape[1], **sampler)
    return select_particles(log_likelihood, sampler, torch.Generator().manual_seed(0))


def test_without_resampling_the_weights_are_the_softmax():
    log_likelihood = torch.randn(4, 30, dtype=torch.float64)
    particles = select(log_likelihood, ess_threshold=0.0)
    weights = log_likelihood.exp() / log_likelihood.exp().sum(1, keepdim=True)
    assert torch.equal(particles.indices, torch.arange(30))
    torch.testing.assert_close(particles.weights, weights)
    torch.testing.assert_close(particles.ess, 1 / weights.square().sum(1))


@pytest.mark.parametrize("resampler", RESAMPLERS)
def test_only_data_of_low_ess_are_resampled(resampler):
    log_likelihood = torch.zeros(2, 40, dtype=torch.float64)
    log_likelihood[0, 5:] = -3.0  # 5 likely proposals of 40, against 40 equal ones
    log_likelihood[1] = 0.01 * torch.randn(40)
    particles = select(log_likelihood, survivors=8, ess_threshold=0.5, resampler=resampler)
    assert particles.ess[0] < 20 < particles.ess[1]
    torch.testing.assert_close(particles.weights.sum(1), torch.ones(2).double())
    multiples = particles.weights[0] * 8
    torch.testing.assert_close(multiples, multiples.round())
    assert (multiples > 0.5).sum() <= 8
    torch.testing.assert_close(particles.weights[1], log_likelihood[1].softmax(0))


def test_a_datum_at_the_threshold_is_not_resampled():
    log_likelihood = torch.tensor([[0.0, 0.0, -np.inf, -np.inf]])  # an ESS of 2, half of 4
    assert select(log_likelihood, survivors=3, ess_threshold=0.5).weights.tolist() == [[0.5, 0.5]]
    assert select(log_likelihood, survivors=3, ess_threshold=0.51).weights.tolist() != [[0.5, 0.5]]


def test_unused_proposals_are_dropped_and_the_indices_point_at_the_rest():
    log_likelihood = torch.full((2, 50), -1e4)
    log_likelihood[0, 7] = log_likelihood[1, 31] = 0.0
    particles = select(log_likelihood, survivors=6, ess_threshold=1.0)
    assert particles.indices.tolist() == [7, 31]
    assert particles.weights.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert particles.ess.tolist() == [1.0, 1.0]


def test_bad_arguments():
    with pytest.raises(ValueError, match="unknown resampler 'nope'; known: residual, systematic"):
        ImportanceSampling(resampler="nope")
    for wrong in ({"proposals": 0}, {"survivors": 0}):
        with pytest.raises(ValueError, match="must be at least 1"):
            ImportanceSampling(**wrong)
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"ess_threshold must be in \[0, 1\], got"):
            ImportanceSampling(ess_threshold=wrong)

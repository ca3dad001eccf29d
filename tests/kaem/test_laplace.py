"""Importance sampling from a Laplace approximation: its estimates, its proposal, its price."""

import functools
import math
import re

import numpy as np
import pytest
import torch
from reference.linear_gaussian import linear_gaussian
from reference.modes import curve_model, data, two_mode_model
from reference.posterior import ExactPosterior, toy_data, toy_model
from scipy import stats
from torch import nn

import kaem.laplace
from kaem.laplace import DEGREES, STARTS, Proposal, laplace_importance
from kaem.likelihood import Evidence
from kaem.posterior import FeaturePosterior, Posterior

DATA = 4
ALPHA = 1e-4  # of each Kolmogorov-Smirnov test

# Each |z| < 3 has a false alarm of 0.4% per datum of a linear model and 2% per case of four, and
# of up to 3% per datum where the posterior is no bell, for a new seed. The seeds here are fixed.
Z_LIMIT = 3.0

latents_ = pytest.mark.parametrize("latents", [1, 2, 4, 8, 16])
toys = pytest.mark.parametrize("toy", [("mixture", 2, 2), ("univariate", 1, 2)])
classes = pytest.mark.parametrize("cls", [Posterior, FeaturePosterior])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def repeated(posterior: Posterior, copies: int) -> Posterior:
    """Independent runs for the same data side by side: row j belongs to datum j mod b."""
    return type(posterior)(
        posterior.model, posterior.x.repeat(copies, 1).unflatten(1, posterior.image_shape)
    )


def check(evidence: Evidence, truth: torch.Tensor, largest_error: float, least_ess: float) -> None:
    """Right within 3 standard errors, and those small enough for this to mean something."""
    assert evidence.log_evidence.shape == evidence.standard_error.shape == truth.shape
    z = (evidence.log_evidence - truth) / evidence.standard_error
    assert z.abs().max() < Z_LIMIT
    assert evidence.standard_error.max() < largest_error
    assert evidence.ess.min() > least_ess


# Closed forms ------------------------------------------------------------------------------------


@latents_
def test_the_evidence_of_linear_models(latents):
    posterior, truth = linear_gaussian(latents, DATA)
    check(laplace_importance(posterior, 1500, seeded(1)), truth, 0.2, 25)


@toys
@classes
def test_the_evidence_of_nonlinear_models(toy, cls):
    model, x = toy_model(*toy), toy_data()
    truth = ExactPosterior.of(model, x).log_evidence.detach()
    check(laplace_importance(cls(model, x), 1000, seeded(0)), truth, 0.1, 100)


@pytest.mark.parametrize("place", [0.9, 3.0])
def test_a_posterior_at_the_wall(place):
    # The likelihood peaks near the wall, or beyond it. All else has the weight zero.
    model, x = curve_model(lambda z: z, sigma=0.5, domain=(-1.0, 1.0)), data(place)
    truth = ExactPosterior.of(model, x).log_evidence.detach()
    check(laplace_importance(Posterior(model, x), 1000, seeded(1)), truth, 0.15, 50)


def test_a_decoder_is_asked_for_nothing_beyond_the_walls():
    def identity(z):
        return torch.where(z.abs() <= 1, z, math.nan)

    model, x = curve_model(identity, sigma=0.5, domain=(-1.0, 1.0)), data(3.0, -3.0)
    assert laplace_importance(Posterior(model, x), 300, seeded(0)).log_evidence.isfinite().all()


# Standard errors and bias ------------------------------------------------------------------------


def z_scores(
    posterior: Posterior, truth: torch.Tensor, passes: int, runs: int = 100
) -> torch.Tensor:
    """Of independent runs for each datum."""
    result = laplace_importance(repeated(posterior, runs), passes, seeded(0))
    return (result.log_evidence - truth.repeat(runs)) / result.standard_error


# The rms of 400 z-scores is known to 4%: a false alarm of 6e-5 for a new seed. The rest of the
# limits is room for the bias of the log of a mean, and for an error that is the larger of two.
@pytest.mark.parametrize("passes", [300, 1000])
@pytest.mark.parametrize("latents", [1, 2, 8])
def test_the_standard_errors_of_linear_models_are_honest(latents, passes):
    z = z_scores(*linear_gaussian(latents, DATA), passes)
    assert 0.8 < z.square().mean().sqrt() < 1.3
    assert z.mean().abs() < 0.4


def test_the_standard_errors_of_two_modes_are_honest():
    # Barriers of 3, 12.5 and 50 nats. All starts of about one run in 500 are in one mode: such a
    # run is off by ten errors and more. Six seeds gave 1.01 to 1.19; some 2% of new ones may fail.
    model, x = two_mode_model(), data(0.25, 0.5, 1.0)
    truth = ExactPosterior.of(model, x).log_evidence.detach()
    z = z_scores(Posterior(model, x), truth, 1000, runs=400)
    assert 0.8 < z.square().mean().sqrt() < 1.3


def test_a_start_that_alone_found_the_mode_makes_the_error():
    # Two starts at modes 10 nats apart, and a prior that sees neither: every draw has the weight of
    # its mode. Without the second start the estimate is 10 nats lower, without the first as high.
    far = -1e3
    log_joint = torch.tensor([0.0, 10.0, 2 * far]).double()[:, None, None].expand(3, 5, 1)
    log_density = torch.full((3, 3), far).double().fill_diagonal_(0)[..., None, None]
    result = kaem.laplace._evidence(log_joint, log_density.expand(3, 3, 5, 1))
    best = 10 + math.log1p(math.exp(-10))
    assert result.log_evidence.item() == pytest.approx(best)
    # Population standard deviation of 0 and 10, the mixtures of two not of three components.
    assert result.standard_error.item() == pytest.approx(5, rel=1e-6)


def off_centre(*arguments):
    proposal = FIT(*arguments)
    return proposal._replace(centre=proposal.centre + 0.15)  # about half a standard deviation


def scaled(*arguments, by):
    proposal = FIT(*arguments)
    return proposal._replace(factor=by * proposal.factor)


def askew(*arguments):
    proposal = FIT(*arguments)
    factor = proposal.factor.clone()
    factor[..., 0, 0] *= 1.7
    return proposal._replace(factor=factor)


FIT = kaem.laplace._fit
FITS = {
    "as it is": FIT,
    "off centre": off_centre,
    "too narrow": functools.partial(scaled, by=1.7),
    "too wide": functools.partial(scaled, by=0.5),
    "askew": askew,
}


@pytest.mark.parametrize("fit", FITS)
def test_the_estimate_of_the_probability_is_unbiased(fit, monkeypatch):
    # However bad the fit. 4000 short runs: four standard errors, 6e-5 per case.
    monkeypatch.setattr(kaem.laplace, "_fit", FITS[fit])
    posterior, truth = linear_gaussian(2, 1)
    result = laplace_importance(repeated(posterior, 4000), 70, seeded(1))
    ratio = (result.log_evidence - truth).exp()
    error = ratio.std() / len(ratio) ** 0.5
    assert abs(ratio.mean() - 1) < 4 * error
    assert error < 0.02
    # A bound on average: the log of a mean of few weights is too low, unless they are alike.
    if fit == "as it is":
        return
    assert result.log_evidence.mean() < truth - 4 * result.log_evidence.std() / len(ratio) ** 0.5


# The fit -----------------------------------------------------------------------------------------


def exact_posterior(posterior: Posterior) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (b, d) and precision (d, d) of a linear Gaussian model's posterior."""
    linear, sigma = posterior.model.decoder.linear, posterior.model.sigma
    weight, bias = linear.weight.detach(), linear.bias.detach()
    precision = torch.eye(weight.shape[1]) + weight.T @ weight / sigma**2
    scores = (posterior.x - bias) @ weight / sigma**2
    return torch.linalg.solve(precision, scores.T).T, precision


@latents_
def test_the_precision_of_a_linear_model_is_exact(latents):
    posterior, _ = linear_gaussian(latents, DATA)
    _, expected = exact_posterior(posterior)
    result = kaem.laplace.gauss_newton_precision(posterior, posterior.prior_draws(DATA, seeded(0)))
    assert result.dtype == torch.float64
    # The prior's table has a variance of its own, to four digits.
    torch.testing.assert_close(result, expected.expand(DATA, -1, -1), rtol=0, atol=1e-3)


@toys
@classes
def test_the_precision_of_a_nonlinear_model_by_autograd(toy, cls):
    posterior = cls(toy_model(*toy), toy_data())
    z = posterior.prior_draws(2, seeded(0))
    result = kaem.laplace.gauss_newton_precision(posterior, z.flatten(1))
    variance = posterior.marginals.variance().flatten()
    for row, precision in zip(z, result, strict=True):

        def image(flat):
            return posterior.decode(flat.reshape(1, *posterior.event_shape)).flatten()

        jacobian = torch.autograd.functional.jacobian(image, row.flatten())
        expected = jacobian.T @ jacobian / 0.4**2 + torch.diag(1 / variance)
        torch.testing.assert_close(precision, expected, rtol=1e-3, atol=1e-3)


@latents_
def test_a_round_finds_the_middle_of_a_linear_models_posterior(latents):
    # From the best of the ends, whichever that is. The prior's table has a score of its own.
    posterior, _ = linear_gaussian(latents, DATA)
    mean, precision = exact_posterior(posterior)
    ends = posterior.prior_draws(3 * 2 * DATA, seeded(0)).unflatten(0, (3, 2, DATA))
    log_density = torch.randn(3, 2, DATA, generator=seeded(1))
    centre, log_share, factor = kaem.laplace._fit(posterior, ends, log_density, rounds=1)
    best = log_density.argmax(0)
    for chain in range(3):
        expected = torch.where((best == chain).unsqueeze(-1), mean, ends[chain])
        torch.testing.assert_close(centre[chain], expected, rtol=0, atol=0.03)
    share = 0.1 / 3 + 0.9 * log_density.double().softmax(0)
    torch.testing.assert_close(log_share.exp(), share)
    expected = precision.expand(2, DATA, -1, -1)
    torch.testing.assert_close(factor @ factor.mT, expected, rtol=0, atol=1e-3)


def test_chains_begin_at_the_most_likely_of_prior_draws():
    posterior, _ = linear_gaussian(2, 3)
    result = kaem.laplace._likely_prior_draws(posterior, 6, 4, seeded(0))
    generator = seeded(0)
    draws = torch.stack([posterior.prior_draws(6, generator) for _ in range(4)])
    best = torch.stack([posterior.log_likelihood(z) for z in draws]).argmax(0)
    assert torch.equal(result, draws[best, torch.arange(6)])
    assert best.unique().numel() > 1


# The proposal ------------------------------------------------------------------------------------


def student(dimension: int, rows: int) -> tuple[Proposal, list]:
    """A proposal of two mixtures of unlike parts for each row, and SciPy's parts of each."""
    centre = torch.randn(3, 2, rows, dimension, dtype=torch.float64)
    log_share = torch.randn(3, 2, rows, dtype=torch.float64).log_softmax(0)
    root = torch.randn(2, rows, dimension, dimension, dtype=torch.float64)
    precision = root @ root.mT + 0.1 * torch.eye(dimension)
    theirs = [
        [
            [stats.multivariate_t(c.numpy(), np.linalg.inv(p.numpy()), df=DEGREES) for c in centres]
            for centres, p in zip(centre[:, k].transpose(0, 1), precision[k], strict=True)
        ]
        for k in range(2)
    ]
    return Proposal(centre, log_share, torch.linalg.cholesky(precision)), theirs


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_the_density_is_scipys(dimension):
    proposal, theirs = student(dimension, 20)
    z = torch.randn(4, 20, dimension, dtype=torch.float64, generator=seeded(0))
    result = proposal.log_density(z)
    assert result.shape == (2, 4, 20)
    for k, row in np.ndindex(2, 20):
        parts = [t.pdf(z[:, row].numpy()) for t in theirs[k][row]]
        expected = np.log(proposal.log_share[:, k, row].exp().numpy() @ np.array(parts))
        np.testing.assert_allclose(result[k, :, row], expected, atol=1e-9)


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_draws_follow_the_density(dimension):
    n = 20_000
    proposal, _ = student(dimension, 1)
    # Parts far apart, so that each draw tells its own.
    proposal = proposal._replace(
        centre=proposal.centre + 1e4 * torch.arange(3.0)[:, None, None, None]
    )
    many = Proposal(
        *(part.repeat_interleave(n, axis) for part, axis in zip(proposal, (2, 2, 1), strict=True))
    )
    z = many.draw(seeded(0))
    assert z.shape == (2, n, dimension)
    for k in range(2):
        away = z[k] - proposal.centre[:, k]
        part = away.norm(dim=-1).argmin(0)
        count = part.bincount(minlength=3).numpy()
        assert stats.chisquare(count, n * proposal.log_share[:, k, 0].exp()).pvalue > ALPHA
        # With precision L L^T the numbers L^T (z - centre) are a standard Student t.
        unit = (away[part, torch.arange(n)] @ proposal.factor[k, 0]).numpy()
        for column in unit.T:
            assert stats.kstest(column, stats.t(DEGREES).cdf).pvalue > ALPHA
        # All in a direction and at a distance that they share.
        distance = (unit**2).mean(1)
        assert stats.kstest(distance, stats.f(dimension, DEGREES).cdf).pvalue > ALPHA
        assert np.corrcoef(unit.T).reshape(dimension, -1)[0, 1:] == pytest.approx(0, abs=0.05)


@functools.cache
def half_circle() -> Posterior:
    """Images that are not a number beyond the walls."""
    model = curve_model(lambda z: (1 - z.square()).sqrt(), sigma=0.5, domain=(-1.0, 1.0))
    return Posterior(model, data(0.3, 0.8, 0.5))


def test_draws_beyond_the_walls_have_no_weight():
    proposal = Proposal(
        torch.tensor([[0.0], [50.0], [-1e6]]).double()[None, None],
        torch.zeros(1, 1, 3).double(),
        torch.full((1, 3, 1, 1), 2.0, dtype=torch.float64),
    )
    draws = [kaem.laplace._weighed_draws(half_circle(), proposal, seeded(s)) for s in range(50)]
    log_joint, log_density = (torch.stack(parts) for parts in zip(*draws, strict=True))
    assert not log_joint.isnan().any()
    assert log_density[:, 0].isfinite().all()
    assert (log_joint[:, 0, 1:] == -math.inf).all()
    assert log_joint[:, 1].isfinite().all()  # the prior's own
    inside = log_joint[:, 0, 0].isfinite()
    assert 0.7 < inside.double().mean() < 1
    assert (log_joint[~inside, 0, 0] == -math.inf).all()
    assert torch.equal(log_density[:, 1, 0, 0].isfinite(), inside)


# The price ---------------------------------------------------------------------------------------


class Counting(nn.Module):
    """A decoder that counts the images it makes."""

    def __init__(self, decoder: nn.Module):
        super().__init__()
        self.decoder, self.images = decoder, 0

    def forward(self, h):
        self.images += len(h)
        return self.decoder(h)


@toys
@classes
@pytest.mark.parametrize("passes", [67, 100, 333, 1000])
def test_every_pass_is_counted(toy, cls, passes):
    posterior = cls(toy_model(*toy), toy_data())
    posterior.model.decoder = Counting(posterior.model.decoder)
    laplace_importance(posterior, passes, seeded(0))
    # What does not divide by the starts, and by the components drawn from, is left.
    spent = posterior.model.decoder.images / len(posterior.x)
    assert passes - 2 * STARTS < spent <= passes


@pytest.mark.parametrize("latents", [1, 2, 14, 16, 19, 30])
@pytest.mark.parametrize("passes", [0, 4, 45])
def test_too_few_passes_are_refused_with_the_number_that_it_takes(latents, passes):
    posterior, _ = linear_gaussian(latents, 1)
    message = rf"{passes} passes are too few .* with {latents} latents; it takes at least (\d+)$"
    with pytest.raises(ValueError, match=message) as error:
        laplace_importance(posterior, passes)
    enough = int(re.fullmatch(message, str(error.value))[1])
    assert laplace_importance(posterior, enough, seeded(0)).log_evidence.isfinite().all()
    with pytest.raises(ValueError, match=f"it takes at least {enough}$"):
        laplace_importance(posterior, enough - 1)


def test_the_decoders_input_has_fewer_latents():
    model, x = toy_model("univariate", 10, 4), toy_data()
    with pytest.raises(ValueError, match="with 40 latents"):
        laplace_importance(Posterior(model, x), 80)
    laplace_importance(FeaturePosterior(model, x), 80)


# Seeds and types ---------------------------------------------------------------------------------


@toys
@classes
def test_a_seed_decides_the_estimate(toy, cls):
    posterior = cls(toy_model(*toy), toy_data())
    first, again, other = (laplace_importance(posterior, 80, seeded(s)) for s in (0, 0, 1))
    for one, same, different in zip(first, again, other, strict=True):
        assert one.shape == (2,)
        assert torch.equal(one, same)
        assert not torch.equal(one, different)
    torch.manual_seed(7)
    without = laplace_importance(posterior, 80)
    torch.manual_seed(7)
    assert torch.equal(laplace_importance(posterior, 80).log_evidence, without.log_evidence)


@classes
def test_autocast_takes_no_digits(cls):
    model, x = toy_model("univariate", 1, 2).float(), toy_data().float()
    posterior = cls(model, x)
    centre = posterior.prior_draws(2, seeded(0)).flatten(1)

    def found() -> tuple[torch.Tensor, ...]:
        precision = kaem.laplace.gauss_newton_precision(posterior, centre)
        return precision, *laplace_importance(posterior, 80, seeded(1))

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert posterior.decode(posterior.prior_draws(1)).dtype == torch.bfloat16
        within = found()
    for value, expected in zip(within, found(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)


@classes
def test_single_precision_and_no_gradients(cls):
    model, x = toy_model("univariate", 1, 2), toy_data()
    truth = ExactPosterior.of(model, x).log_evidence.detach()
    model.float()
    result = laplace_importance(cls(model, x.float()), 1000, seeded(1))
    check(result, truth, 0.1, 100)
    assert not any(part.requires_grad for part in result)
    assert all(parameter.grad is None for parameter in model.parameters())

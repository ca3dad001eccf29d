"""`make faults`: what each fault of the published code does to a number whose truth is known.

The faults are those of tests/reference, each tried on the same random numbers as the code here.
Every experiment returns a row of the table.
"""

import argparse
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from reference.faulty import (
    covering_domain_by_factors,
    exchange_whole_batch,
    lognormal_log_density_without_the_square,
    sample_by_running_sum,
    select_particles_softmax_twice,
)
from reference.faulty_metrics import frechet_infinity_of_nested_subsets, to_uint8_truncating
from scipy import stats

from benchmark.data.pixels import to_uint8
from benchmark.evaluation.frechet import SHARES, Gaussian, extrapolate, subset_distances
from kaem import ImportanceSampling, MixturePrior
from kaem.tempering import exchange
from studies.gradient_bias import Case, measure, shown_bias, toy
from studies.pages import write_page

COLUMNS = ("The published code", "Experiment", "Should be", "Here", "As published")


def inverse_transform() -> tuple:
    """Compare the largest error of the distribution function, at 100,001 uniforms."""
    domain, nodes, u = (-3.0, 3.0), 100, np.linspace(0, 1, 100_001)
    normal = stats.truncnorm(*domain)
    prior = MixturePrior(1, 1, reference="gaussian", domain=domain, n_nodes=nodes).double()
    with torch.no_grad():
        prior.functions.coefficients.zero_()
        prior.functions.w_base.zero_()
        ours = prior.icdf(torch.from_numpy(u)[:, None, None]).flatten().numpy()
    theirs = sample_by_running_sum(normal.pdf, domain, nodes, u)
    errors = (f"{np.abs(normal.cdf(z) - u).max():.2%}" for z in (ours, theirs))
    return (
        "adds up quadrature weights for the distribution function, interpolated between nodes",
        f"a normal density, {nodes} nodes: largest error of the distribution function",
        "0",
        *errors,
    )


def resampled_weights() -> tuple:
    """Compare the bias of a gradient, relative to its norm."""
    case = Case("", "", ImportanceSampling(proposals=1000, ess_threshold=0.0), repetitions=200)
    ours = shown_bias(measure(*toy(), case))
    with patch("kaem.losses.select_particles", select_particles_softmax_twice):
        theirs = shown_bias(measure(*toy(), case))
    return (
        "puts importance weights that sum to one through a second softmax",
        "two latents, 1,000 proposals: bias of the gradient of log p(x)",
        "0",
        ours,
        theirs,
    )


def exchanges(batch: int = 100) -> tuple:
    """Compare acceptance in equilibrium: z ~ N(0, 1), x | z ~ N(z, 1) in 16 dimensions, x = 1.5."""
    draws = torch.Generator().manual_seed(0)
    t = torch.linspace(0, 1, 6, dtype=torch.float64)
    shape = (len(t), batch, 16)
    variance = (1 / (1 + t))[:, None, None]
    z = 1.5 * t[:, None, None] * variance + variance.sqrt() * torch.randn(shape, generator=draws)
    level = -0.5 * (1.5 - z).square().sum(2)
    accepted = (
        f(level, t, 0, draws).acceptance.mean().item() for f in (exchange, exchange_whole_batch)
    )
    gap = (t.diff()[:, None] * -level.diff(dim=0)).clamp(max=0).exp().mean().item()
    return (
        "exchanges temperatures for a whole batch at once",
        f"a Gaussian model, five gaps, a batch of {batch}: share of accepted exchanges",
        f"{gap:.0%}",
        *(f"{share:.0%}" for share in accepted),
    )


def lognormal() -> tuple:
    """Compare the total variation between densities on [0.01, 8], normalised there."""
    z = torch.linspace(0.01, 8, 100_001, dtype=torch.float64)
    right = torch.from_numpy(stats.lognorm(s=1).pdf(z.numpy()))
    prior = MixturePrior(1, 1, reference="lognormal", domain=(0.01, 8)).double()
    ours = prior.reference(z).exp().flatten().detach()
    theirs = lognormal_log_density_without_the_square(z).exp()

    def distance(density: torch.Tensor) -> str:
        return f"{0.5 * (density / density.mean() - right / right.mean()).abs().mean().item():.1%}"

    return (
        "leaves a square out of the log-normal reference density",
        "on [0.01, 8]: probability in the wrong place",
        "0",
        distance(ours),
        distance(theirs),
    )


def widening() -> tuple:
    """Compare the share of posterior samples that the moved domain leaves out."""
    z = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rules = MixturePrior(1, 1, reference="gaussian").covering_domain, covering_domain_by_factors
    left = [((z < low) | (z > high)).double().mean().item() for low, high in (f(z) for f in rules)]
    return (
        "widens the domain to 0.9 times its lowest sample, which shrinks it below zero",
        "1,000 normal samples: share that the new domain leaves out",
        "0",
        *(f"{share:.1%}" for share in left),
    )


def _limit(features: torch.Tensor, real: Gaussian) -> tuple[float, float]:
    return extrapolate(*np.array(subset_distances(features, real), float).T)


def nested_subsets(replicates: int = 300) -> tuple:
    """Compare how often the stated 95% interval holds the limit of the Frechet distance."""
    draws = torch.Generator().manual_seed(0)
    truth = Gaussian(1, np.zeros(10), np.eye(10))
    limit = 10 * (0.3**2 + 0.2**2)  # of N(0.3, 1.2^2) in ten dimensions
    sets = [1.2 * torch.randn(4000, 10, generator=draws) + 0.3 for _ in range(replicates)]

    def coverage(estimator, freedom: int) -> str:
        value, error = np.array([estimator(features, truth) for features in sets]).T
        z = np.abs(value - limit) / error
        return f"{(z < stats.t.ppf(0.975, freedom)).mean():.0%}"

    return (
        "extrapolates FID from subsets that hold one another",
        f"{replicates} sets of features: how often the 95% interval holds the limit",
        "95%",
        coverage(_limit, len(SHARES) - 2),
        coverage(frechet_infinity_of_nested_subsets, 13),
    )


def truncation() -> tuple:
    """Compare the mean error of an image in 8 bits."""
    images = torch.rand(100, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    errors = (
        (f(images).float() - 255 * images).mean().item() for f in (to_uint8, to_uint8_truncating)
    )
    return (
        "truncates pixels to 8 bits",
        "random images: mean error in grey levels",
        "0",
        *(f"{error:.2f}" for error in errors),
    )


EXPERIMENTS = (
    inverse_transform,
    resampled_weights,
    exchanges,
    lognormal,
    widening,
    nested_subsets,
    truncation,
)


def main() -> None:
    """Try every fault and write the table."""
    argparse.ArgumentParser(prog="make faults", description=__doc__).parse_args()
    torch.set_num_threads(1)
    rows = [experiment() for experiment in EXPERIMENTS]
    write_page("faults", pd.DataFrame(rows, columns=COLUMNS))


if __name__ == "__main__":
    main()

"""A posterior with two modes: a population of temperatures against Langevin dynamics alone.

One latent, a standard normal prior, and one datum of the model x = |z| + 0.3 z + noise, the kink
rounded off: a z on either side of 0 explains it, and the barrier between them is about
x^2 / (2 sigma^2) nats high. The nearer one has the larger share, while the prior's draws fall on
either side alike: a chain that stays where it began has the wrong masses. The truth is a sum over a
grid.
"""

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.base.seeding import generator
from benchmark.config.job_settings import PowerSettings
from kaem import KAEM, MixturePrior
from kaem.langevin import run_chains
from kaem.posterior import Posterior
from kaem.tempering import annealed_power, power_schedule, step_sizes
from kaem.thermodynamic import sweep

DOMAIN = (-4.0, 4.0)
GRID_POINTS, BINS, SHOWN_CHAINS, SHOWN_PROGRESS = 8001, 80, 4, 101
SHOWN_TEMPERATURES = 201


class _TwoModes(nn.Module):
    """The decoder (n, 1) -> (n, 1, 1, 1)."""

    def forward(self, h: Tensor) -> Tensor:
        return ((h.square() + 0.01).sqrt() + 0.3 * h)[:, :, None, None]


def two_mode_posterior(chains: int, settings: PowerSettings) -> Posterior:
    """Build the posterior of as many copies of the settings' datum, in float64."""
    prior = MixturePrior(1, 1, grid_size=4, reference="gaussian", domain=DOMAIN, n_nodes=400)
    with torch.no_grad():
        prior.functions.coefficients.zero_()
        prior.functions.w_base.zero_()
    model = KAEM(prior.double(), _TwoModes(), sigma=settings.sigma)
    return Posterior(model, torch.full((chains, 1, 1, 1), settings.datum, dtype=torch.float64))


@torch.no_grad()
def power_densities(temperatures: Tensor, settings: PowerSettings) -> tuple[Tensor, Tensor]:
    """Tabulate p_t(z|x) (k, m) on a grid (m,) of the domain, for temperatures (k,)."""
    posterior = two_mode_posterior(1, settings)
    grid = torch.linspace(*DOMAIN, GRID_POINTS, dtype=torch.float64)
    likelihood = posterior.log_likelihood(grid[:, None])
    log_density = temperatures[:, None] * likelihood + posterior.log_prior(grid[:, None])
    density = (log_density - log_density.amax(1, keepdim=True)).exp()
    return grid, density / torch.trapezoid(density, grid)[:, None]


def compare_samplers(settings: PowerSettings) -> tuple[dict[str, np.ndarray], dict]:
    """Run both samplers from the same prior draws with equal numbers of decoder passes.

    Returns:
        Arrays, and the "metrics" of a record of the kind "power".
    """
    posterior = two_mode_posterior(settings.chains, settings)
    temperatures = power_schedule(settings.temperatures, settings.power_end)
    start = posterior.prior_draws(settings.chains, generator("power", "start"))
    # A sweep moves every chain `steps` times and scores each temperature once for the exchange.
    passes = settings.temperatures * settings.steps + len(temperatures)
    alone = _langevin(posterior, start, settings, passes)
    population, swap_rates = _population(posterior, start, settings, temperatures)
    grid, densities = power_densities(temperatures, settings)
    right = grid >= 0
    masses = [torch.trapezoid(d[right], grid[right]).item() for d in densities[[0, -1]]]
    mean = torch.trapezoid(grid * densities[-1], grid).item()

    edges = np.linspace(*DOMAIN, BINS + 1)
    late = population[settings.sweeps // 2 :].flatten(2)
    shares = [np.histogram(late[:, k], bins=edges, density=True)[0] for k in range(late.shape[1])]
    traces = {"ula": alone, "population": population[:, -1]}
    integral, evidence = tempered_integral(
        two_mode_posterior(1, settings), population[settings.sweeps // 2 :], temperatures
    )
    arrays = integral | {
        "temperatures": temperatures.numpy(),
        "schedules": _schedules(settings),
        "grid": grid.numpy(),
        "densities": densities.numpy(),
        "bin_edges": edges,
        "histograms": np.stack(shares),
        "passes": passes * np.arange(len(alone)),
    }
    metrics = evidence | {
        "passes": passes * settings.sweeps,
        "mass_true": masses[1],
        "mass_prior_basin": masses[0],
        "swap_rates": swap_rates,
    }
    for name, trace in traces.items():
        sides = (trace[..., 0] >= 0).double()
        correlation = autocorrelation(trace[len(trace) // 2 :, :, 0] - mean)
        arrays[f"mass_{name}"] = sides.mean(dim=1).numpy()
        arrays[f"trace_{name}"] = trace[:, :SHOWN_CHAINS, 0].numpy()
        arrays[f"autocorrelation_{name}"] = correlation.numpy()
        final = sides[-1].mean().item()
        metrics[f"mass_{name}"] = final
        metrics[f"mass_{name}_error"] = (final * (1 - final) / settings.chains) ** 0.5
        metrics[f"autocorrelation_{name}"] = correlation[-1].item()
    return arrays, metrics


@torch.no_grad()
def tempered_integral(
    posterior: Posterior, population: Tensor, temperatures: Tensor
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Compare log p(x) = int_0^1 E_t[log p(x|z)] dt with what a population makes of it.

    Args:
        posterior: of one datum.
        population: (sweeps, N, n, 1), the states at t_1..t_N; at t_0 as many are drawn.
        temperatures: (N + 1,).

    Returns:
        The mean log-likelihood by quadrature, "integral_truth", at "integral_t", and the
        population's, "integral_population", at its temperatures; log p(x) by quadrature, by the
        trapezoid rule over the population's means, and by stepping stones,
        sum_k log E_{t_k}[p(x|z)^(t_{k+1} - t_k)] (Xie et al. 2011, doi 10.1093/sysbio/syq085).
    """
    z = torch.linspace(*DOMAIN, GRID_POINTS, dtype=torch.float64)[:, None]
    level, log_prior = posterior.log_likelihood(z), posterior.log_prior(z)
    step = (DOMAIN[1] - DOMAIN[0]) / (GRID_POINTS - 1)  # the ends hold nothing
    shown = torch.linspace(0, 1, SHOWN_TEMPERATURES, dtype=torch.float64) ** 2
    mean = ((shown[:, None] * level + log_prior).softmax(dim=1) * level).sum(dim=1)

    drawn = population.movedim(1, 0).flatten(1, 2)
    start = posterior.prior_draws(drawn.shape[1], generator("power", "integral"))
    levels = posterior.log_likelihood(torch.cat([start, drawn.flatten(0, 1)]))
    levels = levels.unflatten(0, (len(temperatures), -1))
    stones = temperatures.diff()[:, None] * levels[:-1]
    means = levels.mean(dim=1)
    arrays = {"integral_t": shown, "integral_truth": mean, "integral_population": means}
    evidence = {
        "log_evidence": (level + log_prior).logsumexp(0) + np.log(step),
        "log_evidence_trapezoid": torch.trapezoid(means, temperatures),
        "log_evidence_stones": (stones.logsumexp(1) - np.log(stones.shape[1])).sum(),
    }
    return (
        {name: values.numpy() for name, values in arrays.items()},
        {name: value.item() for name, value in evidence.items()},
    )


def autocorrelation(centred: Tensor) -> Tensor:
    """Average z_t z_(t+lag) / z_t^2 over chains (steps, n) of mean zero, at lags 0 to steps/2.

    The mean is the truth's and not the chain's own: a chain that never leaves its mode does not
    look as if it mixed.
    """
    lags = range(len(centred) // 2 + 1)
    products = [(centred[: len(centred) - lag] * centred[lag:]).mean() for lag in lags]
    return torch.stack(products) / products[0]


def _langevin(posterior: Posterior, z: Tensor, settings: PowerSettings, passes: int) -> Tensor:
    """Run ULA; return z at the start and after every `passes` steps, (sweeps + 1, n, 1)."""
    random, states = generator("power", "ula"), [z]
    for _ in range(settings.sweeps):
        z, _ = run_chains(
            posterior, z, steps=passes, step_size=settings.step_size, generator=random
        )
        states.append(z)
    return torch.stack(states)


def _population(
    posterior: Posterior, start: Tensor, settings: PowerSettings, temperatures: Tensor
) -> tuple[Tensor, list[float]]:
    """Run chains at t_1..t_N, (sweeps + 1, N, n, 1), with the mean acceptance across each gap."""
    random = generator("power", "population")
    sizes = step_sizes(temperatures[1:], settings.step_size, settings.prior_step_size)
    z = start.expand(settings.temperatures, -1, -1)
    states, rates = [z], []
    for _ in range(settings.sweeps):
        z, info = sweep(
            posterior,
            z,
            temperatures,
            steps=settings.steps,
            step_size=sizes,
            generator=random,
        )
        states.append(z)
        rates.append(info.swap_acceptance)
    return torch.stack(states), torch.stack(rates).mean(dim=0).tolist()


def _schedules(settings: PowerSettings) -> np.ndarray:
    """Tabulate the temperatures of a training that anneals the power, (m, N + 1)."""
    start, end = settings.power_start, settings.power_end
    powers = [annealed_power(start, end, s) for s in np.linspace(0, 1, SHOWN_PROGRESS)]
    return np.stack([power_schedule(settings.temperatures, p).numpy() for p in powers])

"""What a trained KAEM has learned, as arrays and numbers that figures are drawn from.

A latent is here an entry of what the decoder sees: z_q with the mixture prior, h_q = sum_p z_qp
with the univariate one. Its density is one-dimensional and can be looked at, moved along and
compared with where the data lie.
"""

from dataclasses import asdict

import numpy as np
import torch
from scipy.stats import ks_2samp, kstest
from torch import Tensor

from benchmark.base.errors import BenchmarkError
from benchmark.base.seeding import generator
from benchmark.config.job_settings import InspectionSettings
from benchmark.config.jobs import Job
from benchmark.data.dataset import Dataset
from benchmark.data.pixels import to_float
from benchmark.inspection.decoding import decoded
from benchmark.inspection.dependence import FILLED, inspect_copula
from benchmark.inspection.formulas import fit_formula
from benchmark.inspection.interpolation import interpolations
from benchmark.inspection.posterior_draws import draw_posterior, split_r_hat
from benchmark.inspection.sensitivity import eta_squared, total_sobol_indices
from kaem.copula import CopulaPrior
from kaem.model import KAEM
from kaem.posterior import FeaturePosterior
from kaem.tabulated import PiecewiseLinearDensity

BATCH_SIZE = 100  # images whose posteriors are drawn side by side
STORED = 5  # draws of each chain, for pictures of densities
CURVE_POINTS = 200
TAIL = 5e-4  # of the prior, that a picture of it may leave out
LOWEST, HIGHEST = 0.02, 0.98  # quantiles between which a latent is moved
MIXED = 1.1  # R-hat below which chains are usually said to agree

Findings = tuple[dict[str, np.ndarray], dict]  # arrays, and numbers of the record


def inspect_model(model: KAEM, data: Dataset, job: Job, device: torch.device) -> Findings:
    """Look into one trained model, on the first images of the job's split.

    Returns:
        Arrays, and the "metrics" of a record of the kind "inspection".

    Raises:
        BenchmarkError: fewer than two images, or chains that do not move.
    """
    settings = job.settings
    images = data.images[settings.split][: settings.images]
    if len(images) < 2:
        raise BenchmarkError(f"{job.dataset}: {len(images)} images are too few to look into")
    labels = data.labels.get(settings.split, torch.empty(0))[: settings.images].numpy()

    def random(name: str) -> torch.Generator:
        return generator("inspect", name, job.dataset, job.model, job.seed, device=device)

    density = model.prior.feature_density()
    draws, mixing = _posterior(model, images.to(device), settings, random("posterior"))
    one, other = (density.sample(settings.sobol_draws, random(name)) for name in ("one", "two"))
    sobol = total_sobol_indices(model.decoder, one, other)
    ranking = torch.argsort(sobol.total, descending=True)
    arrays, agreement = _against_prior(density, draws)
    classes, by_class = _classes(draws, labels)
    formulas, numbers = _formulas(model)
    arrays |= classes | formulas
    arrays |= _traversals(model, density, ranking[: settings.moved], settings, random("bases"))
    arrays |= interpolations(model, ranking.tolist(), random("paths"))
    numbers |= mixing | agreement | by_class
    numbers |= {"sobol_total": sobol.total.tolist(), "sobol_error": sobol.error.tolist()}
    if isinstance(model.prior, CopulaPrior):
        arrays["filled_images"] = images[:FILLED].numpy()
        dependence, numbers["dependence"] = inspect_copula(model, arrays, ranking, random)
        arrays |= dependence
    return arrays, numbers


def _posterior(
    model: KAEM, images: Tensor, settings: InspectionSettings, random
) -> tuple[Tensor, dict]:
    """Return draws (steps, chains, b, q), and how well the chains of each image agree."""
    passes = {name: getattr(settings, name) for name in ("chains", "annealing", "burn_in", "kept")}
    parts = [
        draw_posterior(FeaturePosterior(model, to_float(batch)), **passes, generator=random)
        for batch in images.split(BATCH_SIZE)
    ]
    draws = torch.cat([part.z for part in parts], dim=2).cpu()
    r_hat = split_r_hat(draws).flatten()
    if r_hat.isnan().any():
        raise BenchmarkError(
            "the posterior chains of some image never moved: its posterior is too narrow for the "
            "curvature at its mode to describe\n  Was the model trained? Is sigma far too small?"
        )
    return draws, {
        "r_hat_median": r_hat.median().item(),
        "r_hat_mixed_share": (r_hat < MIXED).double().mean().item(),
        "acceptance": float(np.mean([part.acceptance.item() for part in parts])),
    }


def _against_prior(density: PiecewiseLinearDensity, draws: Tensor) -> Findings:
    """Compare the prior's curves with some draws of the aggregated posterior."""
    stored = draws[:: -(-len(draws) // STORED)]
    flat = stored.flatten(0, 2)
    count = draws.shape[-1]
    ends = density.icdf(torch.tensor([TAIL, 1 - TAIL]).to(density.nodes)[:, None].expand(-1, count))
    ends = ends.cpu()
    low, high = torch.minimum(ends[0], flat.amin(0)), torch.maximum(ends[1], flat.amax(0))
    shares = torch.linspace(0, 1, CURVE_POINTS)[:, None]
    points = (low + (high - low) * shares).clamp(*density.nodes[[0, -1]].tolist())
    curves = density.log_prob(points.to(density.nodes)).exp().detach().cpu()
    with_prior, between_chains = [], []
    for q in range(count):
        own = flat[:, q].numpy()

        def prior_cdf(z, q=q) -> np.ndarray:
            columns = torch.as_tensor(z).to(density.nodes)[:, None].expand(-1, count)
            return density.cdf(columns)[:, q].cpu().numpy()

        with_prior.append(float(kstest(own, prior_cdf, method="asymp").statistic))
        halves = [stored[:, chain, :, q].flatten().numpy() for chain in (0, -1)]
        between_chains.append(float(ks_2samp(*halves, method="asymp").statistic))
    arrays = {
        "points": points.T.numpy(),
        "prior": curves.T.numpy(),
        "posterior_draws": stored.flatten(0, 1).numpy(),
    }
    return arrays, {"ks_prior": with_prior, "ks_chains": between_chains}


def _classes(draws: Tensor, labels: np.ndarray) -> Findings:
    """Return the labels, and the share of the posterior means' variance between classes."""
    if not len(labels):
        return {}, {}
    means = draws.double().mean(dim=(0, 1)).numpy()
    count = len(np.unique(labels))
    chance = (count - 1) / (len(labels) - 1)
    numbers = {"eta_squared": eta_squared(means, labels).tolist(), "eta_squared_chance": chance}
    return {"labels": labels}, numbers


@torch.no_grad()
def _formulas(model: KAEM) -> Findings:
    """Fit a formula to log pi/pi_0 of each latent of the prior, weighted by the density pi.

    With the univariate prior that is f_qp up to a constant.
    """
    prior = model.prior.densities if isinstance(model.prior, CopulaPrior) else model.prior
    marginals = prior.marginals()
    reference = prior.reference(prior.nodes)
    if reference.ndim == 3 and prior.event_shape == (prior.q,):  # of a mixture: the mixture's
        reference = torch.logsumexp(reference + prior.log_weights().unsqueeze(-1), dim=1)
    log_density = marginals.log_density.double()
    ratio = (log_density - reference.double()).flatten(0, -2).cpu().numpy()
    weights = log_density.exp().flatten(0, -2).cpu().numpy()
    z = prior.nodes.double().cpu().numpy()
    rows = [
        {"latent": list(place)} | asdict(fit_formula(z, *curve))
        for place, *curve in zip(np.ndindex(*prior.event_shape), ratio, weights, strict=True)
    ]
    curves = np.stack([row.pop("curve") for row in rows])
    arrays = {"nodes": z, "log_ratio": ratio, "fitted": curves, "node_density": weights}
    return arrays, {"formulas": rows}


@torch.no_grad()
def _traversals(
    model: KAEM,
    density: PiecewiseLinearDensity,
    order: Tensor,
    settings: InspectionSettings,
    random,
) -> dict[str, np.ndarray]:
    """Decode images along icdf(u) of the latents `order`, all others held at a prior draw.

    Returns:
        "moved": (m,), the latents; "quantiles": (k,), "positions": (m, k), where they are moved
        to; "bases": (b, q), the draws; "base_images": (b, C, H, W); "images": (b, m, k, C, H, W).
    """
    bases = model.prior.sample_features(settings.bases, random)
    u = torch.linspace(LOWEST, HIGHEST, settings.positions).to(density.nodes)
    positions = density.icdf(u[:, None].expand(-1, bases.shape[1]))[:, order]
    rows = bases[:, None, None].repeat(1, len(order), len(u), 1)
    for place, q in enumerate(order.tolist()):
        rows[:, place, :, q] = positions[:, place]
    arrays = {
        "moved": order,
        "bases": bases,
        "base_images": decoded(model, bases),
        "quantiles": u,
        "positions": positions.T,
        "images": decoded(model, rows),
    }
    return {name: value.cpu().numpy() for name, value in arrays.items()}

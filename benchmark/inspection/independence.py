"""Is it the independence of the latents that samples of a KAEM lack?

The prior is a product of one-dimensional densities. Draws from the posteriors of many images, one
of each, are draws from the aggregated posterior, which maximum likelihood pulls the prior towards.
Shuffling each latent over these draws keeps every one-dimensional density and breaks all
dependence between the latents. What decodes well before and badly after cannot be had from any
product.
"""

import torch
from torch import Tensor

from benchmark.data.pixels import to_float
from benchmark.evaluation.features import Extractor, RealFeatures
from benchmark.evaluation.frechet import fit_gaussian, frechet_distance
from benchmark.inspection.decoding import decoded
from benchmark.inspection.inspect import BATCH_SIZE
from benchmark.inspection.posterior_draws import draw_posterior
from kaem.model import KAEM
from kaem.posterior import FeaturePosterior


def independence(
    model: KAEM,
    images: Tensor,
    extractor: Extractor,
    real: RealFeatures,
    passes: dict[str, int],
    generator: torch.Generator,
) -> dict[str, float]:
    """Compare four sets of as many images with real ones, by Frechet distance.

    Args:
        images: uint8 (n, C, H, W), of the training split.
        passes: "annealing" and "burn_in" of `draw_posterior`, from whose one chain the last draw
            is taken.

    Returns:
        "fd_images" of the images themselves, "fd_posterior" of decoded posterior draws,
        "fd_shuffled" of the same with each latent shuffled, "fd_prior" of decoded prior draws.
    """
    device = generator.device
    parts = [
        draw_posterior(
            FeaturePosterior(model, to_float(batch.to(device))),
            chains=1,
            kept=1,
            **passes,
            generator=generator,
        ).z[0, 0]
        for batch in images.split(BATCH_SIZE)
    ]
    draws = {"posterior": torch.cat(parts)}
    draws["shuffled"] = shuffled(draws["posterior"], generator)
    draws["prior"] = model.prior.sample_features(len(images), generator)
    compared = {"images": images} | {name: decoded(model, z) for name, z in draws.items()}
    return {f"fd_{name}": _distance(x, extractor, real) for name, x in compared.items()}


def shuffled(draws: Tensor, generator: torch.Generator) -> Tensor:
    """Put each column of draws (n, q) into an order of its own."""
    n, q = draws.shape
    orders = [torch.randperm(n, generator=generator, device=generator.device) for _ in range(q)]
    return draws.gather(0, torch.stack(orders, dim=1))


def _distance(images: Tensor, extractor: Extractor, real: RealFeatures) -> float:
    features = torch.cat([extractor(part) for part in images.split(BATCH_SIZE)])
    return frechet_distance(fit_gaussian(features), real.gaussian)

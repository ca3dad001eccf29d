"""How far each posterior sampler's gradient of log p(x) is from the one by dense quadrature."""

from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from kaem import KAEM, ImportanceSampling, Langevin, Thermodynamic
from reference.posterior import ExactPosterior, flat_gradient

COPIES = 1000  # of each datum in a batch of independent chains


@dataclass(frozen=True)
class Case:
    """A sampler, what it is called in the table, and the setting that varies."""

    name: str
    setting: str
    sampler: ImportanceSampling | Langevin | Thermodynamic


def measure(model: KAEM, exact: ExactPosterior, case: Case, repetitions: int) -> dict:
    """A row of the table: bias, its standard error, and the error of one update, relative to the
    norm of the exact gradient.

    Bias is the distance of the mean estimate from the truth, less what noise alone would give.
    An update here has one chain per datum (or one set of proposals for the batch).
    """
    gradients = _gradients(model, exact.x, case.sampler, repetitions)
    truth = exact.loss_gradient()
    scale = truth.norm()
    # A mean over independent copies has so much less variance than a single chain.
    copies = 1 if isinstance(case.sampler, ImportanceSampling) else COPIES
    variance = gradients.var(0).sum()
    squared = (gradients.mean(0) - truth).square().sum()
    noise = variance / repetitions
    bias = (squared - noise).clamp_min(0).sqrt()
    return {
        "sampler": case.name,
        "setting": case.setting,
        "bias": (bias / scale).item(),
        "noise": (noise.sqrt() / scale).item(),
        "error": ((bias.square() + copies * variance).sqrt() / scale).item(),
    }


def _gradients(model: KAEM, x: Tensor, sampler, repetitions: int) -> Tensor:
    """Gradients of the loss, (repetitions, parameters)."""
    fresh = KAEM(model.prior, model.decoder, sigma=model.sigma, sampler=sampler).double()
    if not isinstance(sampler, ImportanceSampling):
        x = x.repeat(COPIES, 1, 1, 1)
    rows = []
    for seed in range(repetitions):
        loss, _ = fresh.loss(x, torch.Generator().manual_seed(seed))
        rows.append(flat_gradient(loss, model))
    return torch.stack(rows)


def shown_bias(row) -> str:
    """Of a row of `measure`; a bias that its noise could hide is only bounded."""
    seen = row["bias"] > 2 * row["noise"]
    return f"{row['bias']:.1%}" if seen else f"< {2 * row['noise']:.1%}"


def as_markdown(table: pd.DataFrame) -> str:
    """The table as the documents show it."""
    cells = pd.DataFrame(
        {
            "Sampler": table["sampler"],
            "Setting": table["setting"],
            "Bias": table.apply(shown_bias, axis=1),
            "± noise": table["noise"].map("{:.1%}".format),
            "Error of one update": table["error"].map("{:.0%}".format),
        }
    )
    return cells.to_markdown(index=False, disable_numparse=True) + "\n"

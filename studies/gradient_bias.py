"""`make gradient_bias`: how far each posterior sampler's gradient of log p(x) is from the truth.

The truth is known by dense quadrature on a toy with two latents; chains start from the prior.
"""

import argparse
from dataclasses import dataclass

import pandas as pd
import torch
from reference.posterior import ExactPosterior, flat_gradient, toy_data, toy_model
from torch import Tensor

from kaem import KAEM, ImportanceSampling, Langevin, Thermodynamic
from kaem.tempering import power_schedule
from studies.pages import write_page

COPIES = 1000  # of each datum in a batch of independent chains


@dataclass(frozen=True)
class Case:
    """A sampler to be measured.

    Attributes:
        name: what the table calls it.
        setting: what varies, as the table has it.
        repetitions: gradients, each from random numbers of its own.
        copies: of each datum in a batch; proposals are shared by the batch, so one copy will do.
    """

    name: str
    setting: str
    sampler: ImportanceSampling | Langevin | Thermodynamic
    repetitions: int
    copies: int = 1


def importance(proposals: int, repetitions: int = 300) -> Case:
    """Return importance sampling with so many proposals."""
    sampler = ImportanceSampling(proposals, survivors=proposals, ess_threshold=0)
    return Case("importance sampling", f"S = {proposals}", sampler, repetitions)


def langevin(kernel: str, steps: int, step_size: float, copies: int = COPIES) -> Case:
    """Return Langevin chains of so many steps."""
    sampler = Langevin(steps, step_size, kernel, persistent=False)
    return Case(kernel.upper(), f"n = {steps}, eta = {step_size}", sampler, 10, copies)


def population(temperatures: int, copies: int = COPIES, objective: str = "posterior") -> Case:
    """Return a population of chains at so many temperatures."""
    sampler = Thermodynamic(
        temperatures,
        steps=4,
        sweeps=4,
        step_size=0.01,
        prior_step_size=0.3,
        persistent=False,
        objective=objective,
    )
    setting = f"N_t = {temperatures}, n = 4 x 4, eta = 0.01 (t = 1) to 0.3 (t = 0)"
    name = "population of ULA" + ", integral objective" * (objective == "integral")
    return Case(name, setting, sampler, 10, copies)


CASES = (
    *(importance(proposals) for proposals in (10, 100, 1000)),
    *(langevin("ula", steps, 0.04) for steps in (1, 4, 16, 64)),
    *(langevin("ula", 64, step_size) for step_size in (0.01, 0.16)),
    *(langevin("mala", steps, 0.04) for steps in (16, 64)),
    *(population(temperatures) for temperatures in (1, 2, 4, 8)),
    *(population(temperatures, objective="integral") for temperatures in (2, 8)),
)
EXACT = [(n, power) for n in (2, 10, 100) for power in (2.0, 0.5)]  # temperatures, their power


def toy() -> tuple[KAEM, ExactPosterior]:
    """Return a model with two latents, and its posterior by quadrature."""
    torch.manual_seed(0)
    model = toy_model("mixture", 2, 2)
    return model, ExactPosterior.of(model, toy_data())


def measure(model: KAEM, exact: ExactPosterior, case: Case) -> dict:
    """Measure the bias of a sampler's gradient.

    Bias is the distance of the mean estimate from the truth, less what noise alone would give. An
    update here has one chain per datum (or one set of proposals for the batch).

    Returns:
        {"sampler", "setting", "bias", "noise": the bias's standard error, "error": of one update},
        the last three relative to the norm of the exact gradient, and "prior_bias", ..., of the
        prior's parameters alone.
    """
    named = {"sampler": case.name, "setting": case.setting}
    return named | _distances(model, exact, _gradients(model, exact.x, case), case.copies)


def exact_integral(model: KAEM, exact: ExactPosterior, temperatures: int, power: float) -> dict:
    """Return the bias of the integral objective at exact draws of every temperature, as `measure`
    does."""
    gradient = exact.integral_gradient(power_schedule(temperatures, power))
    setting = f"N_t = {temperatures}, t = (k/N_t)^{power:g}"
    named = {"sampler": "exact draws, integral objective", "setting": setting}
    return named | _distances(model, exact, gradient.expand(2, -1), 1)


def _distances(model: KAEM, exact: ExactPosterior, gradients: Tensor, copies: int) -> dict:
    """Compare estimates (repetitions, parameters) with the exact gradient, see `measure`."""
    priors = sum(p.numel() for p in model.prior.parameters())  # the first parameters
    found = {}
    for name, part in (("", slice(None)), ("prior_", slice(priors))):
        of_part, truth = gradients[:, part], exact.loss_gradient()[part]
        scale = truth.norm()
        variance = of_part.var(0).sum()  # a mean over copies has so much less than a single chain
        noise = variance / len(gradients)
        bias = ((of_part.mean(0) - truth).square().sum() - noise).clamp_min(0).sqrt()
        values = {"bias": bias, "noise": noise.sqrt()}
        values["error"] = (bias.square() + copies * variance).sqrt()
        found |= {name + key: (value / scale).item() for key, value in values.items()}
    return found


def _gradients(model: KAEM, x: Tensor, case: Case) -> Tensor:
    """Return gradients of the loss, (repetitions, parameters)."""
    fresh = KAEM(model.prior, model.decoder, sigma=model.sigma, sampler=case.sampler).double()
    x = x.repeat(case.copies, 1, 1, 1)
    rows = []
    for seed in range(case.repetitions):
        loss, _ = fresh.loss(x, torch.Generator().manual_seed(seed))
        rows.append(flat_gradient(loss, model))
    return torch.stack(rows)


def shown_bias(row, part: str = "") -> str:
    """Return the bias as the table shows it; one that its noise could hide is only bounded."""
    bias, noise = row[f"{part}bias"], row[f"{part}noise"]
    return f"{bias:.1%}" if bias > 2 * noise else f"< {2 * noise:.1%}"


def main() -> None:
    """Measure every case and write the table."""
    argparse.ArgumentParser(prog="make gradient_bias", description=__doc__).parse_args()
    rows = [measure(*toy(), case) for case in CASES]
    table = pd.DataFrame(rows + [exact_integral(*toy(), *case) for case in EXACT])
    shown = pd.DataFrame(
        {
            "Sampler": table["sampler"],
            "Setting": table["setting"],
            "Bias": table.apply(shown_bias, axis=1),
            "± noise": table["noise"].map("{:.1%}".format),
            "Prior's alone": table.apply(shown_bias, axis=1, part="prior_"),
            "Error of one update": table["error"].map("{:.0%}".format),
        }
    )
    write_page("gradient_bias", shown)


if __name__ == "__main__":
    main()

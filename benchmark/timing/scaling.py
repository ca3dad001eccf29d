"""`make scaling`: how the cost of KAEM's draws and training steps grows with each of its sizes,
and what four models cost at the same numbers of latents.

Models are untrained and images are noise, which the cost does not notice; but KAEM-IS, of whose
proposals fewer and fewer survive, trains first.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch

from benchmark.config.registry import MODELS
from benchmark.timing.bench import peak_memory
from benchmark.timing.promises import (
    BATCH,
    CONV,
    GREY,
    LANGEVIN,
    PRIOR,
    built_model,
    kaem_model,
    noise,
    thermodynamic_step,
    trained_step,
)
from benchmark.timing.series import Call, Limits, generator_on, image_call, step_call, time_calls
from kaem import MixturePrior, UnivariatePrior

DRAWS = 10_000
IMAGES, UPDATE, MEMORY = f"{BATCH} images", "update", "memory of an update"
LATENTS, TEMPERATURES = (21, 41, 61, 81, 101), (2, 5, 10, 15, 20)
# What is compared at the same Q, beside what Q is and the decoder: the paper's samplers, and Pang
# et al.'s (2020).
COMPARED = {
    "kaem_is": {"sampler": {"proposals": 1000, "survivors": 20}},
    "kaem_ula": {"sampler": LANGEVIN | {"steps": 20}},
    "vae": {"encoder_width": 64},
    "latent_ebm": {"energy_width": 200, "prior_steps": 60, "posterior_steps": 20},
}


@dataclass(frozen=True)
class Sweep:
    """One size that grows while all others stand still.

    Attributes:
        what: what is timed, in words.
        size: what grows, as the text calls it.
        values: of the size.
        call: (value, device) -> the call to time.
        expected: the exponent k of cost ~ size^k once the size is large.
        why: where it comes from, and why the fit may lie below.
        model: the registered one whose `cost` this is, beside those of others; "" for none.
        cost: `IMAGES`, `UPDATE` or `MEMORY`, which is in bytes; all else is in seconds.
    """

    what: str
    size: str
    values: tuple[int, ...]
    call: Callable[[int, torch.device], Call]
    expected: int
    why: str
    model: str = ""
    cost: str = ""


def sweeps() -> list[Sweep]:
    """List every sweep."""
    mixture, univariate = "10,000 draws, mixture prior", "10,000 draws, univariate prior"
    langevin, step = "step, Langevin", _langevin_step
    sizes, sides, proposals = _doubled(8, 256), _doubled(16, 128), _doubled(100, 3200)
    linear = "one inversion per number"
    table = "all P components of a latent share one table"
    guide = "a guide table finds the cell, however many there are"
    sums = "the sum of P latents has a table of its own"
    decoder = "the decoder's passes; a fixed cost per call below"
    pixels = "the decoder's work goes with the number of pixels"
    scored = "one pass of the decoder per proposal"
    passes = "one gradient of the decoder per Langevin step"
    hidden = "the prior's tables grow with it, hidden behind the decoder until they are large"
    replicas = "one gradient of the decoder per replica and Langevin step"
    return [
        Sweep(mixture, "Q", sizes, partial(_mixture, "q"), 1, linear),
        Sweep(mixture, "P", sizes, partial(_mixture, "p"), 0, table),
        Sweep(mixture, "n_nodes", _doubled(50, 1600), partial(_mixture, "n_nodes"), 0, guide),
        Sweep(univariate, "P", _doubled(1, 32), _sums, 0, sums),
        Sweep("images, mixture prior", "batch", (1, 4, 16, 64, 256, 1024), _images, 1, decoder),
        Sweep("64 images, mixture prior", "image side", sides, _images_of_side, 2, pixels),
        Sweep("step, importance sampling", "S", proposals, _is_step, 1, scored),
        Sweep(langevin, "n", _doubled(1, 32), partial(step, "steps"), 1, passes),
        Sweep(langevin, "image side", sides, partial(step, "side"), 2, pixels),
        Sweep(langevin, "Q", _doubled(4, 128), partial(step, "q"), 1, hidden),
        Sweep(langevin, "P", _doubled(4, 128), partial(step, "p"), 1, hidden),
        Sweep(langevin, "n_nodes", proposals, partial(step, "n_nodes"), 1, hidden),
        Sweep("step, thermodynamic", "N_t", _doubled(2, 32), _thermodynamic_step, 1, replicas),
        *_of_models(replicas),
    ]


def _of_models(replicas: str) -> list[Sweep]:
    """List what models cost at the same numbers of latents, and a population's temperatures."""
    plans = [
        (name, "Q", LATENTS, "beside work of the decoder's that does not grow") for name in COMPARED
    ]
    plans.append(("kaem_thermo", "N_t", TEMPERATURES, replicas))
    return [
        Sweep(
            f"{cost}, {MODELS[name].label}",
            size,
            values,
            partial(_model_call, cost, name),
            0 if (size, cost) == ("N_t", IMAGES) else 1,
            "a draw takes no population" if (size, cost) == ("N_t", IMAGES) else why,
            name,
            cost,
        )
        for name, size, values, why in plans
        for cost in (IMAGES, UPDATE, MEMORY)
    ]


def _model_call(cost: str, name: str, value: int, device: torch.device) -> Call:
    settings = COMPARED.get(name, {})
    if name == "kaem_thermo":
        model = kaem_model(name, device, sampler=LANGEVIN | {"temperatures": value, "steps": 4})
    elif name.startswith("kaem"):
        model = kaem_model(name, device, prior=PRIOR | {"q": value}, **settings)
    else:
        shared = {"decoder": CONV, "sigma": 0.3, "latents": value}
        model = built_model(name, shared | settings, GREY, device)
    if cost == IMAGES:
        return image_call(model, BATCH, device)
    trained = name == "kaem_is"
    return trained_step(model, device) if trained else step_call(model, noise(device))


def _doubled(first: int, last: int) -> tuple[int, ...]:
    """Return first, 2 first, 4 first, ... up to the last."""
    return tuple(first * 2**power for power in range((last // first).bit_length()))


def _mixture(size: str, value: int, device: torch.device) -> Call:
    prior = MixturePrior(**{"q": 32, "p": 8, "n_nodes": 200, size: value}).to(device)
    draws = generator_on(device)
    return lambda: prior.sample(DRAWS, draws)


def _sums(p: int, device: torch.device) -> Call:
    prior, draws = UnivariatePrior(q=32, p=p).to(device), generator_on(device)
    return lambda: prior.sample_features(DRAWS, draws)


def _images(batch: int, device: torch.device) -> Call:
    return image_call(kaem_model("kaem_ula", device), batch, device)


def _images_of_side(side: int, device: torch.device) -> Call:
    return image_call(kaem_model("kaem_ula", device, (1, side, side)), 64, device)


def _is_step(proposals: int, device: torch.device) -> Call:
    sampler = {"proposals": proposals, "survivors": 1}
    return step_call(kaem_model("kaem_is", device, sampler=sampler), noise(device))


def _langevin_step(size: str, value: int, device: torch.device) -> Call:
    sizes = PRIOR | {"steps": 4, "side": 28, size: value}
    steps, side = sizes.pop("steps"), sizes.pop("side")
    shape, sampler = (1, side, side), LANGEVIN | {"steps": steps}
    model = kaem_model("kaem_ula", device, shape, sampler=sampler, prior=sizes)
    return step_call(model, noise(device, shape))


def _thermodynamic_step(temperatures: int, device: torch.device) -> Call:
    return thermodynamic_step(temperatures, 4, device)


def measure_sweeps(sweeps: Iterable[Sweep], device: torch.device, seconds: float) -> list[dict]:
    """Measure every sweep on one device, each point for so many seconds.

    Returns:
        A row of each: {"what", "size", "expected", "why", "model", "cost", "values"} and the median
        times of the values, "seconds", or their peak memory beyond the weights, "bytes".
    """
    rows = []
    limits = Limits(warmup=3, repetitions=200, seconds=seconds)
    for sweep in sweeps:
        torch.manual_seed(0)
        row = {key: value for key, value in vars(sweep).items() if key != "call"}
        calls = (sweep.call(value, device) for value in sweep.values)
        if sweep.cost == MEMORY:
            row["bytes"] = [peak_memory(call, device) for call in calls]
        else:
            times = [time_calls(call, device, limits)["latency_ms"] for call in calls]
            row["seconds"] = [latency["median"] / 1e3 for latency in times]
        rows.append(row)
        print(f"{sweep.what} against {sweep.size}", file=sys.stderr, flush=True)
    return rows

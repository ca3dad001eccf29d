"""`make bench`: the speeds that this suite promises, each a ratio from one run on one machine.

The two sides of a ratio take turns, so that what else the machine does hits both alike, and the
ratio is that of the medians. A target that is missed is printed as missed: this is a measurement,
not a test. Models are untrained, which their cost does not notice. Rows that need a GPU stay empty
without one.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmark import paths
from benchmark.errors import exit_code
from benchmark.files import atomic, write_json
from benchmark.provenance import available_cores, provenance
from benchmark.registry import MODELS, build
from benchmark.timing import synchronise
from benchmark.validation import merge
from kaem import MixturePrior, UnivariatePrior

SECONDS = 12.0  # for the turns of one row
FEWEST, MOST = 3, 200  # turns

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
BATCH = 100
CONV = {"kind": "conv", "width": 64}
PRIOR = {"q": 16, "p": 4}
DIFFUSION = {
    "channels": [48, 96, 96],
    "layers": 2,
    "attention": True,
    "ema_decay": 0.999,
}

Call = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """A promise.

    Attributes:
        what: the two sides, in words.
        target: the ratio promised; at most it, or at least it where `at_least`.
        sides: builds the two calls on a device; ratio = time of the first / time of the second.
        devices: where it is promised; elsewhere it is measured and not judged.
        only: where it can be measured.
    """

    what: str
    target: float
    sides: Callable[[torch.device], tuple[Call, Call]]
    at_least: bool = False
    devices: tuple[str, ...] = ("cpu", "cuda")
    only: tuple[str, ...] = ("cpu", "cuda")


@dataclass
class Turns:
    """Seconds of the two sides of a row, turn by turn."""

    first: list[float] = field(default_factory=list)
    second: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return float(np.median(self.first) / np.median(self.second))

    @property
    def quartiles(self) -> tuple[float, float]:
        """Of the ratios of single turns."""
        each = np.array(self.first) / np.array(self.second)
        return tuple(float(q) for q in np.percentile(each, [25, 75]))


def take_turns(first: Call, second: Call, device: torch.device, seconds: float) -> Turns:
    """Time two calls in turns, each after a warm-up of one call."""
    first(), second()
    turns, end = Turns(), time.perf_counter() + seconds
    while len(turns.first) < MOST:
        if len(turns.first) >= FEWEST and time.perf_counter() > end:
            break
        for call, times in ((first, turns.first), (second, turns.second)):
            synchronise(device)
            start = time.perf_counter()
            call()
            synchronise(device)
            times.append(time.perf_counter() - start)
    return turns


def rows() -> Iterator[Row]:
    """Every promise."""
    yield Row("mixture prior Q=100 P=50, 10,000 draws / as many normals", 4, _mixture_draws)
    yield Row("univariate prior Q=41 P=20, 10,000 draws / as many normals", 4, _univariate_draws)
    yield Row("KAEM images, univariate prior, P=20 / P=1, batch 64", 1.1, _more_summands)
    for size, target in ((1, 1.10), (64, 1.05), (1024, 1.02)):
        yield Row(f"KAEM images / VAE images, batch {size}", target, _against_vae(size))
    yield Row("DDPM-1000 images / KAEM images, 32x32, batch 1", 1000, _diffusion(1000), True)
    yield Row("DDIM-50 images / KAEM images, 32x32, batch 1", 50, _diffusion(50), True)
    yield Row(
        "latent EBM images / KAEM images, batch 1", 5, _against_latent_ebm, True, devices=("cuda",)
    )
    yield Row("IS step, S = 10 x batch / VAE step (CPU)", 2.5, _is_step, only=("cpu",))
    yield Row("IS step, S = 10 x batch / VAE step (GPU)", 1.5, _is_step, only=("cuda",))
    yield Row("ULA step, n=20 / 20 bare passes and a VAE step", 1.15, _ula_step)
    yield Row("thermodynamic step, 20 / 2 temperatures", 5, _thermodynamic_step, devices=("cuda",))


def _mixture_draws(device: torch.device) -> tuple[Call, Call]:
    return _draws(MixturePrior(q=100, p=50, n_nodes=200), device)


def _univariate_draws(device: torch.device) -> tuple[Call, Call]:
    return _draws(UnivariatePrior(q=41, p=20), device)


def _draws(prior: torch.nn.Module, device: torch.device) -> tuple[Call, Call]:
    prior, draws = prior.to(device), _generator(device)
    shape = (10_000, *prior.event_shape)
    return (
        lambda: prior.sample(10_000, draws),
        lambda: torch.randn(shape, generator=draws, device=device),
    )


def _more_summands(device: torch.device) -> tuple[Call, Call]:
    return tuple(
        _images(_kaem("kaem_is_univariate", device, prior={"q": 16, "p": p}), 64, device)
        for p in (20, 1)
    )


def _against_vae(size: int) -> Callable[[torch.device], tuple[Call, Call]]:
    def sides(device: torch.device) -> tuple[Call, Call]:
        models = _kaem("kaem_ula", device), _vae(device)
        return tuple(_images(model, size, device) for model in models)

    return sides


def _against_latent_ebm(device: torch.device) -> tuple[Call, Call]:
    settings = {"decoder": CONV, "sigma": 0.3, "latents": 16, "energy_width": 200}
    models = _built("latent_ebm", settings, GREY, device), _kaem("kaem_ula", device)
    return tuple(_images(model, 1, device) for model in models)


def _diffusion(steps: int) -> Callable[[torch.device], tuple[Call, Call]]:
    sampler = {"kind": "ddpm" if steps == 1000 else "ddim", "steps": steps}

    def sides(device: torch.device) -> tuple[Call, Call]:
        diffusion = _built("ddpm", {**DIFFUSION, "sampler": sampler}, COLOUR, device)
        return (
            _images(diffusion, 1, device),
            _images(_kaem("kaem_ula", device, COLOUR), 1, device),
        )

    return sides


def _is_step(device: torch.device) -> tuple[Call, Call]:
    sampler = {"proposals": 10 * BATCH, "survivors": 20}
    return _step(_kaem("kaem_is", device, sampler=sampler), device), _step(_vae(device), device)


def _ula_step(device: torch.device) -> tuple[Call, Call]:
    model = _kaem("kaem_ula", device, sampler={"steps": 20, "step_size": 0.01, "persistent": False})
    vae_step = _step(_vae(device), device)
    decoder = _kaem("kaem_ula", device).generator.requires_grad_(False)
    x = torch.rand(BATCH, *GREY, device=device)

    def bare() -> None:
        h = torch.randn(BATCH, PRIOR["q"], device=device)
        for _ in range(20):
            h.requires_grad_(True)
            (gradient,) = torch.autograd.grad((decoder(h) - x).square().sum(), h)
            h = h.detach() - 1e-4 * gradient
        vae_step()

    return _step(model, device), bare


def _thermodynamic_step(device: torch.device) -> tuple[Call, Call]:
    def model(temperatures: int) -> torch.nn.Module:
        sampler = {"temperatures": temperatures, "steps": 4, "step_size": 0.01, "persistent": False}
        return _kaem("kaem_thermo", device, sampler=sampler)

    return _step(model(20), device), _step(model(2), device)


SAMPLERS = {
    "kaem_is": {"proposals": 500, "survivors": 20},
    "kaem_is_univariate": {"proposals": 500, "survivors": 20},
    "kaem_ula": {"steps": 5, "step_size": 0.01},
}


def _kaem(
    name: str, device: torch.device, shape: tuple[int, int, int] = GREY, **settings
) -> torch.nn.Module:
    defaults = {"decoder": CONV, "sigma": 0.3, "prior": PRIOR, "sampler": SAMPLERS.get(name)}
    return _built(name, defaults | settings, shape, device)


def _built(
    name: str, settings: dict, shape: tuple[int, int, int], device: torch.device
) -> torch.nn.Module:
    return build(name, merge(settings, MODELS[name].fixed), shape).to(device)


def _vae(device: torch.device) -> torch.nn.Module:
    settings = {"decoder": CONV, "sigma": 0.3, "latents": PRIOR["q"], "encoder_width": 64}
    return _built("vae", settings, GREY, device)


def _images(model: torch.nn.Module, size: int, device: torch.device) -> Call:
    draws = _generator(device)
    model.eval()

    def call() -> torch.Tensor:
        with torch.no_grad():
            return model.sample(size, draws)

    return call


def _step(model: torch.nn.Module, device: torch.device) -> Call:
    """One update of Adam, as the training loop makes it."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    draws, x = _generator(device), torch.rand(BATCH, *GREY, device=device)
    model.train()

    def call() -> None:
        loss, _ = model.loss(x, draws)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return call


def _generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device=device).manual_seed(0)


def measure(device: torch.device, seconds: float) -> list[dict]:
    """Every row on one device: what, target, obtained, quartiles, turns, and whether it is met."""
    found = []
    for row in rows():
        result = {"what": row.what, "target": row.target, "at_least": row.at_least}
        result["promised"] = device.type in row.devices
        if device.type in row.only:
            torch.manual_seed(0)
            turns = take_turns(*row.sides(device), device, seconds)
            met = turns.ratio >= row.target if row.at_least else turns.ratio <= row.target
            result |= {"ratio": turns.ratio, "quartiles": turns.quartiles, "met": met}
            result |= {"turns": len(turns.first), "seconds": float(np.median(turns.first))}
            print(f"{row.what}: {turns.ratio:.3g}", file=sys.stderr, flush=True)
        found.append(result)
    return found


def table(results: dict[str, list[dict]]) -> str:
    """The rows of all devices as Markdown."""
    lines = []
    for index, row in enumerate(rows()):
        line = {"What": row.what, "Target": f"{'>=' if row.at_least else '<='} {row.target:g}"}
        for device in ("cpu", "cuda"):
            line[{"cpu": "CPU", "cuda": "GPU"}[device]] = _cell(results.get(device), index, device)
        lines.append(line)
    return pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True) + "\n"


def _cell(found: list[dict] | None, index: int, device: str) -> str:
    if found is None:
        return {"cpu": "", "cuda": "no GPU"}[device]
    result = found[index]
    if "ratio" not in result:
        return ""
    low, high = result["quartiles"]
    judged = ("met" if result["met"] else "MISSED") if result["promised"] else "no target here"
    return f"{result['ratio']:.3g} ({low:.3g} to {high:.3g}), {judged}"


def main() -> int:
    """Measure on every device and write results/bench/; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each row")
    seconds = parser.parse_args().seconds

    def run() -> None:
        torch.set_num_threads(available_cores())
        names = ["cpu", *itertools.repeat("cuda", torch.cuda.is_available())]
        results = {name: measure(torch.device(name), seconds) for name in names}
        for name, found in results.items():
            origin = provenance(torch.device(name))
            write_json(
                paths.fill(paths.BENCH, "bench", name=f"{name}.json"),
                {"rows": found, "provenance": origin},
            )
        text = table(results)
        with atomic(paths.fill(paths.BENCH, "bench", name="bench.md")) as temporary:
            Path(temporary).write_text(text)
        print(text)

    return exit_code(run)


if __name__ == "__main__":
    sys.exit(main())

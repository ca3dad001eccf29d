"""`make scaling`: how the cost of KAEM's draws and training steps grows with each of its sizes.

Writes results/scaling/<device>.json; `paper_figures.figures.scaling` draws it. Models are untrained
and images are noise, which the cost does not notice.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from benchmark.base import paths
from benchmark.base.devices import add_device_argument, chosen_devices
from benchmark.base.files import write_json
from benchmark.base.process import exit_code
from benchmark.records.provenance import provenance
from benchmark.timing.promises import BATCH, GREY, kaem_model
from benchmark.timing.series import Call, Limits, generator_on, image_call, step_call, time_calls
from kaem import MixturePrior, UnivariatePrior

DRAWS = 10_000
SECONDS = 1.0  # for each point


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
    """

    what: str
    size: str
    values: tuple[int, ...]
    call: Callable[[int, torch.device], Call]
    expected: int
    why: str


def sweeps() -> Iterator[Sweep]:
    """Every sweep."""
    sizes = (8, 16, 32, 64, 128, 256)
    linear = "one inversion per number"
    mixture, univariate = "10,000 draws, mixture prior", "10,000 draws, univariate prior"
    table = "all P components of a latent share one table"
    guide = "a guide table finds the cell, however many there are"
    yield Sweep(mixture, "Q", sizes, _mixture("q"), 1, linear)
    yield Sweep(mixture, "P", sizes, _mixture("p"), 0, table)
    yield Sweep(mixture, "n_nodes", (50, 100, 200, 400, 800, 1600), _mixture("n_nodes"), 0, guide)
    sums = "the sum of P latents has a table of its own"
    yield Sweep(univariate, "P", (1, 2, 4, 8, 16, 32), _sums, 0, sums)
    decoder = "the decoder's passes; a fixed cost per call below"
    batches = (1, 4, 16, 64, 256, 1024)
    yield Sweep("images, mixture prior", "batch", batches, _images, 1, decoder)
    pixels = "the decoder's work goes with the number of pixels"
    sides = (16, 32, 64, 128)
    yield Sweep("64 images, mixture prior", "image side", sides, _images_of_side, 2, pixels)
    proposals = (100, 200, 400, 800, 1600, 3200)
    scored = "one pass of the decoder per proposal"
    yield Sweep("step, importance sampling", "S", proposals, _is_step, 1, scored)
    passes = "one gradient of the decoder per Langevin step"
    yield Sweep("step, Langevin", "n", (1, 2, 4, 8, 16, 32), _langevin_step("steps"), 1, passes)
    yield Sweep("step, Langevin", "image side", sides, _langevin_step_of_side, 2, pixels)
    hidden = "the prior's tables grow with it, hidden behind the decoder until they are large"
    components = (4, 8, 16, 32, 64, 128)
    yield Sweep("step, Langevin", "Q", components, _langevin_step("q"), 1, hidden)
    yield Sweep("step, Langevin", "P", components, _langevin_step("p"), 1, hidden)
    nodes = (100, 200, 400, 800, 1600, 3200)
    yield Sweep("step, Langevin", "n_nodes", nodes, _langevin_step("n_nodes"), 1, hidden)
    replicas = "one gradient of the decoder per replica and Langevin step"
    temperatures = (2, 4, 8, 16, 32)
    yield Sweep("step, thermodynamic", "N_t", temperatures, _thermodynamic_step, 1, replicas)


def _mixture(size: str) -> Callable[[int, torch.device], Call]:
    def call(value: int, device: torch.device) -> Call:
        prior = MixturePrior(**{"q": 32, "p": 8, "n_nodes": 200, size: value}).to(device)
        draws = generator_on(device)
        return lambda: prior.sample(DRAWS, draws)

    return call


def _sums(p: int, device: torch.device) -> Call:
    prior, draws = UnivariatePrior(q=32, p=p).to(device), generator_on(device)
    return lambda: prior.sample_features(DRAWS, draws)


def _images(batch: int, device: torch.device) -> Call:
    return image_call(kaem_model("kaem_ula", device), batch, device)


def _images_of_side(side: int, device: torch.device) -> Call:
    return image_call(kaem_model("kaem_ula", device, (1, side, side)), 64, device)


def _is_step(proposals: int, device: torch.device) -> Call:
    sampler = {"proposals": proposals, "survivors": 1}
    return step_call(kaem_model("kaem_is", device, sampler=sampler), _noise(GREY, device))


def _langevin_step(size: str) -> Callable[[int, torch.device], Call]:
    def call(value: int, device: torch.device) -> Call:
        sampler = {"steps": 4, "step_size": 0.01, "persistent": False}
        prior = {"q": 16, "p": 4}
        (sampler if size == "steps" else prior)[size] = value
        model = kaem_model("kaem_ula", device, sampler=sampler, prior=prior)
        return step_call(model, _noise(GREY, device))

    return call


def _langevin_step_of_side(side: int, device: torch.device) -> Call:
    sampler = {"steps": 4, "step_size": 0.01, "persistent": False}
    shape = (1, side, side)
    model = kaem_model("kaem_ula", device, shape, sampler=sampler)
    return step_call(model, _noise(shape, device))


def _thermodynamic_step(temperatures: int, device: torch.device) -> Call:
    sampler = {"temperatures": temperatures, "steps": 4, "step_size": 0.01, "persistent": False}
    return step_call(kaem_model("kaem_thermo", device, sampler=sampler), _noise(GREY, device))


def _noise(shape: tuple[int, int, int], device: torch.device) -> torch.Tensor:
    return torch.rand(BATCH, *shape, device=device)


def measure(device: torch.device, seconds: float) -> list[dict]:
    """Every sweep on one device: {"what", "size", "expected", "why", "values", "seconds"}, the last
    the median times of the values."""
    found = []
    for sweep in sweeps():
        torch.manual_seed(0)
        limits = Limits(warmup=3, repetitions=200, seconds=seconds)
        times = [
            time_calls(sweep.call(value, device), device, limits)["latency_ms"]["median"] / 1e3
            for value in sweep.values
        ]
        row = {name: getattr(sweep, name) for name in ("what", "size", "expected", "why", "values")}
        found.append(row | {"seconds": times})
        print(f"{sweep.what} against {sweep.size}", file=sys.stderr, flush=True)
    return found


def main() -> int:
    """Measure and write the records; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.timing.scaling", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each point")
    add_device_argument(parser)
    options = parser.parse_args()

    def run() -> None:
        for device in chosen_devices(options):
            found = {"sweeps": measure(device, options.seconds), "provenance": provenance(device)}
            write_json(paths.fill(paths.BENCH, "scaling", name=f"{device.type}.json"), found)

    return exit_code(run)


if __name__ == "__main__":
    sys.exit(main())

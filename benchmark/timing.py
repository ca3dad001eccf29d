"""Latency and throughput of sampling.

Each repetition is one call, from random numbers to uint8 images on the device (or, for "latents",
to what the decoder is given), with the device synchronised at both ends. Weights may be untrained:
the cost does not depend on them.
"""

import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmark.gpu import EnergyMeter
from benchmark.pixels import to_uint8

Call = Callable[[], object]

FEWEST = 3  # timed calls, for samplers of a thousand steps that take minutes each

# Options of torch.compile; None leaves the code as it is.
MODES = {
    "eager": None,
    "compiled": {"dynamic": False},
    "graphed": {"dynamic": False, "mode": "reduce-overhead"},  # CUDA graphs
}
PARTS = {"images": "sample", "latents": "sample_latents"}


def set_mode(model: torch.nn.Module, mode: str) -> None:
    """Let what sampling runs go in this mode from now on."""
    options = MODES[mode]
    if options is not None:
        model.compile(**options)


class FlopCounter(TorchDispatchMode):
    """Counts by torch's formulas, without the hooks of its own `FlopCounterMode`, which cannot be
    in a module while `torch.autograd.grad` differentiates by that module's input."""

    total = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = operation(*args, **kwargs)
        count = flop_registry.get(operation._overloadpacket)
        if count is not None:
            self.total += count(*args, **kwargs, out_val=result)
        return result


def flops_per_image(model: torch.nn.Module, device: torch.device) -> int:
    """Of one sample: matrix products and convolutions, two operations for each multiply-add."""
    draws = generator_on(device)
    with torch.no_grad():
        model.sample(1, draws)  # what is built at the first sample is no part of the second
    with FlopCounter() as counter, torch.no_grad():
        model.sample(1, draws)
    return counter.total


def time_sampling(
    model: torch.nn.Module,
    device: torch.device,
    *,
    mode: str,
    batch_sizes: list[int],
    warmup: int,
    repetitions: int,
    seconds: float,
    longest_call: float,
) -> Iterator[dict]:
    """Time both parts of sampling at each batch size, in a mode that the model is set to.

    Args:
        longest_call: seconds; batch sizes of which a call would take longer are left out, as are
            those that the device's memory does not hold.

    Yields:
        What `time_calls` returns with {"mode", "part", "batch_size", "images_per_second",
        "peak_memory_bytes"}, the rate being the batch size over the median latency, the memory that
        of the device and None on a CPU; or {"mode", "part", "batch_size", "left_out": why}.
    """
    for part, method in PARTS.items():
        sample = getattr(model, method, None)
        if sample is None:
            continue
        why = None
        for size, larger in pairwise([*sorted(batch_sizes), max(batch_sizes)]):
            row = {"mode": mode, "part": part, "batch_size": size}
            if why is None:
                call = _call(sample, size, device, images=part == "images")
                try:
                    row |= _timed(call, device, size, warmup, repetitions, seconds)
                    expected = row["latency_ms"]["median"] / 1e3 * larger / size
                    if expected > longest_call:
                        why = f"a call would take {expected:,.0f} s or more"
                except torch.OutOfMemoryError:
                    why = row["left_out"] = "out of memory"
                except _compile_error() as error:
                    why = row["left_out"] = f"torch.compile: {str(error).strip().splitlines()[0]}"
            else:
                row["left_out"] = why
            yield row


def _call(sample: Callable, size: int, device: torch.device, *, images: bool) -> Call:
    draws = generator_on(device)

    def call() -> torch.Tensor:
        with torch.no_grad():  # not inference_mode: in it Langevin samplers could take no gradient
            drawn = sample(size, draws)
            return to_uint8(drawn) if images else drawn

    return call


def _compile_error() -> type[Exception]:
    """What torch.compile raises. Imported when something was raised: it takes a second or two."""
    from torch._dynamo.exc import TorchDynamoException

    return TorchDynamoException


def _timed(call, device: torch.device, size: int, warmup, repetitions, seconds) -> dict:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    found = time_calls(call, device, warmup=warmup, repetitions=repetitions, seconds=seconds)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    rate = 1e3 * size / found["latency_ms"]["median"]
    return found | {"images_per_second": rate, "peak_memory_bytes": peak}


def time_calls(
    call: Callable[[], object],
    device: torch.device,
    *,
    warmup: int,
    repetitions: int,
    seconds: float,
) -> dict:
    """Time a call.

    Args:
        warmup: untimed calls before; fewer when `seconds` pass first, but one if any.
        repetitions: timed calls; fewer when `seconds` pass first, but then at least `FEWEST`.

    Returns:
        {"warmup", "repetitions", "latency_ms": {"median", "q25", "q75", "p95"}, "joules"}; the last
        of each call, None where the device has no counter or was watched for too short a time.
    """
    warmed, end = 0, time.perf_counter() + seconds
    while warmed < warmup and (warmed < 1 or time.perf_counter() < end):
        _seconds(call, device)
        warmed += 1
    times, meter = [], EnergyMeter(device)
    end = time.perf_counter() + seconds
    while len(times) < repetitions and (len(times) < FEWEST or time.perf_counter() < end):
        times.append(1e3 * _seconds(call, device))
    joules = meter.joules()
    q25, median, q75, p95 = (float(q) for q in np.percentile(times, [25, 50, 75, 95]))
    return {
        "warmup": warmed,
        "repetitions": len(times),
        "latency_ms": {"median": median, "q25": q25, "q75": q75, "p95": p95},
        "joules": None if joules is None else joules / len(times),
    }


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call."""
    if device.type == "cuda":
        torch.compiler.cudagraph_mark_step_begin()
    synchronise(device)
    start = time.perf_counter()
    call()
    synchronise(device)
    return time.perf_counter() - start


def image_call(model: torch.nn.Module, size: int, device: torch.device) -> Call:
    """Drawing so many images."""
    draws = generator_on(device)
    model.eval()

    def call() -> torch.Tensor:
        with torch.no_grad():
            return model.sample(size, draws)

    return call


def step_call(model: torch.nn.Module, images: torch.Tensor) -> Call:
    """One update of Adam on these images, as the training loop makes it."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    draws = generator_on(images.device)
    which = {"index": torch.arange(len(images))} if getattr(model, "needs_index", False) else {}
    model.train()

    def call() -> None:
        loss, _ = model.loss(images, draws, **which)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return call


def generator_on(device: torch.device) -> torch.Generator:
    """A seeded source of random numbers."""
    return torch.Generator(device=device).manual_seed(0)


def synchronise(device: torch.device) -> None:
    """Wait for the device to have done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)

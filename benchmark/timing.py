"""Latency and throughput of sampling.

Each repetition is one call of `model.sample`, from random numbers to images on the device, with
the device synchronised at both ends. Weights may be untrained: the cost does not depend on them.
"""

import time

import numpy as np
import torch

FEWEST = 3  # timed calls, for samplers of a thousand steps that take minutes each


def time_sampling(
    model: torch.nn.Module,
    batch_size: int,
    device: torch.device,
    *,
    warmup: int,
    repetitions: int,
    seconds: float,
) -> dict:
    """Time `model.sample(batch_size)`.

    Args:
        warmup: untimed calls before; fewer when `seconds` pass first, but one if any.
        repetitions: timed calls; fewer when `seconds` pass first, but then at least `FEWEST`.

    Returns:
        {"batch_size", "warmup", "repetitions", "latency_ms": {"median", "q25", "q75", "p95"},
        "images_per_second"}; the last is the batch size over the median latency.
    """
    draws = torch.Generator(device=device).manual_seed(0)
    with torch.no_grad():  # not inference_mode: in it Langevin samplers could take no gradient
        warmed, end = 0, time.perf_counter() + seconds
        while warmed < warmup and (warmed < 1 or time.perf_counter() < end):
            model.sample(batch_size, draws)
            warmed += 1
        times = []
        end = time.perf_counter() + seconds
        while len(times) < repetitions and (len(times) < FEWEST or time.perf_counter() < end):
            synchronise(device)
            start = time.perf_counter()
            model.sample(batch_size, draws)
            synchronise(device)
            times.append(1e3 * (time.perf_counter() - start))
    q25, median, q75, p95 = (float(q) for q in np.percentile(times, [25, 50, 75, 95]))
    return {
        "batch_size": batch_size,
        "warmup": warmed,
        "repetitions": len(times),
        "latency_ms": {"median": median, "q25": q25, "q75": q75, "p95": p95},
        "images_per_second": 1e3 * batch_size / median,
    }


def synchronise(device: torch.device) -> None:
    """Wait for the device to have done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)

"""Metrics as records hold them, for tests of what writes and reads records."""


def timing_row(batch_size=1, median=2.0, *, mode="eager", part="images", **changes) -> dict:
    """One time; the quartiles are half and twice the median."""
    latency = {"median": median, "q25": median / 2, "q75": median * 2, "p95": median * 3}
    return {
        "mode": mode,
        "part": part,
        "batch_size": batch_size,
        "warmup": 1,
        "repetitions": 10,
        "latency_ms": latency,
        "joules": None,
        "images_per_second": 1000 * batch_size / median,
        "peak_memory_bytes": None,
    } | changes


def timing_metrics(rows: list[dict], **changes) -> dict:
    """The metrics of a timing record."""
    names = ("uuid", "driver", "sm_clock_mhz", "memory_clock_mhz", "power_limit_w", "processes")
    return {
        "trained": True,
        "nfe": 1,
        "parameters": 1000,
        "flops_per_image": 2000,
        "others": {"cpu_cores": 0.0, "gpu_processes": None},
        "disturbed": False,
        "gpu_state": dict.fromkeys(names),
        "sampling": rows,
    } | changes

"""Where a result comes from: source, versions, hardware, time."""

import datetime
import hashlib
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from benchmark.base.devices import available_cores, cpu_name
from benchmark.base.paths import ROOT

if TYPE_CHECKING:  # importing it takes seconds, which who only reads records need not wait
    import torch

PACKAGES = (
    "torch",
    "torchvision",
    "torch-fidelity",
    "numpy",
    "scipy",
    "scikit-learn",
    "safetensors",
)
SOURCE_FOLDERS = ("kaem", "baselines", "benchmark")


def provenance(device: "torch.device") -> dict:
    """The origin of a result computed on `device`, as a record stores it."""
    import torch

    return {
        **source_state(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cpu_cores": available_cores(),
        "threads": torch.get_num_threads(),
        "device": device.type,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
    }


@cache
def source_state() -> dict:
    """Commit, whether it was modified, and digest, as they are at the first call.

    `benchmark.steps` makes it as it is loaded: a training runs for hours, and the checkout may be
    another one by the time that its record is written.
    """
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": _dirty(),
        "source_digest": source_digest(),
    }


@cache
def source_digest() -> str:
    """16 hex digits over the code that computes results; the same code has the same digest."""
    digest = hashlib.sha256()
    for folder in SOURCE_FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _git(*arguments: str) -> str | None:
    """What git prints, or None where this is not a checkout or git is missing."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _dirty() -> bool | None:
    status = _git("status", "--porcelain")
    return None if status is None else bool(status)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

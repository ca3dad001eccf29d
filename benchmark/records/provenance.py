"""Where a result comes from: source, versions, hardware, time."""

import datetime
import hashlib
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from benchmark.base.devices import available_cores, cpu_name
from benchmark.base.paths import ROOT
from benchmark.base.typed import Count, Strict

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


class Provenance(Strict):
    """The origin of a result."""

    commit: Annotated[str, Field(pattern="^[0-9a-f]{40,64}$")] | None
    dirty: bool | None
    source_digest: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    created: str
    python: str
    packages: dict[str, str | None]
    platform: str
    cpu: str
    cpu_cores: Count
    threads: Count
    device: Literal["cpu", "cuda"]
    gpu: str | None
    cuda: str | None

    @property
    def hardware(self) -> str:
        """What computed: the GPU, or the CPU and how many threads."""
        return self.gpu or f"{self.cpu}, {self.threads_text}"

    @property
    def threads_text(self) -> str:
        """How many threads, in words."""
        return "1 thread" if self.threads == 1 else f"{self.threads} threads"

    @property
    def machine(self) -> tuple:
        """What a time depends on beside the model: hardware, threads, version of torch."""
        hardware = (self.platform, self.cpu, self.cpu_cores, self.threads, self.gpu, self.cuda)
        return (*hardware, self.packages.get("torch"))


def provenance(device: "torch.device") -> dict:
    """Return the origin of a result computed on `device`, as a record stores it."""
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
    """Return commit, whether it was modified, and digest, as they are at the first call.

    `benchmark.steps` makes it as it is loaded: a training runs for hours, and the checkout may be
    another one by the time that its record is written.
    """
    top = _git("rev-parse", "--show-toplevel")
    own = top is not None and ROOT.samefile(top)  # an unpacked archive may lie in another checkout
    changes = _git("status", "--porcelain") if own else None
    return {
        "commit": _git("rev-parse", "HEAD") if own else None,
        "dirty": None if changes is None else bool(changes),
        "source_digest": source_digest(),
    }


@cache
def source_digest() -> str:
    """Return 16 hex digits over the code that computes results, the same for the same code."""
    digest = hashlib.sha256()
    for folder in SOURCE_FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _git(*arguments: str) -> str | None:
    """Return what git prints; None where this is no checkout, or git is missing."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=ROOT,
            capture_output=True,
            encoding="utf-8",
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

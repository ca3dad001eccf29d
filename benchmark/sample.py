"""Drawing the images that are evaluated and shown."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmark.config import Job
from benchmark.data import to_uint8
from benchmark.errors import RecordError
from benchmark.files import atomic
from benchmark.seeding import generator

# What numpy and zipfile raise for a damaged archive (RuntimeError: a bit says it is encrypted).
UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)

BATCH_SIZE = 256  # of the draws; no image depends on it


@torch.no_grad()
def draw_images(model: torch.nn.Module, job: Job, seed: int, device: torch.device) -> Tensor:
    """The job's number of images, uint8 (n, C, H, W): image i depends on names, seed and i alone.

    The random numbers are drawn on the CPU, one generator per image, on every device.
    """
    model.to(device).eval()
    batches = []
    for start in range(0, job.settings["samples"], BATCH_SIZE):
        numbers = range(start, min(start + BATCH_SIZE, job.settings["samples"]))
        generators = [generator("sample", job.dataset, job.model, seed, i) for i in numbers]
        batches.append(to_uint8(model.sample(len(generators), generators)).cpu())
    return torch.cat(batches)


def real_images(images: Tensor, job: Job, seed: int) -> Tensor:
    """As many real images as a model's samples, drawn without replacement where they suffice."""
    count = job.settings["samples"]
    draws = generator("sample", job.dataset, job.model, seed)
    if count <= len(images):
        return images[torch.randperm(len(images), generator=draws)[:count]]
    return images[torch.randint(len(images), (count,), generator=draws)]


def save_samples(path: str | Path, images: Tensor, job: Job) -> None:
    """Write uint8 images as a compressed npz, atomically."""
    with atomic(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, images=images.numpy(), config_hash=job.config_hash)


def load_samples(path: str | Path, job: Job | None = None) -> Tensor:
    """Read what `save_samples` wrote, uint8 (n, C, H, W).

    Raises:
        RecordError: the file is missing, damaged, or (when `job` is given) of another job.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            images, found = archive["images"], str(archive["config_hash"])
    except UNREADABLE as error:
        raise RecordError(f"{path}: cannot be read as samples: {error}") from error
    if job is not None and found != job.config_hash:
        raise RecordError(
            f"{path}: was drawn with other settings (hash {found}, now {job.config_hash})\n"
            f"  Run the sampling of {job.model} on {job.dataset} again."
        )
    return torch.from_numpy(images)

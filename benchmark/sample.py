"""Drawing the images that are evaluated and shown."""

from pathlib import Path

import torch
from torch import Tensor

from benchmark.config import Job
from benchmark.data import to_uint8
from benchmark.errors import RecordError
from benchmark.files import read_arrays, write_arrays
from benchmark.seeding import generator

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
    write_arrays(path, images=images.numpy(), config_hash=job.config_hash)


def load_samples(path: str | Path, job: Job | None = None) -> Tensor:
    """Read what `save_samples` wrote, uint8 (n, C, H, W).

    Raises:
        RecordError: the file is missing, damaged, or (when `job` is given) of another job.
    """
    arrays = read_arrays(path, "samples")
    if not {"images", "config_hash"} <= arrays.keys():
        raise RecordError(f"{path}: cannot be read as samples: it holds {', '.join(arrays)}")
    images, found = arrays["images"], str(arrays["config_hash"])
    if job is not None and found != job.config_hash:
        raise RecordError(
            f"{path}: was drawn with other settings (hash {found}, now {job.config_hash})\n"
            f"  Run the sampling of {job.model} on {job.dataset} again."
        )
    return torch.from_numpy(images)

"""Drawing the images that are evaluated and shown, and the files that hold them.

Both go in batches: 50,000 colour images never lie in memory at once.
"""

import io
import math
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmark.base.arrays import UNREADABLE, array_header, load_arrays, open_archive
from benchmark.base.errors import RecordError, unreadable
from benchmark.base.files import atomic
from benchmark.base.seeding import PhiloxStreams, derive_seed, generator
from benchmark.config.jobs import Job
from benchmark.data.pixels import to_uint8

BATCH_SIZE = 256  # of the draws; no image depends on it
IMAGES, HASH = "images.npy", "config_hash.npy"  # the file is an npz, which numpy reads too
LARGEST_HASH = 1024  # bytes
LARGEST_IMAGE = 2**22  # bytes


@torch.no_grad()
def draw_images(
    model: torch.nn.Module,
    job: Job,
    device: torch.device,
    batch_size: int = BATCH_SIZE,
) -> Iterator[Tensor]:
    """Draw the job's number of images, in batches of uint8 (n, C, H, W).

    Image i depends on names, seed and i alone: its random numbers come from a stream of its own,
    the same on every device.
    """
    model.to(device).eval()
    seed = derive_seed("sample", job.dataset, job.model, job.seed)
    for start in range(0, job.settings.samples, batch_size):
        stop = min(start + batch_size, job.settings.samples)
        yield to_uint8(model.sample(stop - start, PhiloxStreams(seed, start, stop))).cpu()


def real_images(images: Tensor, job: Job, batch_size: int = BATCH_SIZE) -> Iterator[Tensor]:
    """Draw as many real images as a model's samples, without replacement where they suffice."""
    count = job.settings.samples
    draws = generator("sample", job.dataset, job.model, job.seed)
    if count <= len(images):
        rows = torch.randperm(len(images), generator=draws)[:count]
    else:
        rows = torch.randint(len(images), (count,), generator=draws)
    return (images[batch] for batch in rows.split(batch_size))


@dataclass(frozen=True)
class Samples:
    """Drawn images in a file, read from its beginning.

    Attributes:
        path: of the file.
        shape: (n, C, H, W).
    """

    path: Path
    shape: tuple[int, int, int, int]

    def __len__(self) -> int:
        return self.shape[0]

    def batches(self, size: int, count: int | None = None) -> Iterator[Tensor]:
        """Read the first `count` images (all by default), uint8, `size` at a time.

        Raises:
            RecordError: the file is damaged.
        """
        left = len(self) if count is None else min(count, len(self))
        try:
            with open_archive(self.path) as archive, archive.open(IMAGES) as member:
                _read_header(archive, member)
                while left:
                    number = min(size, left)
                    left -= number
                    shape = (number, *self.shape[1:])
                    data = bytearray(member.read(math.prod(shape)))
                    if len(data) != math.prod(shape):
                        raise EOFError("it ends early")
                    yield torch.frombuffer(data, dtype=torch.uint8).view(shape)
        except UNREADABLE as error:
            raise unreadable(self.path, "samples", error) from error

    def first(self, count: int) -> Tensor:
        """Read the first `count` images, or all where there are fewer."""
        return next(self.batches(count))


def save_samples(path: str | Path, batches: Iterable[Tensor], shape: tuple, job: Job) -> None:
    """Write uint8 images of shape (n, C, H, W), atomically, batch by batch."""
    written = 0
    with (
        atomic(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        with archive.open(_member(IMAGES), "w", force_zip64=True) as member:
            header = {"descr": "|u1", "fortran_order": False, "shape": tuple(shape)}
            np.lib.format.write_array_header_1_0(member, header)
            for batch in batches:
                if batch.dtype != torch.uint8 or batch.shape[1:] != tuple(shape[1:]):
                    raise ValueError(
                        f"{batch.dtype} {tuple(batch.shape)} drawn, uint8 {tuple(shape)} announced"
                    )
                member.write(batch.contiguous().numpy().tobytes())
                written += len(batch)
        text = io.BytesIO()
        np.save(text, np.array(job.config_hash))
        archive.writestr(_member(HASH), text.getvalue())
        if written != shape[0]:
            raise ValueError(f"{written} images drawn, {shape[0]} announced")


def _member(name: str) -> zipfile.ZipInfo:
    """Describe a member without the time of day: the same images make the same file."""
    member = zipfile.ZipInfo(name)
    member.compress_type = zipfile.ZIP_DEFLATED
    return member


def open_samples(
    path: str | Path, job: Job | None = None, image_shape: tuple[int, int, int] | None = None
) -> Samples:
    """Open what `save_samples` wrote.

    Raises:
        RecordError: the file is missing, damaged, or (when they are given) of another job or of
            images of another shape (C, H, W).
    """
    path = Path(path)
    try:
        with open_archive(path) as archive:
            if not {IMAGES, HASH} <= set(archive.namelist()):
                raise ValueError(f"it holds {', '.join(archive.namelist())}")
            with archive.open(IMAGES) as member:
                shape = _read_header(archive, member)
        name = HASH.removesuffix(".npy")
        config_hash = str(load_arrays(path, [name], LARGEST_HASH)[name])
        if image_shape is not None and shape[1:] != tuple(image_shape):
            raise ValueError(f"its images are {shape[1:]}, the dataset's {tuple(image_shape)}")
    except UNREADABLE as error:
        advice = job.advice if job else ""
        raise RecordError(f"{unreadable(path, 'samples', error)}{advice}") from error
    if job is not None and config_hash != job.config_hash:
        raise RecordError(
            f"{path}: was drawn with other settings (hash {config_hash}, now {job.config_hash})"
            f"{job.advice}"
        )
    return Samples(path, shape)


def _read_header(archive: zipfile.ZipFile, member) -> tuple:
    shape, fortran, dtype = array_header(member, archive.getinfo(IMAGES).file_size)
    if fortran or dtype != np.uint8 or len(shape) != 4:
        raise ValueError(f"not uint8 images (n, C, H, W) but {dtype} {shape}")
    if math.prod(shape[1:]) > LARGEST_IMAGE:
        raise ValueError(f"images of {shape[1:]} take more than {LARGEST_IMAGE} bytes each")
    return shape

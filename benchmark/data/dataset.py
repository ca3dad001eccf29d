"""Datasets: checked against their committed digests, split, and kept prepared on the disk.

Images are uint8 tensors (n, C, H, W), mapped from the prepared files.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from benchmark.base import paths
from benchmark.base.errors import DataError
from benchmark.base.files import write_json
from benchmark.base.once import discard, open_once
from benchmark.config.config import Config
from benchmark.config.facts import Facts, FoundImages
from benchmark.config.jobs import job_of
from benchmark.data.distributions import find_source
from benchmark.data.prepared import is_intact, open_prepared, prepare, prepared_name


@dataclass(frozen=True)
class Dataset:
    """A dataset, its images mapped from the disk.

    Attributes:
        name: its name in `config/datasets.yaml`.
        images: split name -> uint8 (n, C, H, W).
        labels: split name -> int64 (n,); empty for a dataset without labels.
        digests: content digests of the images of each part, `<part>`; where they are not known
            beforehand, of those with their labels too, `<part>_labels`.
        stamp: of the files that they were read from.
    """

    name: str
    images: dict[str, Tensor]
    labels: dict[str, Tensor]
    digests: dict[str, str]
    stamp: str = ""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return tuple(self.images["train"].shape[1:])

    def repeated(self) -> int:
        """Count the images of other splits that are training images too, pixel by pixel."""
        own = {
            split: [hash(image.numpy().tobytes()) for image in images]
            for split, images in self.images.items()
        }
        train = set(own.pop("train"))
        return sum(image in train for images in own.values() for image in images)


def load_dataset(facts: Facts, root: Path, cache: Path) -> Dataset:
    """Open a dataset, which is read, checked, split and prepared in `cache` at its first use.

    Args:
        facts, root: as for `benchmark.data.distributions.find_source`.
        cache: folder of the prepared images.

    Raises:
        DataError: files are missing or damaged, the images are not the ones they should be, or the
            prepared ones cannot be written.
    """
    source = find_source(facts, root)
    folder = cache / prepared_name(facts, source)
    try:
        opened = open_once(folder, partial(prepare, facts, source), open_prepared)
    except DataError as error:
        raise DataError(f"{error}{source.omissions()}") from error
    except OSError as error:
        raise DataError(
            f"{facts.name}: cannot write the prepared images to {cache}: "
            f"{error.strerror or error}\n"
            f"  They take up to {2 * facts.cache_bytes / 1e6:,.0f} MB. Make room there, or name "
            "another folder in KAEM_CACHE_ROOT."
        ) from error
    return Dataset(facts.name, *opened, stamp=source.stamp())


def mend_cache(facts: Facts, root: Path, cache: Path) -> None:
    """Remove prepared images that are no longer what was written; their next use builds them."""
    folder = cache / prepared_name(facts, find_source(facts, root))
    if folder.is_dir() and not is_intact(folder):
        discard(folder)


def load_data(config: Config, dataset: str) -> Dataset:
    """Open a dataset of a configuration, in the folders that it or the environment names.

    Where its digests are not known beforehand, the first use notes those that it found, which are
    part of every job from then on: ask for jobs later.

    Raises:
        DataError: as `load_dataset`, or the images are not those that the run noted.
    """
    roots = paths.data_root(config.data_root), paths.cache_root(config.data_root)
    data = load_dataset(config.facts(dataset), *roots)
    found = config.found_digests(dataset)
    if found and found != data.digests:
        raise DataError(
            f"{dataset}: its images or labels are not those that this run was made from, which "
            f"{job_of(config, 'data', dataset).path()} notes\n"
            "  Put those back; or run the workflow, which makes everything of this dataset anew."
        )
    if not found and not config.facts(dataset).has_digests:
        note_images(config, data)
    return data


def note_images(config: Config, data: Dataset) -> None:
    """Write which images the run uses, and how many."""
    job = job_of(config, "data", data.name)
    found = FoundImages(
        dataset=data.name,
        config_hash=job.config_hash,
        stamp=data.stamp,
        image_shape=data.image_shape,
        counts={split: len(images) for split, images in data.images.items()},
        digests=data.digests,
    )
    write_json(job.path(), found.plain())

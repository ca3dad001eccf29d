"""Facts about datasets: those of `config/datasets.yaml`, and those that a configuration brings.

This module imports neither torch nor numpy, so the workflow can read facts before it starts.
"""

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from benchmark.base.foreign import parse_yaml
from benchmark.base.paths import ROOT
from benchmark.base.typed import Count, Label, Strict

DATASETS_FILE = ROOT / "config" / "datasets.yaml"

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Split = Literal["train", "validation", "test"]
Layout = Literal[
    "scikit-learn",
    "torchvision.MNIST",
    "torchvision.FashionMNIST",
    "torchvision.CIFAR10",
    "torchvision.SVHN",
    "celeba",
    "computed.darcy_flow",
]


class Cut(Strict):
    """As many images as a split takes of a part of its source."""

    part: Name
    count: Count


class _Splits(Strict):
    train: Cut
    validation: Cut = None
    test: Cut


def _known_splits(values: Any) -> Any:
    _Splits.model_validate(values)
    return values


def _as_tuple(values: Any) -> Any:
    return tuple(values) if isinstance(values, list) else values


# In the order of the file, in which they are cut after a shuffle.
Splits = Annotated[dict[Split, Cut], BeforeValidator(_known_splits)]
ImageShape = Annotated[tuple[Literal[1, 3], Count, Count], BeforeValidator(_as_tuple)]


class Images(Strict):
    """Which images there are and which are used: what a result depends on.

    Attributes:
        image_shape: (channels, height, width) of the images that models see.
        digests: source part -> digest of its images; empty where none is known.
        splits: split -> as many images as it takes of a part, cut in order after a shuffle.
        crop: side of the central square that image files are cut to before they are resized; None
            for the largest one.
    """

    image_shape: ImageShape
    digests: dict[str, Sha256] = {}
    splits: Splits
    crop: Count = None


class DatasetEntry(Images):
    """An entry of config/datasets.yaml or of `own_datasets`.

    Attributes:
        title: what it is called in tables.
        classes: how many the labels tell apart; None for images without labels.
        layout: how the files of its own distribution lie, a key of
            `benchmark.data.distributions.READERS`; None where only `<name>.npz` or a folder of
            images will do.
        archive_md5: of the official archive, where there is one.
    """

    title: Label = None
    classes: Annotated[int, Field(ge=2)] = None
    layout: Layout = None
    archive_md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] = None


class FoundImages(Strict):
    """What a run found of a dataset (`data/<dataset>.json`).

    Attributes:
        config_hash: of the facts by which they were prepared.
        stamp: of the files, see `benchmark.data.sources.Source.stamp`.
        counts: split -> images.
        digests: see `benchmark.data.prepared.prepare`.
    """

    dataset: str
    config_hash: str
    stamp: str
    image_shape: ImageShape
    counts: dict[str, Count]
    digests: dict[str, Sha256]


class Facts(DatasetEntry):
    """What is known of a dataset before its files are read.

    Attributes:
        name: what it is called in configurations.
    """

    name: str

    @classmethod
    def parse(cls, name: str, values: dict) -> "Facts":
        """Return the facts of an entry of `config/datasets.yaml` or `own_datasets`."""
        return cls.model_validate({"title": name, "digests": {}} | values | {"name": name})

    @property
    def images(self) -> Images:
        """What a result depends on."""
        return Images.model_validate(
            self.model_dump(include=set(Images.model_fields), exclude_unset=True)
        )

    @property
    def has_digests(self) -> bool:
        """Whether the digests of all its images are known beforehand."""
        return set(self.needed) <= set(self.digests)

    @property
    def needed(self) -> dict[str, int]:
        """How many images of each source part the splits take."""
        needed: dict[str, int] = {}
        for cut in self.splits.values():
            needed[cut.part] = needed.get(cut.part, 0) + cut.count
        return needed

    @property
    def cache_bytes(self) -> int:
        """Size of all prepared images."""
        channels, height, width = self.image_shape
        return sum(self.needed.values()) * channels * height * width


def reference_splits(splits: dict[str, Cut], name: str) -> list[str]:
    """Return the splits that make a reference: "train" is the field's training set, of which this
    suite holds back a validation split, so that one is counted in.

    Args:
        splits: the dataset's facts.
        name: "train", "validation" or "test".
    """
    if name != "train":
        return [name]
    part, held_back = splits["train"].part, splits.get("validation")
    return ["train", *(["validation"] if held_back and held_back.part == part else [])]


def reference_count(splits: dict[str, Cut], name: str) -> int:
    """Return how many real images samples are compared with as one split."""
    return sum(splits[part].count for part in reference_splits(splits, name))


@cache
def known_datasets() -> dict[str, dict]:
    """Return the entries of `config/datasets.yaml`, by name."""
    return parse_yaml(DATASETS_FILE.read_text(encoding="utf-8"))

"""Facts about datasets: those of `config/datasets.yaml`, and those that a configuration brings.

This module imports neither torch nor numpy, so the workflow can read facts before it starts.
"""

from dataclasses import dataclass
from functools import cache

import yaml

from benchmark.base.paths import ROOT

DATASETS_FILE = ROOT / "config" / "datasets.yaml"


@dataclass(frozen=True)
class Facts:
    """What is known of a dataset before its files are read.

    Attributes:
        name, title: what it is called in configurations, and in tables.
        image_shape: (channels, height, width) of the images that models see.
        splits: split -> {"part": source part, "count": images}, cut in order after a shuffle.
        digests: source part -> digest of its images; empty where none is known.
        classes: how many the labels tell apart; None for images without labels.
        layout: how the files of its own distribution lie, a key of
            `benchmark.data.distributions.READERS`;
            None where only `<name>.npz` or a folder of images will do.
        crop: side of the central square that image files are cut to before they are resized; None
            for the largest one.
        archive_md5: of the official archive, where there is one.
    """

    name: str
    title: str
    image_shape: tuple[int, int, int]
    splits: dict[str, dict]
    digests: dict[str, str]
    classes: int | None = None
    layout: str | None = None
    crop: int | None = None
    archive_md5: str | None = None

    @classmethod
    def parse(cls, name: str, values: dict) -> "Facts":
        """From an entry of `config/datasets.yaml` or of a configuration's `own_datasets`."""
        defaults = {"title": name, "digests": {}}
        shape = tuple(values["image_shape"])
        return cls(name=name, **(defaults | values | {"image_shape": shape}))

    @property
    def settings(self) -> dict:
        """What a result depends on, as plain values: which images there are and which are used."""
        crop = {} if self.crop is None else {"crop": self.crop}
        return {
            "image_shape": list(self.image_shape),
            "digests": self.digests,
            "splits": self.splits,
        } | crop

    @property
    def needed(self) -> dict[str, int]:
        """How many images of each source part the splits take."""
        needed: dict[str, int] = {}
        for cut in self.splits.values():
            needed[cut["part"]] = needed.get(cut["part"], 0) + cut["count"]
        return needed

    @property
    def cache_bytes(self) -> int:
        """Size of all prepared images."""
        channels, height, width = self.image_shape
        return sum(self.needed.values()) * channels * height * width


def reference_splits(splits: dict[str, dict], name: str) -> list[str]:
    """The splits that make a reference: "train" is the field's training set, of which this suite
    holds back a validation split, so that one is counted in.

    Args:
        splits: the dataset's facts.
        name: "train", "validation" or "test".
    """
    if name != "train":
        return [name]
    part = splits["train"]["part"]
    return ["train", *(s for s in ("validation",) if splits.get(s, {}).get("part") == part)]


@cache
def known_datasets() -> dict[str, dict]:
    """The entries of `config/datasets.yaml`, by name."""
    return yaml.safe_load(DATASETS_FILE.read_text())

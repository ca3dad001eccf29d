"""What a configuration may say, as typed classes: each key, its type and its bounds.

`python -m benchmark schema` prints them as a JSON schema, for editors. Nothing here imports torch.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from benchmark.base.typed import Count, Natural, NotNegative, Positive, Strict, Text
from benchmark.config.entries import AtLeastTwo, Decoder, Training
from benchmark.config.facts import DatasetEntry, Name, Sha256, Split

# Of Inception's standard weights, with which alone a Frechet distance is called FID.
OFFICIAL_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def _different(values: list) -> list:
    if len({repr(value) for value in values}) < len(values):
        raise ValueError(f"{values} has an element twice")
    return values


Different = AfterValidator(_different)
Some = Field(min_length=1)
DeviceList = Annotated[list[Literal["cpu", "cuda"]], Some, Different]
Devices = Annotated[
    Annotated[Literal["auto"], Tag("auto")] | Annotated[DeviceList, Tag("list")],
    Discriminator(lambda value: "list" if isinstance(value, list) else "auto"),
]


class Classifier(Strict):
    """The classifier in whose features images are compared."""

    updates: Count
    batch_size: Count
    learning_rate: Positive
    features: Count


class Likelihood(Strict):
    """The images whose evidence is estimated, and the decoder passes for each."""

    split: Split
    images: Count
    passes: Count


class Evaluation(Strict):
    """What drawn images are compared with.

    Attributes:
        references: split of real images -> as many samples are compared with it.
        inception: whether FID and KID are wanted.
        inception_sha256: of the weights; the official ones by default.
        efficientnet: whether FD-EfficientNet is wanted.
    """

    references: Annotated[dict[Split, AtLeastTwo], Some]
    batch_size: Count
    inception: bool = False
    inception_sha256: Sha256 | None = None
    efficientnet: bool = False
    likelihood: Likelihood | None = None


class Timing(Strict):
    """How sampling and updates are timed, see `benchmark.timing.series.Limits`."""

    devices: Devices
    batch_sizes: Annotated[list[Count], Some, Different]
    warmup: Natural
    repetitions: Count
    seconds: Positive
    longest_call: Positive
    modes: Annotated[list[Literal["eager", "compiled", "graphed"]], Some, Different]
    disturbed: Literal["refuse", "mark"]


class DatasetOverride(Strict):
    """What is otherwise for one dataset; checked as a whole with what it overrides."""

    training: dict[str, Any] = {}
    decoder: dict[str, Any] = {}
    classifier: dict[str, Any] = {}
    evaluation: dict[str, Any] = {}
    models: dict[str, dict[str, Any]] = {}


class Run(Strict):
    """A run's configuration (config/*.yaml).

    Attributes:
        inspected: the entries of KAEM that are looked into; all by default.
        left_out: tables and figures that are not made, by the names of their commands.
    """

    run: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    note: str = ""
    budget: Literal["demo", "full"] = "full"
    data_root: Text
    own_datasets: dict[Name, DatasetEntry] = {}
    datasets: Annotated[list[str], Some, Different]
    seeds: Annotated[list[Natural], Some, Different]
    device: Literal["auto", "cpu", "cuda"]
    threads: Count
    checkpoint_seconds: NotNegative = 60
    training: Training
    decoder: Decoder
    classifier: Classifier
    evaluation: Evaluation
    timing: Timing
    models: Annotated[dict[Name, Any], Some]
    inspected: Annotated[list[Name], Different] | None = None
    left_out: Annotated[list[Name], Different] = []
    per_dataset: dict[str, DatasetOverride] = {}

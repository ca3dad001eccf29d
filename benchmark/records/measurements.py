"""What the kinds of records measure: a class for the "metrics" of each kind."""

import re
from functools import cached_property
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from benchmark.base.typed import Count, Natural, NotNegative, Number, Positive, Share, Strict, Text
from benchmark.records.names import METRIC, count_of

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]


def _with_loss(final: dict[str, float]) -> dict[str, float]:
    if "loss" not in final:
        raise ValueError("has no loss")
    return final


class TrainingMetrics(Strict):
    """What a training came to.

    Attributes:
        final: the loss and what else was logged, averaged over the last 5% of the updates.
        weights_sha256: of the part of the weights that is published; None in older records.
    """

    updates: Count
    seconds_per_update: Positive
    parameters: Count
    final: Annotated[dict[str, Number], AfterValidator(_with_loss)]
    weights_sha256: Sha256 | None = None


class ClassifierMetrics(Strict):
    """What the training of a dataset's classifier came to."""

    accuracy_test: Share
    weights_sha256: Sha256


class Measured(NamedTuple):
    """One value of a metrics record: of `name`, against `count` images of a split."""

    key: str
    name: str
    split: str
    count: int
    value: float


NAMES = re.compile(
    "(" + "|".join(
        (
            r"(fid|fd_classifier|fd_efficientnet|frechet_[0-9a-f]{8})(_infinity(_se)?)?",
            r"(kid|precision|recall)(_classifier|_efficientnet|_[0-9a-f]{8})?",
            r"class_coverage",
            r"nats_low_ess_share(_fitted|_constant)?",
            r"(nats|bits_per_dimension)(_error)?(_fitted|_constant)?",
            r"sigma_(fitted|constant)",
        )
    ) + ")"
)  # fmt: skip
SHARES = ("precision", "recall", "nats_low_ess_share")  # how their names begin


class Subset(Strict):
    """The Frechet distance of some of the drawn images."""

    images: Count
    distance: Number


class QualityMetrics(Strict):
    """What drawn images measure, under names such as "fid_train_50k": metric, split, images.

    Weights of Inception other than the standard ones make it frechet_<digest>, kid_<digest>, ...
    What ends in _fitted is at the sigma that suits the model best; what ends in _constant, beside
    real images, is of a constant image.

    Attributes:
        classifier_sha256: of the weights of the classifier whose features were compared.
        efficientnet_sha256: of the weights of EfficientNet, where it was measured with.
        inception_missing: why there is no FID and no KID, where they were to be measured.
        reference_count_train, reference_count_validation, reference_count_test: how many real
            images of the split were compared with.
        subsets: by a distance's whole name, of the disjoint subsets of the drawn images that its
            limit of infinitely many was found from; None in older records.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Number]

    classifier_sha256: Sha256 | None = None
    efficientnet_sha256: Sha256 | None = None
    inception_missing: str | None = None
    reference_count_train: Annotated[int, Field(ge=2)] | None = None
    reference_count_validation: Annotated[int, Field(ge=2)] | None = None
    reference_count_test: Annotated[int, Field(ge=2)] | None = None
    subsets: dict[str, list[Subset]] | None = None

    @model_validator(mode="after")
    def _check_names_and_ranges(self):
        if not self.model_fields_set:
            raise ValueError("nothing was measured")
        for key, value in self.model_extra.items():
            parts = METRIC.fullmatch(key)
            if not (parts and NAMES.fullmatch(parts["name"])):
                raise ValueError(f"{key}: unknown metric")
            if value < 0 and key.startswith("class_coverage"):
                raise ValueError(f"{key}: {value} is less than the minimum of 0")
            if key.startswith(SHARES) and not 0 <= value <= 1:
                raise ValueError(f"{key}: {value} is not between 0 and 1")
        return self

    @cached_property
    def values(self) -> list[Measured]:
        """Every value, in the order of the record."""
        return [
            Measured(key, parts["name"], parts["split"], count_of(parts["count"]), value)
            for key, value in self.model_extra.items()
            for parts in [METRIC.fullmatch(key)]
        ]

    def get(self, key: str) -> float | None:
        """Return the value under a whole name such as "fid_train_50k"; None where there is none."""
        return self.model_extra.get(key)

    def reference_count(self, split: str) -> int | None:
        """Return how many real images of a split were compared with; None where none were."""
        return getattr(self, f"reference_count_{split}")


class Latency(Strict):
    """Quantiles of a time, in ms."""

    median: NotNegative
    q25: NotNegative
    q75: NotNegative
    p95: NotNegative

    @property
    def in_order(self) -> bool:
        """Whether the quantiles grow, from above 0."""
        return 0 < self.q25 <= self.median <= self.q75 <= self.p95


class LeftOut(Strict):
    """A time that was not taken; `left_out` says why."""

    batch_size: Count
    left_out: Text


class Time(Strict):
    """A time: of an update of training, after `warmup` untimed ones.

    Attributes:
        joules: of one call.
        peak_memory_bytes: of the GPU, beyond the weights.
    """

    batch_size: Count
    warmup: Natural
    repetitions: Count
    latency_ms: Latency
    joules: Number | None
    peak_memory_bytes: int | None


class _Sampling(Strict):
    """How a batch was drawn."""

    mode: Literal["eager", "compiled", "graphed"]
    part: Literal["images", "latents"]


class SamplingLeftOut(LeftOut, _Sampling):
    """A time of sampling that was not taken."""


class SamplingTime(Time, _Sampling):
    """The time that drawing one batch took."""

    images_per_second: Positive


class Others(Strict):
    """What else the machine did while times were taken."""

    cpu_cores: NotNegative
    gpu_processes: Natural | None


class GpuState(Strict):
    """How the GPU stood while times were taken."""

    uuid: str | None
    driver: str | None
    sm_clock_mhz: Number | None
    memory_clock_mhz: Number | None
    power_limit_w: Number | None
    processes: int | None


class TimingMetrics(Strict):
    """What a model costs on a device.

    Attributes:
        trained: False for fresh weights; the cost is the same.
        session: the same for models that were timed in turns, which eager ones are.
        update: of training; None in older records, and for an entry without a training.
    """

    trained: bool
    session: Hash
    nfe: Count
    parameters: Count
    flops_per_image: Natural
    others: Others
    disturbed: bool
    update: Time | LeftOut | None = None
    gpu_state: GpuState
    sampling: Annotated[list[SamplingTime | SamplingLeftOut], Field(min_length=1)]

    def latencies(self) -> dict[int, SamplingTime]:
        """Return batch size -> time, of whole images, eagerly."""
        return {
            row.batch_size: row
            for row in self.sampling
            if isinstance(row, SamplingTime) and (row.mode, row.part) == ("eager", "images")
        }

    def update_time(self) -> Time | None:
        """Return the time of an update of training; None where it was not taken."""
        return self.update if isinstance(self.update, Time) else None

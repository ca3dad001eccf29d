"""Claims as assertions about records (`config/claims.yaml`), and what a verdict holds.

The paper's claims and this suite's own are judged alike and shown apart. This module imports
neither torch nor numpy; `benchmark.claims.judge` reaches the verdicts.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from benchmark.base import paths
from benchmark.base.paths import ROOT
from benchmark.base.typed import Count, NotNegative, Number, Strict, Text, load_yaml, nearest
from benchmark.config.config import Config
from benchmark.config.facts import known_datasets

CLAIMS_FILE = ROOT / "config" / "claims.yaml"

SUPPORTED, CONTRADICTED, INCONCLUSIVE = "supported", "contradicted", "inconclusive"
NOT_RUN = "not run"
VERDICTS = (SUPPORTED, CONTRADICTED, INCONCLUSIVE, NOT_RUN)

OWN_CLAIMS = "This suite's own claims, about its extension of the paper's model"

UPDATES = ("update", "all_updates")
TIMES = ("latency", *UPDATES)
KIND_OF = dict.fromkeys((*TIMES, "nfe"), "timing") | dict.fromkeys(
    ("ess", "swap_1"), "training"
)  # which record holds a metric; "metrics" for all others
NEEDED = ("metric", "model", "against", "effect", "comparison", "margin", "evidence")

Metric = Literal[
    "", "latency", "update", "all_updates", "nfe", "ess", "swap_1", "fid", "kid", "precision",
    "recall", "fd_classifier", "kid_classifier", "precision_classifier", "recall_classifier",
    "class_coverage", "fd_efficientnet",
]  # fmt: skip


class Claim(Strict):
    """An entry of config/claims.yaml, which says what each field means."""

    id: Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]
    claim: Text
    source: Text
    of: Literal["paper", "suite"] = "paper"
    version: str = ""
    datasets: Annotated[list[str], Field(min_length=1)]
    not_measured: Text | None = None
    metric: Metric = ""
    batch_size: Count | None = None
    model: str = ""
    against: str | Number | dict[str, Number] = ""
    effect: Literal["ratio", "difference"] = "difference"
    comparison: Literal["below", "above", "within"] = "within"
    margin: NotNegative = 0.0
    seeds: Annotated[int, Field(ge=2)] | None = None
    evidence: Literal["L0", "L1", "L2", "L3", "L4"] = "L0"
    shared: list[Annotated[str, Field(pattern="^[a-z_.]+$")]] = Field([])
    despite: list[
        Literal["recall_classifier", "class_coverage", "fd_classifier", "bits_per_dimension_fitted"]
    ] = Field([])

    @model_validator(mode="after")
    def _check_fields_together(self):
        wrong = list(self._wrong_together())
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def _wrong_together(self) -> Iterator[str]:
        given = {name for name in self.model_fields_set if getattr(self, name) not in (None, "")}
        for name in ("datasets", "despite", "shared"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                yield f"{name} has non-unique elements"
        if self.not_measured:
            if given - {"id", "claim", "source", "of", "version", "datasets", "not_measured"}:
                yield "says why nothing was measured, and what is to be judged"
            return
        latency, ratio = self.metric == "latency", self.effect == "ratio"
        wanted = [*NEEDED] + ["batch_size"] * latency + ["seeds"] * (self.kind != "timing")
        yield from (f"{name} is missing" for name in wanted if name not in given)
        if self.batch_size and not latency:
            yield "only a latency has a batch_size"
        if self.seeds and self.kind == "timing":
            yield "a timing rests on repetitions, not on seeds"
        if self.metric in TIMES and not ratio:
            yield "times are compared by their ratio"
        least = 1 if ratio and self.comparison == "within" else 0
        if ratio and self.margin <= least:
            yield f"margin: {self.margin} is less than or equal to the minimum of {least}"
        numbers = [self.against]
        if isinstance(self.against, dict):
            numbers = self.against.values()
            if set(self.against) != set(self.datasets):
                yield "against: needs a number for each of the datasets"
        for number in numbers:
            if ratio and not isinstance(number, str) and number <= 0:
                yield f"against: {number} is less than or equal to the minimum of 0"

    @property
    def kind(self) -> str:
        """Of the records that hold the metric."""
        return KIND_OF.get(self.metric, "metrics")

    @property
    def entries(self) -> list[str]:
        """The configuration's entries that are compared."""
        return [side for side in (self.model, self.against) if isinstance(side, str)]

    def on(self, dataset: str) -> "Claim":
        """Return the claim as it is made about one of its datasets, against that one's number."""
        if not isinstance(self.against, dict):
            return self
        return self.model_copy(update={"against": self.against[dataset]})

    def verdict(self, low: float, high: float) -> str:
        """Judge a confidence interval of the effect (of its logarithm, for a ratio)."""
        margin = math.log(self.margin) if self.effect == "ratio" else self.margin
        ends = {"below": (-math.inf, margin), "above": (margin, math.inf)}
        lowest, highest = ends.get(self.comparison, (-margin, margin))  # that fulfil the claim
        if lowest < low and high < highest:
            return SUPPORTED
        return CONTRADICTED if high < lowest or highest < low else INCONCLUSIVE


@dataclass
class Verdict:
    """A claim judged on one dataset.

    Attributes:
        reasons: why it is not run, or inconclusive.
        notes: what a reader should know besides.
        effect, interval: of the ratio or the difference; None where it is not known.
        values: entry -> its value for each seed, or median latency.
        seeds: entry -> the seeds of its records.
        records: the files it rests on -> their digests.
        seconds: that making those records took, trainings included; None where some did not say.
    """

    claim: Claim
    dataset: str
    device: str | None = None
    verdict: str = NOT_RUN
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    effect: float | None = None
    interval: tuple[float, float] | None = None
    values: dict[str, list[float]] = field(default_factory=dict)
    seeds: dict[str, list[int]] = field(default_factory=dict)
    records: dict[str, str] = field(default_factory=dict)
    seconds: float | None = None


@cache
def load_claims(path: Path = CLAIMS_FILE) -> list[Claim]:
    """Read the claims of config/claims.yaml.

    Raises:
        ConfigError: the file has a wrong key or value.
    """
    return load_yaml(path, list[Claim], _wrong_names)


def judgeable(config: Config, claims: list[Claim]) -> Iterator[tuple[Claim, str]]:
    """Name the claims that records of a configuration can judge, and the datasets."""
    for claim in claims:
        models = config.evaluated_models if claim.kind == "metrics" else config.models
        if claim.not_measured or not set(claim.entries) <= set(models):
            continue
        for dataset in claim.datasets:
            if dataset not in config.datasets:
                continue
            if claim.metric != "fid" or config.inception_sha256(dataset):
                yield claim, dataset


def record_files(claim: Claim, config: Config, datasets: list[str]) -> str:
    """Return the records of trainings or metrics on which a claim's verdicts rest, as a shell
    expands them: what Snakemake is to make."""
    pattern = paths.TRAINING_RECORD if claim.kind == "training" else paths.METRICS_RECORD
    chosen = {"dataset": datasets, "model": claim.entries, "seed": config.seeds}
    braces = {
        name: str(values[0]) if len(values) == 1 else "{" + ",".join(map(str, values)) + "}"
        for name, values in chosen.items()
    }
    return paths.fill(pattern, config.run, **braces).as_posix()


def _wrong_names(read: list[Claim]) -> Iterator[str]:
    known = known_datasets()
    for name, count in Counter(claim.id for claim in read).items():
        if count > 1:
            yield f"{name}: given twice"
    for claim in read:
        for name in claim.datasets:
            if name not in known:
                yield f"{claim.id}.datasets: unknown dataset {name!r}{nearest(name, known)}"

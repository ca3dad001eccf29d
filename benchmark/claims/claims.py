"""The paper's claims as assertions about records (`config/claims.yaml`), and what a verdict holds.

This module imports neither torch nor numpy; `benchmark.claims.judge` reaches the verdicts.
"""

import math
from dataclasses import dataclass, field
from functools import cache

import yaml

from benchmark.base.errors import ConfigError
from benchmark.base.paths import ROOT
from benchmark.base.schema import load_schema, strict_validator
from benchmark.config.facts import known_datasets

CLAIMS_FILE = ROOT / "config" / "claims.yaml"

SUPPORTED, CONTRADICTED, INCONCLUSIVE = "supported", "contradicted", "inconclusive"
NOT_RUN = "not run"
VERDICTS = (SUPPORTED, CONTRADICTED, INCONCLUSIVE, NOT_RUN)

KINDS = dict.fromkeys(("latency", "update", "nfe"), "timing") | dict.fromkeys(
    ("ess", "swap_1"), "training"
)  # which record holds a metric; "metrics" for all others
TIMES = ("latency", "update")


@dataclass(frozen=True)
class Claim:
    """An entry of config/claims.yaml, which says what each field means."""

    id: str
    claim: str
    source: str
    datasets: list[str]
    not_measured: str | None = None
    metric: str = ""
    batch_size: int | None = None
    model: str = ""
    against: str | float = ""
    effect: str = "difference"
    comparison: str = "within"
    margin: float = 0.0
    seeds: int | None = None
    evidence: str = "L0"
    shared: str | None = None
    despite: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Of the records that hold the metric."""
        return KINDS.get(self.metric, "metrics")

    @property
    def entries(self) -> list[str]:
        """The configuration's entries that are compared."""
        return [side for side in (self.model, self.against) if isinstance(side, str)]

    @property
    def region(self) -> tuple[float, float]:
        """The effects that fulfil the claim; of a ratio, its logarithms."""
        margin = math.log(self.margin) if self.effect == "ratio" else self.margin
        ends = {"below": (-math.inf, margin), "above": (margin, math.inf)}
        return ends.get(self.comparison, (-margin, margin))

    def verdict(self, low: float, high: float) -> str:
        """What a confidence interval of the effect (of its logarithm, for a ratio) says."""
        lowest, highest = self.region
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
def claims() -> list[Claim]:
    """The claims of config/claims.yaml.

    Raises:
        ConfigError: the file has a wrong key or value.
    """
    values = yaml.safe_load(CLAIMS_FILE.read_text())
    errors = strict_validator(load_schema("claims")).iter_errors(values)
    problems = [f"{'.'.join(map(str, e.absolute_path))}: {e.message}" for e in errors]
    if not problems:
        ids = [claim["id"] for claim in values]
        problems += [f"{name}: given twice" for name in sorted(set(ids)) if ids.count(name) > 1]
        problems += [
            f"{claim['id']}.datasets: unknown dataset {name}"
            for claim in values
            for name in set(claim["datasets"]) - set(known_datasets())
        ]
    if problems:
        raise ConfigError(str(CLAIMS_FILE.relative_to(ROOT)), problems)
    return [Claim(**claim) for claim in values]

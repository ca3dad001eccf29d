"""Health gates: bounds that a broken or undertrained model fails, from `config/gates.yaml`.

They guard the comparison: a table that shows a model which failed one says so in its row. A gate
is no result; its bound is far from what a healthy model measures.
"""

from dataclasses import dataclass
from functools import cache

import yaml

from benchmark.base.errors import ConfigError
from benchmark.base.paths import ROOT
from benchmark.base.schema import load_schema, strict_validator
from benchmark.config.config import Config
from benchmark.config.registry import MODELS
from benchmark.records.names import METRIC

GATES_FILE = ROOT / "config" / "gates.yaml"
EVERY_MODEL = "every_model"

FEWEST_IMAGES = 2048  # below, a Frechet distance says little beyond its own table
DISTANCES = ("fid", "fid_infinity", "kid", "fd_classifier")

Means = dict[tuple[str, str], dict[str, float]]
"""Mean over the seeds of each metric, by (dataset, entry); metrics by their plain names, such as
"fd_classifier"."""


@dataclass(frozen=True)
class Gate:
    """A bound on one metric.

    Attributes:
        metric: its plain name.
        at_least, at_most: numbers, by dataset; "any" for all others.
        below: another entry, whose value this model's has to be below.
    """

    metric: str
    at_least: dict[str, float] | None = None
    at_most: dict[str, float] | None = None
    below: str | None = None

    def failure(self, means: Means, dataset: str, model: str) -> str | None:
        """What is wrong; None where the gate holds or one of the values was not measured."""
        value = means.get((dataset, model), {}).get(self.metric)
        if value is None:
            return None
        said = f"{self.metric} {value:.3g}"
        least, most = self._bound(self.at_least, dataset), self._bound(self.at_most, dataset)
        if least is not None and value < least:
            return f"{said}, at least {least:g} expected"
        if most is not None and value > most:
            return f"{said}, at most {most:g} expected"
        other = means.get((dataset, self.below), {}).get(self.metric)
        if other is not None and model != self.below and value >= other:
            return f"{said}, not below {self.below}'s {other:.3g}"
        return None

    @staticmethod
    def _bound(bounds: dict[str, float] | None, dataset: str) -> float | None:
        return (bounds or {}).get(dataset, (bounds or {}).get("any"))


@cache
def gates() -> dict[str, list[Gate]]:
    """The gates by registered model, and those of `EVERY_MODEL`.

    Raises:
        ConfigError: the file has a wrong key or value.
    """
    values = yaml.safe_load(GATES_FILE.read_text())
    errors = strict_validator(load_schema("gates")).iter_errors(values)
    problems = [f"{'.'.join(map(str, e.absolute_path))}: {e.message}" for e in errors]
    problems += [f"{name}: unknown model" for name in set(values) - {*MODELS, EVERY_MODEL}]
    if problems:
        raise ConfigError(str(GATES_FILE.relative_to(ROOT)), problems)
    return {name: [Gate(**gate) for gate in each] for name, each in values.items()}


def failures(config: Config, means: Means, dataset: str, model: str) -> list[str]:
    """What entry `model` fails on a dataset; empty for a healthy one."""
    asked = gates().get(EVERY_MODEL, []) + gates().get(config.architecture(model), [])
    found = (gate.failure(means, dataset, model) for gate in asked)
    return [failure for failure in found if failure]


def first_reference(config: Config, dataset: str) -> str:
    """The split of real images that the configuration names first."""
    return next(iter(config.resolved(dataset)["evaluation"]["references"]))


def is_distance(name: str) -> bool:
    """Whether so few images spoil the metric; the last is a Frechet distance, by other weights."""
    return name in DISTANCES or name.startswith("frechet_")


def means_of(config: Config, quality) -> Means:
    """What the gates look at: the first reference's values.

    Args:
        quality: a data frame with the columns dataset, model, metric and value.
    """
    means: Means = {}
    if len(quality):
        for (dataset, model, metric), values in quality.groupby(["dataset", "model", "metric"]):
            found = METRIC.fullmatch(metric)
            chosen = means.setdefault((dataset, model), {})
            if found["name"] not in chosen or found["split"] == first_reference(config, dataset):
                chosen[found["name"]] = values["value"].mean()
    return means

"""Health gates: bounds that a broken or undertrained model fails, from `config/gates.yaml`.

They guard the comparison: a table that shows a model which failed one says so in its row. A gate
is no result; its bound is far from what a healthy model measures.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from benchmark.base.paths import ROOT
from benchmark.base.typed import Number, Strict, load_yaml, nearest
from benchmark.config.config import Config
from benchmark.config.registry import MODELS
from benchmark.records.names import METRIC

GATES_FILE = ROOT / "config" / "gates.yaml"
EVERY_MODEL = "every_model"

FEWEST_IMAGES = 2048  # below, a Frechet distance says little beyond its own table
DISTANCES = ("fid", "fid_infinity", "kid", "fd_classifier", "fd_efficientnet")

Means = dict[tuple[str, str], dict[str, float]]
"""Mean over the seeds of each metric, by (dataset, entry); metrics by their plain names, such as
"fd_classifier"."""


Bounds = Annotated[dict[str, Number], Field(min_length=1)]


class Gate(Strict):
    """A bound on one metric.

    Attributes:
        metric: its plain name.
        at_least, at_most: numbers, by dataset; "any" for all others.
        below: another entry, whose value this model's has to be below.
    """

    metric: Literal[
        "fd_classifier",
        "fd_efficientnet",
        "precision_classifier",
        "recall_classifier",
        "class_coverage",
        "bits_per_dimension_fitted",
    ]
    at_least: Bounds | None = None
    at_most: Bounds | None = None
    below: str | None = None

    @model_validator(mode="after")
    def _check_one_bound(self):
        if [self.at_least, self.at_most, self.below].count(None) != 2:
            raise ValueError("needs one of at_least, at_most and below")
        return self

    def failure(self, means: Means, dataset: str, model: str) -> str | None:
        """Say what is wrong; None where the gate holds, or a value was not measured."""
        value = means.get((dataset, model), {}).get(self.metric)
        if value is None:
            return None
        text = f"{self.metric} {value:.3g}"
        least, most = self._bound(self.at_least, dataset), self._bound(self.at_most, dataset)
        if least is not None and value < least:
            return f"{text}, at least {least:g} expected"
        if most is not None and value > most:
            return f"{text}, at most {most:g} expected"
        other = means.get((dataset, self.below), {}).get(self.metric)
        if other is not None and model != self.below and value >= other:
            return f"{text}, not below {self.below}'s {other:.3g}"
        return None

    @staticmethod
    def _bound(bounds: dict[str, float] | None, dataset: str) -> float | None:
        return (bounds or {}).get(dataset, (bounds or {}).get("any"))


@cache
def load_gates(path: Path = GATES_FILE) -> dict[str, list[Gate]]:
    """Read the gates by registered model, and those of `EVERY_MODEL`.

    Raises:
        ConfigError: the file has a wrong key or value.
    """
    return load_yaml(path, dict[str, list[Gate]], _unknown_models)


def _unknown_models(read: dict[str, list[Gate]]) -> list[str]:
    known = [EVERY_MODEL, *MODELS]
    return [f"{name}: unknown model{nearest(name, known)}" for name in read if name not in known]


def failures(config: Config, means: Means, dataset: str, model: str) -> list[str]:
    """Return what entry `model` fails on a dataset; nothing for a healthy one."""
    gates = load_gates()
    own = gates.get(EVERY_MODEL, []) + gates.get(config.architecture(model), [])
    texts = (gate.failure(means, dataset, model) for gate in own)
    return [text for text in texts if text]


def first_reference(config: Config, dataset: str) -> str:
    """Return the split of real images that the configuration names first."""
    return next(iter(config.evaluation(dataset).references))


def is_distance(name: str) -> bool:
    """Say whether few images spoil the metric; frechet_* are distances by other weights."""
    return name in DISTANCES or name.startswith("frechet_")


def means_of(config: Config, quality) -> Means:
    """Return what the gates look at: the first reference's values.

    Args:
        quality: a data frame with the columns dataset, model, metric and value.
    """
    means: Means = {}
    if len(quality):
        for (dataset, model, metric), values in quality.groupby(["dataset", "model", "metric"]):
            parts = METRIC.fullmatch(metric)
            chosen = means.setdefault((dataset, model), {})
            if parts["name"] not in chosen or parts["split"] == first_reference(config, dataset):
                chosen[parts["name"]] = values["value"].mean()
    return means

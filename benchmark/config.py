"""Configurations: read, checked as a whole, and resolved into the settings of single jobs.

A configuration is one YAML file (`config/*.yaml`). All its problems are reported at once, each
with its path and the nearest valid name. This module imports neither torch nor Snakemake, so
the workflow can check a configuration before it starts anything.
"""

import copy
import difflib
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jsonschema
import yaml

from benchmark.errors import ConfigError
from benchmark.paths import ROOT
from benchmark.registry import MODELS
from benchmark.schema import load_schema, strict_validator

DATASETS_FILE = ROOT / "config" / "datasets.yaml"

# Entry names with a meaning of their own: real images, and the classifier behind FD-classifier.
REAL = "real"
CLASSIFIER = "classifier"

# What an entry says about its place in the run and in the tables, on which no result depends.
WORDING = ("label", "weights_of", "timed_only")


@dataclass(frozen=True)
class Job:
    """One thing to compute and everything its result depends on.

    Attributes:
        run, dataset, model: names; `model` is the entry's name in the configuration.
        settings: plain values, resolved for this dataset and this entry.
    """

    run: str
    dataset: str
    model: str
    settings: dict

    @property
    def config_hash(self) -> str:
        """16 hex digits that change when any setting does."""
        identity = {"dataset": self.dataset, "entry": self.model, "settings": self.settings}
        text = json.dumps(identity, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Config:
    """A valid configuration. Raises ConfigError, with every problem, for an invalid one.

    Args:
        values: the parsed YAML.
        source: what to call it in messages, usually the file's name.
    """

    def __init__(self, values: dict, source: str):
        problems = find_problems(values)
        if problems:
            raise ConfigError(source, problems)
        self.values = values
        self.run: str = values["run"]
        self.note: str = values.get("note", "")
        self.demo: bool = values.get("budget") == "demo"
        self.data_root: str = values["data_root"]
        self.datasets: list[str] = values["datasets"]
        self.seeds: list[int] = values["seeds"]
        self.models: list[str] = list(values["models"])
        self.device: str = values["device"]
        self.threads: int = values["threads"]
        self.timing: dict = values["timing"]

    def resolved(self, dataset: str) -> dict:
        """The configuration with the overrides for `dataset` applied."""
        return _apply(self.values, self.values.get("per_dataset", {}).get(dataset, {}))

    def architecture(self, model: str) -> str:
        """The registered name behind entry `model`."""
        model = self.trained_entry(model)
        return self._entry(model).get("model", model)

    def trained_entry(self, model: str) -> str:
        """The entry whose weights `model` uses: itself, unless it says `weights_of`."""
        return self._entry(model).get("weights_of", model)

    @property
    def trained_models(self) -> list[str]:
        """The entries that are trained; the others sample theirs in another way."""
        return [model for model in self.models if self.trained_entry(model) == model]

    @property
    def evaluated_models(self) -> list[str]:
        """The entries whose images are drawn and measured; the others are timed alone."""
        return [model for model in self.models if not self._entry(model).get("timed_only")]

    def _entry(self, model: str) -> dict:
        return self.values["models"].get(model, {})

    def label(self, model: str) -> str | None:
        """What the configuration calls entry `model` in tables, if it says so."""
        return self._entry(model).get("label")

    def seeds_of(self, model: str) -> list[int]:
        """The seeds that entry `model` is measured with.

        Real images are drawn once: their distance is the floor, not a result.
        """
        return self.seeds[:1] if model == REAL else self.seeds

    @property
    def wording(self) -> dict:
        """What tables and figures say and no result depends on."""
        return {"note": self.note, "demo": self.demo} | {
            model: self.label(model) for model in self.models
        }

    def training_job(self, dataset: str, model: str) -> Job:
        """The training of entry `model`, or of the entry whose weights it uses; the classifier is
        an entry too."""
        model = self.trained_entry(model)
        values = self.resolved(dataset)
        settings = {"data": dataset_facts(dataset), "threads": self.threads}
        if model == CLASSIFIER:
            settings |= {"architecture": CLASSIFIER} | values["classifier"]
        else:
            entry = dict(values["models"][model])
            name = entry.pop("model", model)
            for key in WORDING:
                entry.pop(key, None)
            training = merge(values["training"], entry.pop("training", {}))
            if MODELS[name].decoder:
                entry = {"decoder": values["decoder"], **entry}
            settings |= {
                "architecture": name,
                "model": merge(entry, MODELS[name].fixed),
                "training": training,
            }
        return Job(self.run, dataset, model, settings)

    def model_settings(self, dataset: str, model: str) -> dict:
        """What the trained model of entry `model` is built from."""
        trained = self.training_job(dataset, model).settings["model"]
        return merge(trained, self._variant(dataset, model).get("variant", {}))

    def _variant(self, dataset: str, model: str) -> dict:
        """{"variant": settings} in which an entry differs from the one whose weights it uses."""
        if self.trained_entry(model) == model:
            return {}
        entry = self.resolved(dataset)["models"][model]
        return {"variant": {key: v for key, v in entry.items() if key not in WORDING}}

    def sampling_job(self, dataset: str, model: str) -> Job:
        """Drawing the images that are evaluated."""
        count = self.resolved(dataset)["evaluation"]["samples"]
        training = None if model == REAL else self.training_job(dataset, model).config_hash
        settings = {"training": training, "samples": count} | self._variant(dataset, model)
        return Job(self.run, dataset, model, settings)

    def evaluation_job(self, dataset: str, model: str) -> Job:
        """Measuring the images that were drawn."""
        settings = {
            "sampling": self.sampling_job(dataset, model).settings,
            "evaluation": self.resolved(dataset)["evaluation"],
            "classifier": self.training_job(dataset, CLASSIFIER).config_hash,
        }
        return Job(self.run, dataset, model, settings)

    def timing_job(self, dataset: str, model: str) -> Job:
        """Timing the trained model."""
        training = self.training_job(dataset, model).config_hash
        settings = {"training": training, "timing": self.timing} | self._variant(dataset, model)
        return Job(self.run, dataset, model, settings)


def load_config(path: str | Path, overrides: dict | None = None) -> Config:
    """Read and check a configuration file.

    Args:
        path: a YAML file.
        overrides: values that replace or extend the file's, as Snakemake's --config does.
    """
    try:
        values = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"is not valid YAML: {error}"]) from error
    if not isinstance(values, dict):
        raise ConfigError(str(path), ["must be a mapping of settings"])
    return Config(merge(values, overrides or {}), str(path))


def merge(base: dict, overrides: dict) -> dict:
    """`base` with `overrides` laid over it, mapping by mapping; neither is changed."""
    merged = copy.deepcopy(base)
    for key, value in overrides.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


@cache
def known_datasets() -> dict[str, dict]:
    """`config/datasets.yaml`: facts about every dataset, by name."""
    return yaml.safe_load(DATASETS_FILE.read_text())


def dataset_facts(name: str) -> dict:
    """The facts about one dataset that a result depends on: shape, splits, digests."""
    return {key: value for key, value in known_datasets()[name].items() if key != "title"}


def find_problems(values: dict) -> list[str]:
    """Every problem of a parsed configuration, each as "path: what, and what to do"."""
    problems = _problems_at_once(values)
    overrides = values.get("per_dataset")
    if not isinstance(overrides, dict):
        return problems
    for dataset, override in overrides.items():
        prefix = f"per_dataset.{dataset}"
        if dataset not in known_datasets():
            problems.append(f"{prefix}: unknown dataset{_nearest(dataset, known_datasets())}")
        elif isinstance(override, dict):
            new = [p for p in _override_problems(values, override) if p not in problems]
            problems += [f"{prefix}.{problem}" for problem in new]
    return problems


def _override_problems(values: dict, override: dict) -> list[str]:
    """What is wrong with the configuration once a dataset's overrides are applied."""
    entries = values.get("models")
    models = override.get("models")
    if isinstance(entries, dict) and isinstance(models, dict):
        new = sorted(set(models) - set(entries))
        if new:
            return [f"models.{n}: no such entry under models{_nearest(n, entries)}" for n in new]
    # Keys that no override may have are reported where they stand.
    known = _schema()["properties"]["per_dataset"]["additionalProperties"]["properties"]
    override = {key: value for key, value in override.items() if key in known}
    return _problems_at_once(_apply(values, override))


def _apply(values: dict, override: dict) -> dict:
    merged = merge(values, override)
    if "decoder" in override:  # another kind has other settings: replaced, not merged
        merged["decoder"] = copy.deepcopy(override["decoder"])
    return merged


@cache
def _schema() -> dict:
    return load_schema("config")


def _problems_at_once(values: dict) -> list[str]:
    problems = _schema_problems(values, _schema(), "")
    models = values.get("models")
    for name, entry in models.items() if isinstance(models, dict) else ():
        problems += _model_problems(name, entry, models)
    problems += _domain_problems({k: v for k, v in values.items() if k != "per_dataset"}, "")
    datasets = values.get("datasets")
    for index, name in enumerate(datasets if isinstance(datasets, list) else ()):
        if isinstance(name, str) and name not in known_datasets():
            problems.append(
                f"datasets[{index}]: unknown dataset {name!r}{_nearest(name, known_datasets())}"
            )
    return problems


def _domain_problems(values, path: str) -> list[str]:
    """A schema cannot say that a domain [a, b] needs a < b."""
    if not isinstance(values, dict):
        return []
    problems = []
    for key, value in values.items():
        here = _yaml_path(path, [key])
        if key == "domain" and isinstance(value, list):
            numbers = all(isinstance(end, int | float) for end in value)
            if numbers and value != sorted(set(value)):
                problems.append(f"{here}: must be [a, b] with a < b, not {value}")
        problems += _domain_problems(value, here)
    return problems


def _model_problems(name: str, entry, models: dict) -> list[str]:
    path = f"models.{name}"
    if not isinstance(entry, dict):
        return [f"{path}: must be a mapping of settings, not {entry!r}"]
    if name in (REAL, CLASSIFIER):
        return [f"{path}: {name!r} is a reserved name; choose another"]
    if "weights_of" in entry:
        return _variant_problems(path, entry, models)
    architecture = entry.get("model", name)
    if not isinstance(architecture, str) or architecture not in MODELS:
        hint = "" if "model" in entry else "; name a variant with `model: <registered name>`"
        return [f"{path}: unknown model {architecture!r}{_nearest(architecture, MODELS)}{hint}"]
    schema = {**_schema()["$defs"]["models"][architecture], "$defs": _schema()["$defs"]}
    return _schema_problems(entry, schema, path)


def _variant_problems(path: str, entry: dict, models: dict) -> list[str]:
    """Of an entry that uses another's weights."""
    other = entry["weights_of"]
    trained = [n for n, e in models.items() if isinstance(e, dict) and "weights_of" not in e]
    if other not in trained:
        return [f"{path}.weights_of: no trained entry {other!r}{_nearest(other, trained)}"]
    architecture = models[other].get("model", other)
    known = _schema()["$defs"]["variants"]
    if architecture not in known:
        able = ", ".join(known)
        return [f"{path}.weights_of: {architecture!r} samples in one way only; others: {able}"]
    return _schema_problems(entry, {**known[architecture], "$defs": _schema()["$defs"]}, path)


def _schema_problems(values, schema: dict, prefix: str) -> list[str]:
    errors = strict_validator(schema).iter_errors(values)
    errors = sorted(errors, key=lambda e: (list(map(str, e.path)), str(e)))
    return [line for error in errors for line in _describe(error, prefix)]


def _describe(error: jsonschema.ValidationError, prefix: str) -> list[str]:
    """Readable lines for one schema error."""
    path = _yaml_path(prefix, error.absolute_path)
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = error.schema.get("properties", {})
        extra = [key for key in error.instance if key not in known]
        return [
            f"{_yaml_path(path, [key])}: unknown setting{_nearest(key, known)}" for key in extra
        ]
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        # jsonschema reports each missing key as an error of its own.
        key = next(k for k in missing if error.message.startswith(repr(k)))
        return [f"{_yaml_path(path, [key])}: missing"]
    if error.validator == "not":
        return [f"{path}: not a setting of this model"]
    if error.validator == "type":
        return [f"{path or 'configuration'}: {_describe_type(error)}"]
    if error.validator == "enum":
        known = ", ".join(map(str, error.validator_value))
        hint = _nearest(error.instance, error.validator_value)
        return [f"{path}: {error.instance!r} is not one of {known}{hint}"]
    if error.validator == "pattern":
        return [f"{path or prefix}: {error.instance!r} must match {error.validator_value}"]
    return [f"{path or 'configuration'}: {error.message}"]


def _describe_type(error: jsonschema.ValidationError) -> str:
    value, wanted = error.instance, error.validator_value
    try:
        number = float(value) if isinstance(value, str) else None
    except ValueError:
        number = None
    if number is None:
        return f"must be {wanted}, not {value!r}"
    # YAML 1.1 reads 1e-4 as text: a float needs a dot before the exponent.
    if wanted == "integer" and number.is_integer():
        return f"must be {wanted}, but {value!r} is text in YAML; write {int(number)}"
    mantissa, _, exponent = f"{number:e}".partition("e")
    plain = f"{float(mantissa)}e{int(exponent):+d}" if "e" in value.lower() else f"{number:g}"
    return f"must be {wanted}, but {value!r} is text in YAML; write {plain}"


def _yaml_path(prefix: str, parts) -> str:
    path = prefix
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def _nearest(name, known) -> str:
    """ "; did you mean ...?" when a known name is close, the list of names otherwise."""
    close = difflib.get_close_matches(str(name), list(map(str, known)), n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(map(str, known))}" if known else ""

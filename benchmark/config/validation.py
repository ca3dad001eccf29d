"""Everything that is wrong with a configuration, each problem with its path and a way out.

A JSON schema says most of it; what a schema cannot say is said here.
"""

import copy
import difflib
import math
from functools import cache

import jsonschema

from benchmark.base.schema import load_schema, strict_validator
from benchmark.config.facts import known_datasets
from benchmark.config.registry import MODELS

# Entry names with a meaning of their own: real images, and the classifier behind FD-classifier.
REAL = "real"
CLASSIFIER = "classifier"


def find_problems(values: dict) -> list[str]:
    """Every problem of a parsed configuration, each as "path: what, and what to do"."""
    problems = _problems_at_once(values)
    overrides = values.get("per_dataset", {})
    if not isinstance(overrides, dict):
        return problems
    problems += _split_problems(values, overrides)
    for dataset, override in overrides.items():
        prefix = f"per_dataset.{dataset}"
        if dataset not in _datasets(values):
            problems.append(f"{prefix}: unknown dataset{_nearest(dataset, _datasets(values))}")
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
    return _problems_at_once(apply_override(values, override))


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
        if isinstance(name, str) and name not in _datasets(values):
            problems.append(
                f"datasets[{index}]: unknown dataset {name!r}{_nearest(name, _datasets(values))}"
            )
    problems += [
        f"own_datasets.{name}: is the name of a dataset of config/datasets.yaml; choose another"
        for name in _own_datasets(values)
        if name in known_datasets()
    ]
    return problems


def _split_problems(values: dict, overrides: dict) -> list[str]:
    """Splits that are asked for and that a dataset does not have."""
    problems = []
    names = values.get("datasets")
    for name in names if isinstance(names, list) else ():
        facts = _datasets(values).get(name) if isinstance(name, str) else None
        splits = _mapping(_mapping(facts).get("splits"))
        resolved = apply_override(values, _mapping(overrides.get(name))) if splits else {}
        evaluation = _mapping(resolved.get("evaluation"))
        asked = {f"references.{split}": split for split in _mapping(evaluation.get("references"))}
        asked["likelihood.split"] = _mapping(evaluation.get("likelihood")).get("split")
        problems += [
            f"evaluation.{path}: {name} has no {split} split; known: {', '.join(splits)}"
            for path, split in asked.items()
            if split in _known_splits() and split not in splits
        ]
    return problems


def _known_splits() -> list[str]:
    return _schema()["$defs"]["split"]["enum"]


def _mapping(value) -> dict:
    return value if isinstance(value, dict) else {}


def _own_datasets(values: dict) -> dict:
    return _mapping(values.get("own_datasets"))


def _datasets(values: dict) -> dict:
    return known_datasets() | _own_datasets(values)


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
    if not isinstance(architecture, str):
        return []  # a problem of the other entry, reported there
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
        pattern = error.validator_value.replace(r"\Z", "$")
        return [f"{path or prefix}: {error.instance!r} must match {pattern}"]
    return [f"{path or 'configuration'}: {error.message}"]


def _describe_type(error: jsonschema.ValidationError) -> str:
    value, wanted = error.instance, error.validator_value
    try:
        number = float(value) if isinstance(value, str) else None
    except ValueError:
        number = None
    if number is None or not math.isfinite(number):
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


def merge(base: dict, overrides: dict) -> dict:
    """`base` with `overrides` laid over it, mapping by mapping; neither is changed."""
    merged = copy.deepcopy(base)
    for key, value in overrides.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def apply_override(values: dict, override: dict) -> dict:
    """The configuration with the overrides for one dataset laid over it."""
    merged = merge(values, override)
    if "decoder" in override:  # another kind has other settings: replaced, not merged
        merged["decoder"] = copy.deepcopy(override["decoder"])
    return merged

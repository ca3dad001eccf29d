"""Everything that is wrong with a configuration, each problem with its path and a way out.

The typed classes say most of it; what one class alone cannot know is said here.
"""

import copy
import json
from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.json_schema import models_json_schema

from benchmark.base.paths import ROOT
from benchmark.base.typed import Strict, nearest, problems
from benchmark.config.entries import ConvStackDecoder, Decoder, Training
from benchmark.config.facts import DatasetEntry, known_datasets
from benchmark.config.registry import MODELS, ModelSpec
from benchmark.config.settings import DatasetOverride, Run

# Entry names with a meaning of their own: real images, and the classifier behind FD-classifier.
REAL = "real"
CLASSIFIER = "classifier"

_DECODER = TypeAdapter(Decoder)


def find_problems(values: dict) -> list[str]:
    """Return every problem of a parsed configuration, as "path: what, and what to do"."""
    wrong = list(dict.fromkeys(_problems_at_once(values)))
    overrides = values.get("per_dataset", {})
    if not isinstance(overrides, dict):
        return wrong
    wrong += _split_problems(values, overrides)
    wrong += dict.fromkeys(_decoder_problems(values, overrides))
    for dataset, override in overrides.items():
        prefix = f"per_dataset.{dataset}"
        if dataset not in _datasets(values):
            wrong.append(f"{prefix}: unknown dataset{nearest(dataset, _datasets(values))}")
        elif isinstance(override, dict):
            new = [p for p in _override_problems(values, override) if p not in wrong]
            wrong += [f"{prefix}.{problem}" for problem in new]
    return wrong


def _override_problems(values: dict, override: dict) -> list[str]:
    """Return what is wrong with the configuration once a dataset's overrides are applied."""
    entries = values.get("models")
    models = override.get("models")
    if isinstance(entries, dict) and isinstance(models, dict):
        new = sorted(set(models) - set(entries))
        if new:
            return [f"models.{n}: no such entry under models{nearest(n, entries)}" for n in new]
    # Keys that no override may have, and values of a wrong type, are reported where they stand.
    known = {
        key: value
        for key, value in override.items()
        if key in DatasetOverride.model_fields and isinstance(value, dict)
    }
    return _problems_at_once(merge(values, known))


def _problems_at_once(values: dict) -> Iterator[str]:
    yield from _class_problems(Run, values)
    models = values.get("models")
    for name, entry in models.items() if isinstance(models, dict) else ():
        wrong = _entry_problems(name, entry, models)
        yield from wrong or _training_problems(name, entry, values)
    specs = {name: _spec(name, entry) for name, entry in _mapping(models).items()}
    kaem = [name for name, spec in specs.items() if spec and spec.family == "kaem"]
    yield from _unknown_names("inspected", values, kaem)
    drawn = [path.stem for path in ROOT.glob("paper_figures/[!b]*/*.py")]
    yield from _unknown_names("left_out", values, drawn)
    datasets = values.get("datasets")
    for index, name in enumerate(datasets if isinstance(datasets, list) else ()):
        if isinstance(name, str) and name not in _datasets(values):
            hint = nearest(name, _datasets(values))
            yield f"datasets[{index}]: unknown dataset {name!r}{hint}"
    for name in _mapping(values.get("own_datasets")):
        if name in known_datasets():
            yield (
                f"own_datasets.{name}: is the name of a dataset of config/datasets.yaml; "
                "choose another"
            )


def _unknown_names(key: str, values: dict, known: list[str]) -> Iterator[str]:
    names = values.get(key)
    for index, name in enumerate(names if isinstance(names, list) else ()):
        if name not in known:
            yield f"{key}[{index}]: there is no {name!r}{nearest(str(name), known)}"


def _entry_problems(name: str, entry: Any, models: dict) -> list[str]:
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
        return [f"{path}: unknown model {architecture!r}{nearest(architecture, MODELS)}{hint}"]
    problems = _class_problems(MODELS[architecture].entry, entry, path)
    if name in MODELS and MODELS[architecture].family == "kaem" and "copula" in entry:
        problems.append(
            f"{path}.copula: {name!r} is the paper's model, on which its claims are judged; give "
            f"this entry another name, and `model: {architecture}`"
        )
    return problems


def _training_problems(name: str, entry: dict, values: dict) -> list[str]:
    """Return what is wrong with an entry's own training once it is laid over the shared one."""
    shared = values.get("training")
    if "training" not in entry or _class_problems(Training, shared):
        return []
    return _class_problems(Training, merge(shared, entry["training"]), f"models.{name}.training")


def _variant_problems(path: str, entry: dict, models: dict) -> list[str]:
    """Return what is wrong with an entry that uses another's weights."""
    other = entry["weights_of"]
    trained = [n for n, e in models.items() if isinstance(e, dict) and "weights_of" not in e]
    if other not in trained:
        return [f"{path}.weights_of: no trained entry {other!r}{nearest(other, trained)}"]
    architecture = models[other].get("model", other)
    if not isinstance(architecture, str) or architecture not in MODELS:
        return []  # a problem of the other entry, reported there
    if MODELS[architecture].variant is None:
        able = ", ".join(name for name, spec in MODELS.items() if spec.variant)
        return [f"{path}.weights_of: {architecture!r} samples in one way only; others: {able}"]
    return _class_problems(MODELS[architecture].variant, entry, path)


def _class_problems(kind: type[Strict], values: dict, prefix: str = "") -> list[str]:
    try:
        kind.model_validate(values)
    except ValidationError as error:
        lines = problems(error, values, prefix or "configuration")
        whole = f"{prefix}: "  # of a problem of the values themselves
        return [
            line if not prefix or line.startswith(whole) else f"{prefix}.{line}" for line in lines
        ]
    return []


def _split_problems(values: dict, overrides: dict) -> Iterator[str]:
    """Name the splits that are wanted and that a dataset does not have."""
    names = values.get("datasets")
    for name in names if isinstance(names, list) else ():
        facts = _datasets(values).get(name) if isinstance(name, str) else None
        splits = _mapping(_mapping(facts).get("splits"))
        resolved = merge(values, _mapping(overrides.get(name))) if splits else {}
        evaluation = _mapping(resolved.get("evaluation"))
        wanted = {f"references.{split}": split for split in _mapping(evaluation.get("references"))}
        wanted["likelihood.split"] = _mapping(evaluation.get("likelihood")).get("split")
        for path, split in wanted.items():
            if split in ("train", "validation", "test") and split not in splits:
                known = ", ".join(splits)
                yield f"evaluation.{path}: {name} has no {split} split; known: {known}"


def _decoder_problems(values: dict, overrides: dict) -> Iterator[str]:
    """Name decoders that cannot make a dataset's images, and encoders that do not suit theirs."""
    names = values.get("datasets")
    for name in names if isinstance(names, list) else ():
        facts = _datasets(values).get(name) if isinstance(name, str) else None
        override = _mapping(overrides.get(name)) if facts else {}
        resolved = merge(values, override)
        for model, entry in _mapping(resolved.get("models")).items():
            spec = _spec(model, entry)
            if not spec or not spec.decoder:
                continue
            own = "decoder" in entry
            try:
                decoder = _DECODER.validate_python(entry["decoder"] if own else resolved["decoder"])
                sides = DatasetEntry.model_validate(facts).image_shape[1:]
            except (ValidationError, KeyError):
                continue  # said elsewhere
            stack = isinstance(decoder, ConvStackDecoder)
            if stack and sides not in [(side, side) for side in decoder.sides]:
                path = _place(f"models.{model}.decoder" if own else "decoder", name, override)
                yield (
                    f"{path}.channels: {len(decoder.channels)} that start at {decoder.start} make "
                    f"images with a side of {decoder.sides[1]}, or {decoder.sides[0]} where the "
                    f"last layer keeps it; {name} has {sides[0]}x{sides[1]}"
                )
            if "encoder_width" in spec.entry.model_fields and stack == ("encoder_width" in entry):
                path = _place(f"models.{model}.encoder_width", name, override)
                what = "the encoder mirrors it: leave this out" if stack else "missing"
                yield f"{path}: {what} (the decoder for {name} is a {decoder.kind})"


def _spec(name: str, entry: Any) -> ModelSpec | None:
    """Return the registry's entry behind an entry that is trained; None where there is none."""
    if not isinstance(entry, dict) or "weights_of" in entry or name in (REAL, CLASSIFIER):
        return None
    architecture = entry.get("model", name)
    return MODELS.get(architecture) if isinstance(architecture, str) else None


def _place(path: str, dataset: str, override: dict) -> str:
    """Return where a setting stands: under `per_dataset` if the dataset's override has it."""
    inner: Any = override
    for part in path.split("."):
        inner = _mapping(inner).get(part)
    return path if inner is None else f"per_dataset.{dataset}.{path}"


def _mapping(value: Any) -> dict:
    return value if isinstance(value, dict) else {}


def _datasets(values: dict) -> dict:
    return known_datasets() | _mapping(values.get("own_datasets"))


def schema() -> str:
    """Return the JSON schema of configurations, for editors."""
    kinds = [kind for spec in MODELS.values() for kind in (spec.entry, spec.variant) if kind]
    modes = [(kind, "validation") for kind in (Run, *dict.fromkeys(kinds))]
    names, whole = models_json_schema(modes)
    run = whole["$defs"].pop(Run.__name__)
    entries = run["properties"]["models"]["patternProperties"]
    anyone = {"anyOf": [names[mode] for mode in modes[1:]]}
    entries |= dict.fromkeys(entries, anyone)
    return json.dumps(run | {"$defs": whole["$defs"]}, indent=2)


def merge(base: dict, overrides: dict) -> dict:
    """Return `base` with `overrides` laid over it, mapping by mapping; neither is changed. One of
    another `kind` has other settings: it is replaced."""
    merged = copy.deepcopy(base)
    for key, value in overrides.items():
        old = merged.get(key)
        mappings = isinstance(value, dict) and isinstance(old, dict)
        if mappings and value.get("kind", old.get("kind")) == old.get("kind", value.get("kind")):
            merged[key] = merge(old, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged

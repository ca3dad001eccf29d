"""JSON schemas, read strictly: an integer is an int (not 100.0), a number is finite, and a text
that matches a pattern has no line break after it.
"""

import json
import math

import jsonschema

from benchmark.base.paths import ROOT

FOLDER = ROOT / "config" / "schema"


def load_schema(name: str) -> dict:
    """The schema `config/schema/<name>.schema.json`."""
    return json.loads((FOLDER / f"{name}.schema.json").read_text(), object_hook=_ends)


def _ends(schema: dict) -> dict:
    """JSON Schema's "$" is the end of a text; Python's is also before a line break that ends it."""
    if isinstance(schema.get("pattern"), str):
        schema["pattern"] = schema["pattern"].replace("$", r"\Z")
    if "patternProperties" in schema:
        patterns = schema["patternProperties"].items()
        schema["patternProperties"] = {key.replace("$", r"\Z"): each for key, each in patterns}
    return schema


def strict_validator(schema: dict) -> jsonschema.protocols.Validator:
    """A validator that takes no float for a count and no NaN or infinity for a number."""
    return _Validator(schema)


def _is_integer(_checker, value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(checker, value) -> bool:
    return _is_integer(checker, value) or (isinstance(value, float) and math.isfinite(value))


_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"integer": _is_integer, "number": _is_number}
    ),
)

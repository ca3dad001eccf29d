"""Typed classes for what files hold, read strictly, and what is wrong with a file as lines to read.

An integer is an int (not 100.0, not True), a number is finite, an unknown key is refused, and a
pattern holds to the very end of a text. Numbers stay as they were written: 1 is not made 1.0.
"""

import difflib
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    WrapValidator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from benchmark.base.errors import ConfigError
from benchmark.base.foreign import LARGEST_YAML, parse_yaml, read_text
from benchmark.base.paths import ROOT

T = TypeVar("T")


class Strict(BaseModel):
    """A mapping with known keys, each of one type; the base of every class that a file is read
    into, by `model_validate`."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=()
    )

    def plain(self) -> dict[str, Any]:
        """Return what was given, without what was left out."""
        return self.model_dump(exclude_unset=True)

    @model_validator(mode="wrap")
    @classmethod
    def _name_the_nearest(cls, values, check):
        """Say of an unknown key which of this class's keys is nearest."""
        try:
            return check(values)
        except ValidationError as error:
            known = [field.alias or name for name, field in cls.model_fields.items()]
            lines = [_with_nearest(line, known) for line in error.errors(include_url=False)]
            raise ValidationError.from_exception_data(cls.__name__, lines) from None


def _with_nearest(error: dict, known: list[str]) -> InitErrorDetails:
    kind: str | PydanticCustomError = error["type"]
    if kind == "extra_forbidden" and len(error["loc"]) == 1:
        kind = PydanticCustomError(
            "unknown", "unknown setting{hint}", {"hint": nearest(error["loc"][0], known)}
        )
    elif kind == "unknown":
        kind = PydanticCustomError("unknown", "unknown setting{hint}", error["ctx"])
    return InitErrorDetails(
        type=kind, loc=error["loc"], input=error["input"], ctx=error.get("ctx", {})
    )


def _as_written(value, check):
    check(value)
    return value


_AS_WRITTEN = WrapValidator(_as_written)
Number = Annotated[float, _AS_WRITTEN]
Positive = Annotated[float, Field(gt=0), _AS_WRITTEN]
NotNegative = Annotated[float, Field(ge=0), _AS_WRITTEN]
Share = Annotated[float, Field(ge=0, le=1), _AS_WRITTEN]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]
# What tables and figures show: one line, no formula, and nothing that a figure's legend leaves out.
Label = Annotated[str, Field(pattern=r"^[^_$\r\n][^$\r\n]*$")]

TYPES = {
    "int_type": "integer",
    "int_from_float": "integer",
    "float_type": "number",
    "finite_number": "number",
    "string_type": "string",
    "bool_type": "boolean",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "none_required": "null",
}
BOUNDS = {
    "greater_than_equal": "{input!r} is less than the minimum of {ge:g}",
    "greater_than": "{input!r} is less than or equal to the minimum of {gt:g}",
    "less_than_equal": "{input!r} is greater than the maximum of {le:g}",
    "less_than": "{input!r} is greater than or equal to the maximum of {lt:g}",
    "string_pattern_mismatch": "{input!r} must match {pattern}",
    "too_long": "{input!r} is too long",
    "string_too_long": "{input!r} is too long",
}


def load_yaml(path: Path, kind: type[T], check: Callable[[T], Iterable[str]] = lambda _: ()) -> T:
    """Read one of the project's YAML files as a `kind`, such as list[Claim].

    Args:
        check: what else is wrong with it, a line each.

    Raises:
        ConfigError: it has a wrong key or value.
    """
    source = str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
    try:
        values = parse_yaml(read_text(path, LARGEST_YAML))
    except OSError as error:
        raise ConfigError(source, [f"cannot be read: {error.strerror}"]) from error
    except ValueError as error:
        raise ConfigError(source, [f"is not valid YAML: {error}"]) from error
    try:
        content = TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise ConfigError(source, problems(error, values, "the whole")) from error
    wrong = list(check(content))
    if wrong:
        raise ConfigError(source, wrong)
    return content


def problems(error: ValidationError, values: Any, whole: str = "configuration") -> list[str]:
    """Return a line "path: what is wrong" for each place where `values` are not as their class.

    Args:
        values: what was validated, as it was read.
        whole: what to call `values` themselves.
    """
    wanted: dict[str, tuple[list[str], Any]] = {}
    lines = []
    for detail in error.errors(include_url=False):
        path = yaml_path(_places(detail["loc"], detail["type"], values)) or whole
        if detail["type"] in TYPES:  # of a union each member says what it wants
            wanted.setdefault(path, ([], detail["input"]))[0].append(TYPES[detail["type"]])
        elif detail["type"].startswith("union_tag"):
            path = f"{path}.{detail['ctx']['discriminator'].strip(repr(''))}"
            lines.append((path, _describe(detail)))
        else:
            lines.append((path, _describe(detail)))
    lines += [(path, _describe_type(*each)) for path, each in wanted.items()]
    return [f"{path}: {what}" for path, what in sorted(lines)]


def _places(loc: tuple, kind: str, values: Any) -> list[str | int]:
    """Return the keys and indices of a place, less the members of unions that pydantic names."""
    if loc and loc[-1] == "[key]":  # of a mapping, which is the place
        loc = loc[:-2]
    places = []
    for number, part in enumerate(loc):
        inside = isinstance(values, dict) and part in values
        inside |= isinstance(values, list) and isinstance(part, int) and part < len(values)
        if inside:
            values = values[part]
        if inside or (kind == "missing" and number == len(loc) - 1):
            places.append(part)
    return places


def _describe(detail: dict) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind in ("missing", "union_tag_not_found"):
        return "missing"
    if kind in ("literal_error", "union_tag_invalid"):
        value = context.get("tag", value)
        expected = context.get("expected_tags") or context["expected"]
        known = [name.strip(repr("")) for name in re.split(", | or ", expected)]
        return f"{value!r} is not one of {', '.join(known)}{nearest(value, known)}"
    if kind in ("too_short", "string_too_short"):
        least = context.get("min_length")
        return f"{value!r} {'should be non-empty' if least == 1 else 'is too short'}"
    if kind in BOUNDS:
        return BOUNDS[kind].format(input=value, **context) + _rewritten(kind, value, context)
    return str(context.get("error", detail["msg"]))  # a ValueError of ours has its own words


def _rewritten(kind: str, value: Any, context: dict) -> str:
    """Return what to write instead of a name that has letters it may not have."""
    if kind != "string_pattern_mismatch":
        return ""
    plain = re.sub("[^a-z0-9]+", "_", value.lower())
    return f"; write {plain!r}" if re.fullmatch(context["pattern"], plain) else ""


def _describe_type(names: Iterable[str], value: Any) -> str:
    wanted = " or ".join(dict.fromkeys(names))
    if wanted == "a list" and isinstance(value, int | float | str):
        return f"must be a list, not {value!r}; write [{value}]"
    try:
        number = float(value) if isinstance(value, str) else None
    except ValueError:
        number = None
    if number is None or not math.isfinite(number) or wanted not in ("integer", "number"):
        return f"must be {wanted}, not {value!r}"
    # YAML 1.1 reads 1e-4 as text: a float needs a dot before the exponent.
    if wanted == "integer" and number.is_integer():
        return f"must be {wanted}, but {value!r} is text in YAML; write {int(number)}"
    mantissa, _, exponent = f"{number:e}".partition("e")
    plain = f"{float(mantissa)}e{int(exponent):+d}" if "e" in value.lower() else f"{number:g}"
    return f"must be {wanted}, but {value!r} is text in YAML; write {plain}"


def yaml_path(parts: Iterable[str | int]) -> str:
    """Return a path such as `models.kaem_is.prior.q` or `datasets[0]`."""
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def nearest(name: Any, known: Iterable[Any]) -> str:
    """Return "; did you mean ...?" when a known name is close, the list of names otherwise."""
    names = list(map(str, known))
    close = difflib.get_close_matches(str(name), names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""

"""Reading what may come from others: bounded before it is read, plain values, and no code.

Each function says in a ValueError why it refuses a file; callers add which file, and what to do.
"""

import json
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MIB = 2**20
LARGEST_TEXT = 16 * MIB  # bytes
LARGEST_YAML = MIB // 16
MOST_VALUES = 20_000  # of a YAML file, each alias counted as what it stands for
DEEPEST = 100  # mappings and lists inside each other
LONGEST_NUMBER = 100  # characters
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def read_text(path: str | Path, largest: int = LARGEST_TEXT) -> str:
    """Read the text of a regular file of at most `largest` bytes.

    Raises:
        OSError: it cannot be read; ValueError: it is no regular file, too large, or not UTF-8.
    """
    check_size(path, largest)
    return Path(path).read_text(encoding="utf-8")


def check_size(path: str | Path, largest: int) -> None:
    """Refuse more than `largest` bytes, and what has no size: reading a pipe would wait forever.

    Raises:
        OSError: it is not there; ValueError: it is refused.
    """
    status = Path(path).stat()
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):  # a folder fails to open
        raise ValueError("it is no regular file")
    if status.st_size > largest:
        raise ValueError(f"it has {status.st_size} bytes, more than {largest}")


def parse_json(text: str | bytes):
    """Parse a JSON text; raise ValueError for anything else, too deep a nesting included."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its lists and mappings are nested too deeply") from None


@dataclass(frozen=True)
class LocatedYaml:
    """The value of a YAML text, and where the text has its keys.

    Attributes:
        lines: path, as in `models.vae.sigma` or `seeds[0]` -> line, counted from 1.
        repeated: (path, first line, line) of keys that a mapping has twice.
    """

    value: Any
    lines: dict[str, int]
    repeated: list[tuple[str, int, int]]

    def repetitions(self) -> list[str]:
        """Return a line for each key that is there twice."""
        return [
            f"{path}: stands twice, in line {first} and in line {line}; keep one"
            for path, first, line in self.repeated
        ]


def parse_yaml(text: str):
    """Parse a YAML text of plain tags alone.

    Raises:
        ValueError: it is no YAML, has a key twice, or stands for too much: aliases of aliases can
            make a few lines stand for more than any memory holds, or for themselves.
    """
    located = locate_yaml(text)
    if located.repeated:
        raise ValueError("; ".join(located.repetitions()))
    return located.value


def locate_yaml(text: str) -> LocatedYaml:
    """Return the value of a YAML text and its places, keys that are there twice among them.

    Raises:
        ValueError: as `parse_yaml`, but for keys that are there twice, of which the last counts.
    """
    if len(text) > LARGEST_YAML:
        raise ValueError(f"it has {len(text)} characters, more than {LARGEST_YAML}")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            return LocatedYaml(None, {}, [])
        _count(node, {}, 0)
        lines: dict[str, int] = {}
        repeated: list[tuple[str, int, int]] = []
        _locate(node, "", lines, repeated)  # before construction, which merges mappings in place
        return LocatedYaml(yaml.SafeLoader("").construct_document(node), lines, repeated)
    except yaml.YAMLError as error:
        raise ValueError(str(error).replace('"<unicode string>", ', "")) from error
    except RecursionError:
        raise ValueError("its lists and mappings are nested too deeply") from None
    except (AttributeError, IndexError, KeyError) as error:  # PyYAML's words for "!!int ''"
        raise ValueError(f"a value does not fit its tag: {error!r}") from error


def _locate(
    node: yaml.Node, path: str, lines: dict[str, int], repeated: list[tuple[str, int, int]]
) -> None:
    """Note the lines of all that is below a node, which has a bounded size."""
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            lines[f"{path}[{index}]"] = child.start_mark.line + 1
            _locate(child, f"{path}[{index}]", lines, repeated)
    elif isinstance(node, yaml.MappingNode):
        own: dict[str, int] = {}
        for key, child in node.value:
            name = key.value if isinstance(key.value, str) else "?"
            place, line = f"{path}.{name}" if path else name, key.start_mark.line + 1
            if name in own:
                row = (place, own[name], line)
                repeated += [] if row[1:] in [known[1:] for known in repeated] else [row]
            own[name] = lines[place] = line
            _locate(child, place, lines, repeated)


def _count(node: yaml.Node, counts: dict[int, int], depth: int) -> int:
    """Count the values that a node stands for."""
    if depth > DEEPEST:
        raise ValueError(f"more than {DEEPEST} lists and mappings are inside each other")
    if id(node) not in counts:
        children: Iterable[yaml.Node] = ()
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = (child for pair in node.value for child in pair)
        elif node.tag in NUMBERS and len(node.value) > LONGEST_NUMBER:
            raise ValueError(f"a number has {len(node.value)} characters")
        counts[id(node)] = 1 + sum(_count(child, counts, depth + 1) for child in children)
    if counts[id(node)] > MOST_VALUES:
        raise ValueError(f"it stands for more than {MOST_VALUES} values, aliases written out")
    return counts[id(node)]

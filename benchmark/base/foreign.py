"""Reading what may come from others: bounded before it is read, plain values, and no code.

Each function says in a ValueError why it refuses a file; callers add which file, and what to do.
"""

import json
import stat
from collections.abc import Iterable
from pathlib import Path

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
    return Path(path).read_text()


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


def parse_yaml(text: str):
    """Parse a YAML text of plain tags alone.

    Raises:
        ValueError: it is no YAML, or stands for too much: aliases of aliases can make a few lines
            stand for more than any memory holds, or for themselves.
    """
    if len(text) > LARGEST_YAML:
        raise ValueError(f"it has {len(text)} characters, more than {LARGEST_YAML}")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            return None
        _count(node, {}, 0)
        return yaml.SafeLoader("").construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except RecursionError:
        raise ValueError("its lists and mappings are nested too deeply") from None
    except (AttributeError, IndexError, KeyError) as error:  # PyYAML's words for "!!int ''"
        raise ValueError(f"a value does not fit its tag: {error!r}") from error


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

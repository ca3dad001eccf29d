"""What may come from others: bombs are refused before they go off, and nothing hangs."""

import os
import time

import pytest

from benchmark.base.errors import ConfigError
from benchmark.base.foreign import (
    DEEPEST,
    LARGEST_YAML,
    LONGEST_NUMBER,
    MOST_VALUES,
    parse_json,
    parse_yaml,
    read_text,
)

# Each line holds nine of the line above: 9^9 values.
LAUGHS = "a: &a [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n" + "".join(
    f"{this}: &{this} [{', '.join([f'*{above}'] * 9)}]\n"
    for above, this in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = (
    LAUGHS.replace("[ha, ha, ha, ha, ha, ha, ha, ha, ha]", "{k: v}")
    .replace("[*", "{<<: [*")
    .replace("]", "]}")
)

BOMBS = {
    "aliases of aliases": (LAUGHS, "aliases written out"),
    "merged aliases of aliases": (MERGES, "aliases written out"),
    "many values": ("[" + "0," * MOST_VALUES + "]", "aliases written out"),
    "a list in itself": ("a: &a [*a]", "inside each other"),
    "a mapping in itself": ("&a {k: *a}", "inside each other"),
    "deeper than is allowed": ("[" * (DEEPEST + 2) + "]" * (DEEPEST + 2), "inside each other"),
    "very deep": ("[" * 1000, "nested too deeply"),
    "a long text": ("a" * (LARGEST_YAML + 1), "characters, more than"),
    "a long number": ("a: " + "9" * (LONGEST_NUMBER + 1), "a number has"),
    "a long number of hex digits": ("a: 0x" + "f" * 5000, "a number has"),
    "a long number in base 60": ("a: 1" + ":59" * 1000, "a number has"),
}


@pytest.mark.parametrize(("text", "message"), BOMBS.values(), ids=BOMBS)
def test_a_yaml_bomb_is_refused_at_once(text, message):
    started = time.process_time()
    with pytest.raises(ValueError, match=message):
        parse_yaml(text)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "text",
    [
        *("!!python/object/apply:os.system [touch pwned]", "!!python/name:os.system", "!own a"),
        *("!!int ''", "!!float ''", "!!bool maybe", "!!timestamp noon", "2001-99-99", "0x_"),
        *("[a", "a: b: c", "--- a\n--- b", "\0", "? [a]\n: b", "<<: 3"),
    ],
)
def test_what_is_no_plain_yaml_is_one_error(text):
    with pytest.raises(ValueError, match=r".+"):
        parse_yaml(text)


def test_aliases_and_merges_as_configurations_use_them():
    text = "a: &a {x: 1, y: [2.5e-1, no]}\nb: *a\nc: {<<: *a, x: 3}\n"
    a = {"x": 1, "y": [0.25, False]}
    assert parse_yaml(text) == {"a": a, "b": a, "c": a | {"x": 3}}
    assert parse_yaml("") is None


@pytest.mark.parametrize(
    "text",
    [
        "a: {b: [{c: 1, d: 2, 'c': 3}]}",
        "x: &x {c: 1}\na: {<<: *x, <<: {c: 2}}",
        "a: {<<: {c: 1, c: 2}}",
        "a: &x {c: 1, c: 2}\nb: *x",
    ],
)
def test_a_key_that_stands_twice_is_refused_at_any_depth(text):
    with pytest.raises(
        ValueError, match=r"^a\.[\w.<\[\]]+: stands twice, in line \d and in line \d"
    ):
        parse_yaml(text)


def test_a_bomb_as_a_configuration_names_its_file(tmp_path):
    from benchmark.config.config import load_config

    path = tmp_path / "laughs.yaml"
    path.write_text(LAUGHS)
    with pytest.raises(ConfigError, match=r"laughs\.yaml: 1 problem\n.*is not valid YAML: .*alias"):
        load_config(path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, "[1", ""])
def test_json_that_cannot_be_read_is_one_error(text):
    with pytest.raises(ValueError, match=r".+"):
        parse_json(text)


def test_a_file_that_is_too_large_is_not_read_and_a_pipe_not_waited_for(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as handle:
        handle.truncate(2**40)
    with pytest.raises(ValueError, match=r"1099511627776 bytes, more than"):
        read_text(path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no regular file"):
        read_text(tmp_path / "pipe")

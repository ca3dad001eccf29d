"""A small part of `make fuzz`, and whether it would find what it looks for."""

import threading
import warnings
from pathlib import Path

import pytest
from hypothesis import strategies as st

from studies.fuzz.readers import readers
from studies.fuzz.run import MEMORY, Reader, fuzz

INPUTS = 60  # of each reader


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    warnings.simplefilter("ignore")


def test_every_reader_raises_its_named_errors_alone(tmp_path):
    accepting = 0
    for reader in readers(tmp_path):
        count = fuzz(reader, INPUTS, tmp_path)
        assert count.inputs >= INPUTS, reader.name
        assert count.refused > INPUTS // 3, reader.name
        assert count.refused + count.accepted == count.inputs
        accepting += count.accepted > 0
    assert accepting > 5  # no fault of the harness has everything refused


def fails(_path: Path):
    raise KeyError("of some dictionary")


def takes_all_memory(_path: Path):
    bytearray(2 * MEMORY)


def computes_for_ever(_path: Path):
    while True:
        pass


def waits_for_ever(_path: Path):
    threading.Event().wait()


@pytest.mark.parametrize(
    ("read", "error", "message"),
    [
        (fails, KeyError, "of some dictionary"),
        (takes_all_memory, MemoryError, ""),
        (computes_for_ever, BaseException, r"more than 0\.2 s"),
        (waits_for_ever, BaseException, r"more than 0\.2 s"),
    ],
)
def test_a_faulty_reader_is_found(tmp_path, monkeypatch, read, error, message):
    monkeypatch.setattr("studies.fuzz.run.LONGEST", 0.2)
    monkeypatch.setattr("studies.fuzz.run.PATIENCE", 10)
    with pytest.raises(error, match=message):
        fuzz(Reader("faulty", st.binary(), read, (ValueError,)), 5, tmp_path)


def test_the_same_files_are_made_every_time(tmp_path):
    seen: list[list[bytes]] = [[], []]
    for files in seen:
        fuzz(Reader("any", st.binary(), lambda p, f=files: f.append(p.read_bytes())), 20, tmp_path)
    assert seen[0] == seen[1]
    assert len(set(seen[0])) > 10

"""Progress lines on standard error."""

import io
import os
import sys
import types

import pytest

from benchmark.base import progress
from benchmark.base.progress import format_values, show_progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a test moves it."""
    now = types.SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def test_values_come_in_a_fixed_order():
    assert format_values({"kl": 3.0, "ess": 1.23456, "other": 1.0, "loss": -512.3}) == (
        "loss -512.3 · ess 1.235 · kl 3"
    )
    assert format_values({}) == ""


def test_lines_are_rare_and_the_last_one_always_comes(clock, capsys):
    with show_progress("digits · vae · seed 0", 100, "lines") as report:
        for update in range(1, 101):
            clock.seconds = 0.1 * update  # ten seconds in all
            report(update, {"loss": float(update)})
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 2
    # Half of the updates took five seconds, so five are left.
    for part in ("digits · vae · seed 0", " 50% ", "loss 50 ", "ETA 5s", "█" * 10 + "░" * 10):
        assert part in lines[0]
    for part in ("100% ", "loss 100 ", "took 10s", "█" * 20):
        assert part in lines[1]


@pytest.mark.parametrize(("terminal", "bar"), [(True, True), (False, False)])
def test_auto_suits_standard_error(terminal, bar, clock, monkeypatch):  # noqa: ARG001
    class Stream(io.StringIO):
        def isatty(self):
            return terminal

    stream = Stream()
    monkeypatch.setattr("sys.stderr", stream)
    with show_progress("title", 10, "auto") as report:
        report(10, {"loss": 0.5})
    assert ("10/10" in stream.getvalue()) == bar
    assert ("100%" in stream.getvalue()) != bar
    assert "loss 0.5" in stream.getvalue()


def test_a_training_outlives_whoever_reads_its_lines(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb", buffering=0) as raw:  # noqa: PTH123
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, write_through=True))
        with show_progress("digits · vae · seed 0", 1, "lines") as report:
            report(1, {"loss": 1.0})
        with pytest.raises(BrokenPipeError):
            print("so it was broken", file=sys.stderr, flush=True)
        monkeypatch.undo()


def test_none_is_silent(capsys):
    with show_progress("title", 10, "none") as report:
        report(10, {"loss": 0.5})
    assert capsys.readouterr() == ("", "")

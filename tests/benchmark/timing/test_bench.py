"""The benchmark of speeds: turns, ratios, verdicts, and the table."""

import json
import time

import pytest
import torch

from benchmark.base.errors import RecordError
from benchmark.records.provenance import provenance
from benchmark.timing import bench
from benchmark.timing.__main__ import RUNS, main
from benchmark.timing.bench import compare_times, measure_promises, peak_memory, ratio_of_times
from benchmark.timing.promises import Promise, promises
from paper_figures.base.devices import read_by_device
from paper_figures.tables import bench as table

CPU = torch.device("cpu")


def record(rows: list[dict], **changes) -> dict:
    return {"promises": rows, "provenance": provenance(CPU) | changes}


@pytest.fixture
def shown(monkeypatch, tmp_path):
    """Renders records by device and returns the text of the table."""
    monkeypatch.chdir(tmp_path)

    def show(records: dict[str, dict]) -> str:
        table.render(records)
        return (tmp_path / "results/bench/tables/bench.md").read_text()

    return show


def pauses(first: float, second: float):
    return lambda _device: (lambda: time.sleep(first), lambda: time.sleep(second))


def test_the_sides_take_turns_after_a_warm_up():
    calls = []
    row = compare_times(lambda: calls.append("a"), lambda: calls.append("b"), CPU, seconds=0)
    assert "".join(calls) == "ab" + bench.FEWEST * "ab"
    assert row["turns"] == bench.FEWEST


def test_a_ratio_is_that_of_the_medians():
    # One hiccup of the machine moves neither median; the single turns' ratios are 2, 4 and 100.
    row = ratio_of_times([(4.0, 2.0), (4.0, 1.0), (400.0, 4.0)])
    assert row == {"ratio": 2, "quartiles": [3, 52], "turns": 3, "seconds": 4}


@pytest.mark.parametrize(
    ("target", "at_least", "verdict"), [(2, False, "MISSED"), (99, False, "met"), (2, True, "met")]
)
def test_a_target_is_judged_by_its_direction(target, at_least, verdict, shown):
    promise = Promise("slow / fast", target, pauses(0.03, 0.003), at_least)
    text = shown({"cpu": record(measure_promises([promise], CPU, 0))})
    assert f", {verdict}" in text
    assert f"{'>=' if at_least else '<='} {target}" in text
    assert "no GPU" in text


def test_a_row_of_another_device_stays_empty(shown):
    gpu_only = Promise("a / b", 1, lambda _device: pytest.fail("measured"), only=("cuda",))
    elsewhere = Promise("c / d", 1, pauses(0, 0), devices=("cuda",))
    rows = measure_promises([gpu_only, elsewhere], CPU, 0)
    assert "ratio" not in rows[0]
    assert not rows[1]["promised"]
    assert "no target here" in shown({"cpu": record(rows)})
    assert "| a / b" in shown({"cpu": record(rows), "cuda": record(rows)})


def test_every_promise_has_its_own_words_and_two_calls():
    rows = promises()
    assert len({row.what for row in rows}) == len(rows)
    for row in rows:
        if not any(text in row.what for text in ("DD", "10,000", "IS step")):  # seconds each
            first, second = row.sides(CPU)
            assert callable(first)
            assert callable(second)


def test_peak_memory_is_of_what_lives_at_once(shown):
    def call() -> None:
        for _ in range(3):
            first = torch.zeros(250_000)  # a megabyte
            del first
        a, b = torch.zeros(500_000), torch.zeros(250_000)
        del a, b

    assert peak_memory(call, CPU) == 3_000_000
    calls = (lambda: torch.zeros(200), lambda: torch.zeros(100))
    rows = measure_promises([Promise("two / one", 1.5, lambda _: calls, cost="memory")], CPU, 0)
    assert (rows[0]["ratio"], rows[0]["bytes"]) == (2, 800)
    assert "| 2, MISSED" in shown({"cpu": record(rows)})


def test_devices_stand_side_by_side_with_their_machines(shown):
    row = {"what": "a / b", "target": 4, "at_least": False, "promised": True, "met": True}
    cpu = record([row | {"ratio": 1.5}], cpu="CPU Y", threads=2, gpu=None)
    gpu = record([row | {"ratio": 2.5}, row | {"what": "c / d", "ratio": 5}], gpu="GPU X")
    assert "| a / b  | <= 4     | 1.5, met | no GPU |" in shown({"cpu": cpu})
    both = shown({"cpu": cpu, "cuda": gpu})
    assert "| a / b  | <= 4     | 1.5, met | 2.5, met |" in both
    assert "| c / d  | <= 4     |          | 5, met   |" in both
    assert "\nCPU: CPU Y, 2 threads.\n\nGPU: GPU X.\n" in both
    assert "| no CPU | 2.5, met |" in shown({"cuda": gpu})


@pytest.fixture
def _without_gpu(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "set_num_threads", lambda _threads: None)  # for the other tests


@pytest.mark.usefixtures("_without_gpu")
def test_from_measurement_to_table(tmp_path):
    with pytest.raises(RecordError, match="make bench"):
        read_by_device("bench")
    folder = tmp_path / "results/bench"
    plans = [Promise(what, 5, pauses(0, 0)) for what in ("one / two", "three")]
    runs = RUNS | {"bench": ("promises", plans, measure_promises, 0)}

    def lines(*words: str) -> list[str]:
        assert main(["bench", *words], runs) == 0
        table.render(read_by_device("bench"))
        return (folder / "tables/bench.md").read_text().splitlines()

    assert sum("no GPU" in line for line in lines()) == 2
    assert "source_digest" in json.loads((folder / "cpu.json").read_text())["provenance"]
    # What was measured before on another device stays in the table.
    (folder / "cpu.json").rename(folder / "cuda.json")
    rows = [line.split("|") for line in lines("--without", "two", "--seconds=0") if "|" in line]
    cells = {row[1].strip(): [cell.strip() for cell in row[3:5]] for row in rows}
    assert [cell != "" for cell in cells["one / two"]] == [False, True]
    assert [cell != "" for cell in cells["three"]] == [True, True]


@pytest.mark.usefixtures("_without_gpu")
@pytest.mark.parametrize(
    ("option", "messages"),
    [
        (
            "--without=DDPM1000",
            ["--without DDPM1000: no row says so", "DDPM-1000 images / KAEM images"],
        ),
        ("--device=cuda", ["no GPU is visible here"]),
    ],
)
def test_what_is_not_there_is_refused(tmp_path, capsys, option, messages):
    assert main(["bench", option]) != 0
    error = capsys.readouterr().err
    assert all(message in error for message in messages)
    assert not (tmp_path / "results").exists()

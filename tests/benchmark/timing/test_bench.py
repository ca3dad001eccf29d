"""The benchmark of speeds: turns, ratios, verdicts, and the table."""

import time

import pytest
import torch

from benchmark.base.errors import RecordError
from benchmark.records.provenance import provenance
from benchmark.timing import bench
from benchmark.timing.bench import Turns, measure, take_turns
from benchmark.timing.gains import gains
from benchmark.timing.promises import Row, promises
from paper_figures.base.devices import read_by_device
from paper_figures.tables import bench as table

CPU = torch.device("cpu")


def record(rows: list[dict], **changes) -> dict:
    return {"promises": rows, "gains": rows, "provenance": provenance(CPU) | changes}


@pytest.fixture
def shown(monkeypatch, tmp_path):
    """Renders records by device and returns the text of a table."""
    monkeypatch.chdir(tmp_path)

    def show(records: dict[str, dict], name: str = "bench") -> str:
        table.render(records)
        return (tmp_path / f"results/bench/tables/{name}.md").read_text()

    return show


def pause(seconds: float):
    return lambda: time.sleep(seconds)


def test_the_sides_take_turns_after_a_warm_up():
    calls = []
    turns = take_turns(lambda: calls.append("a"), lambda: calls.append("b"), CPU, seconds=0)
    assert "".join(calls) == "ab" + bench.FEWEST * "ab"
    assert len(turns.first) == len(turns.second) == bench.FEWEST


def test_a_ratio_is_that_of_the_medians():
    # One hiccup of the machine moves neither median.
    turns = Turns(first=[4.0, 4.0, 400.0], second=[2.0, 2.0, 2.0])
    assert turns.ratio == 2
    assert turns.quartiles == (2, 101)


def test_it_measures_time():
    # A sleep lasts at least as long as it was asked for; a busy machine lengthens it.
    ratio = take_turns(pause(0.04), pause(0.01), CPU, seconds=0.2).ratio
    assert 2 < ratio < 6


@pytest.mark.parametrize(("at_least", "verdict"), [(False, "MISSED"), (True, "met")])
def test_a_target_is_judged_by_its_direction(at_least, verdict, shown):
    row = Row("slow / fast", 2, lambda _device: (pause(0.03), pause(0.003)), at_least)
    text = shown({"cpu": record(measure(CPU, 0, [row]))})
    assert f", {verdict}" in text
    assert (">= 2" if at_least else "<= 2") in text
    assert "no GPU" in text


def test_a_row_of_another_device_stays_empty(shown):
    gpu_only = Row("a / b", 1, lambda _device: pytest.fail("measured"), only=("cuda",))
    elsewhere = Row("c / d", 1, lambda _device: (pause(0), pause(0)), devices=("cuda",))
    results = measure(CPU, 0, [gpu_only, elsewhere])
    assert "ratio" not in results[0]
    assert not results[1]["promised"]
    assert "no target here" in shown({"cpu": record(results)})
    assert "| a / b" in shown({"cpu": record(results), "cuda": record(results)})


def test_every_promise_has_its_own_words_and_two_calls():
    found = list(promises())
    assert len({row.what for row in found}) == len(found)
    for row in found:
        if "DD" in row.what or "10,000" in row.what or "IS step" in row.what:  # seconds each
            continue
        first, second = row.sides(CPU)
        assert callable(first)
        assert callable(second)


def test_peak_memory_is_of_what_lives_at_once():
    def call() -> None:
        for _ in range(3):
            first = torch.zeros(250_000)  # a megabyte
            del first
        a, b = torch.zeros(500_000), torch.zeros(250_000)
        del a, b

    assert bench.peak_memory(call, CPU) == 3_000_000


def test_a_row_of_memory(shown):
    calls = (lambda: torch.zeros(200), lambda: torch.zeros(100))
    row = Row("two / one", 1.5, lambda _device: calls, memory=True)
    results = measure(CPU, 0, [row])
    assert results[0]["ratio"] == 2
    assert "| 2, MISSED" in shown({"cpu": record(results)})
    assert "| 1.5         | 2     | no GPU |" in shown({"cpu": record(results)}, "gains")


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


def test_from_measurement_to_table(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    rows = [Row(what, 5, lambda _device: (pause(0), pause(0))) for what in ("one / two", "three")]
    monkeypatch.setattr(bench, "promises", lambda: iter(rows))
    monkeypatch.setattr(bench, "gains", lambda: iter(rows))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "set_num_threads", lambda _threads: None)  # for the other tests
    with pytest.raises(RecordError, match="make bench"):
        read_by_device("bench")

    def lines(*words: str) -> list[str]:
        monkeypatch.setattr("sys.argv", ["bench", "--seconds", "0", *words])
        assert bench.main() == 0
        table.render(read_by_device("bench"))
        return (folder / "tables/bench.md").read_text().splitlines()

    folder = tmp_path / "results/bench"
    assert sum("no GPU" in line for line in lines()) == 2
    assert '"source_digest"' in (folder / "cpu.json").read_text()
    # What was measured before on another device stays in the table.
    (folder / "cpu.json").rename(folder / "cuda.json")
    found = [line.split("|") for line in lines("--without", "two") if "|" in line]
    cells = {each[1].strip(): [cell.strip() for cell in each[3:5]] for each in found}
    assert [cell != "" for cell in cells["one / two"]] == [False, True]
    assert [cell != "" for cell in cells["three"]] == [True, True]


def test_rows_that_are_not_there_cannot_be_left_out(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["bench", "--without", "DDPM1000"])
    assert bench.main() != 0
    said = capsys.readouterr().err
    assert "--without DDPM1000: no row says so" in said
    assert "DDPM-1000 images / KAEM images" in said
    assert not (tmp_path / "results").exists()


def test_a_device_that_is_not_there(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["bench", "--device", "cuda"])
    assert bench.main() != 0
    assert "no GPU is visible here" in capsys.readouterr().err


@pytest.mark.parametrize("row", list(gains()), ids=lambda row: row.what.split(":")[0])
def test_before_and_after_compute_alike(row):
    """In distribution: means of ten thousand draws, within five standard errors (about one run in
    ten thousand fails by chance, were it not seeded); images and gradients are of the same size."""
    torch.manual_seed(0)
    before, after = (call() for call in row.sides(CPU))
    assert before.shape == after.shape
    if row.what.startswith("draws"):
        error = (after.var(0) / len(after)).sqrt()
        assert ((before.mean(0) - after.mean(0)).abs() < 5 * 2**0.5 * error).all()
        assert (before.std(0) / after.std(0) - 1).abs().max() < 0.06

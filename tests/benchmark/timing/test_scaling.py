"""How cost grows: the sweeps, the fitted exponents, the table and the figure."""

import re
from dataclasses import replace

import pytest
import torch

import benchmark.timing.promises
from benchmark.base.errors import RecordError
from benchmark.records.provenance import provenance
from benchmark.timing.__main__ import RUNS, main
from benchmark.timing.scaling import MEMORY, UPDATE, Sweep, measure_sweeps, sweeps
from paper_figures.base.devices import read_by_device
from paper_figures.figures import scaling as figure

CPU = torch.device("cpu")


@pytest.mark.parametrize("sweep", sweeps(), ids=lambda sweep: f"{sweep.what} {sweep.size}")
def test_every_sweep_can_be_called(sweep, monkeypatch):
    monkeypatch.setattr(benchmark.timing.promises, "BATCH", 4)
    monkeypatch.setattr(benchmark.timing.promises, "IS_UPDATES", 1)
    sweep.call(sweep.values[0], CPU)()
    assert list(sweep.values) == sorted(sweep.values)
    assert len(sweep.values) > figure.UPPER


@pytest.mark.parametrize("power", [0, 1, 2])
def test_the_exponent_is_that_of_the_upper_end(power):
    values = [1, 2, 4, 8, 16, 32]
    seconds = [1e-3 * value**power for value in values]
    assert figure.exponent(values, seconds) == pytest.approx(power)
    # A fixed cost below changes nothing.
    assert figure.exponent(values, [9.0, 9.0, 9.0, *seconds[3:]]) == pytest.approx(power)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results/scaling"


def allocating(n, device):
    return lambda: torch.empty(1024 * n, device=device)


def test_from_measurement_to_figure(monkeypatch, folder):
    monkeypatch.setattr(torch, "set_num_threads", lambda _threads: None)  # for the other tests
    quick = Sweep("a call", "n", (1, 2, 4, 8), lambda _n, _device: lambda: None, 1, "why not")
    memory, time = (
        replace(quick, what=f"{cost}, a model", call=allocating, model="vae", size="Q", cost=cost)
        for cost in (MEMORY, UPDATE)
    )
    runs = RUNS | {"scaling": ("sweeps", [quick, memory, time], measure_sweeps, 0)}
    with pytest.raises(RecordError, match="make scaling"):
        read_by_device("scaling")
    assert main(["scaling", "--device=cpu"], runs) == 0
    records = read_by_device("scaling")
    assert records["cpu"]["sweeps"][1]["bytes"] == [4096 * n for n in (1, 2, 4, 8)]
    figure.render(records)
    text = (folder / "tables/scaling.md").read_text()
    assert re.search(r"\| a call +\| n +\| 1 to 8 +\| 1 +\|", text)
    assert "| why not |" in text
    for kind in ("png", "pdf"):
        for name in ("scaling", "cost_of_size"):
            assert (folder / f"figures/{name}.{kind}").stat().st_size > 1000


def test_two_devices_stand_side_by_side(folder):
    row = {"what": "a call", "size": "n", "expected": 1, "why": "", "values": [1, 2, 4, 8]}
    origin = provenance(CPU) | {"cpu": "CPU Y", "threads": 2}
    records = {
        "cpu": {"sweeps": [row | {"seconds": [1, 2, 4, 8]}], "provenance": origin},
        "cuda": {"sweeps": [row | {"seconds": [1] * 4}], "provenance": origin | {"gpu": "GPU X"}},
    }
    figure.render(records)
    text = (folder / "tables/scaling.md").read_text()
    cells = [cell.strip() for cell in text.splitlines()[2].split("|")]
    assert cells[5:7] == ["1.00", "0.00"]
    assert "CPU: CPU Y, 2 threads." in text
    assert "GPU: GPU X." in text

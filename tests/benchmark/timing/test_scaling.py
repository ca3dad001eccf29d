"""How cost grows: the sweeps, the fitted exponents, the table and the figure."""

import json

import pytest
import torch

from benchmark.base.errors import RecordError
from benchmark.records.provenance import provenance
from benchmark.timing import scaling
from paper_figures.base.devices import read_by_device
from paper_figures.figures import scaling as figure

CPU = torch.device("cpu")
SWEEPS = {(sweep.what, sweep.size): sweep for sweep in scaling.sweeps()}


@pytest.mark.parametrize("name", SWEEPS, ids=" ".join)
def test_every_sweep_can_be_called(name):
    sweep = SWEEPS[name]
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


def test_from_measurement_to_figure(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["scaling", "--seconds", "0"])
    monkeypatch.setattr(torch, "set_num_threads", lambda _threads: None)  # for the other tests
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    quick = scaling.Sweep("a call", "n", (1, 2, 4, 8), lambda _n, _d: lambda: None, 1, "why not")
    monkeypatch.setattr(scaling, "sweeps", lambda: iter([quick]))
    with pytest.raises(RecordError, match="make scaling"):
        read_by_device("scaling")
    assert scaling.main() == 0
    figure.render(read_by_device("scaling"))
    text = (tmp_path / "results/scaling/tables/scaling.md").read_text()
    assert "| a call | n       | 1 to 8     | 1          |" in text
    assert "| why not |" in text
    for kind in ("png", "pdf"):
        assert (tmp_path / f"results/scaling/figures/scaling.{kind}").stat().st_size > 1000


def test_two_devices_stand_side_by_side(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    row = {"what": "a call", "size": "n", "expected": 1, "why": "", "values": [1, 2, 4, 8]}
    origin = provenance(CPU) | {"cpu": "CPU Y", "threads": 2}
    found = {
        "cpu": {"sweeps": [row | {"seconds": [1, 2, 4, 8]}], "provenance": origin},
        "cuda": {"sweeps": [row | {"seconds": [1] * 4}], "provenance": origin | {"gpu": "GPU X"}},
    }
    for device, record in found.items():
        path = tmp_path / f"results/scaling/{device}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
    figure.render(read_by_device("scaling"))
    text = (tmp_path / "results/scaling/tables/scaling.md").read_text()
    cells = [cell.strip() for cell in text.splitlines()[2].split("|")]
    assert cells[5:7] == ["1.00", "0.00"]
    assert "CPU: CPU Y, 2 threads." in text
    assert "GPU: GPU X." in text

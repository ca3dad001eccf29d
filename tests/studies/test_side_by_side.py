"""Trainings in processes of their own start together, and their rates add up."""

import json

import torch

from studies import pages, side_by_side


def test_a_training_in_a_process_of_its_own_has_a_rate():
    assert side_by_side.measure(1, 1, torch.device("cpu"), seconds=0.1) > 0


def test_the_page_has_a_column_for_each_number_of_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "FOLDER", tmp_path)
    monkeypatch.setattr(side_by_side, "measure", lambda n, threads, _: 10.0 * n + threads)
    side_by_side.main([])
    rows = json.loads((tmp_path / "side_by_side.json").read_text())
    assert {(row["trainings"], row["threads"]) for row in rows} == {
        (n, threads) for n in (1, 2, 3, 4) for threads in (1, 2)
    }
    header, _, *lines = (tmp_path / "side_by_side.md").read_text().splitlines()
    assert [cell.strip() for cell in header.split("|")[1:4]] == [
        "Trainings at once",
        "Updates per second, 1 thread each",
        "Updates per second, 2 threads each",
    ]
    assert [cell.strip() for cell in lines[3].split("|")[1:4]] == ["4", "41.0", "42.0"]

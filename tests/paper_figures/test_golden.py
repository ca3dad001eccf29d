"""The tables of one made-up run, word for word: cells, marks, notes and LaTeX."""

import json
from pathlib import Path

import pytest
from support.golden import FILES, GOLDEN, render_golden_run
from support.rendering import read_csv, table_file


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("golden"))
        yield render_golden_run()


@pytest.mark.parametrize("name", FILES)
def test_tables_are_what_they_were(texts, name):
    assert texts[name] == (GOLDEN / name).read_text(), (
        "if it should: PYTHONPATH=tests python -m support.golden"
    )


@pytest.mark.usefixtures("texts")
def test_quality_as_numbers():
    rows = {(row["dataset"], row["model"]): row for row in read_csv("quality", "golden")}
    kaem, real = rows["mnist", "kaem_is"], rows["mnist", "real"]
    name = "fd_classifier_test_10k"
    assert (float(kaem[f"{name}_mean"]), int(kaem[f"{name}_n"])) == (12.0, 2)
    assert float(kaem[f"{name}_std"]) == pytest.approx(8**0.5)  # n - 1 below
    assert float(kaem["training_seconds_std"]) == pytest.approx(50**0.5)
    assert (real[f"{name}_mean"], real[f"{name}_std"]) == ("2.6", "")  # one draw has no spread
    assert (real["updates"], real["training_seconds_mean"]) == ("", "")
    assert (rows["mnist", "kaem_ula"][f"{name}_mean"], kaem["updates"]) == ("", "1500")


@pytest.mark.usefixtures("texts")
def test_times_and_cost_as_numbers():
    times = {
        (row["model"], row["device"], row["mode"], row["part"], row["batch_size"]): row
        for row in read_csv("timing", "golden")
    }
    row = times["kaem_is", "cuda", "eager", "images", "4"]
    assert (row["p95"], row["hardware"], row["disturbed"]) == ("1.5", "GPU X", "False")
    assert times["vae", "cpu", "eager", "images", "4"]["left_out"] == "out of memory"
    row = read_csv("cost", "golden")[0]
    assert (row["training_seconds"], row["training_seeds"]) == ("35.0", "2.0")
    assert row["update_ms_cpu"] == "7.0"


@pytest.mark.usefixtures("texts")
@pytest.mark.parametrize("name", ["quality", "timing", "cost"])
def test_every_number_names_the_records_it_rests_on(name):
    rows = json.loads(table_file(name, "files.json", "golden").read_text())
    numbers = [
        row["files"][column]
        for row in rows
        for column, text in row["row"].items()
        if text and text[0].isdigit() and column != "Batch"
    ]
    assert len(numbers) > 4
    for files in numbers:
        assert files
        assert all(Path(file).exists() for file in files)
    assert max(map(len, numbers)) == (1 if name == "timing" else 2)  # seeds

"""What others report: the file, and the table of a run's datasets."""

from support.configs import tiny_config

from benchmark.config.facts import known_datasets
from paper_figures.tables import reported


def test_every_value_has_a_known_dataset_and_a_source():
    rows = reported.reported()
    assert set(rows["dataset"]) <= set(known_datasets())
    assert not rows.isna().any().any()
    assert not rows.duplicated(["dataset", "metric", "model", "source"]).any()


def test_the_table_has_the_datasets_of_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reported.render(tiny_config({"datasets": ["digits", "mnist"]}))
    (path,) = tmp_path.rglob("reported.md")
    lines = path.read_text().splitlines()
    assert all(line.startswith("| MNIST ") for line in lines[2:] if line.startswith("|"))
    assert sum("Dai & Wipf 2019" in line for line in lines) == 3

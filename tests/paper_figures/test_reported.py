"""What others report: the committed file. The golden run has the table."""

from benchmark.config.facts import known_datasets
from paper_figures.tables import reported


def test_every_value_has_a_known_dataset_and_a_source():
    rows = reported.reported()
    assert set(rows["dataset"]) <= set(known_datasets())
    assert not rows.isna().any().any()
    assert not rows.duplicated(["dataset", "metric", "model", "source"]).any()

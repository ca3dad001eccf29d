"""What others report: the committed file. The golden run has the table."""

import pytest
import yaml

from benchmark.base.errors import ConfigError
from benchmark.config.facts import known_datasets
from paper_figures.tables import reported


def test_every_value_has_a_known_dataset_and_a_source():
    rows = reported.reported()
    assert set(rows["dataset"]) <= set(known_datasets())
    assert not rows.isna().any().any()
    assert not rows.duplicated(["dataset", "metric", "model", "source"]).any()


def test_a_sentence_stands_beside_the_values_that_contradict_it_and_no_others(tmp_path):
    said = {"sentence": "A beats B", "source": "a page", "less": "A", "than": "B"}
    said["datasets"] = ["svhn", "cifar10"]
    values = {"svhn": {"A": 2.0, "B": 1.0, "C": 3.0}, "cifar10": {"A": 1.0, "B": 2.0}}
    values["mnist"] = values["svhn"]
    about = {"source": "s", "by": "author", "metric": "m", "convention": "c", "values": values}
    (file := tmp_path / "r.yaml").write_text(yaml.safe_dump([about | {"contradicts": [said]}]))
    found = reported.reported(file).set_index(["dataset", "model"])["contradicts"]
    assert found[found != ""].to_dict() == dict.fromkeys(
        [("svhn", "A"), ("svhn", "B")], "“A beats B” (a page)"
    )
    said["less"], said["than"] = "B", "C"
    file.write_text(yaml.safe_dump([about | {"contradicts": [said]}]))
    with pytest.raises(ConfigError, match="s, m: its values do not contradict “A beats B”"):
        reported.reported(file)

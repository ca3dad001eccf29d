"""The study of two distances: which records count, and how they order models."""

import pytest
from support.rendering import shapes_config, write_metrics, write_quality

from benchmark.base.errors import RecordError
from benchmark.config.config import REAL
from benchmark.records.folder import read_folder
from studies.distances import both_distances, correlations, shown

CLASSIFIER = [4.0, 3.0, 1.0, 2.0]
EFFICIENTNET = [8.0, 6.0, 4.0, 2.0]


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shapes_config({"seeds": [0, 1, 2], "evaluation.efficientnet": True})


def test_models_and_seeds_that_have_both_are_ordered_by_either(config):
    jobs = [(model, seed) for model in ("kaem_is", "vae") for seed in (0, 1)]
    for job, one, other in zip(jobs, CLASSIFIER, EFFICIENTNET, strict=True):
        write_quality(config, job[0], one, job[1], fd_efficientnet_test_2048=other)
    write_quality(config, REAL, 0.1, fd_efficientnet_test_2048=0.1)
    write_quality(config, "vae", 9.0, 2)  # without the other distance
    frame = both_distances(read_folder(config.folder))
    assert sorted(frame["fd_classifier"]) == sorted(CLASSIFIER)
    ranks = [(4, 4), (3, 3), (1, 2), (2, 1)]
    expected = 1 - 6 * sum((a - b) ** 2 for a, b in ranks) / (4 * (4**2 - 1))
    (line,) = correlations(frame)
    assert line.startswith("shapes, test split, 2,048 images a side: rank correlation")
    assert f"{expected:.2f} over 4 models and seeds" in line
    table = shown(frame).set_index("Model")
    assert list(table.index) == ["vae", "kaem_is"]
    assert list(table.loc["vae"][2:]) == ["1.5", 1, "3.0", 1]
    assert table.loc["kaem_is", "FD-classifier"] == "3.5"


def test_records_without_both_are_said(config):
    write_metrics(config, "vae", {"fd_efficientnet_test_2048": 1.0})
    with pytest.raises(RecordError, match="no record holds both distances"):
        both_distances(read_folder(config.folder))

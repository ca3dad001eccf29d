"""Names of metrics: written, taken apart, and read back."""

import pytest

from benchmark.records.names import METRIC, count_name, count_of, metric_name, rate_text


@pytest.mark.parametrize(
    ("count", "name"),
    [(360, "360"), (1000, "1k"), (50_000, "50k"), (50_001, "50001"), (2048, "2048"), (999, "999")],
)
def test_counts_are_read_as_they_were_written(count, name):
    assert count_name(count) == name
    assert count_of(name) == count


@pytest.mark.parametrize("name", ["fid", "fd_classifier_infinity_se", "kid_0123abcd", "precision"])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("count", [360, 50_000])
def test_a_name_is_taken_apart_as_it_was_put_together(name, split, count):
    parts = METRIC.fullmatch(metric_name(name, split, count))
    assert parts["name"] == name
    assert parts["split"] == split
    assert count_of(parts["count"]) == count


def test_the_name_itself():
    assert metric_name("fid", "train", 50_000) == "fid_train_50k"
    assert metric_name("fd_classifier", "test", 360) == "fd_classifier_test_360"


@pytest.mark.parametrize("other", ["fid", "reference_count_train", "fid_train_", "fid_real_50k"])
def test_what_is_no_metric_is_not_taken_for_one(other):
    assert METRIC.fullmatch(other) is None


@pytest.mark.parametrize(
    ("rate", "text"), [(32047.4, "32,047"), (10.0, "10"), (7.16, "7.2"), (0.13, "0.13")]
)
def test_a_slow_rate_keeps_its_digits(rate, text):
    assert rate_text(rate) == text

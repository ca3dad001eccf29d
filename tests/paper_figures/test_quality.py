"""The table of quality, where the golden run does not decide: columns, marks and their bounds."""

import pytest
from support.rendering import (
    COUNT,
    LIKELIHOOD,
    likelihood,
    read_csv,
    read_md,
    shapes_config,
    write_metrics,
    write_quality,
    write_timing,
    write_training,
)

from benchmark.base.errors import RecordError
from benchmark.config.config import REAL, Config
from benchmark.config.jobs import job_of
from benchmark.records.names import count_name, metric_name
from paper_figures.tables import cost, quality, summary, timing

pytestmark = pytest.mark.usefixtures("folder")
MODELS = ("kaem_is", "vae")
FD = "FD-classifier (test 2048)"
NO_WEIGHTS = "FID and KID are empty"
HEALTHY = {"class_coverage_test_2048": 0.9, "recall_classifier_test_2048": 0.7}


def render(config: Config) -> tuple[dict[str, dict], str]:
    """Model -> its cells; and what stands below the table."""
    quality.render(config)
    rows, below = read_md("quality")
    return {row["Model"]: row for row in rows}, below


def test_tables_of_a_run_without_records():
    config = shapes_config()
    for table in (quality, timing, cost, summary):
        table.render(config)
    assert [row["model"] for row in read_csv("quality")] == [REAL, *MODELS]
    assert read_csv("timing") == []
    assert [row["updates"] for row in read_csv("cost")] == ["", ""]
    assert len(read_md("timing")[0]) == len(MODELS) * 2  # of batch sizes


def test_a_demo_has_each_model_in_six_columns():
    config = shapes_config({"budget": "demo"})
    write_training(config, "vae", 30.4)
    write_quality(config, "vae", 10.4, **HEALTHY)
    write_timing(config, "vae", {1: 0.5, 4: 4.0})
    summary.render(config)
    rows, below = read_md("summary")
    assert rows[2] == {
        "Model": "VAE",
        "Distance": "10",
        "Precision": "",
        "Recall": "0.70",
        "Images/s": "2,000",
        "Training, s": "30",
    }
    assert [row["Distance"] for row in rows] == ["", "", "10"]
    assert "Shapes's test images" in below


def test_seeds_are_those_that_were_measured():
    config = shapes_config()
    for seed in (0, 1):
        write_training(config, "vae", 30.0, seed)
    for measured in (2, 1):
        assert render(config)[0]["VAE"]["Seeds"] == str(measured)
        write_quality(config, "vae", 10.0, 1)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("fid", "FID"),
        ("fid_infinity", "FID-infinity"),
        ("kid", "KID"),
        ("frechet_1234abcd", "Frechet distance, weights 1234abcd"),
        ("fd_classifier", "FD-classifier"),
        ("fd_efficientnet", "FD-EfficientNet"),
        ("precision_classifier", None),
    ],
)
@pytest.mark.parametrize(("images", "real"), [(2048, 2048), (2047, 5000), (5000, 2047)])
def test_distances_from_too_few_images_are_not_comparable(name, column, images, real):
    config = shapes_config({"evaluation.references": {"test": images}}, real)
    write_metrics(config, "vae", {metric_name(name, "test", images): 0.5})
    rows, below = render(config)
    few = column is not None and min(images, real) < 2048
    cell = rows["VAE"][f"{column or 'Precision'} (test {count_name(images)})"]
    assert cell.endswith("†") == few
    assert ("† from 2,047 images, fewer than 2,048: not comparable." in below) == few


def test_each_reference_has_its_own_columns():
    references = {"train": 50_000, "test": 10_000}
    settings = {"evaluation.references": references, "evaluation.inception": True}
    config = shapes_config(settings, 60_000)
    values = {
        "fid": (11.0, 12.0),
        "fid_infinity": (9.0, 10.0),
        "fid_infinity_se": (0.5, 0.25),
        "kid": (0.01, 0.02),
        "fd_classifier": (3.0, 4.0),
        "precision_classifier": (0.6, 0.7),
    }
    metrics = {
        metric_name(name, split, count): value
        for name, pair in values.items()
        for (split, count), value in zip(references.items(), pair, strict=True)
    }
    write_metrics(config, "vae", metrics)
    rows, below = render(config)
    # Columns of a metric stand together, in the order of the references. The second reference's
    # KID and precision, and the errors of the limit, are for the csv alone.
    assert [(name, cell) for name, cell in rows["VAE"].items() if "(" in name] == [
        ("FID (train 50k)", "11.00"),
        ("FID (test 10k)", "12.00"),
        ("FID-infinity (train 50k)", "9.00"),
        ("FID-infinity (test 10k)", "10.00"),
        ("KID (train 50k)", "0.0100"),
        ("FD-classifier (train 50k)", "3.0"),
        ("FD-classifier (test 10k)", "4.0"),
        ("Precision (train 50k)", "0.60"),
    ]
    (row,) = (row for row in read_csv("quality") if row["model"] == "vae")
    for name, pair in values.items():
        numbers = [row[f"{name}_{tail}_mean"] for tail in ("train_50k", "test_10k")]
        assert tuple(map(float, numbers)) == pair
    assert NO_WEIGHTS not in below
    assert "Beside train the real images are no floor" in below
    assert "whole training set" in below


@pytest.mark.parametrize(("wanted", "measured"), [(False, True), (True, False)])
def test_no_weights_are_missed_by_who_measured_nothing_or_wants_none(wanted, measured):
    config = shapes_config({"evaluation.inception": wanted})
    if measured:
        write_quality(config, "vae", 10.0)
    rows, below = render(config)
    assert NO_WEIGHTS not in below
    assert ("FID (test 2048)" in rows["VAE"]) == wanted


def test_a_frechet_distance_by_other_weights_is_not_called_fid():
    weights = "1234abcd" + "0" * 56
    config = shapes_config({"evaluation.inception": True, "evaluation.inception_sha256": weights})
    others = {"frechet_1234abcd_test_2048": 20.0, "kid_1234abcd_test_2048": 0.5}
    write_quality(config, "vae", 10.0, **others)
    rows, below = render(config)
    assert rows["VAE"]["Frechet distance, weights 1234abcd (test 2048)"] == "20.00"
    assert not any(name.startswith(("FID", "KID")) for name in rows["VAE"])
    assert NO_WEIGHTS not in below
    assert read_csv("quality")[2]["kid_1234abcd_test_2048_mean"] == "0.5"


def test_a_likelihood_may_be_of_a_split_that_nothing_is_compared_with():
    config = shapes_config(LIKELIHOOD | {"evaluation.likelihood.split": "train"})
    write_quality(config, "vae", 5.0, **likelihood(1.5, "train"))
    assert render(config)[0]["VAE"]["Bits per dimension (train 20)"] == "1.500"


FITTED = "Bits per dimension, fitted sigma (test 20)"


def test_the_constant_image_has_a_row_beside_the_real_images():
    config = shapes_config(LIKELIHOOD)
    fitted = likelihood(2.5, "fitted_test") | {"sigma_fitted_validation_50": 0.2}
    write_quality(config, "vae", 5.0, **likelihood(4.5), **fitted)
    older, below = render(config)  # as of older records
    assert "constant image" not in older
    assert "constant image" not in below
    assert "Beside train" not in below
    constant = likelihood(3.5, "constant_test") | {"sigma_constant_validation_20": 0.3}
    write_quality(config, "real", 1.0, **constant)
    rows, below = render(config)
    assert list(rows) == ["real images", "constant image", "KAEM-IS", "VAE"]
    assert [row[FITTED] for row in rows.values()] == ["", "3.500", "", "2.500"]
    assert [row[FD] for row in rows.values()] == ["1.0", "", "", "5.0"]
    assert "Fitted sigma: " in below
    assert "The constant image is the mean" in below
    assert rows["constant image"]["Health"] == ""
    of_constant, of_vae = (read_csv("quality")[place] for place in (1, 3))
    assert float(of_constant["sigma_fitted_validation_20_mean"]) == 0.3
    assert float(of_vae["sigma_fitted_validation_50_mean"]) == 0.2


def test_the_bound_at_the_fitted_sigma_has_a_mark_of_its_own():
    config = shapes_config(LIKELIHOOD)
    shares = {"nats_low_ess_share_test_20": 0.0, "nats_low_ess_share_fitted_test_20": 0.5}
    write_quality(config, "vae", 5.0, **likelihood(4.5), **likelihood(2.5, "fitted_test"), **shares)
    row = render(config)[0]["VAE"]
    assert (row["Bits per dimension (test 20)"], row[FITTED]) == ("4.500", "2.500‡")


def test_gates_look_at_the_first_reference():
    config = shapes_config({"evaluation.references": {"test": COUNT, "train": COUNT}})
    names = ("class_coverage_test_2048", "class_coverage_train_2048")
    write_metrics(config, "vae", dict(zip(names, (0.9, 0.01), strict=True)))
    write_metrics(config, "kaem_is", dict(zip(names, (0.01, 0.9), strict=True)))
    rows, _ = render(config)
    assert rows["VAE"]["Health"] == "passed"
    assert rows["KAEM-IS"]["Health"].startswith("FAILED: class_coverage 0.01")


def test_a_demo_budget_is_said_in_every_row_that_fails_nothing():
    config = shapes_config({"budget": "demo"})
    write_quality(config, "kaem_is", 5.0, **HEALTHY)
    write_quality(config, "vae", 6.0, **HEALTHY | {"class_coverage_test_2048": 0.01})
    rows, _ = render(config)
    assert rows["KAEM-IS"]["Health"] == "demo budget, not comparable"
    assert rows["VAE"]["Health"].startswith("FAILED")
    assert rows["real images"]["Health"] == ""


@pytest.mark.parametrize(("share", "mark"), [(0.0, ""), (0.1, ""), (0.11, "‡")])
def test_a_loose_bound_is_marked(share, mark):
    config = shapes_config(LIKELIHOOD)
    loose = {"nats_low_ess_share_test_20": share}
    write_quality(config, "vae", 5.0, **likelihood(1.5), **loose)
    rows, below = render(config)
    assert rows["VAE"]["Bits per dimension (test 20)"] == f"1.500{mark}"
    assert ("‡ for more than 10% of the images" in below) == bool(mark)


def test_the_fewer_records_that_do_not_say_their_classifier_are_named():
    config = shapes_config()
    write_quality(config, "vae", 5.0)
    assert "which classifier" not in render(config)[1]
    write_quality(config, "kaem_is", 6.0, classifier_sha256="a" * 64)
    _, below = render(config)
    assert "The records of these rows" in below
    assert "of the same one: VAE (Shapes)." in below
    assert "versions of the source" not in below


def test_a_record_of_other_settings_is_refused_and_one_of_other_words_is_not():
    config = shapes_config()
    write_quality(config, "vae", 10.0)
    other = shapes_config({"models.vae.training.learning_rate": 0.1})
    with pytest.raises(RecordError, match="belongs to another job: config_hash") as caught:
        quality.render(other)
    for each in (config, other):
        assert job_of(each, "metrics", "shapes", "vae").config_hash in str(caught.value)
    relabelled = shapes_config({"models.vae.label": "A VAE", "note": "words"})
    assert render(relabelled)[0]["A VAE"][FD] == "10.0"

"""What `inspect` and `power` store, and the figures that are drawn from it alone."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from support.configs import MODEL_SETTINGS, tiny_config
from support.rendering import table_file

import benchmark.steps
from benchmark.base.errors import MissingError, RecordError
from benchmark.config.config import Config
from benchmark.config.jobs import Job, job_of
from benchmark.config.registry import build
from benchmark.data.pixels import to_uint8
from benchmark.inspection.inspect import _formulas
from benchmark.records.record import read_record
from benchmark.training.weights import load_model
from paper_figures.artefacts import ARTEFACTS
from paper_figures.base.frames import inspected_models, inspection
from paper_figures.base.style import APART, tiled
from paper_figures.figures import latents, samples_in_training, training_film
from paper_figures.tables import independence

MODELS = ("kaem_is", "kaem_thermo_univariate")
CPU = torch.device("cpu")
OF_DATASET = {"dataset": "digits"}


def inspection_of(config: Config, model: str) -> Job:
    return job_of(config, "inspection", "digits", model)


# What is stored ----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_the_arrays_are_what_they_are_called(run, model):
    metrics, arrays = inspection(run, "digits", model)
    trained = load_model(run, "digits", model, 0, CPU)
    density = trained.prior.feature_density()
    # Each curve is the prior's density, over all of it but the tails.
    areas = [np.trapezoid(y, x) for x, y in zip(arrays["points"], arrays["prior"], strict=True)]
    np.testing.assert_allclose(areas, 1, atol=0.01)
    # Moving along a latent goes through its quantiles and changes nothing else.
    moved = arrays["moved"]
    assert metrics["sobol_total"][moved[0]] == max(metrics["sobol_total"])
    columns = torch.from_numpy(arrays["quantiles"])[:, None].expand(-1, 3)
    expected = density.icdf(columns)[:, moved].T
    np.testing.assert_allclose(arrays["positions"], expected, atol=1e-4)
    z = torch.from_numpy(arrays["bases"][1]).clone()
    z[moved[1]] = float(arrays["positions"][1, 3])
    with torch.no_grad():
        image = to_uint8(trained.decoder(z[None]))[0].int()
    assert (image - torch.from_numpy(arrays["images"][1, 1, 3]).int()).abs().max() <= 1
    # The log ratio is the edge function up to a constant, for the univariate prior.
    rows = [row["latent"] for row in metrics["formulas"]]
    assert rows == [list(place) for place in np.ndindex(*trained.prior.event_shape)]
    if model.endswith("univariate"):
        with torch.no_grad():
            curves = trained.prior.functions.curves(trained.prior.nodes).flatten(0, 1).numpy()
        shift = arrays["log_ratio"] - curves
        np.testing.assert_allclose(shift, shift[:, :1] + 0 * shift, atol=1e-4)
    assert arrays["labels"].shape == (60,)
    assert len(metrics["eta_squared"]) == 3


def test_inspecting_again_gives_the_same_numbers(run):
    record = inspection_of(run, "kaem_is").path()
    before = read_record(record).metrics
    benchmark.steps.inspect(run, "digits", "kaem_is", 0)
    assert read_record(record).metrics == before


def test_a_learnable_reference_of_a_mixture_is_the_mixture_of_references(run):
    """With edge functions of zero the prior is its reference: the ratio is flat."""
    settings = run.model_settings("digits", "kaem_is")
    settings["prior"]["reference"] = "learnable_gaussian"
    model = build("kaem_is", settings, (1, 16, 16))
    with torch.no_grad():
        model.prior.functions.coefficients.zero_()
        model.prior.functions.w_base.zero_()
        model.prior.reference.mean.normal_(0, 0.3)
    arrays, _ = _formulas(model)
    # Each component is normalised on the domain, which cuts a little off its tails.
    seen = np.abs(arrays["nodes"]) < 2
    assert np.ptp(arrays["log_ratio"][:, seen], axis=1).max() < 0.01


# Figures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "chosen", "model"),
    [
        ("prior_posterior", OF_DATASET, "kaem_is"),
        ("traversals", OF_DATASET, "kaem_is"),
        ("first_densities", OF_DATASET, "kaem_thermo_univariate"),
        ("interpolations", OF_DATASET, "kaem_is"),
        ("latents", OF_DATASET, "kaem_thermo_univariate"),
        ("samples_in_training", OF_DATASET, None),
        ("training_health", OF_DATASET, None),
        ("power_posteriors", {}, None),
        ("tempered_integral", {}, None),
    ],
)
def test_both_formats_are_written(run, name, chosen, model):
    artefact = ARTEFACTS[name]
    # One model is enough of each kind.
    config = run if model is None else tiny_config({"models": {model: MODEL_SETTINGS[model]}})
    artefact.render(config, **chosen)
    pdf, png = artefact.paths("tiny", **chosen, model=model)
    assert pdf.read_bytes().startswith(b"%PDF")
    assert plt.imread(png)[..., :3].std() > 0.05  # something is drawn
    assert plt.get_fignums() == []


def test_the_table_of_independence_shows_the_records(run):
    independence.render(run)
    rows = pd.read_csv(table_file("independence", "csv")).set_index("model")
    assert list(rows.index) == list(MODELS)
    for model in MODELS:
        measured = dict(read_record(inspection_of(run, model).path()).metrics.independence)
        assert rows.loc[model, list(measured)].tolist() == pytest.approx(list(measured.values()))


@pytest.mark.usefixtures("run")
def test_entries_that_were_not_inspected_are_left_out():
    names = ("kaem_ula", *MODELS)
    config = tiny_config({"models": {name: MODEL_SETTINGS[name] for name in names}})
    assert inspected_models(config, "digits") == list(MODELS)


@pytest.mark.parametrize(
    ("name", "chosen", "command"),
    [
        *(
            (name, OF_DATASET, "inspect --dataset digits")
            for name in ("prior_posterior", "latents", "interpolations")
        ),
        ("traversals", OF_DATASET, "inspect --dataset digits"),
        ("power_posteriors", {}, "python -m benchmark power"),
        ("tempered_integral", {}, "python -m benchmark power"),
        ("explorer", {}, "inspect --dataset digits --model kaem_is --seed 0"),
    ],
)
def test_what_is_missing_is_named_with_its_command(inspected, folder, name, chosen, command):
    _, config = inspected
    with pytest.raises(MissingError, match=re.escape(command)):
        ARTEFACTS[name].render(config, **chosen)
    assert not list(folder.rglob("*.*"))


def test_arrays_that_an_earlier_version_did_not_store_are_named_with_their_command(run):
    with pytest.raises(MissingError, match=r"earlier versions.*\n.*inspect --dataset digits"):
        inspection(run, "digits", "kaem_is", "nodes", "never_there")


def test_a_film_has_a_picture_of_each_moment(run):
    training_film.render(run, "digits")
    contents = []
    for model, pictures in (("kaem_is", 6), ("vae", 1)):  # the VAE was not trained here
        (path,) = ARTEFACTS["training_film"].paths("tiny", dataset="digits", model=model)
        with Image.open(path) as film:
            assert film.n_frames == pictures
        contents.append(path.read_bytes())
    training_film.render(run, "digits")
    assert path.read_bytes() == contents[-1]


def test_samples_of_the_moments_nearest_to_the_shares_are_shown():
    kept = {update: np.full((8, 1, 2, 2), update, np.uint8) for update in (0, 1, 5, 12, 30, 90)}
    row = samples_in_training._row(kept)
    cells = row[0, :: 4 * 4 - 2 + APART]  # the first pixel of each
    assert cells.tolist() == [0, 1, 5, 12, 30, 90]
    assert samples_in_training._row({}) is None


def test_arrays_that_are_not_the_record_s_are_refused(run):
    path, other = (inspection_of(run, model).path("arrays") for model in MODELS)
    before = path.read_bytes()
    try:
        path.write_bytes(other.read_bytes())
        with pytest.raises(RecordError, match="not what its record describes"):
            latents.render(run, "digits")
    finally:
        path.write_bytes(before)


def test_tiles_are_where_they_belong():
    images = np.arange(2 * 3, dtype=np.uint8).reshape(2, 3, 1, 1, 1).repeat(2, 3).repeat(4, 4)
    picture = tiled(images, gap=1)
    assert picture.shape == (5, 14)
    assert picture[3, 11] == 5
    assert picture[0, 5] == 1
    assert (picture[2] == 255).all()

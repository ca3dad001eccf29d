"""Figures from small made-up records: what is drawn, the same each time, and what is refused."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from support.configs import MODEL_SETTINGS, bars_dataset
from support.rendering import shapes_config, write_quality

from benchmark.base.arrays import write_arrays
from benchmark.base.errors import MissingError, RecordError
from benchmark.config.config import REAL, Config
from benchmark.config.jobs import job_of
from benchmark.evaluation.samples import save_samples
from paper_figures.base import style
from paper_figures.figures import (
    fd_infinity,
    inductive_bias,
    loss_curves,
    prior_densities,
    sample_grids,
    samples_in_training,
)

pytestmark = pytest.mark.usefixtures("folder")
MODELS = ("kaem_is", "vae")
VAE = MODEL_SETTINGS["vae"]


def figure_files(name: str) -> list[Path]:
    return [Path(f"results/tiny/figures/{name}.{kind}") for kind in ("pdf", "png")]


def write_history(config: Config, model: str, seed: int) -> None:
    path = job_of(config, "training", "shapes", model, seed).path("history")
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{update},0.1,{100 / update + seed}" for update in range(1, 20)]
    path.write_text("\n".join(["update,seconds,loss", *rows, ""]))


def write_densities(config: Config, shape: tuple[int, ...], stages: tuple[str, ...]) -> None:
    nodes = np.linspace(-3, 3, 30)
    arrays = {f"nodes_{stage}": nodes for stage in stages}
    for number, stage in enumerate(stages):
        density = np.exp(-((nodes - number) ** 2))
        arrays[f"density_{stage}"] = np.broadcast_to(density, (*shape, 30))
    write_arrays(job_of(config, "training", "shapes", "kaem_is").path("diagnostics"), **arrays)


def write_samples(config: Config, images: torch.Tensor, *models: str) -> None:
    for model in models:
        job = job_of(config, "sampling", "shapes", model)
        save_samples(job.path("samples"), [images], images.shape, job)


def render_loss(config: Config) -> str:
    for model in MODELS:
        for seed in config.seeds:
            write_history(config, model, seed)
    loss_curves.render(config, "shapes")
    return "loss_shapes"


def render_samples(config: Config) -> str:
    write_samples(config, bars_dataset(70, (3, 64, 64)).images["train"], REAL, "vae")
    sample_grids.render(config, "shapes")
    return "samples_shapes"


def render_prior(config: Config) -> str:
    write_densities(config, (2,), tuple(prior_densities.STAGES))
    prior_densities.render(config, "shapes")
    return "prior_shapes_kaem_is"


def render_many_priors(config: Config) -> str:
    # More latents than panels, p of each, and a training that stored nothing on the way.
    write_densities(config, (style.MOST_PANELS + 1, 2), ("before", "after"))
    prior_densities.render(config, "shapes")
    return "prior_shapes_kaem_is"


def render_limits(config: Config) -> str:
    for number, model in enumerate(MODELS):
        subsets = [{"images": n, "distance": 9 + number + 900 / n} for n in (800, 400, 200, 200)]
        limits = {
            "fd_classifier_infinity_test_2048": 9.0 + number,
            "fd_classifier_infinity_se_test_2048": 0.1,
            "subsets": {"fd_classifier_test_2048": subsets},
        }
        write_quality(config, model, 10.0 + number, **limits)
    fd_infinity.render(config, "shapes")
    return "fd_infinity_shapes"


@pytest.mark.parametrize(
    "render", [render_loss, render_samples, render_prior, render_many_priors, render_limits]
)
def test_figures_are_the_same_bytes_each_time(render, folder):
    contents = []
    for _ in range(2):
        files = figure_files(render(shapes_config()))
        contents.append([file.read_bytes() for file in files])
    assert contents[0] == contents[1]
    pdf, png = contents[0]
    assert pdf.startswith(b"%PDF")
    assert png.startswith(b"\x89PNG")
    assert plt.imread(files[1])[..., :3].std() > 0.05  # something is drawn
    assert plt.get_fignums() == []
    # Nothing of the folder's name, the user or the date is in the files.
    assert str(folder).encode() not in pdf + png
    assert b"CreationDate" not in pdf
    assert set(files[0].parent.iterdir()) == set(files)


def test_a_limit_is_where_the_line_through_its_points_begins(monkeypatch):
    monkeypatch.setattr(fd_infinity, "save_figure", lambda *_: None)
    render_limits(shapes_config())
    axis = plt.gcf().axes[0]
    assert axis.get_title() == "KAEM-IS\nlimit 9.00 ± 0.43"  # t with two degrees of freedom
    line, points = (np.array(each.get_data()) for each in axis.get_lines()[:2])
    np.testing.assert_allclose(line[:, 0], [0, 9])
    np.testing.assert_allclose(np.interp(points[0], *line), points[1])


def test_each_loss_has_a_panel_with_its_kind_and_the_mean_over_the_seeds():
    config = shapes_config({"models.ddpm": MODEL_SETTINGS["ddpm"]})
    for model in (*MODELS, "ddpm"):
        for seed in config.seeds:
            write_history(config, model, seed)
    figure = loss_curves.draw(config, "shapes")
    *panels, empty = figure.axes
    titles = ["KAEM-IS\nnats per image", "VAE\nnats per image", "DDPM\nsquared error of the noise"]
    assert [axis.get_title() for axis in panels] == titles
    assert not empty.axison
    for axis in panels:
        ((x, y),) = (line.get_data() for line in axis.get_lines())
        np.testing.assert_allclose(y, 100 / x + 0.5)  # the seeds are one nat apart
    plt.close(figure)


def test_figures_without_data_are_empty_and_not_errors():
    config = shapes_config()
    loss_curves.render(config, "shapes")
    sample_grids.render(config, "shapes")
    fd_infinity.render(config, "shapes")
    samples_in_training.render(config, "shapes")
    for name in (
        "loss_shapes",
        "samples_shapes",
        "fd_infinity_shapes",
        "samples_in_training_shapes",
    ):
        assert all(file.stat().st_size > 0 for file in figure_files(name))


def test_prior_densities_need_a_model_that_has_them():
    with pytest.raises(MissingError, match="no prior densities of shapes are stored"):
        prior_densities.render(shapes_config(), "shapes")


def test_inductive_bias_shows_the_grid_of_priors():
    priors = {
        "rbf_gaussian": {},
        "rbf_uniform": {"reference": "uniform"},
        "fourier_gaussian": {"basis": "fourier"},
    }
    entry = MODEL_SETTINGS["kaem_is"] | {"model": "kaem_is"}
    entries = {name: entry | {"prior": {"q": 2, "p": 1} | prior} for name, prior in priors.items()}
    config = shapes_config({"models": entries | {"vae": VAE}})
    for number, model in enumerate(entries):
        for seed in (0, 1):
            recall = {"recall_classifier_test_2048": 0.1 * number}
            write_quality(config, model, 10.0 * number + 2 * seed, seed, **recall)
    figure = inductive_bias.draw(config, {"shapes": config.prior_grid("shapes")})
    distance, recall = figure.axes
    assert [text.get_text() for text in distance.get_yticklabels()] == ["RBF", "Fourier"]
    assert [text.get_text() for text in distance.get_xticklabels()] == ["Gaussian", "uniform"]
    cells = distance.collections[0].get_array()
    assert cells.filled(np.nan).ravel().tolist()[:3] == [1.0, 11.0, 21.0]
    assert cells.mask.ravel().tolist() == [False, False, False, True]
    shares = recall.collections[0].get_array().filled(np.nan).ravel()
    np.testing.assert_allclose(shares, [0, 0.1, 0.2, np.nan])
    plt.close(figure)
    # A run in which only one of the two varies has no grid.
    inductive_bias.render(shapes_config())
    assert not list(Path("results").rglob("*.png"))


def test_samples_of_other_settings_are_not_shown():
    images = bars_dataset(64, (3, 64, 64)).images["train"]
    write_samples(shapes_config(), images, "vae")
    with pytest.raises(RecordError, match="was drawn with other settings"):
        sample_grids.render(shapes_config({"models.vae.sigma": 0.9}), "shapes")


def test_colour_images_are_shown_in_colour():
    config = shapes_config()
    images = torch.zeros(64, 3, 4, 4, dtype=torch.uint8)
    images[:, 0], images[:, 2] = 200, 50
    write_samples(config, images, "vae")
    sample_grids.render(config, "shapes")
    picture = plt.imread(figure_files("samples_shapes")[1])[..., :3]
    drawn = np.isclose(picture, np.array([200, 0, 50]) / 255, atol=0.01).all(-1)
    assert drawn.mean() > 0.2


def test_a_mosaic_fills_row_by_row_with_white_lines_between():
    levels = torch.arange(10, 60, 10, dtype=torch.uint8)
    picture = sample_grids.mosaic(levels[:, None, None, None].expand(5, 1, 2, 3), side=2)
    white = 255
    assert picture.tolist() == [
        [10, 10, 10, white, 20, 20, 20],
        [10, 10, 10, white, 20, 20, 20],
        [white] * 7,
        [30, 30, 30, white, 40, 40, 40],
        [30, 30, 30, white, 40, 40, 40],
    ]
    assert picture.dtype == np.uint8


def test_a_mosaic_of_colour_and_of_too_few():
    colour = torch.arange(2 * 3 * 2 * 3, dtype=torch.uint8).view(2, 3, 2, 3)
    picture = sample_grids.mosaic(colour, side=2, gap=3)
    assert picture.shape == (2 * 2 + 3, 2 * 3 + 3, 3)
    assert np.array_equal(picture[:2, :3], colour[0].permute(1, 2, 0))
    assert np.array_equal(picture[:2, 6:], colour[1].permute(1, 2, 0))
    assert (picture[2:] == 255).all()


# Names and colours ------------------------------------------------------------------------------


def test_labels_come_from_the_configuration_first():
    config = shapes_config({"models.vae.label": "A VAE", "models.v": {"model": "vae"} | VAE})
    labels = [style.model_label(config, model) for model in (REAL, "kaem_is", "vae", "v")]
    assert labels == ["real images", "KAEM-IS", "A VAE", "v"]


def test_a_long_label_breaks_before_its_bracket_and_a_title_after_its_colon():
    config = shapes_config({"models.vae.label": "A VAE with a copula (ours)"})
    assert style.narrow_label(config, "vae", 25) == "A VAE with a copula\n(ours)"
    figure = plt.figure()
    for name, between in (("VAE", " "), (style.TITLE * "V", "\n")):
        style.set_title(figure, f"{name}: latents")
        assert figure.get_suptitle() == f"{name}:{between}latents"
    plt.close(figure)


def test_a_model_has_its_colour_in_every_run():
    variants = {f"models.v{n}": {"model": "vae"} | VAE for n in range(4)}
    configs = [shapes_config(), shapes_config(variants)]
    colours = [style.model_colours(config) for config in configs]
    assert all(colours[0][model] == colours[1][model] for model in MODELS)
    shown = [colours[1][model] for model in configs[1].models]
    assert len(set(shown)) == len(configs[1].models) == 6

"""What `inspect` and `power` store, and the figures and the page that are drawn from it alone."""

import base64
import html.parser
import io
import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from support.browser import CHROMIUM, Browser
from support.configs import MODEL_SETTINGS, bars_dataset, tiny_config

import benchmark.config.config
import benchmark.steps
from benchmark.base import paths
from benchmark.base.errors import BenchmarkError, RecordError
from benchmark.config.config import Config
from benchmark.config.registry import build
from benchmark.data.pixels import to_uint8
from benchmark.inspection.inspect import _formulas
from benchmark.records.record import read_record
from benchmark.training.weights import load_model
from paper_figures.__main__ import _render
from paper_figures.base.frames import inspected_models, inspection
from paper_figures.figures import (
    explorer,
    latents,
    power_posteriors,
    prior_posterior,
    training_health,
    traversals,
)
from paper_figures.tables import independence

MODELS = ("kaem_is", "kaem_thermo_univariate")
CPU = torch.device("cpu")
FEW = {
    "images": 60,
    "annealing": 10,
    "burn_in": 5,
    "kept": 10,
    "sobol_draws": 100,
    "bases": 2,
    "positions": 5,
    "moved": 2,
    "decoded": 70,
}
# Renderer, its arguments, and the figures of one model, which is enough of each kind.
FIGURES = [
    (prior_posterior, ("digits",), "posterior_digits_kaem_is"),
    (traversals, ("digits",), "traversals_digits_kaem_is"),
    (latents, ("digits",), "latents_digits_kaem_thermo_univariate"),
    (training_health, ("digits",), "health_digits"),
    (power_posteriors, (), "power_posteriors"),
]


FEW_CHAINS = {"chains": 20, "sweeps": 4}


@pytest.fixture(scope="module")
def patched():
    with pytest.MonkeyPatch.context() as patch:
        settings = benchmark.config.job_settings
        patch.setattr(settings, "INSPECTION", settings.INSPECTION | FEW)
        patch.setattr(settings, "POWER", settings.POWER.model_copy(update=FEW_CHAINS))
        patch.setattr(benchmark.steps, "load_data", lambda *_: bars_dataset(100, (1, 16, 16)))
        yield patch


@pytest.fixture(scope="module")
def run(patched, tmp_path_factory):
    """A working directory with two trained and inspected models; its configuration."""
    patched.chdir(tmp_path_factory.mktemp("run"))
    config = tiny_config({f"models.{name}": MODEL_SETTINGS[name] for name in (*MODELS, "vae")})
    benchmark.steps.train(config, "digits", "classifier", 0, "none")
    for model in MODELS:
        benchmark.steps.train(config, "digits", model, 0, "none")
        benchmark.steps.inspect(config, "digits", model, 0)
    benchmark.steps.power(config)
    return config


def find(pattern: str, **names) -> Path:
    return paths.fill(pattern, "tiny", **{"dataset": "digits", "seed": 0} | names)


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
    record = find(paths.INSPECTION_RECORD, model="kaem_is")
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


@pytest.mark.parametrize(("module", "arguments", "name"), FIGURES)
def test_both_formats_are_written(run, module, arguments, name, monkeypatch):
    shown = [model for model in MODELS if name.endswith(f"_{model}")] or list(MODELS)
    monkeypatch.setattr(Config, "inspected_models", shown)
    open_before = plt.get_fignums()
    module.render(run, *arguments)
    assert find(paths.FIGURE, figure=name, format="pdf").read_bytes().startswith(b"%PDF")
    picture = plt.imread(find(paths.FIGURE, figure=name, format="png"))
    assert picture[..., :3].std() > 0.05  # something is drawn
    assert plt.get_fignums() == open_before


def test_the_table_of_independence_shows_the_records(run):
    independence.render(run)
    rows = pd.read_csv(find(paths.TABLE, table="independence", format="csv")).set_index("model")
    assert list(rows.index) == list(MODELS)
    for model in MODELS:
        record = read_record(find(paths.INSPECTION_RECORD, model=model))
        expected = dict(record.metrics.independence)
        assert rows.loc[model, list(expected)].tolist() == pytest.approx(list(expected.values()))


def test_entries_that_were_not_inspected_are_left_out(run, monkeypatch):
    wanted = ["kaem_ula", *MODELS]
    monkeypatch.setattr(Config, "inspected_models", wanted)
    assert inspected_models(run, "digits") == list(MODELS)
    said = _render(run, "prior_densities", ("digits", "kaem_ula"))
    assert said.endswith("left out: kaem_ula on digits: no prior densities are stored for it")


@pytest.mark.parametrize(
    ("module", "arguments", "command"),
    [
        *((m, ("digits",), "inspect --dataset digits") for m in (prior_posterior, traversals)),
        (latents, ("digits",), "inspect --dataset digits"),
        (power_posteriors, (), "python -m benchmark power"),
        (explorer, (), "inspect --dataset digits --model kaem_is --seed 0"),
    ],
)
def test_what_is_missing_is_named_with_its_command(run, module, arguments, command, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        with pytest.raises(RecordError, match=re.escape(command)):
            module.render(run, *arguments)
    assert not list(tmp_path.rglob("*.*"))


def test_arrays_that_are_not_the_record_s_are_refused(run):
    path = find(paths.INSPECTION, model="kaem_is")
    before = path.read_bytes()
    try:
        path.write_bytes(find(paths.INSPECTION, model=MODELS[1]).read_bytes())
        with pytest.raises(RecordError, match="not what its record describes"):
            latents.render(run, "digits")
    finally:
        path.write_bytes(before)


def test_tiles_are_where_they_belong():
    images = np.arange(2 * 3, dtype=np.uint8).reshape(2, 3, 1, 1, 1).repeat(2, 3).repeat(4, 4)
    picture = traversals.tiled(images, gap=1)
    assert picture.shape == (5, 14)
    assert picture[3, 11] == 5
    assert picture[0, 5] == 1
    assert (picture[2] == 255).all()


# The explorer ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(run) -> Path:
    explorer.render(run)
    return find(paths.EXPLORER).resolve()


class Links(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, _tag, attrs):
        self.found += [v for k, v in attrs if k in ("src", "href", "srcset", "action", "data")]


def test_the_page_needs_nothing_but_itself(page):
    text = page.read_text()
    links = Links()
    links.feed(text)
    assert links.found == []
    # An SVG's name space is a name; nothing is fetched from there.
    assert set(re.findall(r"\w+://[\w./]*", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", text)


def test_the_page_holds_the_images_that_were_decoded(run, page):
    text = re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)[1]
    (dataset,) = json.loads(text)["datasets"]
    assert [model["label"] for model in dataset["models"]] == [
        "KAEM-IS",
        "KAEM-thermo, univariate",
    ]
    _, arrays = inspection(run, "digits", "kaem_is")
    sprite = Image.open(io.BytesIO(base64.b64decode(dataset["models"][0]["sprite"])))
    picture = (
        np.array(sprite).reshape(5, 16, 5, 16).swapaxes(1, 2)
    )  # 2 draws x 2 latents, and draws
    np.testing.assert_array_equal(
        picture[:4].reshape(2, 2, 5, 16, 16), arrays["images"][:, :, :, 0]
    )
    np.testing.assert_array_equal(picture[4, :2], arrays["base_images"][:, 0])


def test_a_page_that_is_too_large_has_fewer_draws_or_is_refused(run, page, monkeypatch):
    size = page.stat().st_size
    try:
        monkeypatch.setattr(explorer, "LARGEST", size - 1)
        explorer.render(run)
        assert page.stat().st_size < size
        monkeypatch.setattr(explorer, "LARGEST", 1000)
        with pytest.raises(BenchmarkError, match="fewer datasets"):
            explorer.render(run)
    finally:
        monkeypatch.undo()
        explorer.render(run)
    with pytest.raises(BenchmarkError, match="no entry"):
        explorer.render(tiny_config({"models": {"vae": MODEL_SETTINGS["vae"]}}))


PICTURE = "document.getElementById('image').toDataURL()"
CARD = """(() => {
    const box = document.querySelectorAll('.latent')[1].getBoundingClientRect();
    return [box.left, box.top + box.height / 2, box.width];
})()"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: chromium)")
@pytest.mark.parametrize(("width", "height"), [(1200, 800), (390, 844)])
def test_dragging_and_keys_change_the_picture(page, tmp_path, width, height):
    with Browser(tmp_path) as browser:
        browser.open(page, width, height)
        seen = [browser.evaluate(PICTURE)]
        left, middle, size = browser.evaluate(CARD)
        browser.mouse("mousePressed", left + 0.1 * size, middle)
        seen.append(browser.evaluate(PICTURE))
        browser.mouse("mouseMoved", left + 0.9 * size, middle)
        browser.mouse("mouseReleased", left + 0.9 * size, middle)
        seen.append(browser.evaluate(PICTURE))
        now = "document.querySelectorAll('.latent')[1].getAttribute('aria-valuenow')"
        assert browser.evaluate(now) == "4"
        browser.key("ArrowLeft")  # the card that was dragged has the focus
        assert browser.evaluate(now) == "3"
        seen.append(browser.evaluate(PICTURE))
        browser.evaluate("document.getElementById('shuffle').click()")
        seen.append(browser.evaluate(PICTURE))
        assert "Draw 2 of 2" in browser.evaluate("document.getElementById('state').textContent")
        browser.evaluate(
            "(() => { const s = document.getElementById('model'); s.value = 1;"
            " s.dispatchEvent(new Event('change')); })()"
        )
        browser.evaluate("new Promise((done) => setTimeout(done, 200))")
        seen.append(browser.evaluate(PICTURE))
        assert len(set(seen)) == len(seen)
        wide = "document.documentElement.scrollWidth <= window.innerWidth"
        assert browser.evaluate(wide)  # nothing sticks out to the right
        assert browser.errors == []
        assert [u for u in browser.requests if not u.startswith(("file:", "data:"))] == []

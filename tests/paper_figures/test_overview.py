"""The page of a run: what it says of its records, and what a browser does with it."""

import base64
import io
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.browser import CHROMIUM, Browser
from support.golden import golden_config, write_golden_run

from benchmark.base.errors import MissingError
from benchmark.config.jobs import job_of
from benchmark.evaluation.samples import save_samples
from benchmark.records.record import read_record
from paper_figures.overview import overview
from paper_figures.overview.grids import SIDE


def shade(model: str) -> int:
    return {"real": 40, "kaem_is": 80, "vae": 120}[model]


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """The page of the run with the golden tables; three of its models have samples of one shade."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("overview"))
        config = golden_config()
        write_golden_run(config)
        for model in ("real", "kaem_is", "vae"):
            job = job_of(config, "sampling", "mnist", model)
            images = torch.full((50, 1, 28, 28), shade(model), dtype=torch.uint8)
            save_samples(job.path("samples"), [images], images.shape, job)
        overview.render(config)
        yield overview.PAGE.paths(config.run)[0].resolve()


def part(page: Path, start: str, end: str) -> str:
    """The text of the page from one mark to the next after it, without tags."""
    text = page.read_text().partition(start)[2].partition(end)[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text))


def test_the_same_records_make_the_same_bytes(page):
    before = page.read_bytes()
    overview.render(golden_config())
    assert page.read_bytes() == before


def test_each_row_names_the_records_behind_its_numbers(page):
    table = page.read_text().partition('<table id="quality"')[2].partition("</table>")[0]
    (details,) = re.findall(r"<template>(.*?)</template>", table, re.DOTALL)[1:2]  # of KAEM-IS
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", details))
    measured, _, trained = text.partition("ESS or swap rates")
    for file, where in [("metrics", measured), ("training", trained)]:
        for seed in (0, 1):
            name = f"{file}/mnist/kaem_is/seed{seed}.json"
            origin = read_record(Path("results/golden", name)).provenance
            assert f"{name} : {origin.commit[:10]}" in where
            assert "CPU Y, 2 threads" in where
    assert "12.0 ± 25.4" in measured
    assert "35 ± 64" in trained


def test_the_best_is_bold_and_none_that_failed(page):
    table = page.read_text().partition('<table id="quality"')[2].partition("</table>")[0]
    # The VAE's distance would be less than KAEM-thermo's, but it failed a gate.
    assert re.findall(r"<strong>(.*?)</strong>", table) == [
        "20.50 ± 6.35",
        "0.0200 ± 0.0000",
        "12.0 ± 25.4",
        "0.70 ± 0.00",
        "0.70",
        "16.0†",
    ]


def test_a_verdict_shows_what_it_rests_on(page):
    claim = part(page, "when it is trained by importance sampling", "</details>")
    assert "MNIST: inconclusive" in claim
    assert "Ratio of fd classifier: KAEM-IS to VAE &amp; co, 50%" in claim
    assert "KAEM-IS 10, 14" in claim
    assert "metrics/mnist/vae/seed0.json" in claim


def test_every_record_is_listed(page):
    table = part(page, '<table id="records"', "</table>")
    files = {str(file.relative_to("results/golden")) for file in Path().rglob("seed*.json")}
    assert len(files) > 8
    assert files <= set(table.split())


def test_grids_hold_the_first_samples(page):
    pictures = dict(
        re.findall(
            r'data-model="(\w+)"[^>]*>\s*<img alt="[^"]+" src="data:image/png;base64,([^"]+)"',
            page.read_text(),
        )
    )
    assert list(pictures) == ["real", "kaem_is", "vae"]
    for model, text in pictures.items():
        picture = np.array(Image.open(io.BytesIO(base64.b64decode(text))))
        assert picture.shape == (29 * SIDE - 1,) * 2
        assert set(np.unique(picture)) == {shade(model), 255}


def test_a_run_without_records_has_no_page(folder):
    with pytest.raises(MissingError, match="results/golden: has no records"):
        overview.render(golden_config())
    assert list(folder.iterdir()) == []


def visible(selector: str, attribute: str) -> str:
    """An attribute of the elements that are to be seen."""
    return f"[...document.querySelectorAll('{selector}:not([hidden])')].map((e) => e.{attribute})"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: chromium)")
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_choices_change_what_is_shown(page, tmp_path, width, height):
    with Browser(tmp_path) as browser:
        browser.open(page, width, height)
        browser.wait("'ready' in document.documentElement.dataset")
        points = """[...document.querySelectorAll('#chart [aria-roledescription=point]')]
            .map((e) => e.getAttribute('aria-label'))
            .map((label) => label.match(/image: ([^;]*).* Model: ([^;]*)/).slice(1))"""
        browser.becomes(points, [["1", "KAEM-IS"]])  # by FID, which the VAE has none of
        browser.choose("#chart-choices select[name=device]", "GPU")
        browser.becomes(points, [["0.25", "KAEM-IS"]])
        browser.choose("#chart-choices select[name=device]", "CPU")
        browser.choose("#chart-choices select[name=distance]", "FD-classifier")
        browser.becomes(points, [["1", "KAEM-IS"], ["0.5", "VAE & co, 50%"]])

        assert browser.evaluate(visible("details.claim", "dataset.verdicts"))
        browser.choose("#claim-filters select[name=verdict]", "supported")
        browser.becomes(visible("details.claim", "dataset.verdicts"), [])
        browser.choose("#claim-filters select[name=verdict]", "")
        browser.evaluate("document.querySelector('details.claim summary').focus()")
        browser.key("Enter")
        assert browser.evaluate("document.querySelector('details.claim').open")

        browser.becomes(visible("#grids figure", "dataset.model"), ["real", "kaem_is", "vae"])
        browser.evaluate("document.querySelector('[name=grid-model][value=vae]').focus()")
        browser.key(" ")
        browser.becomes(visible("#grids figure", "dataset.model"), ["real", "kaem_is"])

        levels = "[...document.querySelectorAll('h1, h2, h3')].map((e) => Number(e.tagName[1]))"
        seen = browser.evaluate(levels)
        assert seen[0] == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(seen))
        assert browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert browser.errors == []
        assert [u for u in browser.requests if not u.startswith(("file:", "data:", "blob:"))] == []

"""The page of learned densities that one drags along: what it holds, and what a browser does."""

import base64
import html.parser
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.browser import CHROMIUM, Browser
from support.configs import MODEL_SETTINGS, tiny_config

from benchmark.base.errors import BenchmarkError
from paper_figures.base.frames import inspection
from paper_figures.figures import explorer


@pytest.fixture
def page(run) -> Path:
    explorer.render(run)
    return explorer.PAGE.paths("tiny")[0].resolve()


COPULA = {  # of a model with two labels; the second component is the heaviest
    "component_weights": np.array([0.25, 0.5, 0.05, 0.05, 0.05, 0.1]),
    "component_classes": np.array([[0.9, 0.1]] + [[0.1, 0.3]] + [[0, 0]] + 3 * [[0, 0.2]]),
}


@pytest.fixture
def copula_page(run, monkeypatch) -> Path:
    """A page where KAEM-IS has a copula too; all latents move as one, the picture is a negative."""
    metrics, arrays = inspection(run, "digits", "kaem_is")
    centres = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.full((1, 16, 16), 40, np.uint8)
    arrays |= COPULA | {"followed": 255 - arrays["images"], "component_images": centres}
    arrays["followed_latents"] = np.broadcast_to(arrays["positions"].T, (2, 2, 5, 2))
    own = {"kaem_is": (metrics, arrays | {"labels": np.array([2, 7])})}
    monkeypatch.setattr(explorer, "inspection", lambda *job: own.get(job[2]) or inspection(*job))
    explorer.render(run)
    return explorer.PAGE.paths("tiny")[0].resolve()


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


def models_of(page: Path) -> list[dict]:
    """What the page knows of each model; the sprite as (rows, columns, 16, 16)."""
    text = re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)[1]
    (dataset,) = json.loads(text)["datasets"]
    for model in dataset["models"]:
        sprite = np.array(Image.open(io.BytesIO(base64.b64decode(model["sprite"]))))
        model["sprite"] = sprite.reshape(-1, 16, 5, 16).swapaxes(1, 2)
    return dataset["models"]


def test_the_page_holds_the_images_that_were_decoded(run, page):
    models = models_of(page)
    assert [model["label"] for model in models] == ["KAEM-IS", "KAEM-thermo, univariate"]
    _, arrays = inspection(run, "digits", "kaem_is")
    picture = models[0]["sprite"]  # 2 draws x 2 latents, and draws
    assert picture.shape[:2] == (5, 5)
    np.testing.assert_array_equal(
        picture[:4].reshape(2, 2, 5, 16, 16), arrays["images"][:, :, :, 0]
    )
    np.testing.assert_array_equal(picture[4, :2], arrays["base_images"][:, 0])
    assert models[0]["components"] == []
    assert models[0]["rows"] == {"moved": 0, "draws": 4}


def test_the_page_of_a_copula_also_holds_what_follows_and_the_components(copula_page):
    model, other = models_of(copula_page)
    assert model["rows"] == {"moved": 0, "draws": 4, "followed": 5, "components": 9}
    np.testing.assert_array_equal(model["sprite"][5:9], 255 - model["sprite"][:4])
    centres = model["sprite"][9:, :, 0, 0].flatten()
    np.testing.assert_array_equal(centres, [40, 0, 200, 80, 120, 160, 0, 0, 0, 0])
    assert model["components"] == [
        {"weight": 0.5, "class": 7, "share": 0.75},
        {"weight": 0.25, "class": 2, "share": 0.9},
        {"weight": 0.1, "class": 7, "share": 1.0},
        {"weight": 0.05},  # which none of the images fell to
        {"weight": 0.05, "class": 7, "share": 1.0},
        {"weight": 0.05, "class": 7, "share": 1.0},
    ]
    assert np.shape(model["followed"]) == (2, 2, 5, 2)
    assert "followed" not in other["rows"]


def test_a_page_needs_a_kaem():
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


STATE = "document.getElementById('state').textContent"
TILE = """(() => {
    const tile = document.querySelectorAll('.component')[1];
    tile.scrollIntoView({ block: 'center' });
    const box = tile.getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
})()"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: chromium)")
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_others_follow_and_components_are_shown(copula_page, tmp_path, width, height):
    with Browser(tmp_path) as browser:
        browser.open(copula_page, width, height)
        left, middle, size = browser.evaluate(CARD)
        browser.mouse("mousePressed", left + 0.9 * size, middle)
        browser.mouse("mouseReleased", left + 0.9 * size, middle)
        seen = [browser.evaluate(PICTURE)]
        assert "the others follow" in browser.evaluate(STATE)
        other = "document.querySelectorAll('.latent')[0].getAttribute('aria-valuetext')"
        assert "follows" in browser.evaluate(other)
        browser.evaluate("document.getElementById('follow').click()")
        seen.append(browser.evaluate(PICTURE))
        assert "the others at the draw" in browser.evaluate(STATE)
        assert "at the draw" in browser.evaluate(other)
        x, y = browser.evaluate(TILE)
        browser.mouse("mousePressed", x, y)
        browser.mouse("mouseReleased", x, y)
        seen.append(browser.evaluate(PICTURE))
        assert "2 of 6: weight 25.0%. Holds class 2 most (90.0%" in browser.evaluate(STATE)
        browser.key("ArrowLeft")  # the components have the focus
        seen.append(browser.evaluate(PICTURE))
        assert "1 of 6: weight 50.0%. Holds class 7 most (75.0%" in browser.evaluate(STATE)
        assert len(set(seen)) == len(seen)
        browser.evaluate(
            "(() => { const s = document.getElementById('model'); s.value = 1;"
            " s.dispatchEvent(new Event('change')); })()"
        )
        hidden = "['switch', 'copula'].every((id) => document.getElementById(id).hidden)"
        assert browser.evaluate(hidden)
        assert browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert browser.errors == []

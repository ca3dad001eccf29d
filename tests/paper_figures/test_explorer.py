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


def test_a_page_that_is_too_large_has_fewer_draws_or_is_refused(run, page):
    size = page.stat().st_size
    explorer.render(run, largest=size - 1)
    assert page.stat().st_size < size
    with pytest.raises(BenchmarkError, match="fewer datasets"):
        explorer.render(run, largest=1000)
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

"""Pages that are one file: what a table in one says, and what a browser does with it."""

import html.parser
import re

import pandas as pd
import pytest
from markupsafe import Markup
from support.browser import CHROMIUM, Browser

from paper_figures.base.html import document, script, sortable_table

CELLS = pd.DataFrame(
    {
        "Dataset": ["MNIST", "MNIST", "Faces", "Faces"],
        "Model": ["VAE & co <b>", "KAEM", "VAE & co <b>", "KAEM"],
        "FD": ["12.5 ± 0.5 ✗", "1,080", "", "9.1e+00"],
        "Time, ms": ["0.3 [0.2, 0.4]", "*", "7", Markup("<strong>2</strong>")],
        "Health": ["FAILED: 3", "passed", "", "passed"],
    }
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    details = [Markup(f"<div>record {row}</div>") for row in range(4)]
    table = sortable_table(
        CELLS, "quality", "Quality.", head="Model", shown=4, filters=["Dataset"], details=details
    )
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(document("A <page>", Markup("<h1>Heading</h1>") + table))
    return path


class Elements(html.parser.HTMLParser):
    """The names, attributes and texts of a page's elements of some names, in order."""

    def __init__(self, text: str, *names: str):
        super().__init__()
        self.names, self.found = names, []
        self.feed(str(text))

    def handle_starttag(self, tag, attrs):
        if tag in self.names:
            self.found.append((tag, dict(attrs), ""))

    def handle_data(self, data):
        if self.found:
            tag, attrs, text = self.found[-1]
            self.found[-1] = tag, attrs, text + data.strip()


def test_texts_are_escaped_and_numbers_are_sorted_by_their_value():
    table = sortable_table(CELLS, "quality", "Quality.", head="Model", shown=4)
    cells = Elements(table, "td", "th").found
    orders = [attrs["data-order"] for _, attrs, _ in cells[5:]]
    assert orders[2::5] == ["12.5", "1080", "", "9.1e+00"]
    assert orders[3::5] == ["0.3", "", "7", "2"]
    assert orders[4::5] == ["FAILED: 3", "passed", "", "passed"]
    searched = [attrs["data-search"] for _, attrs, _ in cells[5:]]
    assert searched[1::5] == ["VAE & co <b>", "KAEM"] * 2
    heads = [(tag, text) for tag, attrs, text in cells if attrs.get("scope") == "row"]
    assert heads == [("th", "VAE & co <b>"), ("th", "KAEM")] * 2
    right = ["number" in attrs.get("class", "") for _, attrs, _ in cells[:5]]
    assert right == [False, False, True, True, False]
    hidden = [attrs.get("data-visible") for _, attrs, _ in cells[:5]]
    assert hidden == [None] * 4 + ["false"]
    few = Elements(sortable_table(CELLS.assign(Model=""), "few", "Few.", shown=2), "th").found
    assert [attrs.get("data-visible") for _, attrs, _ in few[:3]] == [None, "false", None]


def test_no_text_ends_the_script_that_holds_it():
    text = "a = '</script>'; b = '<!-- <SCRIPT>'; c = '<b>'"
    assert script(text) == r"a = '\x3C/script>'; b = '\x3C!-- \x3CSCRIPT>'; c = '<b>'"


def test_a_page_holds_all_that_it_shows(page):
    text = page.read_text()
    assert "<title>A &lt;page&gt;</title>" in text
    assert not re.search(r"@import|url\((?!data:)", text.partition("<script")[0])
    links = Elements(text, "link", "img", "iframe", "script", "a").found
    assert [attrs for _, attrs, _ in links if {"src", "href"} & set(attrs)] == []


def column(place: int) -> str:
    """What is to be seen of a column."""
    rows = "[...document.querySelectorAll('#quality tbody tr')]"
    return f"{rows}.map((row) => row.cells[{place}]?.innerText.trim())"


def press(browser: Browser, element: str) -> None:
    browser.evaluate(f"{element}.focus()")
    browser.key("Enter")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: chromium)")
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_rows_are_sorted_filtered_and_opened_by_keys(page, tmp_path, width, height):
    with Browser(tmp_path) as browser:
        browser.open(page, width, height)
        browser.wait("'ready' in document.documentElement.dataset")
        assert browser.evaluate("document.querySelector('#quality thead tr').cells.length") == 4
        head = "document.querySelector('#quality thead th:nth-child(3) [tabindex]')"
        press(browser, head)
        browser.becomes(column(2), ["9.1e+00", "12.5 ± 0.5 ✗", "1,080", ""])
        press(browser, head)
        browser.becomes(column(2), ["1,080", "12.5 ± 0.5 ✗", "9.1e+00", ""])
        browser.choose("select[name=Dataset]", "Faces")
        browser.becomes(column(0), ["Faces", "Faces"])
        browser.choose("select[name=Dataset]", "")
        browser.evaluate("document.querySelector('input[type=search]').focus()")
        browser.send("Input.insertText", text="kaem")
        browser.becomes(column(1), ["KAEM", "KAEM"])
        press(browser, "document.querySelector('button.open')")
        browser.becomes(column(0), ["MNIST", "record 1", "Faces"])
        press(browser, "document.querySelector('button.open')")
        browser.becomes(column(0), ["MNIST", "Faces"])
        press(browser, "document.querySelector('.dt-button')")
        browser.wait("document.querySelector('.dt-button-collection button')")
        press(browser, "[...document.querySelectorAll('.dt-button-collection button')].at(-1)")
        browser.becomes(column(4), ["passed", "passed"])
        assert browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert browser.errors == []
        assert [u for u in browser.requests if not u.startswith(("file:", "data:", "blob:"))] == []

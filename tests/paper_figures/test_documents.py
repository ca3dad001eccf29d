"""The documents show what the committed records say, link to what is there, and are filled by a
command."""

import re
from collections import Counter

import pytest

from benchmark.base.errors import BenchmarkError
from benchmark.base.paths import ROOT
from paper_figures.documents import BLOCK, fill, pages

BLOCKS = [match for page in pages() for match in BLOCK.finditer(page.read_text())]
PROSE = [*pages(), ROOT / "config/README.md", ROOT / "results/published/README.md"]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


@pytest.mark.parametrize("match", BLOCKS, ids=lambda match: match["source"])
def test_every_block_shows_its_result_as_it_is(match):
    shown = match[0].removeprefix(match["begin"]).removesuffix(match["end"])
    assert shown.strip()
    if match["source"].endswith(".png"):
        picture = f"images/{match['run']}_{match['source'].rpartition('/')[2]}"
        assert shown.startswith(f"![{match['alt']}](")
        assert shown.endswith(f"{picture})\n")
    elif match["published"]:  # what other runs wrote is not committed
        renew = "renew it: python -m paper_figures.documents published"
        assert shown == (ROOT / match["source"]).read_text(), renew


def test_no_result_is_shown_twice():
    shown = Counter(match["source"] for match in BLOCKS)
    assert [source for source, times in shown.items() if times > 1] == []


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for target, anchor in LINK.findall(page.read_text()):
        path = page.parent / target if target else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.read_text()), f"{target}#{anchor}"


def test_the_example_of_the_readme_runs():
    readme = (ROOT / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names: dict = {}
    exec(example, names)
    assert names["loss"].isfinite()
    assert names["samples"].shape == (64, 1, 28, 28)
    assert names["evidence"].log_evidence.shape == (2,)


@pytest.fixture
def root(tmp_path):
    """A repository with two results of one name, and pages that show nothing yet."""
    for folder, text in (("results/tiny", "mine"), ("results/published/tiny", "theirs")):
        (tmp_path / folder / "figures").mkdir(parents=True)
        (tmp_path / folder / "table.md").write_text(text + "\n")
        (tmp_path / folder / "figures" / "dots.png").write_bytes(text.encode())
    (tmp_path / "README.md").touch()
    return tmp_path


def page(root, *sources: str, name: str = "docs/guide/page.md"):
    """A document that shows these results, none of them yet."""
    document = root / name
    document.parent.mkdir(parents=True, exist_ok=True)
    document.write_text("".join(f"<!-- begin: {each} -->\n<!-- end -->\n" for each in sources))
    return document


@pytest.mark.parametrize(("run", "shown"), [("tiny", ["mine", ""]), ("published", ["", "theirs"])])
def test_only_the_blocks_of_the_named_run_are_filled(root, run, shown):
    document = page(root, "results/tiny/table.md", "results/published/tiny/table.md")
    assert fill([run], root) == {root / "README.md": 0, document: 1}
    blocks = [m[0].splitlines()[1:-1] for m in BLOCK.finditer(document.read_text())]
    assert blocks == [[text] if text else [] for text in shown]
    filled = document.read_text()
    fill([run], root)
    assert document.read_text() == filled


@pytest.mark.parametrize(
    ("name", "link"),
    [("README.md", "docs/images/"), ("docs/guide/page.md", "../images/")],
)
def test_pictures_are_copied_and_linked_from_where_the_page_lies(root, name, link):
    document = page(root, "results/published/tiny/figures/dots.png | Some dots", name=name)
    fill(["published"], root)
    assert f"![Some dots]({link}tiny_dots.png)" in document.read_text()
    assert (root / "docs/images/tiny_dots.png").read_bytes() == b"theirs"


@pytest.mark.parametrize(
    ("source", "cure"),
    [
        ("results/tiny/gone.md", "the workflow with the configuration of tiny"),
        ("results/published/tiny/figures/gone.png", "snakemake --cores all figures"),
    ],
)
def test_a_result_that_is_not_there_is_named_and_nothing_changes(root, source, cure):
    whole = page(root, "results/published/tiny/figures/dots.png | Some dots", name="README.md")
    document = page(root, "results/published/tiny/table.md", source)
    before = whole.read_text(), document.read_text()
    with pytest.raises(BenchmarkError, match=cure) as error:
        fill(["tiny", "published"], root)
    assert source in str(error.value)
    assert (whole.read_text(), document.read_text()) == before
    assert not (root / "docs/images").exists()

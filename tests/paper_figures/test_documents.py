"""The documents show what the committed records say, and are filled by a command."""

import pytest

from benchmark.base.errors import BenchmarkError
from benchmark.base.paths import ROOT
from paper_figures import documents
from paper_figures.documents import BLOCK, fill

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    (document, match) for document in DOCUMENTS for match in BLOCK.finditer(document.read_text())
]


@pytest.mark.parametrize(
    ("document", "match"),
    [each for each in BLOCKS if each[1]["published"] and each[1]["source"].endswith(".md")],
    ids=lambda each: getattr(each, "name", ""),
)
def test_published_tables_are_shown_as_they_are(document, match):
    source = (ROOT / match["source"]).read_text()
    assert match[0] == f"{match['begin']}{source}{match['end']}", (
        f"{document.name}: renew it: python -m paper_figures.documents published"
    )


@pytest.mark.parametrize(("document", "match"), BLOCKS, ids=lambda each: getattr(each, "name", ""))
def test_every_block_shows_something(document, match):
    shown = match[0].removeprefix(match["begin"]).removesuffix(match["end"])
    assert shown.strip(), document
    if match["source"].endswith(".png"):
        path = shown.strip().rpartition("(")[2].removesuffix(")")
        assert (document.parent / path).is_file()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty repository with two results of one name."""
    monkeypatch.setattr(documents, "ROOT", tmp_path)
    monkeypatch.setattr(documents, "IMAGES", tmp_path / "docs" / "images")
    for folder, text in (("results/tiny", "mine"), ("results/published/tiny", "theirs")):
        (tmp_path / folder / "figures").mkdir(parents=True)
        (tmp_path / folder / "table.md").write_text(text + "\n")
        (tmp_path / folder / "figures" / "dots.png").write_bytes(text.encode())
    return tmp_path


def page(root, *sources: str, name: str = "page.md"):
    """A document that shows these results, none of them yet."""
    document = root / "docs" / name
    document.parent.mkdir(exist_ok=True)
    document.write_text("".join(f"<!-- begin: {each} -->\n<!-- end -->\n" for each in sources))
    return document


@pytest.mark.parametrize(("run", "shown"), [("tiny", ["mine", ""]), ("published", ["", "theirs"])])
def test_only_the_blocks_of_the_named_run_are_filled(root, run, shown):
    document = page(root, "results/tiny/table.md", "results/published/tiny/table.md")
    assert fill([document], [run]) == {document: 1}
    blocks = [m[0].splitlines()[1:-1] for m in BLOCK.finditer(document.read_text())]
    assert blocks == [[each] if each else [] for each in shown]
    filled = document.read_text()
    fill([document], [run])
    assert document.read_text() == filled


def test_pictures_are_copied(root):
    document = page(root, "results/published/tiny/figures/dots.png | Some dots")
    fill([document], ["published"])
    assert "![Some dots](images/tiny_dots.png)" in document.read_text()
    assert (root / "docs/images/tiny_dots.png").read_bytes() == b"theirs"


@pytest.mark.parametrize(
    ("source", "cure"),
    [
        ("results/tiny/gone.md", "the workflow with the configuration of tiny"),
        ("results/published/tiny/figures/gone.png", "snakemake --cores all figures"),
    ],
)
def test_a_result_that_is_not_there_is_named_and_nothing_changes(root, source, cure):
    whole = page(root, "results/published/tiny/figures/dots.png | Some dots", name="whole.md")
    document = page(root, "results/published/tiny/table.md", source)
    before = whole.read_text(), document.read_text()
    with pytest.raises(BenchmarkError, match=cure) as error:
        fill([whole, document], ["tiny", "published"])
    assert source in str(error.value)
    assert (whole.read_text(), document.read_text()) == before
    assert not (root / "docs/images").exists()

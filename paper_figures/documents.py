"""Results in prose: copies tables and pictures into the pages of the repository and of docs/.

A document names the result that it shows and this command fills it in, so that no number is
typed by hand:

    <!-- begin: results/demo/tables/quality.md -->
    <!-- end -->

A picture is copied to docs/images/<run>_<name>.png; the text after "|" describes it:

    <!-- begin: results/demo/figures/samples_digits.png | Samples of each model -->
    <!-- end -->

Run `python -m paper_figures.documents RUN ...` in the repository after the workflow; only the
blocks of the named runs are renewed. RUN may be "published", for what `snakemake --cores all
figures` renders in results/published/.
"""

import argparse
import os
import re
import sys
from pathlib import Path

from benchmark.base.errors import BenchmarkError
from benchmark.base.files import atomic
from benchmark.base.paths import ROOT
from benchmark.base.process import exit_code

BLOCK = re.compile(
    r"(?P<begin><!-- begin: (?P<source>results/(?P<published>published/)?(?P<run>[\w-]+)/[^ |]+)"
    r"(?: \| (?P<alt>.*?))? -->\n)"
    r".*?(?P<end><!-- end -->)",
    re.DOTALL,
)


def pages(root: Path = ROOT) -> list[Path]:
    """List the documents of the repository at `root`."""
    return [*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md"))]


def fill(runs: list[str], root: Path = ROOT) -> dict[Path, int]:
    """Renew the blocks of `runs` in all documents, or change nothing at all.

    Returns:
        Document -> how many such blocks it has.

    Raises:
        BenchmarkError: a result that a document shows is not there.
    """
    files: dict[Path, bytes] = {}
    counts = {document: _fill(document, runs, root, files) for document in pages(root)}
    for path, data in files.items():
        with atomic(path) as temporary:
            temporary.write_bytes(data)
    return counts


def _fill(document: Path, runs: list[str], root: Path, files: dict[Path, bytes]) -> int:
    """Add the renewed document and its pictures to `files`, which are to be written; return how
    many blocks of `runs` it has."""
    count = 0

    def block(match: re.Match) -> str:
        nonlocal count
        if ("published" if match["published"] else match["run"]) not in runs:
            return match[0]
        count += 1
        return match["begin"] + _content(match, document, root, files) + match["end"]

    text = BLOCK.sub(block, document.read_text(encoding="utf-8"))
    if count:
        files[document] = text.encode()
    return count


def _content(match: re.Match, document: Path, root: Path, files: dict[Path, bytes]) -> str:
    """Return what a block holds; a picture's copy is added to `files`."""
    source = root / match["source"]
    try:
        data = source.read_bytes()
    except OSError as error:
        first = f"the workflow with the configuration of {match['run']}"
        raise BenchmarkError(
            f"{document.relative_to(root)} shows {match['source']}, which cannot be read: "
            f"{error.strerror}\n"
            f"  Run {'`snakemake --cores all figures`' if match['published'] else first} first."
        ) from error
    if source.suffix != ".png":
        return data.decode()
    copy = root / "docs" / "images" / f"{match['run']}_{source.name}"
    files[copy] = data
    return f"![{match['alt']}]({os.path.relpath(copy, document.parent)})\n"


def main() -> int:
    """Renew all documents; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m paper_figures.documents",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="e.g. demo")
    runs = parser.parse_args().runs

    def fill_all() -> None:
        for document, count in fill(runs).items():
            print(f"{document.relative_to(ROOT)}: {count} blocks")

    return exit_code(fill_all)


if __name__ == "__main__":
    sys.exit(main())

"""Results in prose: copies tables and pictures into README.md and docs/*.md.

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
import shutil
import sys
from pathlib import Path

from benchmark.errors import BenchmarkError, exit_code
from benchmark.files import atomic
from benchmark.paths import ROOT

BLOCK = re.compile(
    r"(?P<begin><!-- begin: (?P<source>results/(?P<published>published/)?(?P<run>[\w-]+)/[^ |]+)"
    r"(?: \| (?P<alt>.*?))? -->\n)"
    r".*?(?P<end><!-- end -->)",
    re.DOTALL,
)
IMAGES = ROOT / "docs" / "images"


def fill(document: Path, runs: list[str]) -> int:
    """Renew the blocks of `runs` in one document; returns how many there are."""
    count = 0

    def block(match: re.Match) -> str:
        nonlocal count
        if ("published" if match["published"] else match["run"]) not in runs:
            return match[0]
        count += 1
        return match["begin"] + _content(ROOT / match["source"], match, document) + match["end"]

    text = BLOCK.sub(block, document.read_text())
    if count:
        with atomic(document) as temporary:
            temporary.write_text(text)
    return count


def _content(source: Path, match: re.Match, document: Path) -> str:
    try:
        if source.suffix != ".png":
            return source.read_text()
        copy = IMAGES / f"{match['run']}_{source.name}"
        with atomic(copy) as temporary:
            shutil.copyfile(source, temporary)
    except OSError as error:
        first = f"the workflow with the configuration of {match['run']}"
        raise BenchmarkError(
            f"{document.name} shows {match['source']}, which cannot be read: {error.strerror}\n"
            f"  Run {'`snakemake --cores all figures`' if match['published'] else first} first."
        ) from error
    return f"![{match['alt']}]({os.path.relpath(copy, document.parent)})\n"


def main() -> int:
    """Renew README.md and docs/*.md; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m paper_figures.documents",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="e.g. demo")
    runs = parser.parse_args().runs

    def fill_all() -> None:
        for document in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
            print(f"{document.relative_to(ROOT)}: {fill(document, runs)} blocks")

    return exit_code(fill_all)


if __name__ == "__main__":
    sys.exit(main())

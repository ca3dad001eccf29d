"""README.md's first screen: the demo's table and pictures, copied from its results."""

import shutil

from benchmark import paths
from benchmark.config import ROOT, Config
from benchmark.errors import BenchmarkError
from benchmark.files import atomic

BEGIN, END = "<!-- demo table: begin -->", "<!-- demo table: end -->"
FIGURES = ("samples_digits", "prior_digits_kaem_is")
FOLDER = ROOT / "docs" / "images"


def render(config: Config) -> None:
    """Put tables/quality.md between the markers in README.md and the figures into docs/images."""
    readme = ROOT / "README.md"
    text = readme.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise BenchmarkError(f"{readme}: the markers {BEGIN} and {END} are missing")
    try:
        with open(paths.TABLE.format(run=config.run, table="quality", format="md")) as table:
            text = f"{before}{begin}\n{table.read()}{end}{after}"
        for figure in FIGURES:
            source = paths.FIGURE.format(run=config.run, figure=figure, format="png")
            with atomic(FOLDER / f"{figure}.png") as temporary:
                shutil.copyfile(source, temporary)
    except OSError as error:
        raise BenchmarkError(f"{error}\n  Run the demo first: make demo") from error
    with atomic(readme) as temporary:
        temporary.write_text(text)

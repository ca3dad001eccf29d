"""Page `index.html`: a run's verdicts, tables and samples, and the record behind each number.

One file that opens from the disk, on a phone too. It shows what the records say and computes no
more than the tables, figures and verdicts that it puts together.
"""

from importlib import import_module
from importlib.resources import files

import pandas as pd
import vl_convert
from markupsafe import Markup

from benchmark.base.errors import MissingError
from benchmark.base.files import atomic
from benchmark.claims.gates import is_distance
from benchmark.config.config import Config
from paper_figures.artefacts import ARTEFACTS
from paper_figures.base.artefact import Need, Page
from paper_figures.base.frames import quality_records, timing_records
from paper_figures.base.html import document, fill, sortable_table
from paper_figures.base.style import Contents
from paper_figures.overview.chart import chart, untimed
from paper_figures.overview.grids import grids
from paper_figures.overview.provenance import Provenance
from paper_figures.overview.verdicts import findings

PAGE = Page(
    "index",
    needs=(
        Need("metrics"),
        Need("training"),
        Need("timing", optional=True),
        Need("inspection", optional=True),
        Need("sampling", ("samples",), only=lambda config, job: job.seed == config.seeds[0]),
    ),
    caption="The run on one page: verdicts with their evidence, tables to sort, samples side by "
    "side, and the record behind each number.",
    category="Overview",
    sources=(
        "config/claims.yaml",
        "config/gates.yaml",
        "benchmark/claims/gates.py",
        "benchmark/claims/judge.py",
        "paper_figures/figures/sample_grids.py",
        "paper_figures/overview/chart.json",
        "paper_figures/overview/chart.py",
        "paper_figures/overview/evidence.html",
        "paper_figures/overview/grids.html",
        "paper_figures/overview/grids.py",
        "paper_figures/overview/overview.css",
        "paper_figures/overview/overview.html",
        "paper_figures/overview/overview.js",
        "paper_figures/overview/provenance.py",
        "paper_figures/overview/verdicts.html",
        "paper_figures/overview/verdicts.py",
        "paper_figures/tables/cost.py",
        "paper_figures/tables/independence.py",
        "paper_figures/tables/quality.py",
        "paper_figures/tables/timing.py",
    ),
)

TABLES = {
    "quality": "Quality",
    "timing": "Time of sampling",
    "cost": "Cost",
    "independence": "Independence of the latents",
}
NAMES = ("Dataset", "Batch", "Model", "Mode")  # columns that say what a row is about
VEGA = "window.vegaEmbed = vegaEmbed;"


def render(config: Config) -> None:
    """Write the page.

    Raises:
        MissingError: there are no records; RecordError: one is damaged or of another job.
    """
    provenance = Provenance(config)
    quality, timing = quality_records(config), timing_records(config)
    plot = chart(config, quality, timing)
    body = fill(
        "overview/overview.html",
        run=config.run,
        note=config.note,
        demo=config.demo,
        findings=findings(config, provenance),
        chart=plot,
        untimed=untimed(config, quality, timing),
        grids=grids(config, quality),
        tables=list(_tables(config, provenance)),
        explorer=_has(config, "explorer") and "inspection" in provenance.kinds,
        provenance=provenance,
        records=provenance.table(),
    )
    own = files("paper_figures") / "overview"
    scripts = [vl_convert.javascript_bundle(VEGA)] if plot else []
    page = document(
        f"{config.run}: what the records say",
        body,
        styles=(own / "overview.css").read_text(encoding="utf-8"),
        scripts=[*scripts, (own / "overview.js").read_text(encoding="utf-8")],
    )
    (path,) = PAGE.paths(config.run)
    with atomic(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _tables(config: Config, provenance: Provenance):
    """Give title, HTML, notes and name of each table that the run has."""
    for name, title in TABLES.items():
        artefact = ARTEFACTS[name]
        if not _has(config, name):
            continue
        try:
            contents = import_module(artefact.module).contents(config)
        except MissingError:
            continue
        if any(contents.files):
            table = sortable_table(
                _with_best(contents.cells) if name == "quality" else contents.cells,
                name,
                artefact.caption,
                head="Model",
                filters=("Dataset", "Batch", "Mode"),
                details=list(_details(contents, provenance)),
            )
            yield title, table, contents.notes, name


def _has(config: Config, name: str) -> bool:
    return bool(ARTEFACTS[name].places(config, gpu=True))


def _details(contents: Contents, provenance: Provenance):
    """Give for each row all that it says, and which records each part rests on."""
    for cells, origins in zip(contents.cells.to_dict("records"), contents.files, strict=True):
        by_files: dict[tuple, list] = {}
        for column, text in cells.items():
            if text and column not in NAMES:
                rests_on = tuple(sorted(set(origins.get(column, ()))))
                by_files.setdefault(rests_on, []).append((column, text))
        yield provenance.evidence(by_files)


def _with_best(cells: pd.DataFrame) -> pd.DataFrame:
    """Set the best distances, precision and recall of each dataset in bold, of models that passed
    their health gates."""
    marked = cells.copy()
    for column in cells:
        name = column.partition(" (")[0].lower().replace("-", "_")
        best_of = {"precision": max, "recall": max}.get(name, min if is_distance(name) else None)
        if not best_of:
            continue
        passed = cells[(cells["Health"] == "passed") & (cells[column] != "")]
        for _, rows in passed.groupby("Dataset"):
            means = rows[column].str.split().str[0].str.rstrip("†").astype(float)
            for place in means[means == best_of(means)].index:
                bold = Markup("<strong>{}</strong>").format(cells.loc[place, column])
                marked.loc[place, column] = bold
    return marked

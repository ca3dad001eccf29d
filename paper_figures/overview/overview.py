"""Page `index.html`: a run's verdicts, tables and samples, and the record behind each number.

One file that opens from the disk, on a phone too. It shows what the records say and computes no
more than the tables, figures and verdicts that it puts together.
"""

from importlib.resources import files

import pandas as pd
import vl_convert
from markupsafe import Markup

from benchmark.base.errors import MissingError
from benchmark.base.files import atomic
from benchmark.claims.gates import is_distance
from benchmark.config.config import Config
from paper_figures.base.artefact import Need, Page
from paper_figures.base.frames import inspected_models, quality_records, timing_records
from paper_figures.base.html import document, fill, sortable_table
from paper_figures.base.style import Contents
from paper_figures.overview.chart import chart, untimed
from paper_figures.overview.grids import grids
from paper_figures.overview.provenance import Provenance
from paper_figures.overview.verdicts import findings
from paper_figures.tables import cost, independence
from paper_figures.tables import quality as quality_table
from paper_figures.tables import timing as timing_table

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
        "paper_figures/overview/chart.py",
        "paper_figures/overview/grids.py",
        "paper_figures/overview/overview.css",
        "paper_figures/overview/overview.html",
        "paper_figures/overview/overview.js",
        "paper_figures/overview/provenance.py",
        "paper_figures/overview/verdicts.py",
        "paper_figures/tables/cost.py",
        "paper_figures/tables/independence.py",
        "paper_figures/tables/quality.py",
        "paper_figures/tables/timing.py",
    ),
)

TABLES = {
    quality_table: "Quality",
    timing_table: "Time of sampling",
    cost: "Cost",
    independence: "Independence of the latents",
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
        findings=findings(config, provenance),
        chart=plot,
        untimed=untimed(config, quality, timing),
        grids=grids(config, quality),
        tables=list(_tables(config, provenance)),
        explorer=_has_explorer(config),
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


def _has_explorer(config: Config) -> bool:
    """Say whether the run's latents were looked into, so that there is a page of them."""
    for dataset in config.datasets:
        try:
            return bool(inspected_models(config, dataset))
        except MissingError:
            continue
    return False


def _tables(config: Config, provenance: Provenance):
    """Give title, HTML, notes and name of each table that the run has."""
    for module, title in TABLES.items():
        try:
            contents = module.contents(config)
        except MissingError:
            continue
        if any(contents.files):
            table = sortable_table(
                _with_best(contents.cells) if module is quality_table else contents.cells,
                module.TABLE.name,
                module.TABLE.caption,
                head="Model",
                filters=[name for name in NAMES if name != "Model"],
                details=list(_details(contents, provenance)),
            )
            yield title, table, contents.notes, module.TABLE.name


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
        for _, rows in cells[cells["Health"] != ""].groupby("Dataset"):
            passed = rows[(rows[column] != "") & ~rows["Health"].str.startswith("FAILED")][column]
            if len(passed):
                means = passed.str.split().str[0].str.rstrip("†").astype(float)
                best = means[means == best_of(means)].index
                marked.loc[best, column] = [
                    Markup("<strong>{}</strong>").format(text) for text in cells.loc[best, column]
                ]
    return marked

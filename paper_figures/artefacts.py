"""The tables, figures and pages: the one list of the modules that declare them."""

import ast
from dataclasses import replace

from benchmark.base.paths import ROOT
from paper_figures.base import artefact as declarations
from paper_figures.base.artefact import Artefact

# Of a run, in the order in which they are rendered.
MODULES = (
    "paper_figures.tables.summary",
    "paper_figures.tables.quality",
    "paper_figures.tables.timing",
    "paper_figures.tables.cost",
    "paper_figures.tables.independence",
    "paper_figures.tables.budgets",
    "paper_figures.tables.reported",
    "paper_figures.figures.inductive_bias",
    "paper_figures.figures.tradeoff",
    "paper_figures.figures.training_time",
    "paper_figures.figures.sample_grids",
    "paper_figures.figures.fd_infinity",
    "paper_figures.figures.samples_in_training",
    "paper_figures.figures.training_film",
    "paper_figures.figures.loss_curves",
    "paper_figures.figures.training_health",
    "paper_figures.figures.prior_densities",
    "paper_figures.figures.first_densities",
    "paper_figures.figures.prior_posterior",
    "paper_figures.figures.traversals",
    "paper_figures.figures.interpolations",
    "paper_figures.figures.latents",
    "paper_figures.figures.components",
    "paper_figures.figures.dependence",
    "paper_figures.figures.filling_in",
    "paper_figures.figures.power_posteriors",
    "paper_figures.figures.tempered_integral",
    "paper_figures.figures.explorer",
    "paper_figures.overview.overview",
)

# Of devices alone, with no configuration: what `make bench` and `make scaling` measured.
MEASURED = {"bench": "paper_figures.tables.bench", "scaling": "paper_figures.figures.scaling"}

BASE = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("paper_figures/base/*.*"))


def read_declaration(module: str) -> Artefact:
    """Return what a module declares as its TABLE, FIGURE or PAGE.

    That expression alone is evaluated, with the names of `paper_figures.base.artefact`. Each job of
    a workflow reads all declarations, and importing the modules, with pandas and matplotlib, would
    double the time that a job takes to start.

    Raises:
        LookupError: it declares none.
    """
    file = module.replace(".", "/") + ".py"
    for statement in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
        match statement:
            case ast.Assign([ast.Name("TABLE" | "FIGURE" | "PAGE")], expression):
                code = compile(ast.Expression(expression), file, "eval")
                artefact = eval(code, dict(vars(declarations)))
                sources = (file, *BASE, *artefact.sources)
                return replace(artefact, module=module, sources=sources)
    raise LookupError(f"{file}: declares no TABLE, FIGURE or PAGE")


ARTEFACTS = {artefact.command: artefact for artefact in map(read_declaration, MODULES)}

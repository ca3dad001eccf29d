"""The tables, figures and pages of a run: the one list of the modules that declare them."""

import ast
from dataclasses import replace

from benchmark.base.paths import ROOT
from paper_figures.base import artefact
from paper_figures.base.artefact import Artefact

MODULES = (
    "paper_figures.tables.quality",
    "paper_figures.tables.timing",
    "paper_figures.tables.cost",
    "paper_figures.tables.independence",
    "paper_figures.tables.reported",
    "paper_figures.figures.inductive_bias",
    "paper_figures.figures.tradeoff",
    "paper_figures.figures.sample_grids",
    "paper_figures.figures.loss_curves",
    "paper_figures.figures.training_health",
    "paper_figures.figures.prior_posterior",
    "paper_figures.figures.traversals",
    "paper_figures.figures.latents",
    "paper_figures.figures.power_posteriors",
    "paper_figures.figures.explorer",
    "paper_figures.figures.prior_densities",
)

BASE = tuple(f"paper_figures/base/{file.name}" for file in (ROOT / "paper_figures/base").glob("*.py"))


def declared(module: str) -> Artefact:
    """Return what a module declares as its TABLE, FIGURE or PAGE.

    That one expression is evaluated, with the names of `paper_figures.base.artefact`, and the rest
    of the module is not run: each process of a workflow reads all declarations, and importing
    matplotlib and pandas would double the time that it takes to start.
    """
    file = module.replace(".", "/") + ".py"
    for statement in ast.parse((ROOT / file).read_text()).body:
        match statement:
            case ast.Assign([ast.Name("TABLE" | "FIGURE" | "PAGE")], value):
                code = compile(ast.Expression(value), file, "eval")
                found = eval(code, vars(artefact).copy())
                return replace(found, module=module, sources=(file, *BASE, *found.sources))
    raise LookupError(f"{file} declares no TABLE, FIGURE or PAGE")


ARTEFACTS = {each.command: each for each in map(declared, MODULES)}

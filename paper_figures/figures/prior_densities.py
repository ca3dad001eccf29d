"""Figure `prior_<dataset>_<model>`: the one-dimensional prior densities that KAEM learned."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from benchmark.base.errors import MissingError
from benchmark.config.config import Config
from paper_figures.base.artefact import Figure, Need
from paper_figures.base.frames import diagnostics
from paper_figures.base.style import (
    PRIOR_BEFORE,
    latent_panels,
    model_colours,
    model_label,
    save_figure,
    set_title,
)

FIGURE = Figure(
    "prior_{dataset}_{model}",
    needs=(
        Need(
            "training",
            ("diagnostics",),
            only=lambda config, job: config.is_kaem(job.model) and job.seed == config.seeds[0],
        ),
    ),
    caption="The one-dimensional prior densities on {dataset} before, during and after training.",
    category="Latents",
)

STAGES = {
    "before": "before training",
    "1_percent": "after 1% of the updates",
    "10_percent": "10%",
    "30_percent": "30%",
    "after": "after training",
}


def render(config: Config, dataset: str) -> None:
    """Draw a figure for each KAEM entry whose densities are stored, first seed.

    Raises:
        MissingError: none are.
    """
    arrays = {
        model: diagnostics(config, dataset, model, config.seeds[0])
        for model in filter(config.is_kaem, config.trained_models)
    }
    stored = {model: names for model, names in arrays.items() if "density_after" in names}
    if not stored:
        raise MissingError(f"{config.run}: no prior densities of {dataset} are stored")
    for model, densities in stored.items():
        _draw(config, dataset, model, densities)


def _draw(config: Config, dataset: str, model: str, arrays: dict[str, np.ndarray]) -> None:
    """Draw a panel per latent z_q: its density before, during and after training.

    With the univariate prior a panel holds the p densities of z_q1, ..., z_qp.
    """
    # Trainings by earlier versions stored none in between.
    stages = [stage for stage in STAGES if f"density_{stage}" in arrays]
    curves = {stage: _curves(arrays[f"density_{stage}"]) for stage in stages}
    colours = sns.blend_palette([PRIOR_BEFORE, model_colours(config)[model]], len(stages))
    figure, axes, of = latent_panels(len(curves["after"]), "z")
    for q, axis in enumerate(axes):
        for stage, colour in zip(stages, colours, strict=True):
            width = 1.4 if stage == "after" else 0.8
            axis.plot(arrays[f"nodes_{stage}"], curves[stage][q].T, color=colour, lw=width)
        axis.set_ylim(bottom=0)
        axis.set_title(f"$q = {q + 1}$", fontsize="small", pad=2)
    lines = [plt.Line2D([], [], color=colour) for colour in colours]
    labels = [STAGES[stage] for stage in stages]
    figure.legend(lines, labels, loc="outside lower center", ncols=len(stages))
    set_title(
        figure,
        f"{config.facts(dataset).title}, {model_label(config, model)}: prior densities{of}",
    )
    save_figure(figure, FIGURE.paths(config.run, dataset=dataset, model=model))


def _curves(density: np.ndarray) -> np.ndarray:
    """Return densities (q, n) or (q, p, n) as (q, p, n)."""
    return density[:, None] if density.ndim == 2 else density

"""Figure `prior_<dataset>_<model>`: the one-dimensional prior densities that KAEM learned."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from benchmark.base.errors import MissingError
from benchmark.config.config import Config
from paper_figures.base import style
from paper_figures.base.frames import diagnostics
from paper_figures.base.style import (
    PRIOR_BEFORE,
    dataset_label,
    latent_panels,
    model_colours,
    model_label,
    save_figure,
    use_style,
)

STAGES = {
    "before": "before training",
    "1_percent": "after 1% of the updates",
    "10_percent": "10%",
    "30_percent": "30%",
    "after": "after training",
}


def render(config: Config, dataset: str, model: str) -> None:
    """One panel per latent z_q: its density before, during and after training, first seed.

    With the univariate prior a panel holds the p densities of z_q1, ..., z_qp.
    """
    use_style()
    seed = config.seeds[0]
    arrays = diagnostics(config, dataset, model, seed)
    if "density_after" not in arrays:
        raise MissingError(f"{model} on {dataset}: no prior densities are stored for it")
    # Trainings by earlier versions stored none in between.
    stages = [stage for stage in STAGES if f"density_{stage}" in arrays]
    curves = {stage: _curves(arrays[f"density_{stage}"]) for stage in stages}
    colours = sns.blend_palette([PRIOR_BEFORE, model_colours(config)[model]], len(stages))
    count = len(curves["after"])
    figure, axes = latent_panels(count)
    for q, axis in enumerate(axes):
        for stage, colour in zip(stages, colours, strict=True):
            width = 1.4 if stage == "after" else 0.8
            axis.plot(arrays[f"nodes_{stage}"], curves[stage][q].T, color=colour, lw=width)
        axis.set_ylim(bottom=0)
        axis.set_title(f"$q = {q + 1}$", fontsize="small", pad=2)
    for axis in axes[-style.PANEL_COLUMNS :]:
        axis.set_xlabel("$z$")
    lines = [plt.Line2D([], [], color=colour) for colour in colours]
    labels = [STAGES[stage] for stage in stages]
    figure.legend(lines, labels, loc="outside lower center", ncols=len(stages))
    of = "" if len(axes) == count else f", {len(axes)} of {count} latents"
    figure.suptitle(
        f"{dataset_label(config, dataset)}, {model_label(config, model)}: prior densities{of}"
    )
    save_figure(figure, config, f"prior_{dataset}_{model}")
    plt.close(figure)


def _curves(density: np.ndarray) -> np.ndarray:
    """(q, n) or (q, p, n) -> (q, p, n)."""
    return density[:, None] if density.ndim == 2 else density

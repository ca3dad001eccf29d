"""Figure `prior_<dataset>_<model>`: the one-dimensional prior densities that KAEM learned."""

import matplotlib.pyplot as plt
import numpy as np

from benchmark.config import Config
from benchmark.errors import BenchmarkError
from paper_figures.records import diagnostics
from paper_figures.style import (
    FULL,
    PRIOR_BEFORE,
    dataset_label,
    model_colours,
    model_label,
    save_figure,
    use_style,
)

MOST_PANELS = 16
COLUMNS = 4


def render(config: Config, dataset: str, model: str) -> None:
    """One panel per latent z_q: its density before (grey) and after training, first seed.

    With the univariate prior a panel holds the p densities of z_q1, ..., z_qp.
    """
    use_style()
    seed = config.seeds[0]
    arrays = diagnostics(config, dataset, model, seed)
    if "density_after" not in arrays:
        raise BenchmarkError(f"{model} on {dataset}: no prior densities are stored for it")
    before, after = (_curves(arrays[f"density_{stage}"]) for stage in ("before", "after"))
    shown = min(len(after), MOST_PANELS)
    rows = -(-shown // COLUMNS)
    figure, axes = plt.subplots(
        rows, COLUMNS, figsize=(FULL, 1.15 * rows + 0.5), sharex=True, squeeze=False
    )
    colour = model_colours(config)[model]
    for q, axis in enumerate(axes.flat):
        if q >= shown:
            axis.set_axis_off()
            continue
        axis.plot(arrays["nodes_before"], before[q].T, color=PRIOR_BEFORE, lw=0.8)
        axis.plot(arrays["nodes_after"], after[q].T, color=colour, lw=1.2)
        axis.set_yticks([])
        axis.set_ylim(bottom=0)
        axis.set_title(f"$q = {q + 1}$", fontsize="small", pad=2)
    for axis in axes[-1]:
        axis.set_xlabel("$z$")
    of = "" if shown == len(after) else f", {shown} of {len(after)} latents"
    figure.suptitle(
        f"{dataset_label(config, dataset)}, {model_label(config, model)}: prior densities before "
        f"(grey) and after training{of}"
    )
    save_figure(figure, config, f"prior_{dataset}_{model}")
    plt.close(figure)


def _curves(density: np.ndarray) -> np.ndarray:
    """(q, n) or (q, p, n) -> (q, p, n)."""
    return density[:, None] if density.ndim == 2 else density

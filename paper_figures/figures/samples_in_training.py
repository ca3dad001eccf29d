"""Figure `samples_in_training_<dataset>`: samples of every model while it was trained."""

import matplotlib.pyplot as plt
import numpy as np

from benchmark.config.config import Config
from paper_figures.base.artefact import Figure, Need
from paper_figures.base.frames import kept_samples
from paper_figures.base.style import (
    APART,
    FULL,
    narrow_label,
    save_figure,
    show_picture,
    spaced,
    tiled,
)

FIGURE = Figure(
    "samples_in_training_{dataset}",
    needs=(
        Need("training", ("diagnostics",), only=lambda config, job: job.seed == config.seeds[0]),
    ),
    caption="Samples on {dataset} of every model while it was trained, from the same noise; first "
    "seed.",
    category="Samples",
)

SHARES = (0, 0.01, 0.04, 0.13, 0.33, 1)  # of the updates, about which moments are shown
SHOWN = 4  # samples of each


def render(config: Config, dataset: str) -> None:
    """Draw a row per model whose training kept samples; those of earlier versions kept none."""
    rows = {
        model: row
        for model in config.trained_models
        if (row := _row(kept_samples(config, dataset, model))) is not None
    }
    figure, axis = plt.subplots(figsize=(FULL, FULL))
    axis.set_axis_off()
    if rows:
        picture = spaced(list(rows.values()), axis=0)
        figure.set_size_inches(FULL, FULL * 0.85 * picture.shape[0] / picture.shape[1] + 0.8)
        axis.set_axis_on()
        show_picture(axis, picture)
        labels = [narrow_label(config, model, 30) for model in rows]
        axis.set_yticks(_middles(picture.shape[0], len(rows)), labels, fontsize="x-small")
        shares = [f"{share:.0%}" for share in SHARES]
        axis.set_xticks(_middles(picture.shape[1], len(SHARES)), shares)
        axis.set_xlabel("share of the updates")
    title = f"{config.facts(dataset).title}: samples while the models were trained"
    figure.suptitle(title if rows else f"{title}: none were kept")
    save_figure(figure, FIGURE.paths(config.run, dataset=dataset))


def _row(kept: dict[int, np.ndarray]) -> np.ndarray | None:
    """Lay out the samples of the moments nearest to `SHARES`; None where none were kept."""
    if not kept:
        return None
    last = max(kept)
    nearest = [min(kept, key=lambda update: abs(update - share * last)) for share in SHARES]
    return spaced([tiled(kept[update][None, :SHOWN]) for update in nearest], axis=1)


def _middles(size: int, count: int) -> np.ndarray:
    """Return the middles of so many parts that `spaced` joined to this size."""
    return (size + APART) / count * (np.arange(count) + 0.5) - APART / 2

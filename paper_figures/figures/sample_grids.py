"""Figure `samples_<dataset>`: uncurated samples of every model beside real images."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from benchmark.config.config import REAL, Config
from benchmark.config.jobs import job_of
from paper_figures.base.artefact import Figure, Need
from paper_figures.base.style import FULL, narrow_label, save_figure, tiled

if TYPE_CHECKING:
    from torch import Tensor

FIGURE = Figure(
    "samples_{dataset}",
    needs=(Need("sampling", ("samples",), only=lambda config, job: job.seed == config.seeds[0]),),
    caption="Uncurated samples of every model beside real images of {dataset}, first seed.",
    category="Samples",
)

SIDE = 5  # images per side of a grid


def render(config: Config, dataset: str) -> None:
    """Draw the first images of the first seed of each model that has any; nothing is picked."""
    images = first_samples(config, dataset, SIDE**2)
    grids = {model: mosaic(own, SIDE) for model, own in images.items()}
    columns = min(max(len(grids), 1), 4)
    rows = max(-(-len(grids) // columns), 1)
    size = (FULL, FULL / columns * rows + 0.35)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (model, grid) in zip(axes.flat, grids.items(), strict=False):
        axis.imshow(grid, cmap="gray", vmin=0, vmax=255, interpolation="none")
        axis.set_title(narrow_label(config, model, 25), fontsize="small")
    figure.suptitle(
        f"{config.facts(dataset).title}: first {SIDE**2} samples, seed {config.seeds[0]}"
    )
    save_figure(figure, FIGURE.paths(config.run, dataset=dataset))


def first_samples(config: Config, dataset: str, count: int) -> dict[str, "Tensor"]:
    """Return the first images, uint8 (n, C, H, W), of the first seed of each model that has any,
    and of the real ones.

    Raises:
        RecordError: images are damaged or of another job.
    """
    # Imported here: no other figure is to wait for torch.
    from benchmark.evaluation.samples import open_samples

    models = (REAL, *config.evaluated_models)
    drawings = [job_of(config, "sampling", dataset, model, config.seeds[0]) for model in models]
    return {
        job.model: open_samples(job.path("samples"), job).first(count)
        for job in drawings
        if job.path("samples").exists()
    }


def mosaic(images: "Tensor", side: int, gap: int = 1) -> np.ndarray:
    """Lay out the first side^2 images, uint8 (n, C, H, W), with white lines between."""
    count, *shape = images.shape
    cells = np.full((side**2, *shape), 255, np.uint8)
    cells[:count] = images[: side**2]
    return tiled(cells.reshape(side, side, *shape), gap)

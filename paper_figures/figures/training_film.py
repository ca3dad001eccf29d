"""Films `training_film_<dataset>_<model>`: samples of a model while it was trained."""

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from benchmark.base.files import atomic
from benchmark.config.config import Config
from paper_figures.base.artefact import Film, Need
from paper_figures.base.frames import kept_samples
from paper_figures.base.style import fix_layout, model_label, show_picture, tiled

FIGURE = Film(
    "training_film_{dataset}_{model}",
    needs=(
        Need("training", ("diagnostics",), only=lambda config, job: job.seed == config.seeds[0]),
    ),
    caption="Samples on {dataset} of a model while it is trained, from the same noise.",
    category="Samples",
)

SIZE, ROWS = (3.6, 2.4), 2  # inches, and rows of samples
FRAME_MS, LAST_MS = 300, 2000  # milliseconds that a picture stays


def render(config: Config, dataset: str) -> None:
    """Write a GIF of each model, first seed; of a single empty picture where no samples were
    kept."""
    for model in config.trained_models:
        frames = _frames(
            f"{config.facts(dataset).title}, {model_label(config, model)}",
            kept_samples(config, dataset, model),
        )
        (path,) = FIGURE.paths(config.run, dataset=dataset, model=model)
        durations = [FRAME_MS] * (len(frames) - 1) + [LAST_MS]
        with atomic(path) as temporary:
            first, *others = frames
            options = {"append_images": others, "duration": durations, "loop": 0}
            first.save(temporary, format="GIF", save_all=True, **options)


def _frames(title: str, kept: dict[int, np.ndarray]) -> list[Image.Image]:
    figure, axis = plt.subplots(figsize=SIZE, dpi=100)
    axis.set(xticks=[], yticks=[])
    figure.suptitle(title, fontsize="small")
    frames = []
    for update, images in kept.items() or [(None, np.full((ROWS, 1, 1, 1), 255, np.uint8))]:
        axis.clear()
        show_picture(axis, tiled(images.reshape(ROWS, -1, *images.shape[1:])))
        axis.set(xticks=[], yticks=[])
        said = "no samples were kept" if update is None else f"after {update:,} updates"
        axis.set_xlabel(said, fontsize="small")
        fix_layout(figure)
        figure.canvas.draw()
        frames.append(Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3]))
    plt.close(figure)
    return frames

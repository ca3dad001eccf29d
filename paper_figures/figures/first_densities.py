"""Figure `first_densities_<dataset>`: the first densities that each univariate prior learned."""

import matplotlib.pyplot as plt

from benchmark.config.config import Config
from paper_figures.base.artefact import Figure, Need
from paper_figures.base.frames import diagnostics
from paper_figures.base.style import FULL, PRIOR_BEFORE, model_colours, narrow_label, save_figure

FIGURE = Figure(
    "first_densities_{dataset}",
    needs=(
        Need(
            "training",
            ("diagnostics",),
            only=lambda config, job: (
                config.spec(job.model).prior == "univariate" and job.seed == config.seeds[0]
            ),
        ),
    ),
    caption="The densities of z_11, z_12 and z_13 on {dataset}, before and after training, of each "
    "entry with the univariate prior; first seed.",
    category="Latents",
)

SHOWN = 3


def render(config: Config, dataset: str) -> None:
    """Draw a row per entry whose densities are stored."""
    stored = {}
    for model in config.trained_models:
        if config.spec(model).prior == "univariate":
            arrays = diagnostics(config, dataset, model, config.seeds[0])
            if "density_after" in arrays:
                stored[model] = arrays
    lines = max(len(stored), 1)
    figure, axes = plt.subplots(
        lines, SHOWN, figsize=(FULL, 1.1 * lines + 0.7), squeeze=False, sharex="row", sharey="row"
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for row, (model, arrays) in zip(axes, stored.items(), strict=False):
        # A prior with fewer summands has fewer panels.
        for p, axis in enumerate(row[: arrays["density_after"].shape[1]]):
            axis.set_axis_on()
            for stage, colour in (
                ("before", PRIOR_BEFORE),
                ("after", model_colours(config)[model]),
            ):
                axis.plot(arrays[f"nodes_{stage}"], arrays[f"density_{stage}"][0, p], color=colour)
            axis.set(ylim=(0, None), yticks=[])
            axis.set_title(f"$z_{{1,{p + 1}}}$", fontsize="small", pad=2)
        row[0].set_ylabel(narrow_label(config, model, 16), fontsize="x-small")
    title = f"{config.facts(dataset).title}: densities before (grey) and after training"
    figure.suptitle(title if stored else f"{config.facts(dataset).title}: no densities are stored")
    save_figure(figure, FIGURE.paths(config.run, dataset=dataset))

"""Figures `posterior_<dataset>_<model>`: each latent's prior against the aggregated posterior."""

from benchmark.config.config import Config
from paper_figures.base.artefact import Figure, Need
from paper_figures.base.frames import inspected_models, inspection
from paper_figures.base.style import (
    latent_panels,
    latent_symbol,
    model_colours,
    model_label,
    save_figure,
)

FIGURE = Figure(
    "posterior_{dataset}_{model}",
    needs=(Need("inspection", ("record", "arrays")),),
    caption="Each latent's prior density (line) and the aggregated posterior of test images "
    "(histogram) on {dataset}, with their Kolmogorov-Smirnov distance.",
    category="Latents",
)

BINS = 40


def render(config: Config, dataset: str) -> None:
    """Draw a figure for each KAEM entry that was inspected, first seed."""
    for model in inspected_models(config, dataset):
        _draw(config, dataset, model)


def _draw(config: Config, dataset: str, model: str) -> None:
    metrics, arrays = inspection(config, dataset, model)
    draws = arrays["posterior_draws"]
    symbol = f"{latent_symbol(config, model)}_q"
    figure, axes, of = latent_panels(draws.shape[-1], symbol, height=1.25)
    for q, axis in enumerate(axes):
        points = arrays["points"][q]
        histogram = axis.hist(
            draws[..., q].ravel(),
            bins=BINS,
            range=(points[0], points[-1]),
            density=True,
            color="0.75",
        )
        curve = axis.plot(points, arrays["prior"][q], color=model_colours(config)[model])
        axis.set_title(f"$q = {q + 1}$, KS {metrics['ks_prior'][q]:.2f}", fontsize="small", pad=2)
    figure.legend(
        [curve[0], histogram[2]],
        ["prior", f"aggregated posterior of {draws.shape[1]} images"],
        loc="outside lower center",
        ncols=2,
    )
    figure.suptitle(
        f"{config.facts(dataset).title}, {model_label(config, model)}: prior and posterior{of}\n"
        f"KS between two sets of chains at most {max(metrics['ks_chains']):.2f}; R-hat below 1.1 "
        f"for {metrics['r_hat_mixed_share']:.0%} of latents and images",
        fontsize="medium",
    )
    save_figure(figure, FIGURE.paths(config.run, dataset=dataset, model=model))

"""Figure `tempered_integral`: the log evidence as an area over the temperatures."""

import matplotlib.pyplot as plt

from benchmark.config.config import Config
from paper_figures.base.artefact import Figure, Need
from paper_figures.base.frames import power_comparison
from paper_figures.base.style import FULL, model_colours, save_figure

FIGURE = Figure(
    "tempered_integral",
    needs=(Need("power", ("record", "arrays")),),
    caption="The mean log-likelihood of the power posteriors against their temperature, whose "
    "integral is the log evidence: the truth, and a population's trapezoids and stepping stones.",
    category="Latents",
    applies=lambda config: bool(config.inspected_models),
)


def render(config: Config) -> None:
    """Draw the curve by quadrature and the trapezoids below a population's means."""
    metrics, arrays = power_comparison(config, "integral_truth")
    colour = model_colours(config)["kaem_thermo"]
    temperatures, means = arrays["temperatures"], arrays["integral_population"]
    figure, axis = plt.subplots(figsize=(0.62 * FULL, 2.6))
    axis.plot(arrays["integral_t"], arrays["integral_truth"], color="black", lw=1, label="truth")
    axis.plot(temperatures, means, "o-", ms=4, lw=1, color=colour, label="population")
    axis.fill_between(temperatures, means, color=colour, alpha=0.15, lw=0)
    axis.vlines(temperatures, means, 0, color=colour, lw=0.5)
    axis.axhline(0, color="0.6", lw=0.8)
    axis.set(xlabel="temperature $t$", ylabel="$E_t[\\log p(x|z)]$, nats", xlim=(-0.02, 1.02))
    names = {"": "truth", "_trapezoid": "trapezoids", "_stones": "stepping stones"}
    lines = [f"{said}: {metrics[f'log_evidence{name}']:.2f}" for name, said in names.items()]
    text = "\n".join(["$\\log p(x)$, nats", *lines])
    axis.text(0.35, 0.08, text, transform=axis.transAxes, fontsize="small")
    axis.legend(loc="lower right", fontsize="small")
    axis.set_title("A posterior with two modes: evidence as an area", fontsize="medium")
    save_figure(figure, FIGURE.paths(config.run))

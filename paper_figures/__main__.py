"""`python -m paper_figures NAME --config FILE`: render one table or figure from its records."""

import argparse
import sys

from benchmark.cli import add_config_arguments, config_from
from benchmark.errors import exit_code
from paper_figures import (
    explorer,
    latents,
    loss_curves,
    power_posteriors,
    prior_densities,
    prior_posterior,
    quality,
    sample_grids,
    timing,
    training_health,
    traversals,
)

RENDERERS = {
    "quality": (quality.render, ()),
    "timing": (timing.render, ()),
    "sample_grids": (sample_grids.render, ("dataset",)),
    "loss_curves": (loss_curves.render, ("dataset",)),
    "training_health": (training_health.render, ("dataset",)),
    "prior_posterior": (prior_posterior.render, ("dataset",)),
    "traversals": (traversals.render, ("dataset",)),
    "latents": (latents.render, ("dataset",)),
    "power_posteriors": (power_posteriors.render, ()),
    "explorer": (explorer.render, ()),
    "prior_densities": (prior_densities.render, ("dataset", "model")),
}


def main() -> int:
    """Render what the command line names; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paper_figures", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="name", metavar="NAME")
    for name, (render, arguments) in RENDERERS.items():
        command = commands.add_parser(name, help=sys.modules[render.__module__].__doc__)
        add_config_arguments(command)
        for argument in arguments:
            command.add_argument(f"--{argument}", required=True)
    options = parser.parse_args()
    render, arguments = RENDERERS[options.name]
    return exit_code(
        lambda: render(config_from(options), *(getattr(options, name) for name in arguments))
    )


if __name__ == "__main__":
    sys.exit(main())

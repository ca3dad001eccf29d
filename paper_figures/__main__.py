"""`python -m paper_figures NAME --config FILE`: render one table or figure from its records."""

import argparse
import itertools
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmark.base.devices import available_cores
from benchmark.base.errors import BenchmarkError, MissingError
from benchmark.base.files import atomic
from benchmark.base.paths import PUBLISHED, REPEAT
from benchmark.base.process import exit_code
from benchmark.cli import add_config_arguments, config_from
from benchmark.config.config import Config
from paper_figures.base.frames import DEVICES
from paper_figures.figures import (
    explorer,
    inductive_bias,
    latents,
    loss_curves,
    power_posteriors,
    prior_densities,
    prior_posterior,
    sample_grids,
    scaling,
    tradeoff,
    training_health,
    traversals,
)
from paper_figures.tables import bench, cost, independence, quality, reported, timing

RENDERERS = {
    "quality": (quality.render, ()),
    "timing": (timing.render, ()),
    "cost": (cost.render, ()),
    "independence": (independence.render, ()),
    "reported": (reported.render, ()),
    "inductive_bias": (inductive_bias.render, ()),
    "tradeoff": (tradeoff.render, ("device",)),
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


def render_all(config: Config) -> None:
    """Every table and figure of a run, from whatever records it has, on all cores."""
    trained = [m for m in config.trained_models if config.is_kaem(m)]
    values = {"dataset": config.datasets, "model": trained, "device": DEVICES}
    tasks = [
        (name, chosen)
        for name, (_, arguments) in RENDERERS.items()
        for chosen in itertools.product(*(values[argument] for argument in arguments))
    ]
    with ProcessPoolExecutor(available_cores()) as pool:
        for done in [pool.submit(_render, config, *task) for task in tasks]:
            print(done.result(), file=sys.stderr, flush=True)


def _render(config: Config, name: str, chosen: tuple[str, ...]) -> str:
    title = " ".join([config.run, name, *chosen])
    try:
        RENDERERS[name][0](config, *chosen)
    except MissingError as error:
        return f"{title}: left out: {str(error).splitlines()[0]}"
    return title


def render_published() -> None:
    """`render_all`, the claims and the comparison with a rerun for every run of results/published/,
    and the tables of what was measured of devices alone.

    Most in processes of their own: the folder of the results is fixed as `benchmark.base.paths` is
    loaded.
    """
    folder = Path(PUBLISHED)
    configs = sorted(folder.glob("*/config.yaml"))
    if not configs:
        raise BenchmarkError(f"{folder}: no run is published there")
    for path in configs:
        for command in (["paper_figures", "all"], ["benchmark", "claims"]):
            _render_in(path, [*command, "--config", str(path)])
        render_comparison(path.parent)
    for measured in (bench.RUN, scaling.RUN):
        if (folder / measured).is_dir():
            _render_in(folder / measured, [f"paper_figures.{measured}"])


def _render_in(path: Path, command: list[str]) -> None:
    """Run a command of Python's on published records; `path` is what it renders."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=os.environ | {"KAEM_RESULTS": PUBLISHED},
        check=False,
    )
    if done.returncode:  # the command itself has said why
        raise BenchmarkError(f"{path}: not everything could be rendered")


def render_comparison(run: Path) -> None:
    """Write compare.md: a published run beside its rerun, where it has one."""
    if (run / REPEAT).is_dir():
        from benchmark.claims.compare import (
            compare,  # loads torch, for which no other rendering waits
        )

        with atomic(run / "compare.md") as temporary:
            temporary.write_text(compare(run / REPEAT, run) + "\n")


def main() -> int:
    """Render what the command line names; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paper_figures", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="name", metavar="NAME")
    for name, (render, arguments) in RENDERERS.items():
        command = commands.add_parser(name, help=sys.modules[render.__module__].__doc__)
        add_config_arguments(command)
        for argument in arguments:
            command.add_argument(f"--{argument}", required=True)
    add_config_arguments(commands.add_parser("all", help="every table and figure of a run"))
    commands.add_parser("published", help="every table and figure of every published run")
    options = parser.parse_args()
    if options.name == "published":
        return exit_code(render_published)
    if options.name == "all":
        return exit_code(lambda: render_all(config_from(options)))
    render, arguments = RENDERERS[options.name]
    return exit_code(
        lambda: render(config_from(options), *(getattr(options, name) for name in arguments))
    )


if __name__ == "__main__":
    sys.exit(main())

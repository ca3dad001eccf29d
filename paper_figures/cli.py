"""`python -m paper_figures NAME --config FILE`: render one table or figure from its records."""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from pathlib import Path

from benchmark.base.devices import DEVICE_LABELS, available_cores
from benchmark.base.errors import BenchmarkError, ConfigError, MissingError
from benchmark.base.files import atomic
from benchmark.base.paths import PUBLISHED, REPEAT
from benchmark.base.process import exit_code, say
from benchmark.cli import add_config_arguments, config_from
from benchmark.config.config import Config
from benchmark.records.folder import nothing_there
from paper_figures.artefacts import ARTEFACTS, MEASURED
from paper_figures.base.artefact import Artefact

PLACES = {
    "dataset": {"help": "one under `datasets`, e.g. digits"},
    "device": {"choices": list(DEVICE_LABELS)},
}


def render_all(config: Config) -> None:
    """Render every table and figure of a run, from whatever records it has, on all cores."""
    tasks = {
        (name, *(place[argument] for argument in artefact.arguments)): None
        for name, artefact in ARTEFACTS.items()
        for place in artefact.places(config, gpu=True)
    }
    for name, *_ in tasks:  # once for all processes of the pool
        import_module(ARTEFACTS[name].module)
    with ProcessPoolExecutor(available_cores()) as pool:
        for task in [pool.submit(_render, config, *names) for names in tasks]:
            print(task.result(), file=sys.stderr, flush=True)


def _render(config: Config, name: str, *values: str) -> str:
    artefact = ARTEFACTS[name]
    title = " ".join([config.run, name, *values])
    try:
        artefact.render(config, **dict(zip(artefact.arguments, values, strict=True)))
    except MissingError as error:
        return f"{title}: left out: {str(error).splitlines()[0]}"
    return title


def render_measured(name: str) -> None:
    """Render what `make NAME` measured of the devices alone."""
    from paper_figures.base.devices import read_by_device  # pandas, which no help waits for

    import_module(MEASURED[name]).render(read_by_device(name))


def render_published() -> None:
    """Render every run of results/published/, its claims and its comparison with a rerun, what they
    took all together, and what was measured of devices alone.

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
    from paper_figures.tables.experiments import render  # pandas, which no help waits for

    render(configs)
    for name in MEASURED:
        if (folder / name).is_dir():
            _render_in(folder / name, ["paper_figures", name])
    say(f"Each run on one page: {folder}/<run>/index.html; its verdicts: verdicts.md beside it")


def _render_in(path: Path, command: list[str]) -> None:
    """Run a command of Python's on published records; `path` is what it renders."""
    process = subprocess.run(
        [sys.executable, "-m", *command],
        env=os.environ | {"KAEM_RESULTS": PUBLISHED},
        stdout=subprocess.DEVNULL,  # verdicts, which are in files too
        check=False,
    )
    if process.returncode:  # the command itself has said why
        raise BenchmarkError(f"{path}: not everything could be rendered")


def render_comparison(run: Path) -> None:
    """Write compare.md: a published run beside its rerun, where it has one."""
    if (run / REPEAT).is_dir():
        from benchmark.claims.compare import (
            compare,  # loads torch, for which no other rendering waits
        )

        with atomic(run / "compare.md") as temporary:
            temporary.write_text(compare(run / REPEAT, run) + "\n", encoding="utf-8")


def main() -> int:
    """Render what the command line names; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m paper_figures", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="name", metavar="NAME")
    for name, artefact in ARTEFACTS.items():
        text = artefact.caption.format(dataset="a dataset", device="a device")
        command = commands.add_parser(
            name, help=_about(artefact), description=text.replace("%", "%%")
        )
        add_config_arguments(command)
        for argument in artefact.arguments:
            command.add_argument(f"--{argument}", required=True, **PLACES[argument])
    add_config_arguments(commands.add_parser("all", help="every table and figure of a run"))
    for name in MEASURED:
        commands.add_parser(name, help=f"what `make {name}` measured of the devices alone")
    commands.add_parser("published", help="every table and figure of every published run")
    options = parser.parse_args()
    return exit_code(lambda: _run(options))


def _about(artefact: Artefact) -> str:
    """Return which file of a run it is, and what that shows."""
    file = Path(artefact.folder, f"{artefact.name}.{artefact.formats[0]}")
    return f"{file}: {artefact.caption}".replace("%", "%%")


def _run(options: argparse.Namespace) -> None:
    if options.name == "published":
        render_published()
    elif options.name in MEASURED:
        render_measured(options.name)
    elif options.name == "all":
        render_all(_with_results(config_from(options)))
    else:
        artefact = ARTEFACTS[options.name]
        values = {name: getattr(options, name) for name in artefact.arguments}
        config = config_from(options)
        if values.get("dataset", config.datasets[0]) not in config.datasets:
            here = ", ".join(config.datasets)
            raise ConfigError(options.config, [f"--dataset {values['dataset']}: not among {here}"])
        _with_results(config)
        artefact.render(config, **values)
        for place in artefact.places(config, gpu=True):
            made = artefact.paths(config.run, **place) if values.items() <= place.items() else []
            for path in filter(Path.is_file, made):
                print("wrote", path)


def _with_results(config: Config) -> Config:
    if not config.folder.is_dir():
        raise nothing_there(config.folder)
    return config

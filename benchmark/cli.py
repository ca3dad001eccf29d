"""`python -m benchmark`: every step of the pipeline, by hand or called by the workflow."""

import argparse
import os
import re
from importlib import import_module

from benchmark.base.devices import fix_threads
from benchmark.base.errors import ConfigError
from benchmark.base.foreign import parse_yaml
from benchmark.base.paths import PUBLISHED, ROOT
from benchmark.base.process import exit_code
from benchmark.config.config import CLASSIFIER, REAL, Config, load_config


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code, see `benchmark.base.process.exit_code`."""

    def command() -> None:
        options = _parser().parse_args(arguments)
        values = vars(options)
        if "config" in options.passes:
            source = options.config
            if options.set and not source:
                raise ConfigError("--set", ["say whose setting it is: --config FILE"])
            config = config_from(options) if source else None
            if config:
                fix_threads(config.threads)
            words = ["--config", source, *(f"--set={pair}" for pair in options.set)]
            values |= {"config": config, "source": source, "words": words}
        else:
            fix_threads(1)
        # Imported now: torch takes seconds, which a mere refusal need not wait.
        module, _, function = options.target.partition(":")
        run = getattr(import_module(module), function)
        lines = run(**{name: values[name] for name in options.passes})
        for line in [lines] if isinstance(lines, str) else lines or ():
            print(line)

    return exit_code(command)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmark", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")

    def arguments(*parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return argparse.ArgumentParser(add_help=False, parents=parents)

    def command(
        name: str,
        target: str,
        summary: str,
        *parents: argparse.ArgumentParser,
        passes: str = "",
    ) -> argparse.ArgumentParser:
        # `target` is called with the arguments that `passes` names.
        sub = commands.add_parser(name, help=summary, description=summary, parents=parents)
        sub.set_defaults(target=f"benchmark.{target}", passes=passes.split())
        return sub

    common = arguments()
    add_config_arguments(common)
    dataset = arguments(common)
    dataset.add_argument("--dataset", required=True, help="one under `datasets`, e.g. digits")
    seed = arguments()
    seed.add_argument("--seed", type=_seed, default=0, help="of the training (default: 0)")
    job = arguments(dataset, seed)
    job.add_argument("--model", required=True, help="an entry under `models` of the configuration")
    one = "config dataset model seed"

    check = "fetch and check all that a run needs"
    check = command(
        "preflight", "run.preflight:preflight", check, common, passes="config dataset whole"
    )
    check.add_argument("--dataset", help="only this one (default: all of the configuration)")
    whole = "check first what the whole run needs; of several datasets one says what is missing"
    check.add_argument("--whole", action="store_true", help=whole)
    summary = f'train a model, or "{CLASSIFIER}"'
    train = command("train", "steps:train", summary, job, passes=f"{one} progress")
    how = "auto: a bar on a terminal, else a line now and then"
    train.add_argument(
        "--progress", choices=["auto", "bar", "lines", "none"], default="auto", help=how
    )
    summary = f'draw images from a trained model, or "{REAL}" ones'
    command("sample", "steps:sample", summary, job, passes=one)
    command("evaluate", "steps:evaluate", "measure the drawn images", job, passes=one)
    command("inspect", "steps:inspect", "look into the latents of a trained KAEM", job, passes=one)
    summary = "sample a posterior with two modes, with and without a population"
    command("power", "steps:power", summary, common, passes="config")
    summary = "time sampling and updates on one device, in turns"
    passes = "config dataset models seed device untrained"
    timing = command("time", "steps:time_models", summary, dataset, seed, passes=passes)
    timing.add_argument(
        "--model",
        action="append",
        dest="models",
        metavar="MODEL",
        help="an entry under `models` of the configuration; may be given again (default: all)",
    )
    timing.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="default: cpu")
    timing.add_argument(
        "--untrained", action="store_true", help="sample from fresh weights: the cost is the same"
    )
    summary = "judge the paper's claims, and this suite's own, on the records of a run"
    command("claims", "claims.report:report", summary, common, passes="config")
    summary = f"copy a run's results to {PUBLISHED}, to be committed"
    publish = command("publish", "run.publish:publish", summary, common, passes="config weights")
    publish.add_argument(
        "--weights", action="store_true", help="also the classifiers and the first seed's weights"
    )
    summary = f"copy a run's weights from {PUBLISHED} to its own folder, where the steps look"
    command("restore", "run.publish:restore", summary, common, passes="config")
    summary = "write the committed files, with metadata and checksums, as a release to dist/"
    command("archive", "run.archive:archive", summary)
    summary = "which claims can be checked here within a time, and how"
    plan = command("plan", "claims.plan:plan", summary, passes="config words budget folder")
    add_config_arguments(plan, default=os.path.relpath(ROOT / "config" / "paper.yaml"))
    plan.add_argument("--budget", type=_duration, required=True, help="e.g. 90s, 30m, 1h30m")
    plan.add_argument(
        "--records",
        dest="folder",
        metavar="FOLDER",
        help="whose costs are scaled (default: the run's own, else the published ones)",
    )
    summary = "how far each run is, what stopped and what failed; also while it runs"
    status = command("status", "run.status_report:show", summary, passes="config source watch")
    add_config_arguments(status, absent="every run in the results folder")
    status.add_argument("--watch", action="store_true", help="look again every other second")
    summary = "test the records of a rerun against others"
    compare = command("compare", "claims.compare:compare", summary, passes="mine published")
    compare.add_argument("mine", metavar="MINE", help="a folder of results, e.g. results/demo")
    compare.add_argument("published", metavar="PUBLISHED", help="another one")
    summary = f"check {PUBLISHED} here: draw, measure and time again, judge, compare"
    command("verify", "verification.verify:verify", summary)
    summary = "print the JSON schema of configurations, for editors"
    command("schema", "config.validation:schema", summary)
    return parser


def add_config_arguments(
    parser: argparse.ArgumentParser, default: str | None = None, absent: str | None = None
) -> None:
    """Add the arguments that name a configuration; `config_from` reads them.

    Args:
        default: the file that is taken where none is given.
        absent: what is meant instead where none is given; without both, one must be.
    """
    meant = default or absent
    parser.add_argument(
        "--config",
        required=meant is None,
        default=default,
        metavar="FILE",
        help=f"default: {meant}" if meant else "e.g. config/demo.yaml",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting, again for another: --set training.updates=100",
    )


def config_from(options: argparse.Namespace) -> Config:
    """Return the configuration that the command line names, its dataset and model checked."""
    config = load_config(options.config, _overrides(options.set))
    _check_names(config, options)
    return config


def _overrides(pairs: list[str]) -> dict:
    """Turn ["a.b=1"] into {"a": {"b": 1}}; values are YAML."""
    overrides: dict = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator:
            raise ConfigError("--set", [f"{pair!r} is not KEY=VALUE"])
        *parents, last = key.split(".")
        inner = overrides
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise ConfigError("--set", [f"{pair!r}: {parent} was set to a value before"])
        if last in inner:
            raise ConfigError("--set", [f"{pair!r}: {key} is set twice; keep one"])
        try:
            inner[last] = parse_yaml(text)
        except ValueError as error:
            raise ConfigError("--set", [f"{pair!r}: {text!r} is not YAML: {error}"]) from error
    return overrides


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"invalid int value: {text!r}; a seed is 0 or more")
    return int(text)


def _duration(text: str) -> float:
    """Turn "1h30m" into 5400.0 seconds."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    seconds = sum(
        unit * int(number or 0)
        for unit, number in zip((3600, 60, 1), found.groups() if found else (), strict=False)
    )
    if not seconds:
        raise argparse.ArgumentTypeError(f"invalid time: {text!r}; write 90s, 30m or 1h30m")
    return float(seconds)


def _check_names(config: Config, options: argparse.Namespace) -> None:
    """Refuse a dataset that nobody knows and models that the configuration does not have."""
    problems = []
    command = getattr(options, "command", None)
    dataset, model = getattr(options, "dataset", None), getattr(options, "model", None)
    names = getattr(options, "models", None) or ([] if model is None else [model])
    if dataset is not None and dataset not in config.known_datasets:
        known = ", ".join(config.known_datasets)
        problems.append(f"--dataset {dataset}: unknown; known: {known}")
    extra = {"train": [CLASSIFIER], "sample": [REAL], "evaluate": [REAL]}.get(command, [])
    models = [*config.models, *extra]
    problems += [
        f"--model {name}: not in models: {', '.join(models)}"
        for name in names
        if name not in models
    ]
    if command == "inspect" and model in models and model not in config.inspected_models:
        known = ", ".join(config.inspected_models) or "none"
        problems.append(f"--model {model}: only KAEM under `inspected` is looked into: {known}")
    labelled = dataset not in config.known_datasets or config.has_classifier(dataset)
    if model == CLASSIFIER and not labelled:
        problems.append(f"--model {model}: the images of {dataset} have no labels to learn")
    if problems:
        raise ConfigError(options.config, problems)

"""`python -m benchmark`: every step of the pipeline, by hand or called by the workflow."""

import argparse
import os
import re

from benchmark.base.errors import ConfigError
from benchmark.base.foreign import parse_yaml
from benchmark.base.paths import PUBLISHED, ROOT
from benchmark.base.process import exit_code
from benchmark.config.config import CLASSIFIER, REAL, Config, load_config


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code, see `benchmark.base.process.exit_code`."""
    options = _parser().parse_args(arguments)

    def command() -> None:
        config = config_from(options) if getattr(options, "config", None) else None
        if config is not None:
            fix_threads(config.threads)
        for line in options.run(config, options):
            print(line)

    return exit_code(command)


def fix_threads(count: int) -> None:
    """Have linear algebra use so many threads in this process, whatever the environment says:
    results depend on it in the last digits, and Snakemake's --cores must not. To be called before
    numpy is imported; torch is told by `benchmark.inputs.use_device`."""
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = str(count)


def _steps():
    from benchmark import steps  # imports torch, which takes seconds: not for a mere refusal

    return steps


def _preflight(config: Config, options) -> list[str]:
    from benchmark.run.preflight import check_all, check_dataset

    if options.dataset:
        return [check_dataset(config, options.dataset)]
    return check_all(config)


def _train(config: Config, options) -> list[str]:
    return [_steps().train(config, options.dataset, options.model, options.seed, options.progress)]


def _sample(config: Config, options) -> list[str]:
    return [_steps().sample(config, options.dataset, options.model, options.seed)]


def _evaluate(config: Config, options) -> list[str]:
    return [_steps().evaluate(config, options.dataset, options.model, options.seed)]


def _inspect(config: Config, options) -> list[str]:
    return [_steps().inspect(config, options.dataset, options.model, options.seed)]


def _power(config: Config, options) -> list[str]:  # noqa: ARG001
    return [_steps().power(config)]


def _time(config: Config, options) -> list[str]:
    models = list(dict.fromkeys(options.models or config.models))
    names = options.dataset, models, options.seed, options.device
    return _steps().time_models(config, *names, trained=not options.untrained)


def _publish(config: Config, options) -> list[str]:
    from benchmark.run.publish import publish

    return [publish(config, weights=options.weights)]


def _restore(config: Config, options) -> list[str]:  # noqa: ARG001
    from benchmark.run.publish import restore

    return [restore(config)]


def _claims(config: Config, options) -> list[str]:  # noqa: ARG001
    from benchmark.claims.report import report

    return [report(config)]


def _plan(config: Config, options) -> list[str]:
    from benchmark.claims.plan import plan

    words = ["--config", options.config, *(f"--set={pair}" for pair in options.set)]
    return [plan(config, words, options.budget, options.records)]


def _equal_time(config: Config, options) -> list[str]:
    from benchmark.claims.equal_time import equal_time

    return [equal_time(config, options.budget, options.records)]


def _status(config: Config | None, options) -> list[str]:
    from benchmark.run.status_report import show

    if options.set and not config:
        raise ConfigError("--set", ["say whose setting it is: --config FILE"])
    show(config, options.config, watch=options.watch)
    return []


def _compare(config: None, options) -> list[str]:  # noqa: ARG001
    from benchmark.claims.compare import compare

    return [compare(options.mine, options.published)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmark", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    common = argparse.ArgumentParser(add_help=False)
    add_config_arguments(common)
    dataset = argparse.ArgumentParser(add_help=False)
    dataset.add_argument("--dataset", required=True)
    job = argparse.ArgumentParser(add_help=False, parents=[dataset])
    job.add_argument("--model", required=True, help="an entry under `models` of the configuration")
    seed = argparse.ArgumentParser(add_help=False)
    seed.add_argument("--seed", type=_seed, default=0)

    def command(
        name: str, run, summary: str, *parents, also: tuple[str, ...] = ()
    ) -> argparse.ArgumentParser:
        # `also`: names that --model takes beside the configuration's entries.
        sub = commands.add_parser(
            name, help=summary, description=summary, parents=[common, *parents]
        )
        sub.set_defaults(run=run, also=also)
        return sub

    check = command("preflight", _preflight, "fetch and check all that a run needs")
    check.add_argument("--dataset", help="only this one (default: all of the configuration)")
    summary = f'train a model, or "{CLASSIFIER}"'
    train = command("train", _train, summary, job, seed, also=(CLASSIFIER,))
    train.add_argument("--progress", choices=["auto", "bar", "lines", "none"], default="auto")
    summary = f'draw images from a trained model, or "{REAL}" ones'
    command("sample", _sample, summary, job, seed, also=(REAL,))
    command("evaluate", _evaluate, "measure the drawn images", job, seed, also=(REAL,))
    summary = f"copy a run's results to {PUBLISHED}, to be committed"
    published = command("publish", _publish, summary)
    published.add_argument(
        "--weights", action="store_true", help="also the classifiers and the first seed's weights"
    )
    command("restore", _restore, f"copy a run's weights from {PUBLISHED} to where the steps look")
    command("inspect", _inspect, "look into the latents of a trained KAEM", job, seed)
    command("power", _power, "sample a posterior with two modes, with and without a population")
    timing = command(
        "time", _time, "time sampling and updates on one device, in turns", dataset, seed
    )
    timing.add_argument(
        "--model",
        action="append",
        dest="models",
        metavar="MODEL",
        help="an entry under `models` of the configuration; may be given again (default: all)",
    )
    timing.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    timing.add_argument(
        "--untrained", action="store_true", help="sample from fresh weights: the cost is the same"
    )
    command("claims", _claims, "judge the paper's claims on the records of a run")
    summary = "which claims can be checked here within a time, and how"
    planned = commands.add_parser("plan", help=summary, description=summary)
    planned.set_defaults(run=_plan)
    add_config_arguments(planned, default=os.path.relpath(ROOT / "config" / "paper.yaml"))
    planned.add_argument("--budget", type=_duration, required=True, help="e.g. 90s, 30m, 1h30m")
    planned.add_argument(
        "--records", metavar="FOLDER", help="whose costs are scaled (default: the run's own)"
    )
    summary = "a configuration in which every training takes equally long, as YAML"
    equal = command("equal-time", _equal_time, summary)
    equal.add_argument("--budget", type=_duration, required=True, help="of a training, e.g. 2m")
    equal.add_argument(
        "--records", metavar="FOLDER", help="whose times are taken (default: the run's own)"
    )
    summary = "how far each run is, what stopped and what failed; also while it runs"
    asked = commands.add_parser("status", help=summary, description=summary)
    asked.set_defaults(run=_status)
    add_config_arguments(asked, absent="every run in the results folder")
    asked.add_argument("--watch", action="store_true", help="look again every other second")
    summary = "test the records of a rerun against others"
    compared = commands.add_parser("compare", help=summary, description=summary)
    compared.set_defaults(run=_compare)
    compared.add_argument("mine", metavar="MINE", help="a folder of results, e.g. results/demo")
    compared.add_argument("published", metavar="PUBLISHED", help="another one")
    return parser


def add_config_arguments(
    parser: argparse.ArgumentParser, default: str | None = None, absent: str | None = None
) -> None:
    """The arguments that name a configuration; `config_from` reads them.

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
        help="override a setting; dots go down: --set training.updates=100",
    )


def config_from(options: argparse.Namespace) -> Config:
    """The configuration that the command line names, and its dataset and model checked."""
    config = load_config(options.config, _overrides(options.set))
    _check_names(config, options)
    return config


def _overrides(pairs: list[str]) -> dict:
    """["a.b=1"] -> {"a": {"b": 1}}; values are YAML."""
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
    """ "1h30m" -> 5400.0 seconds."""
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
    dataset, model = getattr(options, "dataset", None), getattr(options, "model", None)
    asked = getattr(options, "models", None) or ([] if model is None else [model])
    if dataset is not None and dataset not in config.known_datasets:
        known = ", ".join(config.known_datasets)
        problems.append(f"--dataset {dataset}: unknown; known: {known}")
    models = [*config.models, *getattr(options, "also", ())]
    problems += [
        f"--model {each}: not in models: {', '.join(models)}"
        for each in asked
        if each not in models
    ]
    labelled = dataset not in config.known_datasets or config.has_classifier(dataset)
    if (
        getattr(options, "run", None) is _inspect
        and model in models
        and (model not in config.inspected_models)
    ):
        problems.append(f"--model {model}: has no latents to look into; choose a KAEM entry")
    if model == CLASSIFIER and not labelled:
        problems.append(f"--model {model}: the images of {dataset} have no labels to learn")
    if problems:
        raise ConfigError(options.config, problems)

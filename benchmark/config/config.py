"""Configurations: read, checked as a whole, and what they say of a run's datasets and models.

A configuration is one YAML file (`config/*.yaml`). All its problems are reported at once, each
with its path, its line and the nearest valid name. This module imports neither torch nor Snakemake,
so the workflow can check a configuration before it starts anything.
"""

from functools import cache
from pathlib import Path

from benchmark.base import paths
from benchmark.base.errors import ConfigError
from benchmark.base.foreign import LARGEST_YAML, LocatedYaml, locate_yaml, parse_json, read_text
from benchmark.base.typed import Strict
from benchmark.config.facts import Facts, FoundImages, Images, known_datasets
from benchmark.config.registry import MODELS, ModelSpec
from benchmark.config.settings import OFFICIAL_SHA256, Evaluation, Run
from benchmark.config.validation import CLASSIFIER, REAL, find_problems, merge

# What an entry says about its place in the run and in the tables, and no model is built with.
WORDING = ("label", "weights_of", "timed_only")

# What `kaem.components.ComponentDensities` takes where a configuration says nothing.
PRIOR_DEFAULTS = {"basis": "rbf", "reference": "gaussian"}


class Config:
    """A valid configuration.

    Args:
        values: the parsed YAML.
        source: what to call it in messages, usually the file's name.
        located: where the file has its keys, for the messages.
        changed: what lies over the file, whose values have no line there.

    Raises:
        ConfigError: it is invalid; the message has every problem.
    """

    def __init__(
        self,
        values: dict,
        source: str,
        located: LocatedYaml | None = None,
        changed: dict | None = None,
    ):
        problems = find_problems(values)
        if located:
            problems = [_with_line(line, located, changed or {}) for line in problems]
            problems = located.repetitions() + problems
        if problems:
            raise ConfigError(source, problems)
        self.values, self.overrides = values, changed or {}
        self._run = Run.model_validate(values)
        self.run = self._run.run
        self.folder: Path = paths.fill(paths.RUN, self.run)
        self.note = self._run.note
        self.demo = self._run.budget == "demo"
        self.left_out = self._run.left_out
        self.data_root = self._run.data_root
        self.datasets = self._run.datasets
        self.seeds = self._run.seeds
        self.models = list(self._run.models)
        self.device = self._run.device
        self.threads = self._run.threads
        self.checkpoint_seconds = self._run.checkpoint_seconds
        self.timing = self._run.timing
        self.known_datasets = known_datasets() | values.get("own_datasets", {})
        self.resolved = cache(self._resolved)
        self.facts = cache(self._facts)
        self.budgets = cache(self._budgets)

    def of_folder(self, folder: Path) -> "Config":
        """Return the same with the images that the run of another folder found."""
        config = Config(self.values, self.run)
        config.folder = folder
        return config

    def __reduce__(self) -> tuple:
        """Make it anew in another process, from its values: what is cached cannot be sent."""
        return Config, (self.values, self.run)

    # Datasets -----------------------------------------------------------------------------------

    def _facts(self, dataset: str) -> Facts:
        """Return what is known of a dataset: from this configuration, or from datasets.yaml."""
        return Facts.parse(dataset, self.known_datasets[dataset])

    def found_images(self, dataset: str) -> FoundImages | None:
        """Return what the run found of a dataset; None before it has."""
        path = self.folder / paths.DATA.removeprefix(paths.RUN + "/").format(dataset=dataset)
        try:
            return FoundImages.model_validate(parse_json(read_text(path)))
        except (OSError, ValueError):
            return None

    def found_digests(self, dataset: str) -> dict[str, str]:
        """Return the digests that the run found of images whose digests are not known beforehand;
        empty where all are known, and before it has found any."""
        if dataset not in self.known_datasets or self.facts(dataset).has_digests:
            return {}
        found = self.found_images(dataset)
        return found.digests if found else {}

    def images(self, dataset: str) -> Images:
        """Return what results depend on of a dataset's images, with the digests that were found."""
        images = self.facts(dataset).images
        digests = self.found_digests(dataset) | images.digests
        return images.model_copy(update={"digests": digests})

    def _resolved(self, dataset: str) -> Run:
        """Return the configuration with the overrides for `dataset` applied."""
        overrides = self.values.get("per_dataset", {}).get(dataset, {})
        return Run.model_validate(merge(self.values, overrides))

    def evaluation(self, dataset: str) -> Evaluation:
        """Return what drawn images are compared with."""
        return self.resolved(dataset).evaluation

    def has_classifier(self, dataset: str) -> bool:
        """Say whether the dataset's images have labels to train a classifier with."""
        return self.facts(dataset).classes is not None

    def inception_sha256(self, dataset: str) -> str | None:
        """Return the digest of the Inception weights that the dataset is to be measured with; None
        for no measuring with Inception."""
        evaluation = self.evaluation(dataset)
        return (evaluation.inception_sha256 or OFFICIAL_SHA256) if evaluation.inception else None

    # Entries ------------------------------------------------------------------------------------

    def entry(self, model: str, dataset: str | None = None) -> Strict:
        """Return what the configuration says of an entry, for a dataset where it differs."""
        run = self.resolved(dataset) if dataset else self._run
        spec = self.spec(model)
        kind = spec.entry if self.trained_entry(model) == model else spec.variant
        return kind.model_validate(run.models[model])

    def architecture(self, model: str) -> str:
        """Return the registered name behind entry `model`."""
        model = self.trained_entry(model)
        return self._run.models.get(model, {}).get("model", model)

    def spec(self, model: str) -> ModelSpec:
        """Return the registry's entry behind entry `model`."""
        return MODELS[self.architecture(model)]

    def trained_entry(self, model: str) -> str:
        """Return the entry whose weights `model` uses: itself, unless it says `weights_of`."""
        return self._run.models.get(model, {}).get("weights_of", model)

    @property
    def trained_models(self) -> list[str]:
        """The entries that are trained; the others sample theirs in another way."""
        return [model for model in self.models if self.trained_entry(model) == model]

    @property
    def evaluated_models(self) -> list[str]:
        """The entries whose images are drawn and measured; the others are timed alone."""
        return [model for model in self.models if not self._run.models[model].get("timed_only")]

    def label(self, model: str) -> str | None:
        """Return what the configuration calls entry `model` in tables, if it says so."""
        return self._run.models.get(model, {}).get("label")

    def is_kaem(self, model: str) -> bool:
        """Say whether an entry is a KAEM, of whichever sampler and prior."""
        return self.spec(model).family == "kaem"

    def has_copula(self, model: str) -> bool:
        """Say whether an entry is a KAEM whose latents a copula ties."""
        return "copula" in self._run.models.get(model, {})

    @property
    def kaem_models(self) -> list[str]:
        """The trained and measured entries of KAEM."""
        trained = self.trained_models
        return [m for m in self.evaluated_models if m in trained and self.is_kaem(m)]

    @property
    def inspected_models(self) -> list[str]:
        """The entries of KAEM whose latents are looked into."""
        wanted = self._run.inspected
        return [m for m in self.kaem_models if wanted is None or m in wanted]

    def seeds_of(self, model: str) -> list[int]:
        """Return the seeds that entry `model` is measured with.

        Real images are drawn once: their distance is the floor, not a result.
        """
        return self.seeds[:1] if model == REAL else self.seeds

    def model_settings(self, dataset: str, model: str) -> dict:
        """Return what the model of entry `model` is built from."""
        trained = self.trained_entry(model)
        settings = self.entry(trained, dataset).plain()
        settings = {k: v for k, v in settings.items() if k not in (*WORDING, "model", "training")}
        spec = self.spec(trained)
        if spec.decoder:
            settings = {"decoder": self.resolved(dataset).decoder.plain()} | settings
        return merge(merge(settings, spec.fixed), self.variant(dataset, model))

    def variant(self, dataset: str, model: str) -> dict:
        """Return the settings in which an entry differs from the one whose weights it uses."""
        if self.trained_entry(model) == model:
            return {}
        entry = self.entry(model, dataset).plain()
        return {key: value for key, value in entry.items() if key not in WORDING}

    def prior_grid(self, dataset: str) -> dict[str, tuple[str, str]]:
        """Return entry -> (basis, reference density) of KAEM's entries; none where one of the two
        does not vary."""
        grid = {}
        for model in filter(self.is_kaem, self.evaluated_models):
            prior = PRIOR_DEFAULTS | self.model_settings(dataset, model)["prior"]
            grid[model] = (prior["basis"], prior["reference"])
        vary = all(len(set(names)) > 1 for names in zip(*grid.values(), strict=True))
        return grid if vary else {}

    def _budgets(self) -> dict[str, dict[int, str]]:
        """Return the entries that differ in their number of updates alone, two or more each.

        Returns:
            shortest name among them -> updates -> entry, in order of the updates.
        """
        alike: dict[str, dict[int, str]] = {}
        for model in self.trained_models:
            entry = self._run.models[model]
            training = self.values["training"] | (entry.get("training") or {})
            updates = training.pop("updates")
            same = {k: v for k, v in entry.items() if k not in ("label", "model", "training")}
            alike.setdefault(f"{self.architecture(model)} {training} {same}", {})[updates] = model
        return {
            min(series.values(), key=len): dict(sorted(series.items()))
            for series in alike.values()
            if len(series) > 1
        }

    def shortest(self, model: str) -> str:
        """Return the key of an entry in `budgets`; its own name where it stands alone."""
        series = self.budgets().items()
        return next((name for name, own in series if model in own.values()), model)

    # The run ------------------------------------------------------------------------------------

    def timing_devices(self, gpu: bool) -> list[str]:
        """Return the devices to time on; "auto" means the CPU, and the GPU where there is one."""
        if self.timing.devices != "auto":
            return self.timing.devices
        return ["cpu", "cuda"] if gpu else ["cpu"]

    @property
    def wording(self) -> dict:
        """What tables and figures say and no result depends on."""
        labels = {model: self.label(model) for model in self.models}
        titles = {dataset: self.facts(dataset).title for dataset in self.datasets}
        return {"note": self.note, "demo": self.demo, "labels": labels, "titles": titles}


def load_config(path: str | Path, overrides: dict | None = None) -> Config:
    """Read and check a configuration file.

    Args:
        overrides: values that replace or extend the file's, as Snakemake's --config does.

    Raises:
        ConfigError: it cannot be read, or is no valid configuration.
    """
    overrides = overrides or {}
    try:
        located = locate_yaml(read_text(path, LARGEST_YAML))
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from error
    except ValueError as error:
        raise ConfigError(str(path), [f"is not valid YAML: {error}"]) from error
    if not isinstance(located.value, dict):
        raise ConfigError(str(path), ["must be a mapping of settings"])
    return Config(merge(located.value, overrides), str(path), located, overrides)


def _with_line(problem: str, located: LocatedYaml, changed: dict) -> str:
    """Add the line of the file that a problem is about, unless its value is not the file's."""
    path = problem.partition(": ")[0]
    inner, overridden = changed, False
    for part in path.split("."):
        overridden = isinstance(inner, dict) and part in inner
        inner = inner.get(part) if overridden else None
    line = None if overridden else located.lines.get(path)
    return f"{problem} (line {line})" if line else problem


__all__ = ["CLASSIFIER", "REAL", "Config", "load_config"]

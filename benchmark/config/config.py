"""Configurations: read, checked as a whole, and resolved into the settings of single jobs.

A configuration is one YAML file (`config/*.yaml`). All its problems are reported at once, each
with its path and the nearest valid name. This module imports neither torch nor Snakemake, so
the workflow can check a configuration before it starts anything.
"""

from pathlib import Path

from benchmark.base.errors import ConfigError
from benchmark.base.foreign import LARGEST_YAML, parse_yaml, read_text
from benchmark.config.facts import Facts, known_datasets
from benchmark.config.jobs import INSPECTION, Job
from benchmark.config.registry import MODELS
from benchmark.config.validation import CLASSIFIER, REAL, apply_override, find_problems, merge

CHECKPOINT_SECONDS = 60  # between the checkpoints of a training, where a configuration says nothing

# Of Inception's standard weights, with which alone a Frechet distance is called FID.
OFFICIAL_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


# What an entry says about its place in the run and in the tables, on which no result depends.
WORDING = ("label", "weights_of", "timed_only")

# What `kaem.components.ComponentDensities` takes where a configuration says nothing.
PRIOR_DEFAULTS = {"basis": "rbf", "reference": "gaussian"}


class Config:
    """A valid configuration. Raises ConfigError, with every problem, for an invalid one.

    Args:
        values: the parsed YAML.
        source: what to call it in messages, usually the file's name.
    """

    def __init__(self, values: dict, source: str):
        problems = find_problems(values)
        if problems:
            raise ConfigError(source, problems)
        self.values = values
        self.run: str = values["run"]
        self.note: str = values.get("note", "")
        self.demo: bool = values.get("budget") == "demo"
        self.data_root: str = values["data_root"]
        self.datasets: list[str] = values["datasets"]
        self.seeds: list[int] = values["seeds"]
        self.models: list[str] = list(values["models"])
        self.device: str = values["device"]
        self.threads: int = values["threads"]
        self.checkpoint_seconds: float = values.get("checkpoint_seconds", CHECKPOINT_SECONDS)
        self.timing: dict = values["timing"]
        self.known_datasets: dict[str, dict] = known_datasets() | values.get("own_datasets", {})

    def facts(self, dataset: str) -> Facts:
        """What is known of a dataset: from this configuration, or from `config/datasets.yaml`."""
        return Facts.parse(dataset, self.known_datasets[dataset])

    def resolved(self, dataset: str) -> dict:
        """The configuration with the overrides for `dataset` applied."""
        return apply_override(self.values, self.values.get("per_dataset", {}).get(dataset, {}))

    def architecture(self, model: str) -> str:
        """The registered name behind entry `model`."""
        model = self.trained_entry(model)
        return self._entry(model).get("model", model)

    def trained_entry(self, model: str) -> str:
        """The entry whose weights `model` uses: itself, unless it says `weights_of`."""
        return self._entry(model).get("weights_of", model)

    @property
    def trained_models(self) -> list[str]:
        """The entries that are trained; the others sample theirs in another way."""
        return [model for model in self.models if self.trained_entry(model) == model]

    @property
    def evaluated_models(self) -> list[str]:
        """The entries whose images are drawn and measured; the others are timed alone."""
        return [model for model in self.models if not self._entry(model).get("timed_only")]

    def _entry(self, model: str) -> dict:
        return self.values["models"].get(model, {})

    def label(self, model: str) -> str | None:
        """What the configuration calls entry `model` in tables, if it says so."""
        return self._entry(model).get("label")

    def seeds_of(self, model: str) -> list[int]:
        """The seeds that entry `model` is measured with.

        Real images are drawn once: their distance is the floor, not a result.
        """
        return self.seeds[:1] if model == REAL else self.seeds

    def timing_devices(self, gpu: bool) -> list[str]:
        """The devices to time on; "auto" means the CPU, and the GPU where there is one."""
        devices = self.timing["devices"]
        if devices != "auto":
            return devices
        return ["cpu", "cuda"] if gpu else ["cpu"]

    @property
    def wording(self) -> dict:
        """What tables and figures say and no result depends on."""
        return {"note": self.note, "demo": self.demo} | {
            model: self.label(model) for model in self.models
        }

    def training_job(self, dataset: str, model: str) -> Job:
        """The training of entry `model`, or of the entry whose weights it uses; the classifier is
        an entry too."""
        model = self.trained_entry(model)
        values = self.resolved(dataset)
        facts = self.facts(dataset)
        settings = {"data": facts.settings, "threads": self.threads}
        if model == CLASSIFIER:
            settings |= {"architecture": CLASSIFIER, "classes": facts.classes}
            settings |= values["classifier"]
        else:
            entry = dict(values["models"][model])
            name = entry.pop("model", model)
            for key in WORDING:
                entry.pop(key, None)
            training = merge(values["training"], entry.pop("training", {}))
            if MODELS[name].decoder:
                entry = {"decoder": values["decoder"], **entry}
            settings |= {
                "architecture": name,
                "model": merge(entry, MODELS[name].fixed),
                "training": training,
            }
        return Job(self.run, dataset, model, settings)

    def model_settings(self, dataset: str, model: str) -> dict:
        """What the trained model of entry `model` is built from."""
        trained = self.training_job(dataset, model).settings["model"]
        return merge(trained, self._variant(dataset, model).get("variant", {}))

    def has_classifier(self, dataset: str) -> bool:
        """Whether the dataset's images have labels to train a classifier with."""
        return self.facts(dataset).classes is not None

    def inception_sha256(self, dataset: str) -> str | None:
        """Of the Inception weights that the dataset is to be measured with; None for no measuring
        with Inception."""
        settings = self.resolved(dataset)["evaluation"]
        if not settings.get("inception"):
            return None
        return settings.get("inception_sha256", OFFICIAL_SHA256)

    def _variant(self, dataset: str, model: str) -> dict:
        """{"variant": settings} in which an entry differs from the one whose weights it uses."""
        if self.trained_entry(model) == model:
            return {}
        entry = self.resolved(dataset)["models"][model]
        return {"variant": {key: v for key, v in entry.items() if key not in WORDING}}

    def sampling_job(self, dataset: str, model: str) -> Job:
        """Drawing the images that are evaluated: as many as the largest comparison takes."""
        count = max(self.resolved(dataset)["evaluation"]["references"].values())
        training = None if model == REAL else self.training_job(dataset, model).config_hash
        settings = {"training": training, "samples": count} | self._variant(dataset, model)
        return Job(self.run, dataset, model, settings)

    def evaluation_job(self, dataset: str, model: str) -> Job:
        """Measuring the images that were drawn."""
        labelled = self.has_classifier(dataset)
        classifier = self.training_job(dataset, CLASSIFIER).config_hash if labelled else None
        settings = {
            "sampling": self.sampling_job(dataset, model).settings,
            "evaluation": {"inception": False} | self.resolved(dataset)["evaluation"],
            "classifier": classifier,
        }
        return Job(self.run, dataset, model, settings)

    @property
    def inspected_models(self) -> list[str]:
        """The entries of KAEM, whose latents there are to look into."""
        return [
            model
            for model in self.evaluated_models
            if model in self.trained_models and self.is_kaem(model)
        ]

    def measures_independence(self, dataset: str) -> bool:
        """Whether inspecting a KAEM asks what the independence of its latents costs, which takes a
        classifier and images enough."""
        enough = self.facts(dataset).splits["train"]["count"] >= INSPECTION["decoded"]
        return self.has_classifier(dataset) and enough

    def is_kaem(self, model: str) -> bool:
        """Whether an entry is a KAEM, of whichever sampler and prior."""
        return self.architecture(model).startswith("kaem")

    def prior_grid(self, dataset: str) -> dict[str, tuple[str, str]]:
        """Entry -> (basis, reference density) of KAEM's entries; none where one does not vary."""
        found = {}
        for model in self.evaluated_models:
            if self.is_kaem(model):
                prior = PRIOR_DEFAULTS | self.model_settings(dataset, model)["prior"]
                found[model] = (prior["basis"], prior["reference"])
        vary = all(len(set(each)) > 1 for each in zip(*found.values(), strict=True))
        return found if vary else {}

    def inspection_job(self, dataset: str, model: str) -> Job:
        """Looking into a trained KAEM, on images of the test split where there is one."""
        references = self.resolved(dataset)["evaluation"]["references"]
        split = "test" if "test" in self.facts(dataset).splits else next(iter(references))
        training = self.training_job(dataset, model).config_hash
        settings = {"training": training, "split": split} | INSPECTION
        if self.measures_independence(dataset):
            settings["classifier"] = self.training_job(dataset, CLASSIFIER).config_hash
            settings["reference"] = next(iter(references))
        return Job(self.run, dataset, model, settings)

    def timing_job(self, dataset: str, model: str) -> Job:
        """Timing the trained model."""
        training = self.training_job(dataset, model).config_hash
        settings = {"training": training, "timing": self.timing} | self._variant(dataset, model)
        return Job(self.run, dataset, model, settings)


def load_config(path: str | Path, overrides: dict | None = None) -> Config:
    """Read and check a configuration file.

    Args:
        path: a YAML file.
        overrides: values that replace or extend the file's, as Snakemake's --config does.
    """
    try:
        values = parse_yaml(read_text(path, LARGEST_YAML))
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from error
    except ValueError as error:
        raise ConfigError(str(path), [f"is not valid YAML: {error}"]) from error
    if not isinstance(values, dict):
        raise ConfigError(str(path), ["must be a mapping of settings"])
    return Config(merge(values, overrides or {}), str(path))

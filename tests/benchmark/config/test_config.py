"""Configurations: every mistake is reported at once, and hashes follow what a result depends on."""

import inspect
import itertools
import json

import jsonschema
import pytest
import yaml
from support.configs import (
    CONFIG_FOLDER,
    FACES,
    LIKELIHOOD,
    MISSING,
    MODEL_SETTINGS,
    RUN_CONFIGS,
    changed,
    loaded_by,
    tiny_config,
    tiny_values,
    write_config,
)

import benchmark.config.config
from benchmark.base.errors import ConfigError
from benchmark.config.config import CLASSIFIER, PRIOR_DEFAULTS, REAL, Config, load_config
from benchmark.config.facts import Facts, known_datasets
from benchmark.config.jobs import job_of
from benchmark.config.validation import find_problems, merge
from benchmark.config.validation import schema as find_schema
from kaem.components import ComponentDensities

UNIVARIATE, VAE = MODEL_SETTINGS["kaem_is_univariate"], MODEL_SETTINGS["vae"]
WITHOUT_WIDTH = changed(VAE, {"encoder_width": MISSING})
STACK = {"kind": "conv_stack", "channels": [6, 4], "start": 4}

# What is wrong, and the one line that says so. No two touch the same setting, so that all of
# them also fit into one configuration.
MISTAKES = [
    ({"training.learning_rat": 1.0}, "training.learning_rat: ", "did you mean 'learning_rate'?"),
    (
        {"training.learning_rate": "1e-4"},
        "training.learning_rate: ",
        "must be number, but '1e-4' is text in YAML; write 1.0e-4",
    ),
    ({"training.schedule": "cosin"}, "training.schedule: ", "did you mean 'cosine'?"),
    ({"training.betas": [0.9, 1.5]}, "training.betas[1]: ", "1.5"),
    ({"training.batch_size": 0}, "training.batch_size: ", "0"),
    ({"training.updates": MISSING}, "training.updates: ", "missing"),
    ({"data_rot": "data"}, "data_rot: ", "did you mean 'data_root'?"),
    ({"threads": MISSING}, "threads: ", "missing"),
    ({"device": "gpu"}, "device: ", "'gpu' is not one of auto, cpu, cuda"),
    ({"note": 3}, "note: ", "must be string, not 3"),
    ({"seeds": [0, -1]}, "seeds[1]: ", "-1"),
    ({"datasets": ["digits", "mnits"]}, "datasets[1]: ", "did you mean 'mnist'?"),
    ({"decoder": {"kind": "cnov"}}, "decoder.kind: ", "did you mean 'conv'?"),
    ({"classifier.features": 1.5}, "classifier.features: ", "must be integer, not 1.5"),
    ({"evaluation.references.tets": 64}, "evaluation.references: ", "mean 'test'?"),
    (
        {"evaluation.likelihood": {"images": 3, "passes": 5}},
        "evaluation.likelihood.split: ",
        "miss",
    ),
    ({"inspected": ["kaem_is", "vae"]}, "inspected[1]: ", "there is no 'vae'"),
    ({"left_out": ["fd_infinty"]}, "left_out[0]: ", "did you mean 'fd_infinity'?"),
    ({"timing.warm_up": 3}, "timing.warm_up: ", "did you mean 'warmup'?"),
    ({"own_datasets.mnist": FACES}, "own_datasets.mnist: ", "choose another"),
    ({"own_datasets.Fac": FACES}, "own_datasets: ", "'Fac' must match"),
    ({"own_datasets.a": {**FACES, "clases": 2}}, "own_datasets.a.clases: ", "mean 'classes'?"),
    (
        {"own_datasets.b": {**FACES, "layout": "celebA"}},
        "own_datasets.b.layout: ",
        "mean 'celeba'?",
    ),
    (
        {"own_datasets.c": {**FACES, "image_shape": [2, 8, 8]}},
        "own_datasets.c.image_shape[0]: ",
        "2",
    ),
    (
        {"own_datasets.d": {**FACES, "image_shape": [3, 8]}},
        "own_datasets.d.image_shape[2]: ",
        "missing",
    ),
    ({"own_datasets.e": {**FACES, "crop": 0}}, "own_datasets.e.crop: ", "0 is less than"),
    (
        {"own_datasets.f": changed(FACES, {"splits.test": MISSING})},
        "own_datasets.f.splits.test: ",
        "",
    ),
    (
        {"own_datasets.g": changed(FACES, {"splits.tets": {"part": "test", "count": 9}})},
        "own_datasets.g.splits.tets: ",
        "did you mean 'test'?",
    ),
    (
        {"own_datasets.h": changed(FACES, {"splits.test.part": "Test 1"})},
        "own_datasets.h.splits.test.part: ",
        "must match",
    ),
    ({"models.vaee": MODEL_SETTINGS["vae"]}, "models.vaee: ", "unknown model 'vaee'; did you mean"),
    ({"models.small.model": "kaem_si"}, "models.small: ", "did you mean 'kaem_is'?"),
    ({"models.real.model": "vae"}, "models.real: ", "reserved"),
    ({"models.empty": None}, "models.empty: ", "must be a mapping"),
    ({"models.vae.sigma": -0.1}, "models.vae.sigma: ", "-0.1"),
    ({"models.vae.latents": MISSING}, "models.vae.latents: ", "missing"),
    ({"models.vae.encodr_width": 8}, "models.vae.encodr_width: ", "mean 'encoder_width'?"),
    ({"models.kaem_is.prior.domain": [4, -4]}, "models.kaem_is.prior.domain: ", "a < b"),
    ({"models.kaem_is.prior.bassis": "rbf"}, "models.kaem_is.prior.bassis: ", "mean 'basis'?"),
    (
        {
            "models.kaem_ula_univariate": changed(
                MODEL_SETTINGS["kaem_ula_univariate"], {"prior.smooth_start": True}
            )
        },
        "models.kaem_ula_univariate.prior: ",
        "belongs to basis: fourier",
    ),
    (
        {
            "models.kaem_ula": changed(
                MODEL_SETTINGS["kaem_ula"], {"prior.basis": "morlet", "prior.train_grid": True}
            )
        },
        "models.kaem_ula.prior: ",
        "needs grid_size: 1",
    ),
    (
        {"models.kaem_thermo": changed(MODEL_SETTINGS["kaem_thermo"], {"prior.grid_size": 1})},
        "models.kaem_thermo.prior: ",
        "at least 2",
    ),
    ({"models.kaem_is.sampler.survivors": "ten"}, "models.kaem_is.sampler.survivors: ", "'ten'"),
    (
        {"models.kaem_is_univariate": changed(UNIVARIATE, {"prior.train_weights": True})},
        "models.kaem_is_univariate.prior.train_weights: ",
        "unknown setting",
    ),
    ({"models.kaem_is.copula": {"components": 2}}, "models.kaem_is.copula: ", "`model: kaem_is`"),
    (
        {
            "models.dependent": UNIVARIATE
            | {"model": "kaem_is", "copula": {"components": 2, "frist": 3}}
        },
        "models.dependent.copula.frist: ",
        "mean 'first'?",
    ),
    (
        {
            "models.stack_1": UNIVARIATE
            | {"model": "kaem_is_univariate", "decoder": STACK | {"start": 3}}
        },
        "models.stack_1.decoder.channels: ",
        "a side of 12, or 6 where the last layer keeps it; digits has 16x16",
    ),
    (
        {"models.stack_2": VAE | {"model": "vae", "decoder": STACK}},
        "models.stack_2.encoder_width: ",
        "leave this out (the decoder for digits is a conv_stack)",
    ),
    (
        {"models.narrow": WITHOUT_WIDTH | {"model": "vae", "decoder": {"kind": "conv"}}},
        "models.narrow.encoder_width: ",
        "missing (the decoder for digits is a conv)",
    ),
    (
        {
            "models.stack_3": UNIVARIATE
            | {"model": "kaem_is_univariate", "decoder": STACK | {"first": "linear"}}
        },
        "models.stack_3.decoder.first: ",
        "is not one of projection, transposed",
    ),
    ({"per_dataset.mnits.training.updates": 3}, "per_dataset.mnits: ", "did you mean 'mnist'?"),
    ({"per_dataset.mnist.trainin.updates": 3}, "per_dataset.mnist.trainin: ", "mean 'training'?"),
    ({"per_dataset.mnist.models.va.sigma": 1}, "per_dataset.mnist.models.va: ", "mean 'vae'?"),
    (
        {"per_dataset.digits.training.learning_rate": "2e-3"},
        "per_dataset.digits.training.learning_rate: ",
        "write 2.0e-3",
    ),
    (
        {"per_dataset.digits.decoder": {"kind": "kan", "domain": [1, 1]}},
        "per_dataset.digits.decoder.domain: ",
        "a < b",
    ),
    ({"per_dataset.digits.models.vae.sigm": 1}, "per_dataset.digits.models.vae.sigm: ", "mean"),
]
PATHS = [path.rstrip(": ") for _, path, _ in MISTAKES]


@pytest.mark.parametrize(("changes", "path", "text"), MISTAKES, ids=PATHS)
def test_a_mistake_is_one_line_with_its_path_and_the_nearest_name(changes, path, text):
    (problem,) = find_problems(changed(tiny_values(), changes))
    assert problem.startswith(path)
    assert text in problem


def test_an_entrys_own_training_is_checked_with_the_shared_one():
    steps = {"model": "vae", "training": {"schedule": "milestones"}} | MODEL_SETTINGS["vae"]
    (problem,) = find_problems(changed(tiny_values(), {"models.steps": steps}))
    assert problem.startswith("models.steps.training: ")
    assert "needs milestones" in problem
    steps["training"]["milestones"] = [3]
    assert find_problems(changed(tiny_values(), {"models.steps": steps})) == []


# Names become parts of paths and of commands.
HOSTILE = [
    ({"run": "../x"}, "run: ", "must match"),
    ({"run": "/tmp/x"}, "run: ", "must match"),
    ({"run": "a; touch pwned"}, "run: ", "must match"),
    ({"run": "-rf"}, "run: ", "must match"),
    ({"run": "tiny\n"}, "run: ", "must match"),  # Python's "$" would let it pass
    ({"models.vae\n": MODEL_SETTINGS["vae"] | {"model": "vae"}}, "models: ", "must match"),
    ({"models.{seed}": MODEL_SETTINGS["vae"] | {"model": "vae"}}, "models: ", "must match"),
    ({"own_datasets.a; touch pwned": FACES}, "own_datasets: ", "must match"),
    ({"own_datasets.$(touch pwned)": FACES}, "own_datasets: ", "must match"),
    ({"own_datasets.faces\n": FACES}, "own_datasets: ", "must match"),
    ({"datasets": ["digits", "a; touch pwned"]}, "datasets[1]: ", "unknown dataset"),
    (
        {"own_datasets.i": changed(FACES, {"splits.test.part": "../test"})},
        "own_datasets.i.splits.test.part: ",
        "must match",
    ),
]


@pytest.mark.parametrize(("changes", "path", "text"), HOSTILE, ids=str)
def test_a_name_that_a_path_or_a_shell_would_read_otherwise_is_refused(changes, path, text):
    (problem,) = find_problems(changed(tiny_values(), changes))
    assert problem.startswith(path)
    assert text in problem


def test_all_mistakes_are_reported_at_once(tmp_path):
    # The overrides of a dataset with other mistakes are checked one mistake at a time, above.
    together = [m for m in MISTAKES if not m[1].startswith("per_dataset.mnist")]
    changes = {key: value for change, _, _ in together for key, value in change.items()}
    path = write_config(tmp_path / "bad.yaml", changes)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path}: {len(together)} problems"
    for _, start, text in together:
        assert any(line.startswith(f"  - {start}") and text in line for line in lines[1:]), start
    assert len(lines) == 1 + len(together)
    assert caught.value.problems == [line.removeprefix("  - ") for line in lines[1:]]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        # YAML reads `1.0e+5` as a float: a number of updates that `range` refuses.
        ({"training.updates": 1.0e5}, "training.updates"),
        ({"evaluation.references.test": 64.0}, "evaluation.references.test"),
        ({"training.learning_rate": float("nan")}, "training.learning_rate"),
        ({"models.vae.sigma": float("inf")}, "models.vae.sigma"),
        ({"models.vae.model": ["vae"]}, "models.vae"),
        ({"models.kaem_is.prior.domain": [-4, "4e0"]}, "models.kaem_is.prior.domain"),
        ({"models.kaem_is.prior.domain": [[0], [1]]}, "models.kaem_is.prior.domain"),
        ({"models": ["vae"]}, "models"),
        ({"own_datasets": ["faces"]}, "own_datasets"),
        ({"own_datasets": {"faces": None}, "datasets": ["faces"]}, "own_datasets.faces"),
        (
            {"own_datasets": {"faces": {**FACES, "splits": None}}, "datasets": ["faces"]},
            "own_datasets.faces.splits",
        ),
        ({"datasets": [["digits"]]}, "datasets[0]"),
        ({"datasets": "1e400"}, "datasets"),
        ({"models.vae.model": ["vae"], "models.twin": {"weights_of": "vae"}}, "models.vae"),
        ({"evaluation": None}, "evaluation"),
        ({"evaluation.references": None}, "evaluation.references"),
        ({"evaluation.references": {}}, "evaluation.references"),
        ({"evaluation.likelihood": 5}, "evaluation.likelihood"),
        (
            {"evaluation.likelihood": LIKELIHOOD | {"split": ["test"]}},
            "evaluation.likelihood.split",
        ),
        ({"per_dataset.digits.evaluation": "test"}, "per_dataset.digits.evaluation"),
        ({"per_dataset": ["mnist"]}, "per_dataset"),
        ({"per_dataset.mnist": None}, "per_dataset.mnist"),
        ({"per_dataset.mnist.models": ["vae"]}, "per_dataset.mnist.models"),
    ],
    ids=str,
)
def test_values_of_a_wrong_type_are_problems_and_not_crashes(changes, path):
    problems = find_problems(changed(tiny_values(), changes))
    assert problems
    assert all(problem.startswith(path) for problem in problems)


def test_problems_name_the_lines_of_the_file_and_keys_that_stand_twice(tmp_path):
    text = yaml.safe_dump(changed(tiny_values(), {"training.updates": 0}), sort_keys=False)
    text = text.replace("threads: 1", "threads: 1\nseeds: [1]\nseeds: [2]")
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    where = {key: number for number, line in enumerate(text.splitlines(), 1) for key in [line]}
    with pytest.raises(ConfigError) as caught:
        load_config(path, {"threads": 0})
    first = text.splitlines().index("seeds:") + 1
    assert caught.value.problems == [
        f"seeds: stands twice, in line {first} and in line {where['seeds: [1]']}; keep one",
        f"seeds: stands twice, in line {where['seeds: [1]']} and in line {where['seeds: [2]']}; "
        "keep one",
        "threads: 0 is less than the minimum of 1",  # an override has no line
        f"training.updates: 0 is less than the minimum of 1 (line {where['  updates: 0']})",
    ]


def test_an_alias_may_be_merged_and_changed(tmp_path):
    path = tmp_path / "fine.yaml"
    twin = "  twin: {<<: *vae, latents: 5, model: vae}\n"
    vae = "  vae: &vae {sigma: 0.3, latents: 3, encoder_width: 8}\n"
    values = tiny_values()
    values["models"] = "HERE"
    path.write_text(yaml.safe_dump(values).replace("models: HERE", f"models:\n{vae}{twin}"))
    config = load_config(path)
    assert config.entry("twin").latents == 5
    assert config.entry("twin").sigma == 0.3


def test_the_schema_for_editors_takes_what_loads_and_refuses_a_typo():
    schema = json.loads(find_schema())
    validator = jsonschema.Draft202012Validator(schema)
    for path in RUN_CONFIGS:
        validator.validate(yaml.safe_load(path.read_text()))
    for wrong in ({"training.updats": 3}, {"models.vae.latents": 0}, {"models.vae.latnts": 3}):
        assert not validator.is_valid(changed(tiny_values(), wrong))


def test_a_count_written_with_an_exponent_is_not_advised_to_be_a_float():
    (problem,) = find_problems(changed(tiny_values(), {"training.updates": "1e5"}))
    advised = problem.rpartition("write ")[2]
    assert type(yaml.safe_load(advised)) is int, problem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run: [unclosed", r"is not valid YAML: while .*\n +in line 1, column 6"),
        ("- a\n- b\n", "must be a mapping of settings"),
        ("", "must be a mapping of settings"),
        ("run: \x00", "is not valid YAML"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: 1 problem\n")


def test_unreadable_files(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml: 1 problem\n.*No such file"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("note: Stra\xdfe".encode("latin-1"))
    with pytest.raises(ConfigError, match="is not valid YAML"):
        load_config(latin)


def test_overrides_extend_the_file(tmp_path):
    path = write_config(tmp_path / "tiny.yaml")
    config = load_config(path, {"training": {"updates": 9}, "seeds": [3, 4]})
    expected = changed(tiny_values(), {"training.updates": 9, "seeds": [3, 4]})
    assert config.values == expected
    with pytest.raises(
        ConfigError, match=r"training\.updats: unknown setting; did you mean 'updates'"
    ):
        load_config(path, {"training": {"updats": 9}})


def test_merge_changes_neither_side():
    base, over = {"a": {"b": [1], "c": 2}, "d": 3}, {"a": {"b": [9]}, "d": {"e": 1}}
    merged = merge(base, over)
    assert merged == {"a": {"b": [9], "c": 2}, "d": {"e": 1}}
    merged["a"]["b"].append(5)
    merged["d"]["e"] = 7
    assert base == {"a": {"b": [1], "c": 2}, "d": 3}
    assert over == {"a": {"b": [9]}, "d": {"e": 1}}


def test_there_are_run_configurations():
    assert {"demo", "cpu", "paper", "tuning"} <= {path.stem for path in RUN_CONFIGS}


@pytest.mark.parametrize("path", RUN_CONFIGS, ids=lambda path: path.stem)
def test_every_committed_configuration_loads(path):
    config = load_config(path)
    # Two configurations with one name would overwrite each other's results.
    assert config.run == path.stem
    for dataset in config.datasets:
        hashes = [job_of(config, "training", dataset, m).config_hash for m in config.trained_models]
        assert len(set(hashes)) == len(hashes)
    labels = [config.label(model) or model for model in config.models]
    assert len(set(labels)) == len(labels)


# Hashes -----------------------------------------------------------------------------------------

STEPS = ("training", "sampling", "metrics", "timing")
DATASETS = ("digits", "mnist")


def hashes(config: Config) -> dict[str, str]:
    """Every hash of a configuration, by "dataset entry step"."""
    jobs = {
        f"{dataset} {model} {step}": job_of(config, step, dataset, model)
        for dataset, model, step in itertools.product(DATASETS, config.models, STEPS)
    }
    for dataset in DATASETS:
        jobs[f"{dataset} {CLASSIFIER} training"] = job_of(config, "classifier", dataset)
        jobs[f"{dataset} {REAL} sampling"] = job_of(config, "sampling", dataset, REAL)
        jobs[f"{dataset} {REAL} metrics"] = job_of(config, "metrics", dataset, REAL)
    return {name: done.config_hash for name, done in jobs.items()}


def matching(*patterns: str) -> set[str]:
    """The names of `hashes` that hold all the words of at least one pattern."""
    names = hashes(tiny_config())
    return {n for n in names for p in patterns if set(p.split()) <= set(n.split())}


ENTRIES = ("kaem_is", "vae")
EVERYTHING_TRAINED = [*ENTRIES, CLASSIFIER, f"{REAL} metrics"]
HASH_CASES = [
    ({"models.vae.training.learning_rate": 0.1}, ["vae"]),
    ({"models.vae.sigma": 0.9}, ["vae"]),
    ({"models.vae.decoder": {"kind": "kan"}}, ["vae"]),
    ({"models.kaem_is.prior.q": 4}, ["kaem_is"]),
    ({"models.kaem_is.sampler.resampler": "systematic"}, ["kaem_is"]),
    ({"training.learning_rate": 0.1}, ENTRIES),
    ({"decoder.width": 12}, ENTRIES),
    ({"threads": 2}, EVERYTHING_TRAINED),
    ({"classifier.features": 4}, [CLASSIFIER, "metrics"]),
    ({"evaluation.references.test": 65}, ["sampling", "metrics"]),
    # As many images are drawn for two references as for the larger one.
    ({"evaluation.references.train": 65}, ["sampling", "metrics"]),
    ({"evaluation.references.train": 64}, ["metrics"]),
    ({"evaluation.references": {"train": 64}}, ["metrics"]),
    ({"evaluation.inception": True}, ["metrics"]),
    ({"evaluation.inception": False}, []),
    ({"evaluation.efficientnet": True}, ["metrics"]),
    ({"evaluation.efficientnet": False}, []),
    ({"evaluation.likelihood": LIKELIHOOD}, ["metrics"]),
    ({"evaluation.batch_size": 32}, ["metrics"]),
    ({"timing.repetitions": 20}, ["timing"]),
    ({"per_dataset.mnist.training.learning_rate": 0.1}, ["mnist kaem_is", "mnist vae"]),
    ({"per_dataset.mnist.decoder": {"kind": "kan"}}, ["mnist kaem_is", "mnist vae"]),
    ({"per_dataset.mnist.models.vae.sigma": 0.9}, ["mnist vae"]),
    (
        {"per_dataset.digits.classifier.updates": 7},
        ["digits metrics", f"digits {CLASSIFIER}"],
    ),
    ({"per_dataset.digits.evaluation.batch_size": 32}, ["digits metrics"]),
    ({"run": "other"}, []),
    ({"note": "words"}, []),
    ({"models.vae.label": "A VAE"}, []),
    ({"per_dataset.mnist.models.vae.label": "A VAE"}, []),
    ({"models.vae.model": "vae"}, []),
    ({"data_root": "elsewhere"}, []),
    ({"datasets": ["mnist"]}, []),
    ({"seeds": [5, 6]}, []),
    ({"device": "auto"}, []),
]


@pytest.mark.parametrize(("changes", "patterns"), HASH_CASES, ids=lambda case: str(case)[:60])
def test_a_hash_changes_with_what_its_result_depends_on_and_nothing_else(changes, patterns):
    before, after = hashes(tiny_config()), hashes(tiny_config(changes))
    differing = {name for name in before if before[name] != after[name]}
    assert differing == matching(*patterns)


def test_hashes_of_different_jobs_differ():
    values = list(hashes(tiny_config()).values())
    assert len(set(values)) == len(values)
    assert all(len(value) == 16 and int(value, 16) >= 0 for value in values)


def test_an_entrys_name_counts_and_the_order_of_keys_does_not():
    values = tiny_values()
    backwards = {key: values[key] for key in reversed(values)}
    backwards["models"] = {key: values["models"][key] for key in reversed(values["models"])}
    assert hashes(Config(backwards, "")) == hashes(tiny_config())
    # Another entry with the same settings is another job: its seeds differ.
    twin = tiny_config({"models.twin": {"model": "vae", **MODEL_SETTINGS["vae"]}})
    jobs = [job_of(twin, "training", "digits", model) for model in ("vae", "twin")]
    assert jobs[0].settings == jobs[1].settings
    assert jobs[0].config_hash != jobs[1].config_hash


# Resolving --------------------------------------------------------------------------------------


def test_settings_are_resolved_from_general_to_particular():
    config = tiny_config(
        {
            "models.vae.training.updates": 7,
            "per_dataset.mnist.training": {"updates": 9, "batch_size": 11},
            "per_dataset.mnist.models.vae.training.batch_size": 13,
        }
    )
    training = {
        (dataset, model): job_of(config, "training", dataset, model).settings.training.plain()
        for dataset, model in itertools.product(DATASETS, ENTRIES)
    }
    shared = tiny_values()["training"]
    assert training["digits", "kaem_is"] == shared
    assert training["digits", "vae"] == shared | {"updates": 7}
    assert training["mnist", "kaem_is"] == shared | {"updates": 9, "batch_size": 11}
    assert training["mnist", "vae"] == shared | {"updates": 7, "batch_size": 13}


def test_a_decoder_of_another_kind_replaces_and_does_not_merge():
    kan = {"kind": "kan", "grid_size": 5}
    config = tiny_config({"per_dataset.mnist.decoder": kan, "models.vae.decoder": kan})

    def decoder(dataset, model):
        return config.model_settings(dataset, model)["decoder"]

    assert decoder("digits", "kaem_is") == {"kind": "conv", "width": 8}
    assert decoder("mnist", "kaem_is") == decoder("digits", "vae") == kan
    own = {"models.vae.decoder": {"kind": "conv", "width": 8}}
    config = tiny_config(own | {"per_dataset.mnist.models.vae.decoder": kan})
    assert decoder("mnist", "vae") == kan


def test_a_variant_is_built_as_its_registered_model():
    config = tiny_config(
        {"models.v": {"model": "kaem_is_univariate", "label": "V", **UNIVARIATE}, "note": "n"}
    )
    settings = job_of(config, "training", "digits", "v").settings
    assert settings.architecture == config.architecture("v") == "kaem_is_univariate"
    assert settings.model["prior"] == {"kind": "univariate", **UNIVARIATE["prior"]}
    assert "label" not in settings.model
    assert config.label("v") == "V"
    assert config.label("vae") is config.label(REAL) is None
    assert config.architecture("vae") == "vae"


# --- entries that use the weights of another -----------------------------------------------------


def sampled_twice(**changes) -> Config:
    """A diffusion model, and the same with more steps."""
    ddim = {"weights_of": "few", "sampler": {"kind": "ddim", "steps": 10}} | changes
    return tiny_config(
        {"models.few": {"model": "ddpm", **MODEL_SETTINGS["ddpm"]}, "models.many": ddim}
    )


def test_an_entry_may_use_the_weights_of_another():
    config = sampled_twice()
    assert config.trained_entry("many") == config.trained_entry("few") == "few"
    assert "many" not in config.trained_models
    assert config.architecture("many") == "ddpm"
    assert job_of(config, "training", "digits", "many") == job_of(
        config, "training", "digits", "few"
    )
    few, many = (config.model_settings("digits", name) for name in ("few", "many"))
    assert many == few | {"sampler": {"kind": "ddim", "steps": 10}}


def test_what_is_drawn_and_timed_differs_all_the_same():
    more = sampled_twice(sampler={"kind": "ddim", "steps": 20})
    for kind in ("sampling", "metrics", "timing"):
        few, many = (job_of(sampled_twice(), kind, "digits", name) for name in ("few", "many"))
        assert few.config_hash != many.config_hash
        assert job_of(more, kind, "digits", "many").config_hash != many.config_hash
        assert job_of(sampled_twice(label="many steps"), kind, "digits", "many") == many


def test_an_entry_may_be_timed_alone():
    config = sampled_twice(timed_only=True)
    assert "many" in config.models
    assert config.evaluated_models == [name for name in config.models if name != "many"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"weights_of": "fwe"},
            "models.many.weights_of: no trained entry 'fwe'; did you mean 'few'",
        ),
        ({"weights_of": "many"}, "models.many.weights_of: no trained entry 'many'"),
        ({"weights_of": "vae"}, "models.many.weights_of: 'vae' samples in one way only"),
        ({"channels": [8]}, "models.many.channels: unknown setting"),
        ({"sampler": {"kind": "ddim", "steps": 1001}}, "models.many.sampler.steps: 1001"),
        ({"weights_of": ["few"]}, "models.many.weights_of"),
    ],
)
def test_mistakes_in_such_an_entry(changes, problem):
    with pytest.raises(ConfigError) as caught:
        sampled_twice(**changes)
    assert problem in str(caught.value)


# Datasets of one's own --------------------------------------------------------------------------


def with_faces(changes: dict | None = None) -> Config:
    """A configuration of digits and of unlabelled faces."""
    faces = {"own_datasets.faces": FACES, "datasets": ["digits", "faces"]}
    return tiny_config(faces | (changes or {}))


def test_a_dataset_of_ones_own_is_known_like_the_others():
    config = with_faces({"per_dataset.faces.training.updates": 3})
    assert set(config.known_datasets) == {*known_datasets(), "faces"}
    assert config.facts("faces") == Facts.parse("faces", FACES)
    assert config.facts("digits") == tiny_config().facts("digits")
    settings = job_of(config, "training", "faces", "vae").settings
    assert settings.training.updates == 3
    assert settings.data.plain() == {
        "image_shape": (3, 64, 64),
        "digests": {},
        "splits": FACES["splits"],
        "crop": 140,
    }


def test_without_labels_no_classifier_is_asked_for():
    config = with_faces()
    assert config.has_classifier("digits")
    assert not config.has_classifier("faces")
    assert job_of(config, "metrics", "faces", "vae").settings.classifier is None
    labelled = with_faces({"own_datasets.faces.classes": 7})
    classifier = job_of(labelled, "classifier", "faces")
    assert classifier.settings.classes == 7
    assert job_of(labelled, "metrics", "faces", "vae").settings.classifier == classifier.config_hash
    # Labels make a classifier; the models see none.
    assert job_of(labelled, "training", "faces", "vae") == job_of(
        config, "training", "faces", "vae"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"crop": 128},
        {"image_shape": [3, 32, 32]},
        {"splits.train.count": 39},
        {"digests": {"train": "0" * 64}},
    ],
    ids=str,
)
def test_facts_that_choose_the_images_change_what_is_trained(changes):
    before, after = (
        with_faces({f"own_datasets.faces.{key}": value for key, value in each.items()})
        for each in ({}, changes)
    )
    for step in STEPS:
        jobs = [job_of(config, step, "faces", "vae") for config in (before, after)]
        assert jobs[0].config_hash != jobs[1].config_hash


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"evaluation.references.validation": 64}, "evaluation.references.validation: "),
        ({"per_dataset.faces.evaluation.references.validation": 64}, "evaluation.references.valid"),
        (
            {"evaluation.likelihood": LIKELIHOOD | {"split": "validation"}},
            "evaluation.likelihood.split: ",
        ),
    ],
    ids=str,
)
def test_a_split_that_a_dataset_lacks_is_found_before_anything_trains(changes, path):
    with pytest.raises(ConfigError) as caught:
        with_faces(changes)
    (problem,) = caught.value.problems
    assert problem.startswith(path)
    assert problem.endswith("faces has no validation split; known: train, test")
    # The digits have one.
    elsewhere = {key.replace(".faces.", ".digits."): value for key, value in changes.items()}
    with_faces(elsewhere | {"datasets": ["digits"]})


# How many images --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("references", "count"),
    [({"test": 64}, 64), ({"train": 80, "test": 64}, 80), ({"test": 64, "validation": 65}, 65)],
)
def test_as_many_images_are_drawn_as_the_largest_comparison_takes(references, count):
    config = tiny_config({"evaluation.references": references})
    for model in (*ENTRIES, REAL):
        assert job_of(config, "sampling", "digits", model).settings.samples == count


def test_a_job_names_the_facts_of_its_dataset():
    facts = yaml.safe_load((CONFIG_FOLDER / "datasets.yaml").read_text())
    for dataset in DATASETS:
        for kind, model in (
            *(("training", entry) for entry in ENTRIES),
            ("classifier", CLASSIFIER),
        ):
            named = job_of(tiny_config(), kind, dataset, model)
            assert (named.run, named.dataset, named.model) == ("tiny", dataset, model)
            data = json.loads(json.dumps(named.settings.data.plain()))
            for fact in ("image_shape", "splits", "digests"):
                assert data[fact] == facts[dataset][fact]


def test_how_a_dataset_is_called_is_no_part_of_a_result(monkeypatch):
    before = hashes(tiny_config())
    facts = yaml.safe_load((CONFIG_FOLDER / "datasets.yaml").read_text())
    renamed = {name: each | {"title": "renamed"} for name, each in facts.items()}
    monkeypatch.setattr(benchmark.config.config, "known_datasets", lambda: renamed)
    assert hashes(tiny_config()) == before
    recut = changed(facts, {"mnist.splits.test.count": 9999})
    monkeypatch.setattr(benchmark.config.config, "known_datasets", lambda: recut)
    after = hashes(tiny_config())
    differing = {name for name in before if before[name] != after[name]}
    assert differing == matching(*(f"mnist {each}" for each in EVERYTHING_TRAINED))


def test_checking_a_configuration_imports_neither_torch_nor_snakemake():
    script = "import benchmark.config.config as c; c.load_config(sys.argv[1]);"
    script += "print({'torch', 'snakemake', 'numpy'} & set(sys.modules))"
    assert loaded_by(script, CONFIG_FOLDER / "demo.yaml") == "set()"


def test_the_defaults_of_a_prior_are_those_of_the_code():
    parameters = inspect.signature(ComponentDensities).parameters
    assert {name: parameters[name].default for name in PRIOR_DEFAULTS} == PRIOR_DEFAULTS


def test_a_stack_for_one_dataset_alone():
    """The encoder's width stands where the decoder is another; what is wrong, with its dataset."""
    values = changed(
        tiny_values(),
        {
            "datasets": ["digits", "mnist"],
            "models.vae.encoder_width": MISSING,
            "per_dataset.digits.decoder": STACK,
            "per_dataset.mnist.models.vae.encoder_width": 8,
        },
    )
    config = Config(values, "tiny.yaml")
    assert config.model_settings("digits", "vae")["decoder"] == STACK
    assert "encoder_width" not in config.model_settings("digits", "vae")
    assert config.model_settings("mnist", "vae")["encoder_width"] == 8
    wrong = {"per_dataset.mnist.decoder": STACK, "per_dataset.mnist.models.vae.sigma": 0.5}
    assert find_problems(changed(values, wrong)) == [
        "per_dataset.mnist.decoder.channels: 2 that start at 4 make images with a side of 16, or 8 "
        "where the last layer keeps it; mnist has 28x28",
        "per_dataset.mnist.models.vae.encoder_width: the encoder mirrors it: leave this out (the "
        "decoder for mnist is a conv_stack)",
    ]

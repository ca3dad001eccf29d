"""One full run of a tiny configuration, and what a second run would do beside it."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from support.configs import write_config
from support.records import without_times
from support.workflow import REPOSITORY, plan, snakemake, snapshot

from benchmark.config.config import load_config
from benchmark.config.jobs import job_of
from benchmark.records.record import read_record

MODELS = ("kaem_is", "vae")

# What a shell, a template or a page would read as its own: the full run has it, and works.
HOSTILE_NAME = 'it\'s a "$(touch pwned)" {run}; touch pwned'
HOSTILE_TEXTS = {
    "note": "a; touch pwned\n$(touch pwned) `touch pwned` {params.config} {0} %s '\" </script>",
    "models.kaem_is.label": "{wildcards.model} & co; | touch pwned é </script>",
}
# A locale and a backend of matplotlib that a shell or a notebook may have set.
HOSTILE_PLACE = {
    **{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "MPLBACKEND": "module://somewhere.else",
}


def write_tiny(path: Path, changes: dict | None = None) -> Path:
    """The configuration of the full run."""
    return write_config(path, HOSTILE_TEXTS | (changes or {}))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """The folder of a full run, and what Snakemake said."""
    folder = tmp_path_factory.mktemp("run") / HOSTILE_NAME
    folder.mkdir()
    config = write_tiny(folder / "tiny.yaml")
    done = snakemake(folder, "--configfile", config, **HOSTILE_PLACE)
    assert done.returncode == 0, done.stdout
    return folder, done.stdout


@pytest.fixture
def folder(finished):
    """The folder of the full run; a test may edit the configuration and nothing else."""
    folder = finished[0]
    before = snapshot(folder / "results")
    yield folder
    write_tiny(folder / "tiny.yaml")
    assert snapshot(folder / "results") == before


# The full run -----------------------------------------------------------------------------------


# Of each inspected model, and the rule that draws them.
LATENT_FIGURES = {
    "posterior": "prior_posterior",
    "traversals": "traversals",
    "latents": "latents",
    "paths": "interpolations",
}
# Of each dataset, from the trainings and the metrics.
OF_DATASET = ("sample_grids", "loss_curves", "samples_in_training", "training_film", "fd_infinity")


def expected_files() -> set[str]:
    jobs = [f"digits/{model}/seed0" for model in MODELS]
    evaluated = [*jobs, "digits/real/seed0"]
    figures = ["samples_digits", "loss_digits", "health_digits", "power_posteriors", "tradeoff_cpu"]
    figures += ["samples_in_training_digits", "fd_infinity_digits", "tempered_integral"]
    figures += ["training_time_cpu", "prior_digits_kaem_is"]
    figures += [f"{kind}_digits_kaem_is" for kind in LATENT_FIGURES]
    logs = ["data/digits", "classifier/digits", "quality", "timing", "claims"]
    logs += ["cost", "reported", "tradeoff/cpu", "training_time/cpu"]
    logs += [f"{rule}/digits" for rule in (*OF_DATASET, "prior_densities")]
    logs += [f"{rule}/digits" for rule in (*LATENT_FIGURES.values(), "training_health")]
    logs += ["inspect/digits/kaem_is/0", "power", "explorer", "overview"]
    logs += ["power_posteriors", "tempered_integral"]
    logs += [f"train/digits/{model}/0" for model in MODELS]
    logs += ["time/cpu/digits"]
    logs += [f"{s}/digits/{m}/0" for s in ("sample", "evaluate") for m in (*MODELS, "real")]
    return {
        "data/digits.json",
        "classifier/digits.safetensors",
        "classifier/digits.json",
        *(f"weights/{job}.safetensors" for job in jobs),
        *(f"training/{job}.{kind}" for job in jobs for kind in ("json", "csv", "npz")),
        *(f"samples/{job}.npz" for job in evaluated),
        *(f"metrics/{job}.json" for job in evaluated),
        *(f"inspection/digits/kaem_is/seed0.{kind}" for kind in ("json", "npz")),
        *(f"power/power.{kind}" for kind in ("json", "npz")),
        *("explorer.html", "index.html"),
        *(f"timing/cpu/digits/{model}.json" for model in MODELS),
        *(
            f"tables/{t}.{kind}"
            for t in ("quality", "timing", "cost")
            for kind in ("csv", "md", "tex", "files.json")
        ),
        *(f"tables/reported.{kind}" for kind in ("csv", "md", "tex")),
        *("claims.json", "claims.md", "verdicts.md"),
        *(f"figures/training_film_digits_{model}.gif" for model in MODELS),
        *(f"figures/{figure}.{kind}" for figure in figures for kind in ("pdf", "png")),
        *(f"logs/{log}.log" for log in logs),
        *(f"drawn/{log}.json" for log in logs if log.partition("/")[0] in RENDERED),
    }


def test_every_file_is_there_and_no_other(folder):
    assert set(snapshot(folder / "results" / "tiny")) == expected_files()
    assert {path.name for path in (folder / "results").iterdir()} == {"tiny"}
    assert {path.name for path in folder.iterdir()} == {
        *("tiny.yaml", "results", ".snakemake"),
        "data",
    }
    assert {path.name for path in (folder / "data").iterdir()} == {"cache"}


def test_every_record_is_whole_and_of_this_configuration(folder):
    config = load_config(folder / "tiny.yaml")
    results = folder / "results" / "tiny"
    found = {}
    for kind in ("training", "classifier", "metrics", "inspection", "timing"):
        for path in sorted((results / kind).rglob("*.json")):
            record = read_record(path)
            assert record.kind == kind
            job = job_of(config, kind, "digits", record.model, record.seed)
            assert record.config_hash == job.config_hash
            assert record.settings == json.loads(json.dumps(job.settings.plain()))
            found[kind, record.model] = record
    assert len(found) == 2 + 1 + 3 + 1 + 2
    # What was measured is what the table shows, and no label adds a cell to its row.
    text = (results / "tables" / "quality.md").read_text(encoding="utf-8")
    rows = [row for row in text.splitlines() if row.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    assert "touch pwned é" in text
    assert "†" in text
    with (results / "tables" / "quality.csv").open() as handle:
        rows = {row["model"]: row for row in csv.DictReader(handle)}
    for model in ("real", *MODELS):
        distance = found["metrics", model].metrics.get("fd_classifier_test_64")
        assert float(rows[model]["fd_classifier_test_64_mean"]) == pytest.approx(distance)


def test_the_end_says_where_the_page_is(finished):
    assert "All of run tiny on one page: results/tiny/index.html\n" in finished[1]


def test_one_gpu_is_the_default_limit(finished):
    # Without one, Snakemake has no limit at all and starts as many GPU jobs as there are cores.
    (limit,) = re.findall(r"^Provided resources: .*\bgpu\W.*?(\d+)", finished[1], re.MULTILINE)
    assert limit == "1"


# The same results, whatever runs beside them ----------------------------------------------------


def result_of(path: Path):
    """What a file holds of results: no times, and nothing about the machine and the day."""
    if path.suffix == ".json":
        return without_times(json.loads(path.read_text()))
    if path.suffix == ".csv":  # a loss history
        with path.open() as handle:
            rows = list(csv.DictReader(handle))
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]
    return path.read_bytes()


def test_another_number_of_cores_and_another_order_of_hashes_change_no_result(finished, tmp_path):
    write_tiny(tmp_path / "tiny.yaml")
    job = "digits/kaem_is/seed0"
    names = (f"metrics/{job}.json", "figures/prior_digits_kaem_is.png")
    words = [f"results/tiny/{name}" for name in names]
    words += ["--configfile", "tiny.yaml", "--cores", "1"]
    done = snakemake(tmp_path, *words, PYTHONHASHSEED="1", OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stdout
    one, other = (folder / "results" / "tiny" for folder in (finished[0], tmp_path))
    made = {name for name in snapshot(other) if not name.startswith("logs/")}
    kinds = {name.partition("/")[0] for name in made}
    assert kinds >= {"classifier", "weights", "training", "samples", "metrics", "figures"}
    for name in sorted(made):
        assert result_of(other / name) == result_of(one / name), name


# What a second run does -------------------------------------------------------------------------


def test_a_second_run_does_nothing(folder):
    done = snakemake(folder, "--configfile", "tiny.yaml")
    assert done.returncode == 0, done.stdout
    assert "Nothing to be done" in done.stdout


def test_the_report_holds_tables_figures_and_captions(folder, tmp_path):
    page = tmp_path / "report.html"
    done = snakemake(folder, "--configfile", "tiny.yaml", "--report", page)
    assert done.returncode == 0, done.stdout
    text = page.read_text()
    shown = {name for name in expected_files() if name.endswith((".png", ".gif", ".csv", ".html"))}
    for name in shown - {f for f in shown if f.startswith("training/")}:
        assert Path(name).name in text, name
    for caption in ("Uncurated samples of every model", "Drag along the learned densities"):
        assert caption in text


def test_a_changed_learning_rate_redoes_its_model_and_what_shows_it(folder):
    write_tiny(folder / "tiny.yaml", {"models.vae.training.learning_rate": 0.02})
    assert plan(folder, "tiny.yaml").jobs == {
        "train digits vae 0",
        "sample digits vae 0",
        "evaluate digits vae 0",
        "time cpu digits",
        "quality",
        "timing",
        "cost",
        "tradeoff cpu",
        "training_time cpu",
        *("claims", "overview"),
        *(f"{rule} digits" for rule in OF_DATASET),
    }


def test_what_files_say_counts_and_not_what_snakemake_remembers(finished, tmp_path):
    # Results were copied without .snakemake, with times of their own.
    shutil.copytree(finished[0], tmp_path, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)
    assert plan(tmp_path, "tiny.yaml").jobs == set()
    trained = "results/tiny/weights/digits/vae/seed0.safetensors"
    for changes, first in (
        ({"models.vae.training.learning_rate": 0.02}, "train digits vae 0"),
        ({"models.vae.label": "A VAE"}, "quality"),
        ({"evaluation.batch_size": 32}, "evaluate digits real 0"),
    ):
        write_tiny(tmp_path / "tiny.yaml", changes)
        planned = plan(tmp_path, "tiny.yaml", "--rerun-triggers", "mtime").jobs
        assert first in planned
        assert {"claims", "quality"} <= planned
        assert ("train digits vae 0" in planned) == ("train" in first)
    write_tiny(tmp_path / "tiny.yaml", {"models.vae.training.learning_rate": 0.02})
    assert plan(tmp_path, "tiny.yaml", "results/tiny/data/digits.json").jobs == set()
    assert snakemake(tmp_path, "--configfile", "tiny.yaml", "--touch").returncode == 0
    planned = plan(tmp_path, "tiny.yaml", trained).jobs
    assert planned == {"train digits vae 0"}


def test_a_changed_label_redoes_tables_and_figures_alone(folder):
    write_tiny(folder / "tiny.yaml", {"models.vae.label": "A VAE"})
    assert plan(folder, "tiny.yaml").jobs == {
        "quality",
        "timing",
        "cost",
        "reported",
        "tradeoff cpu",
        "training_time cpu",
        "claims",
        *(f"{rule} digits" for rule in (*OF_DATASET, "prior_densities")),
        "power_posteriors",
        "tempered_integral",
        *("explorer", "overview"),
        *(f"{rule} digits" for rule in (*LATENT_FIGURES.values(), "training_health")),
    }


def test_one_more_seed_keeps_what_there_is(folder):
    write_tiny(folder / "tiny.yaml", {"seeds": [0, 1]})
    jobs = plan(folder, "tiny.yaml").jobs
    computed = {job for job in jobs if job.split()[0] in ("train", "sample", "evaluate", "time")}
    assert computed == {
        f"{s} digits {m} 1" for s in ("train", "sample", "evaluate") for m in MODELS
    }
    assert not {job for job in jobs if job.startswith(("data", "classifier"))}


RENDERED = (
    *("quality", "timing", "cost", "reported", "claims", "tradeoff", "training_time"),
    *(*OF_DATASET, "prior_densities", "power_posteriors", "tempered_integral"),
    *("explorer", "overview", "training_health", *LATENT_FIGURES.values()),
)


def test_a_restriction_given_with_config_computes_nothing_again(folder):
    write_tiny(folder / "tiny.yaml", {"seeds": [0, 1], "datasets": ["digits", "mnist"]})
    jobs = plan(folder, "tiny.yaml", "--config", "datasets=[digits]", "seeds=[0]").jobs
    assert {job for job in jobs if not job.startswith(RENDERED)} == set()


def test_one_more_dataset_trains_nothing_that_is_there(folder):
    jobs = plan(folder, "tiny.yaml", "--config", "datasets=[digits,mnist]").jobs
    assert "train mnist vae 0" in jobs
    assert "data mnist" in jobs
    again = {job for job in jobs if "digits" in job and not job.startswith(RENDERED)}
    assert again == set()


# GPUs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "gpus"), [(["mem_mb=4000"], 1), (["gpu=2"], 2)], ids=str)
def test_resources_of_ones_own_change_the_limit_only_if_they_name_gpus(folder, words, gpus):
    # A timing takes all the GPUs there are, and with them the whole limit. Another run has
    # folders of its own: it computes everything again and would write nothing into this one's.
    write_tiny(folder / "tiny.yaml", {"run": "other"})
    planned = plan(folder, "tiny.yaml", "--resources", *words)
    assert planned.gpus["time cpu digits"] == gpus
    assert planned.gpus["train digits vae 0"] == 0  # device: cpu
    computed = {f for f in expected_files() if not f.startswith("logs/")}
    assert planned.outputs == {f"results/other/{file}" for file in computed}


def test_on_a_cluster_each_job_asks_for_the_gpus_that_it_uses(folder):
    # The machine that plans has none. The preflight looks at a GPU: it needs one to look at.
    write_config(folder / "tiny.yaml", {"run": "other", "device": "cuda", "timing.devices": "auto"})
    gpus = plan(folder, "tiny.yaml", "--profile", REPOSITORY / "profiles/slurm").gpus
    for job in ("data digits", "train digits vae 0", "evaluate digits real 0"):
        assert gpus[job] == 1
    assert gpus["time cuda digits"] == 1
    assert gpus["time cpu digits"] == gpus["quality"] == 0

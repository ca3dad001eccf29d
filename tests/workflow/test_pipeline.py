"""The whole workflow, as a user runs it: full runs of tiny configurations, the rest dry runs.

Snakemake runs as a process of its own, in a temporary folder.
"""

import csv
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from support.configs import (
    CONFIG_FOLDER,
    FACES,
    LIKELIHOOD,
    MODEL_SETTINGS,
    RUN_CONFIGS,
    write_config,
)
from support.records import without_times

from benchmark.config.config import load_config
from benchmark.config.jobs import job_of
from benchmark.evaluation.samples import open_samples
from benchmark.records.record import read_record

REPOSITORY = CONFIG_FOLDER.parent
SNAKEFILE = ("-s", REPOSITORY / "Snakefile", "--cores", "2")
TABLES = ("quality", "timing", "cost")
MODELS = ("kaem_is", "vae")
CLOSED_PORT = "http://127.0.0.1:9"  # a proxy there refuses every connection at once


def snakemake(folder: Path, *words, **environment) -> subprocess.CompletedProcess:
    """Run the workflow from `folder`, which holds its configuration; no network can be reached."""
    offline = dict.fromkeys(("http_proxy", "https_proxy"), CLOSED_PORT) | environment
    kept = {k: v for k, v in os.environ.items() if not k.lower().startswith(("no_proxy", "kaem_"))}
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *SNAKEFILE, "--directory", folder, *words],
        cwd=folder,
        env=kept | offline,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@dataclass(frozen=True)
class Plan:
    """What a dry run would do.

    Attributes:
        jobs: "rule dataset model ..." with the wildcards' values.
        outputs: the files that would be written.
        gpus: job -> the GPUs that it would take.
    """

    jobs: set[str]
    outputs: set[str]
    gpus: dict[str, int]


def plan(folder: Path, config: str, *words) -> Plan:
    """A dry run, which must succeed."""
    # The profile shows no rules; --quiet on the command line replaces its setting.
    done = snakemake(folder, "--configfile", config, "-n", "--quiet", "host", *words)
    assert done.returncode == 0, done.stdout
    jobs, outputs, gpus = set(), set(), {}
    for block in re.split(r"^(?:local)?rule ", done.stdout, flags=re.MULTILINE)[1:]:
        name = block.partition(":")[0]
        if name == "all":
            continue
        values = re.search(r"^ +wildcards: (.*)$", block, re.MULTILINE)
        pairs = values[1].split(", ") if values else []
        job = " ".join([name, *(pair.partition("=")[2] for pair in pairs)])
        jobs.add(job)
        outputs |= set(re.search(r"^ +output: (.*)$", block, re.MULTILINE)[1].split(", "))
        taken = re.search(r"^ +resources: .*\bgpu=(\d+)", block, re.MULTILINE)
        gpus[job] = int(taken[1]) if taken else 0
    return Plan(jobs, outputs, gpus)


def snapshot(folder: Path) -> dict[str, str]:
    """Every file below a folder and the digest of its contents."""
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".snakemake" not in path.parts
    }


# What a shell, a template or a page would read as its own: the full run has it, and works.
HOSTILE_NAME = 'it\'s a "$(touch pwned)" {run}; touch pwned'
HOSTILE_TEXTS = {
    "note": "a; touch pwned\n$(touch pwned) `touch pwned` {params.config} {0} %s '\" </script>",
    "models.kaem_is.label": "{wildcards.model} & co; touch pwned </script>",
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
    done = snakemake(folder, "--configfile", config)
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
}


def expected_files() -> set[str]:
    jobs = [f"digits/{model}/seed0" for model in MODELS]
    evaluated = [*jobs, "digits/real/seed0"]
    figures = ["samples_digits", "loss_digits", "health_digits", "power_posteriors", "tradeoff_cpu"]
    figures += ["training_time", *(f"{kind}_digits_kaem_is" for kind in ("prior", *LATENT_FIGURES))]
    logs = ["data/digits", "classifier/digits", "quality", "timing", "claims"]
    logs += ["cost", "reported", "tradeoff/cpu", "training_time"]
    logs += ["sample_grids/digits", "loss_curves/digits", "prior_densities/digits"]
    logs += [f"{rule}/digits" for rule in (*LATENT_FIGURES.values(), "training_health")]
    logs += ["inspect/digits/kaem_is/0", "power", "power_posteriors", "explorer"]
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
        "explorer.html",
        *(f"timing/cpu/digits/{model}.json" for model in MODELS),
        *(
            f"tables/{t}.{kind}"
            for t in ("quality", "timing", "cost")
            for kind in ("csv", "md", "tex", "files.json")
        ),
        *(f"tables/reported.{kind}" for kind in ("csv", "md", "tex")),
        *("claims.json", "claims.md", "verdicts.md"),
        *(f"figures/{figure}.{kind}" for figure in figures for kind in ("pdf", "png")),
        *(f"logs/{log}.log" for log in logs),
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
    # What was measured is what the table shows.
    with (results / "tables" / "quality.csv").open() as handle:
        rows = {row["model"]: row for row in csv.DictReader(handle)}
    for model in ("real", *MODELS):
        distance = found["metrics", model].metrics.get("fd_classifier_test_64")
        assert float(rows[model]["fd_classifier_test_64_mean"]) == pytest.approx(distance)


def test_one_gpu_is_the_default_limit(finished):
    # Without one, Snakemake has no limit at all and starts as many GPU jobs as there are cores.
    (limit,) = re.findall(r"^Provided resources: .*\bgpu\W.*?(\d+)", finished[1], re.MULTILINE)
    assert limit == "1"


# The same results, whatever runs beside them ----------------------------------------------------


def result_of(path: Path):
    """What a file holds of results: no times, and nothing about the machine and the day."""
    if path.suffix == ".json" and path.parts[-2] != "tables":
        return without_times(json.loads(path.read_text()))
    if path.suffix == ".csv":  # a loss history, or a table, which shows the training's time too
        with path.open() as handle:
            rows = list(csv.DictReader(handle))
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]
    return path.read_bytes()


def test_another_number_of_cores_and_another_order_of_hashes_change_no_result(finished, tmp_path):
    write_tiny(tmp_path / "tiny.yaml")
    names = ("tables/quality.csv", "figures/samples_digits.png", "figures/prior_digits_kaem_is.png")
    words = [f"results/tiny/{name}" for name in names]
    words += ["--configfile", "tiny.yaml", "--cores", "1"]
    done = snakemake(tmp_path, *words, PYTHONHASHSEED="1", OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stdout
    one, other = (folder / "results" / "tiny" for folder in (finished[0], tmp_path))
    # The table's other forms round the training's time in a column of their own.
    left_out = ("logs/", "tables/quality.md", "tables/quality.tex", "tables/quality.files.json")
    made = {name for name in snapshot(other) if not name.startswith(left_out)}
    kinds = {name.partition("/")[0] for name in made}
    assert kinds >= {"classifier", "weights", "training", "samples", "metrics", "tables", "figures"}
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
    shown = {name for name in expected_files() if name.endswith((".png", ".csv", ".html"))}
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
        "training_time",
        "claims",
        "sample_grids digits",
        "loss_curves digits",
    }


def test_a_changed_label_redoes_tables_and_figures_alone(folder):
    write_tiny(folder / "tiny.yaml", {"models.vae.label": "A VAE"})
    assert plan(folder, "tiny.yaml").jobs == {
        "quality",
        "timing",
        "cost",
        "reported",
        "tradeoff cpu",
        "training_time",
        "claims",
        "sample_grids digits",
        "loss_curves digits",
        "prior_densities digits",
        "power_posteriors",
        "explorer",
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
    *("sample_grids", "loss_curves", "prior_densities"),
    *("power_posteriors", "explorer", "training_health", *LATENT_FIGURES.values()),
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


# What comes before what -------------------------------------------------------------------------


def test_data_come_before_training_and_training_before_evaluation(tmp_path):
    write_config(tmp_path / "tiny.yaml")
    done = snakemake(tmp_path, "--configfile", "tiny.yaml", "--rulegraph", "--quiet", "all")
    names = dict(re.findall(r"(\d+)\[label = \"(\w+)\"", done.stdout))
    before: dict[str, set[str]] = {name: set() for name in names.values()}
    for first, then in re.findall(r"(\d+) -> (\d+)", done.stdout):
        before[names[then]].add(names[first])
    assert before["data"] == set()
    assert before["train"] == before["classifier"] == {"data"}
    assert before["evaluate"] == {"sample", "train", "classifier"}


@pytest.mark.parametrize("classes", [None, 2])
def test_only_labelled_images_ask_for_a_classifier(tmp_path, classes):
    facts = FACES | ({} if classes is None else {"classes": classes})
    write_config(tmp_path / "tiny.yaml", {"own_datasets.faces": facts, "datasets": ["faces"]})
    jobs = plan(tmp_path, "tiny.yaml").jobs
    assert {"data faces", "train faces vae 0", "evaluate faces real 0"} <= jobs
    assert ("classifier faces" in jobs) == (classes is not None)


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


# A dataset of one's own -------------------------------------------------------------------------


PORTRAITS = {"0": 40, "2": 20}  # CelebA's numbers for the parts train and test


def write_faces(root: Path) -> None:
    """Generated portraits as CelebA's archive holds its own: 178x218, numbered, with a list."""
    images = root / "img_align_celeba"
    images.mkdir(parents=True)
    draws = np.random.default_rng(0)
    listed = [part for part, count in PORTRAITS.items() for _ in range(count)]
    rows, columns = np.mgrid[:218, :178]
    lines = []
    for number, part in enumerate(listed, 1):
        pixels = np.empty((218, 178, 3), np.uint8)
        pixels[:] = draws.integers([0, 80, 120], [60, 160, 200])  # a cool background
        radius = draws.uniform(40, 60)
        head = (rows - 109) ** 2 + (columns - 89) ** 2 < radius**2
        pixels[head] = draws.integers([200, 100, 50], [256, 150, 100])  # a warm face
        name = f"{number:06d}.jpg"
        Image.fromarray(pixels).save(images / name, quality=90)
        lines.append(f"{name} {part}")
    (root / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")


def test_faces_in_celebas_layout_go_all_the_way(tmp_path):
    write_faces(tmp_path / "data")
    write_config(
        tmp_path / "tiny.yaml",
        {
            "own_datasets": {"faces": FACES},
            "datasets": ["faces"],
            "training.updates": 3,
            "training.batch_size": 8,
            "decoder.width": 4,
            "models": {name: MODEL_SETTINGS[name] for name in ("kaem_ula", "vae")},
            "evaluation": {
                "references": {"test": 16, "train": 24},
                "batch_size": 16,
                "likelihood": LIKELIHOOD,
            },
        },
    )
    results = tmp_path / "results" / "tiny"
    table, grid = results / "tables" / "quality.md", results / "figures" / "samples_faces.png"
    targets = [path.relative_to(tmp_path) for path in (table, grid)]
    done = snakemake(tmp_path, *targets, "--configfile", "tiny.yaml")
    assert done.returncode == 0, done.stdout
    assert not (results / "classifier").exists()

    for model in ("real", "kaem_ula", "vae"):
        metrics = read_record(results / "metrics" / "faces" / model / "seed0.json").metrics
        assert metrics.reference_count_test == PORTRAITS["2"]
        assert metrics.reference_count_train == PORTRAITS["0"]
        keys = {measured.key for measured in metrics.values}
        assert ("bits_per_dimension_test_5" in keys) == (model != "real")
        # Without labels and without Inception there is no space to compare in.
        assert not any(name.startswith(("fid", "fd", "kid")) for name in keys)
    rows = [line.split("|") for line in table.read_text().splitlines() if line.startswith("|")]
    titles = [title.strip() for title in rows[0]]
    shown = {
        row[2].strip(): dict(zip(titles, map(str.strip, row), strict=True)) for row in rows[2:]
    }
    assert list(shown) == ["real images", "KAEM-ULA", "VAE"]
    assert {row["Dataset"] for row in shown.values()} == {"Faces"}
    for model in ("KAEM-ULA", "VAE"):
        assert float(shown[model]["Bits per dimension (test 5)"].rstrip("‡")) > 0
        assert shown[model]["Updates"] == "3"
    # The centre of the real images is a warm face, and the grid shows it in colour.
    real = open_samples(results / "samples" / "faces" / "real" / "seed0.npz")
    assert real.shape == (24, 3, 64, 64)
    red, green, blue = real.first(24)[:, :, 24:40, 24:40].double().mean((0, 2, 3)).tolist()
    assert red > 190 > 160 > green > 95 > blue
    picture = plt.imread(grid)[..., :3]
    assert np.ptp(picture, axis=-1).max() > 0.3


# What is refused, and what fails ----------------------------------------------------------------


def test_three_mistakes_are_listed_before_any_job(tmp_path):
    mistakes = {"datasets": ["digts"], "training.learning_rate": "1e-3", "models.vae.sgma": 0.3}
    write_config(tmp_path / "tiny.yaml", mistakes)
    done = snakemake(tmp_path, "--configfile", "tiny.yaml")
    assert done.returncode != 0
    assert "tiny.yaml: 3 problems" in done.stdout
    for line in (
        "datasets[0]: unknown dataset 'digts'; did you mean 'digits'?",
        "training.learning_rate: must be number, but '1e-3' is text in YAML; write 1.0e-3",
        "models.vae.sgma: unknown setting; did you mean 'sigma'?",
    ):
        assert done.stdout.count(f"  - {line}") == 1
    assert "Traceback" not in done.stdout
    assert set(snapshot(tmp_path)) == {"tiny.yaml"}


def test_what_a_shell_would_run_is_taken_for_a_name(tmp_path):
    name = "-o {x} $(touch pwned) 'q; touch pwned.yaml"
    write_config(tmp_path / name)
    overrides = ["note=b; touch pwned $(touch pwned) {params} ' \"", "training={updates: 6}"]
    words = ("results/tiny/data/digits.json", "--configfile", name, "--config", *overrides)
    done = snakemake(tmp_path, *words)
    assert done.returncode == 0, done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {name, "data", "results", ".snakemake"}


def test_a_step_that_fails_ends_the_run_with_its_own_message(tmp_path):
    write_config(tmp_path / "tiny.yaml", {"datasets": ["mnist"]})
    (tmp_path / "empty").mkdir()
    done = snakemake(tmp_path, "--configfile", "tiny.yaml", KAEM_DATA_ROOT="empty")
    assert done.returncode != 0
    assert (
        done.stdout.count("error: mnist: empty/MNIST/raw/train-images-idx3-ubyte is missing") == 1
    )
    assert "set KAEM_DATA_ROOT to a torchvision root that has it" in done.stdout
    # The step itself is seen to fail: Snakemake does not go looking for late files instead.
    assert "returned non-zero exit status 1" in done.stdout
    assert "latency" not in done.stdout
    assert "Traceback" not in done.stdout
    assert set(snapshot(tmp_path)) == {"tiny.yaml", "results/tiny/logs/data/mnist.log"}
    assert list((tmp_path / "empty").iterdir()) == []


# The committed configurations -------------------------------------------------------------------


@pytest.mark.parametrize("path", RUN_CONFIGS, ids=lambda path: path.stem)
def test_a_committed_configuration_plans_and_lints(path, tmp_path):
    # The paper's is the one that is taken when none is named.
    words = [] if path.stem == "paper" else ["--configfile", path]
    with ThreadPoolExecutor() as pool:  # two processes at a time
        planned, linted = pool.map(lambda word: snakemake(tmp_path, *words, word), ("-n", "--lint"))
    assert planned.returncode == 0, planned.stdout
    config = load_config(path)
    trainings = len(config.datasets) * len(config.trained_models) * len(config.seeds)
    assert re.search(rf"^train +{trainings}$", planned.stdout, re.MULTILINE)
    assert linted.returncode == 0, linted.stdout
    assert "good condition" in linted.stdout
    assert snapshot(tmp_path) == {}

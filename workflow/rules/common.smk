# The configuration, checked before any job starts, and the helpers of the rules.
#
# The rules name environment.yml as the software that they need. Create that environment first and
# run Snakemake inside it: with --sdm conda it would not find requirements.lock beside its copy.

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

REPOSITORY = Path(workflow.basedir)
sys.path.insert(0, str(REPOSITORY))

from benchmark.base import paths
from benchmark.config.config import CLASSIFIER, REAL, load_config
from benchmark.config.jobs import KINDS, inputs, job_of, judged_jobs
from benchmark.base.errors import BenchmarkError
from benchmark.records.drawn import is_drawn
from benchmark.run import fork_server
from benchmark.run.workflow_lock import clear_stale_locks, hold


def config_file():
    """The file that --configfile names; without one, the paper's configuration.

    The file is read here and not with the `configfile` directive, which would merge the paper's
    models and datasets into every other configuration.
    """
    files = workflow.config_settings.configfiles
    if len(files) > 1:
        raise WorkflowError("give one --configfile: each configuration is a run of its own")
    file = os.path.relpath(files[0] if files else REPOSITORY / "config/paper.yaml")
    return os.path.join(".", file) if file.startswith("-") else file  # a file, not an option


def as_yaml(value):
    """What --config gave, its texts read as YAML: Snakemake leaves numbers inside lists as text."""
    if isinstance(value, dict):
        return {key: as_yaml(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_yaml(each) for each in value]
    return yaml.safe_load(value) if isinstance(value, str) else value


def config_arguments(*left_out):
    """The arguments that hand this configuration to a step, --config overrides included; as a
    function, since Snakemake takes braces in a text of `params` for wildcards, and of `output`, by
    which it takes them for derived: what is outdated the files themselves say."""
    kept = {key: value for key, value in OVERRIDES.items() if key not in left_out}
    overrides = [f"--set={key}={json.dumps(value)}" for key, value in kept.items()]
    arguments = shlex.join(["--config", CONFIG_FILE, *overrides])
    return lambda wildcards, output: arguments


def run_path(pattern, **names):
    """A path pattern of `benchmark.base.paths` for this run; other wildcards stay wildcards."""
    return expand(pattern, run=CONFIG.run, allow_missing=True, **names)[0]


def on_cluster():
    """Whether jobs run on other machines, which read these rules again and must agree with this."""
    return workflow.remote_exec or workflow.global_resources["_nodes"].value is not None


def finds_gpu():
    """Whether "auto" means a GPU. No machine of a cluster speaks for the others: `device` does."""
    return CONFIG.device == "cuda" if on_cluster() else shutil.which("nvidia-smi") is not None


def training_gpus():
    """GPUs that one training, sampling or evaluation job takes."""
    wants_gpu = CONFIG.device == "cuda" or (CONFIG.device == "auto" and finds_gpu())
    return 1 if wants_gpu else 0


def timing_gpus(wildcards):
    """The workflow's whole limit of GPUs; on a cluster, where a timing has a node of its own, those
    that it uses."""
    if on_cluster():
        return int(wildcards.device == "cuda")
    return workflow.global_resources["gpu"].value


def checking_gpus():
    """GPUs that the check of what a run needs takes: it looks at one, and computes nothing on it,
    so that jobs of one machine need not wait for it."""
    return training_gpus() if on_cluster() else 0


def all_cores():
    """All that the run may use; --report runs nothing and needs none."""
    return workflow.global_resources["_cores"].value or 1


def wanted(kind, wildcards):
    """The jobs that a rule's wildcards name: several where one command does those of all models."""
    names = dict(wildcards)
    seed = int(names.pop("seed")) if "seed" in names else None
    models = CONFIG.models if kind == "timing" else [names.pop("model", "")]
    return [job_of(CONFIG, kind, model=model, seed=seed, **names) for model in models]


def do_anew(files):
    """Have Snakemake make these files, which are outdated, as --forcerun would, where they are asked
    for: what it remembers of them may be lost, or of files that were overwritten since."""
    workflow.dag.forcefiles.update(map(str, files))


def sources(kind):
    """The files that a job reads; one whose result is outdated is done anew."""

    def files(wildcards):
        these = wanted(kind, wildcards)
        if workflow.is_main_process:  # jobs run in others, which need not ask again
            from benchmark.run.outdated import is_outdated

            do_anew(path for job in these if is_outdated(CONFIG, job) for path in job.paths)
        return [str(path) for path in inputs(CONFIG, these[0])]

    return files


def named(kind):
    """The arguments that name a job to its step."""
    keys = [key for key in ("dataset", "model", "seed") if f"{{{key}}}" in KINDS[kind].log]

    def arguments(wildcards):
        values = {key: getattr(wildcards, key) for key in keys}
        if kind == "classifier":
            values["model"] = CLASSIFIER
        return " ".join(f"--{key} {value}" for key, value in values.items())

    return arguments


def judged(wildcards):
    """The records that verdicts rest on; those on others, or with other words, are made anew."""
    if not is_drawn(CONFIG, "claims", judged_jobs(CONFIG)):
        do_anew(verdicts())
    return [str(each.path()) for each in judged_jobs(CONFIG, gpu=finds_gpu())]


def verdicts():
    pages = [*expand(run_path(paths.CLAIMS), format=["json", "md"]), run_path(paths.VERDICTS)]
    return [*pages, run_path(paths.DRAWN, step="claims")]


OVERRIDES = as_yaml(dict(workflow.config_settings.config))
CONFIG_FILE = config_file()
try:
    paths.check_places()
    CONFIG = load_config(CONFIG_FILE, OVERRIDES)
except BenchmarkError as error:
    raise WorkflowError(str(error))

# Jobs of a workflow read this file too, each in a process of its own.
if workflow.is_main_process and clear_stale_locks():
    logger.warning("The last workflow here was killed; going on where it was.")


onstart:
    workflow.running = hold()
    # CUDA cannot be used in a fork, and elsewhere no server can be reached.
    if not (on_cluster() or training_gpus()):
        workflow.server = fork_server.start(CONFIG.threads)


# Resources have no limit unless one is given; --resources gpu=N or a profile sets another.
if "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", 1)

# What a rendering shows depends on the lists of datasets and seeds; what a job computes does not,
# so a run that was restricted with --config keeps its results when the rest is asked for.
RENDER_ARGUMENTS = config_arguments()
JOB_ARGUMENTS = config_arguments("datasets", "seeds")

# `python` in the rules is the interpreter that runs Snakemake, and it finds this repository from
# any working directory (snakemake --directory). A step that fails fails its rule, through the pipe
# into the log: the prefix replaces Snakemake's own, which says so too.
shell.prefix(
    f"set -euo pipefail; export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    f" PYTHONPATH={shlex.quote(str(REPOSITORY))}; "
)


wildcard_constraints:
    dataset="|".join(CONFIG.datasets),
    model="|".join([REAL, *CONFIG.models]),
    seed="[0-9]+",
    device="cpu|cuda",

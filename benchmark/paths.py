"""Where each file of a run lies: the one place that knows, for the commands and the workflow.

The patterns hold {run}, {dataset}, {model} (the entry's name in the configuration), {seed} and
{device}; `fill` fills them here, Snakemake's wildcards in `workflow/rules`.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # of the repository

RUN = "results/{run}"

DATA = RUN + "/data/{dataset}.json"
CLASSIFIER = RUN + "/classifier/{dataset}.safetensors"
CLASSIFIER_RECORD = RUN + "/classifier/{dataset}.json"

_JOB = "/{dataset}/{model}/seed{seed}"
WEIGHTS = RUN + "/weights" + _JOB + ".safetensors"
TRAINING_RECORD = RUN + "/training" + _JOB + ".json"
HISTORY = RUN + "/training" + _JOB + ".csv"
DIAGNOSTICS = RUN + "/training" + _JOB + ".npz"
SAMPLES = RUN + "/samples" + _JOB + ".npz"
METRICS_RECORD = RUN + "/metrics" + _JOB + ".json"

TIMING_RECORD = RUN + "/timing/{device}/{dataset}/{model}.json"

TABLE = RUN + "/tables/{table}.{format}"
FIGURE = RUN + "/figures/{figure}.{format}"
LOG = RUN + "/logs/{step}.log"


def fill(pattern: str, run: str, **names: str | int) -> Path:
    """The path that a pattern stands for, relative to the working directory."""
    return Path(pattern.format(run=run, **names))

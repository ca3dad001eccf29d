"""`python -m benchmark equal-time`: a configuration in which every training takes equally long.

Equal numbers of updates, as in config/cpu.yaml, favour the models whose updates cost most. Here the
recorded seconds of an update say how many fit into the same time.
"""

import json
import statistics

import yaml

from benchmark.base.errors import RecordError
from benchmark.base.progress import duration
from benchmark.config.config import Config
from benchmark.records.folder import read_folder, recorded_folder

RUN = "equal_time"


def equal_time(config: Config, budget: float, folder: str | None = None) -> str:
    """Return the configuration as YAML: the given one, but for the numbers of updates.

    Args:
        budget: seconds of one training.
        folder: the training records whose times are taken, see `recorded_folder`. Where several
            seeds or datasets are recorded, the median counts.

    Raises:
        RecordError: a model's training is not recorded there.
    """
    recorded = recorded_folder(config, folder)
    costs: dict[str, list[float]] = {}
    for record in read_folder(recorded):
        if record.kind == "training":
            costs.setdefault(record.model, []).append(record.metrics.seconds_per_update)
    missing = [model for model in config.trained_models if model not in costs]
    if missing:
        raise RecordError(f"{recorded}: no training of {', '.join(missing)} is recorded")
    values = json.loads(json.dumps(config.values))  # where YAML had aliases, a dict for each
    note = f"{duration(budget)} of training for every model: as many updates as fit."
    own = {"run": RUN, "note": note}
    values = own | values | own  # first in the file, and instead of the given run's
    for model in config.trained_models:
        updates = max(1, round(budget / statistics.median(costs[model])))
        values["models"][model].setdefault("training", {})["updates"] = updates
    return (
        f"# {config.run}, with {duration(budget)} of training for every model. Written by\n"
        f"# `python -m benchmark equal-time`, which knows what an update costs from {recorded}.\n"
        f"#\n#   snakemake --cores all --configfile config/{RUN}.yaml\n"
        + yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=100)
    )

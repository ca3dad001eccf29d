"""`make kills`: every model's training, killed at random moments, ends as if it had not been."""

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

import pandas as pd
import torch
from support.configs import tiny_config, write_config
from support.kills import (
    ENTRIES,
    begin,
    end,
    results,
    settings,
    train_killed,
    train_words,
    working_folder,
)

import benchmark.steps  # noqa: F401, for the children
from benchmark import cli
from benchmark.config.jobs import job_of
from benchmark.config.registry import build
from benchmark.records.record import read_record
from studies.pages import write_page

UPDATES = 60
KINDS = ("training", "classifier")  # of records
CHECKPOINT_SECONDS = (0, 0.05)  # after each update, and now and then
COLUMNS = {
    "training": "Training",
    "kills": "Kills",
    "while_writing": "While a checkpoint was written",
    "gone_on": "Gone on from a checkpoint",
    "compared": "Trainings compared",
    "different": "Different from one without kills",
}


def killed_trainings(model: str, kills: int, folder: Path, draws: random.Random) -> dict:
    """Kill trainings at random moments, one after another, until there were so many kills; return
    a row of the table."""
    config = write_config(
        folder / "tiny.yaml", settings(model, **{f"{kind}.updates": UPDATES for kind in KINDS})
    )
    words, log = train_words(model, config), folder / "log"
    with working_folder(folder / "whole"):
        if end(begin(words, log)):
            raise SystemExit(log.read_text(encoding="utf-8"))
        expected = results(Path("results/tiny"))
        (record,) = (p for p in Path("results/tiny").rglob("*.json") if p.parts[2] in KINDS)
        seconds = read_record(record).wall_time_s
    row = dict.fromkeys(COLUMNS, 0) | {"training": model}

    def note() -> None:
        row["while_writing"] += any(Path("results").rglob(".state-*.tmp"))

    while row["kills"] < kills:
        every = CHECKPOINT_SECONDS[row["compared"] % 2]
        with working_folder(folder / f"killed{row['compared']}"):
            log = Path("log").absolute()
            again = [*words, f"--set=checkpoint_seconds={every}"]
            row["kills"] += train_killed(again, log, seconds, draws, after_kill=note)
            left = results(Path("results/tiny"))
            different = {name for name in left | expected if left.get(name) != expected.get(name)}
            row["different"] += bool(different)
            if different:
                print(f"different: {', '.join(sorted(different))}", file=sys.stderr)
            row["gone_on"] += log.read_text(encoding="utf-8").count("goes on after update")
        row["compared"] += 1
    return row


def prepare(models: list[str], folder: Path) -> None:
    """Prepare the data and import for seconds what a child would, so that no child has to before
    it can be killed in its work."""
    with working_folder(folder):
        config = write_config(folder / "tiny.yaml")
        if cli.main(["preflight", f"--config={config}"]):
            raise SystemExit(1)
    for model in models:
        if model != "classifier":
            job = job_of(tiny_config(settings(model)), "training", "digits", model)
            build(job.settings.architecture, job.settings.model, (1, 16, 16))


def main() -> None:
    """Kill the trainings that the command line asks for and write what happened."""
    parser = argparse.ArgumentParser(prog="make kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="of each model")
    parser.add_argument("--models", nargs="+", default=ENTRIES, choices=ENTRIES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        os.environ["KAEM_CACHE_ROOT"] = str(Path(name) / "cache")
        prepare(options.models, Path(name))
        for model in options.models:
            folder = Path(name) / model
            folder.mkdir()
            rows.append(killed_trainings(model, options.kills, folder, random.Random(model)))
            print(" · ".join(f"{k} {v}" for k, v in rows[-1].items()), file=sys.stderr, flush=True)
    write_page("kills", pd.DataFrame(rows)[list(COLUMNS)].rename(columns=COLUMNS), rows=rows)
    if any(row["different"] for row in rows):
        raise SystemExit("some trainings ended otherwise than those without kills")


if __name__ == "__main__":
    main()

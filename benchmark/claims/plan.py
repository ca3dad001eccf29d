"""`python -m benchmark plan`: which claims this machine can check within a budget, and how.

What each step costs stands in the records, and is scaled by how this machine compares with theirs
(`benchmark.claims.machine`). Trainings without a record are measured by some updates. A plan is
rough.
"""

import shlex
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmark.base import paths
from benchmark.base.progress import duration
from benchmark.base.tensors import LEFT_OUT, read_tensors
from benchmark.claims.claims import OWN_CLAIMS, Claim, judgeable, load_claims
from benchmark.claims.machine import (
    Machine,
    measure,
    measure_trainings,
    whole_time,
)
from benchmark.claims.report import table
from benchmark.config.config import CLASSIFIER, Config
from benchmark.config.jobs import JUDGED, job_of, jobs
from benchmark.records.folder import by_subject, nothing_there, read_folder, recorded_jobs
from benchmark.records.record import Record, Subject

LEVELS = ("L1", "L2", "L3", "L4")
LOOK = 60.0  # seconds in which trainings without a record are measured


class Step(NamedTuple):
    """One command; `where` is its seed, or the device of a timing."""

    command: str
    dataset: str
    entry: str
    where: int | str


class Costs:
    """Seconds that each step takes on this machine, by the records of its kind.

    Attributes:
        unrecorded: trainings without a record, of all seeds.
        trainings: (dataset, entry) -> seconds of one of them, as far as they were measured.
    """

    def __init__(
        self,
        config: Config,
        records: list[Record],
        machine: Machine | None = None,
        trainings: dict[tuple[str, str], float] | None = None,
    ):
        self.config, self.records = config, by_subject(records)
        self.machine = machine or measure(config, self.records)
        self.unrecorded = [
            job
            for job in jobs(config, "training")
            if Subject("training", job.dataset, job.model) not in self.records
        ]
        if trainings is None and self.unrecorded:
            trainings = measure_trainings(config, self.unrecorded, LOOK)
        self.trainings = trainings or {}

    def of(self, step: Step) -> float | None:
        """Return the step's seconds; None where they are not recorded and were not measured."""
        command, dataset, entry, where = step
        if command == "sample":
            seconds = self.machine.image.get((dataset, entry))
            return (
                seconds
                and seconds * job_of(self.config, "sampling", dataset, entry).settings.samples
            )
        kinds = {"train": "training", "evaluate": "metrics", "time": "timing"}
        kind = CLASSIFIER if entry == CLASSIFIER else kinds[command]
        device = where if command == "time" else None
        records = self.records.get(Subject(kind, dataset, entry, device))
        if not records:
            return self.trainings.get((dataset, entry)) if command == "train" else None
        slower = self.machine.slower.get((dataset, entry)) if command == "train" else None
        return statistics.mean(r.wall_time_s for r in records) * (slower or self.machine.median)

    def total(self, steps: list[Step]) -> float | None:
        """Return the seconds of the steps one after the other; None where one is not known."""
        seconds = [self.of(step) for step in steps]
        return None if None in seconds else sum(seconds)


def steps(config: Config, claim: Claim, dataset: str, level: str, devices: list[str]) -> list[Step]:
    """Return what checks a claim at an evidence level; nothing where the level says nothing of it.

    Args:
        devices: of the timings.
    """
    seeds = config.seeds if level == "L4" else config.seeds[:1]
    if level == "L4" and len(seeds) == 1:
        return []
    trained = dict.fromkeys(config.trained_entry(entry) for entry in claim.entries)
    train = [Step("train", dataset, entry, seed) for seed in seeds for entry in trained]
    if claim.kind == "timing":
        timing = [Step("time", dataset, entry, d) for d in devices for entry in claim.entries]
        return {"L2": timing, "L3": train + timing}.get(level, [])
    if claim.kind == "training":
        return train if level in ("L3", "L4") else []
    drawn = [(dataset, entry, seed) for seed in seeds for entry in claim.entries]
    if claim.metric.endswith(CLASSIFIER):
        train.insert(0, Step("train", dataset, CLASSIFIER, 0))
    return [
        *(train if level in ("L3", "L4") else []),
        *(Step("sample", *names) for names in drawn if level != "L1"),
        *(Step("evaluate", *names) for names in drawn),
    ]


def plan(
    config: Config,
    words: list[str],
    budget: float,
    folder: str | None = None,
    claims: list[Claim] | None = None,
    machine: Machine | None = None,
    trainings: dict[tuple[str, str], float] | None = None,
) -> str:
    """Return the plan as Markdown.

    Args:
        words: the arguments that name the configuration, for the commands.
        budget: seconds.
        folder: the records whose costs are scaled; by default the run's own, else the published.
        machine: how fast this one is; measured by default.
        trainings: what `Costs` has; measured by default.

    Raises:
        RecordError: there are no records in the folder that was named, or one is not what it
            should be.
    """
    published = Path(paths.PUBLISHED) / config.run
    places = [Path(folder)] if folder else [config.folder, published]
    recorded = next((p for p in places for kind in JUDGED if any((p / kind).rglob("*.json"))), None)
    if folder and recorded is None:
        raise nothing_there(folder)
    is_published = recorded == published
    records, others = _recorded(config, recorded) if recorded else ([], 0)
    costs = Costs(config, records, machine, trainings)
    rows: dict[str, list[dict]] = {"paper": [], "suite": []}
    recipes, timings = [], []
    for claim, dataset in judgeable(config, claims or load_claims()):
        devices = sorted({s.device for s in costs.records if s.kind == "timing"}) or ["cpu"]
        levels = {level: steps(config, claim, dataset, level, devices) for level in LEVELS}
        known = {
            level: costs.total(work)
            for level, work in levels.items()
            if work and _can_begin(config, level, work, is_published)
        }
        within = [level for level, cost in known.items() if cost is not None and cost <= budget]
        best = claim.evidence if claim.evidence in within else max(within, default="L0")
        rows[claim.of].append(
            {
                "Claim": claim.claim,
                "Dataset": config.facts(dataset).title,
                **{level: _time(known[level]) if level in known else "" for level in LEVELS},
                "Settled by": _settled_by(config, claim),
                "Within the budget": best,
            }
        )
        chosen = levels.get(best, [])
        timings += [(claim, step) for step in chosen if step.command == "time"]
        commands = [_recipe(step, words) for step in chosen if step.command != "time"]
        if commands:
            title = f"# {claim.id} on {dataset}, {best}, {_time(known[best])}"
            recipes.append("\n".join([title, *commands]))
    recipes += _turns(timings, costs, words, config.seeds[0])
    if recipes and is_published:
        restore = _command("restore", *words)
        recipes.insert(0, f"# The published weights, where the steps look for them\n{restore}")
    if recipes:
        recipes.insert(0, f"# The images\n{_command('preflight', *words)}")
    end = [_command("claims", *words)]
    if recorded not in (None, config.folder):
        end.append(_command("compare", str(config.folder), str(recorded)))
    return "\n\n".join(
        [
            costs.machine.text(),
            *_unrecorded(costs),
            f"Records: {len(records)}, of which {others} are of settings that have changed since.",
            "Cost of checking each claim, one step after the other. L0, judging the records again, "
            "takes seconds; L1 measures the run's samples again; L2 draws from its weights, or the "
            "published ones, or times models again; L3 trains one seed again; L4 all seeds. Empty: "
            "the level says nothing about the claim, or these files are not here. Unknown: not "
            "recorded.",
            table(rows["paper"]) or "No claim of the paper is about these datasets and models.",
            *([f"{OWN_CLAIMS}:", table(rows["suite"])] if rows["suite"] else []),
            "```sh\n" + "\n\n".join([*recipes, "# L0, and the last step of all others"]) + "\n"
            + "\n".join(end) + "\n```",
        ]
    )  # fmt: skip


def _can_begin(config: Config, level: str, work: list[Step], published: bool) -> bool:
    """Say whether the samples (L1) or weights (L2) with which a level's steps begin are here, and
    whole enough for what is measured.

    Args:
        published: whether `restore` comes first; of samples a few alone are published.
    """
    needed = {"L1": ("evaluate", "sampling", "samples"), "L2": ("sample", "training", "weights")}
    command, kind, name = needed.get(level, ("", "", ""))
    folders = [config.folder]
    if published and level == "L2":
        folders.append(Path(paths.PUBLISHED) / config.run)
    for step in work:
        if step.command == command:
            files = (job_of(config, kind, *step[1:]).path(name, folder) for folder in folders)
            there = [file for file in files if file.is_file()]
            likelihood = config.evaluation(step.dataset).likelihood  # which takes a VAE's encoder
            if not there or (
                level == "L2" and likelihood and read_tensors(there[0], "weights")[1].get(LEFT_OUT)
            ):
                return False
    return True


def _unrecorded(costs: Costs) -> Iterator[str]:
    """Say what trainings without a record cost here: all of them, and each that was measured."""
    if not costs.unrecorded:
        return
    config, seconds = costs.config, whole_time(costs.unrecorded, costs.trainings)
    yield (
        f"{len(costs.unrecorded)} trainings have no record: about {_time(seconds)} here, one after "
        "the other. Measured by some updates:"
    )
    yield table(
        [
            {
                "Dataset": config.facts(dataset).title,
                "Model": entry,
                "Training, one seed": duration(costs.trainings[dataset, entry]),
            }
            for dataset, entry in sorted(costs.trainings)
        ]
    )


def _recorded(config: Config, folder: Path) -> tuple[list[Record], int]:
    """Read the records of a configuration's jobs, and count those that other settings made."""
    hashes = {
        job.path(folder=folder): job.config_hash
        for job in recorded_jobs(config, *JUDGED, CLASSIFIER)
    }
    records = [record for record in read_folder(folder) if record.path in hashes]
    return records, sum(record.config_hash != hashes[record.path] for record in records)


def _settled_by(config: Config, claim: Claim) -> str:
    """Return the least evidence level with which this configuration can settle a claim."""
    if config.demo:
        return "no demo"
    return "more seeds" if len(config.seeds) < (claim.seeds or 1) else claim.evidence


def _turns(
    timings: list[tuple[Claim, Step]], costs: Costs, words: list[str], seed: int
) -> Iterator[str]:
    """Write one command for all that is timed of a dataset on a device, which takes turns."""
    for dataset, device in dict.fromkeys((step.dataset, step.where) for _, step in timings):
        here = [(c, step) for c, step in timings if (step.dataset, step.where) == (dataset, device)]
        steps = list(dict.fromkeys(step for _, step in here))
        names = ", ".join(dict.fromkeys(claim.id for claim, _ in here))
        entries = [word for step in steps for word in ("--model", step.entry)]
        last = ["--dataset", dataset, *entries, "--seed", str(seed), "--device", str(device)]
        last += ["--untrained"]  # costs the same, and not all weights are published
        cost = _time(costs.total(steps))
        yield f"# {names} on {dataset}: in turns, {cost}\n{_command('time', *words, *last)}"


def _recipe(step: Step, words: list[str]) -> str:
    last = ["--seed", str(step.where)] if step.entry != CLASSIFIER else []
    return _command(step.command, *words, "--dataset", step.dataset, "--model", step.entry, *last)


def _command(*words: str) -> str:
    return shlex.join(["python", "-m", "benchmark", *words])


def _time(seconds: float | None) -> str:
    return "unknown" if seconds is None else duration(seconds)

"""`python -m benchmark plan`: which claims this machine can check within a budget, and how.

What each step costs stands in the records, and is scaled by how this machine compares with theirs
(`benchmark.claims.machine`). A plan is rough.
"""

import shlex
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.base import paths
from benchmark.base.progress import duration
from benchmark.claims.claims import Claim, load_claims
from benchmark.claims.machine import Machine, measure
from benchmark.claims.report import judged_records, table
from benchmark.config.config import CLASSIFIER, Config
from benchmark.config.jobs import job_of
from benchmark.records.folder import by_subject, own_records
from benchmark.records.record import Record, Subject

LEVELS = ("L1", "L2", "L3", "L4")

Step = tuple[str, str, str, int | str]
"""(command, dataset, entry, seed; of a timing, its device)."""


class Costs:
    """Seconds that each step takes on this machine, by the records of its kind."""

    def __init__(self, config: Config, records: list[Record], machine: Machine | None = None):
        self.config, self.records = config, by_subject(records)
        self.machine = machine or measure(config, self.records)

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
            return None
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
    train = [("train", dataset, entry, seed) for seed in seeds for entry in trained]
    if claim.kind == "timing":
        timing = [("time", dataset, entry, d) for d in devices for entry in claim.entries]
        return {"L2": timing, "L3": train + timing}.get(level, [])
    if claim.kind == "training":
        return train if level in ("L3", "L4") else []
    drawn = [(dataset, entry, seed) for seed in seeds for entry in claim.entries]
    if claim.metric.endswith(CLASSIFIER):
        train.insert(0, ("train", dataset, CLASSIFIER, 0))
    return [
        *(train if level in ("L3", "L4") else []),
        *(("sample", *job) for job in drawn if level != "L1"),
        *(("evaluate", *job) for job in drawn),
    ]


def plan(
    config: Config,
    words: list[str],
    budget: float,
    folder: str | None = None,
    claims: list[Claim] | None = None,
    machine: Machine | None = None,
) -> str:
    """Return the plan as Markdown.

    Args:
        words: the arguments that name the configuration, for the commands.
        budget: seconds.
        folder: the records whose costs are scaled; results/<run> by default.
        claims: those of config/claims.yaml by default.
        machine: how fast this one is; measured by default.

    Raises:
        RecordError: there are no records there, or one is not what it should be.
    """
    own = paths.fill(paths.RUN, config.run)
    recorded = Path(folder or own)
    classifiers = own_records(config, CLASSIFIER, folder=recorded)
    costs = Costs(config, judged_records(config, recorded) + classifiers, machine)
    rows, recipes, turns = [], [], Turns()
    for claim, dataset in _judgeable(config, claims or load_claims()):
        devices = sorted({s.device for s in costs.records if s.kind == "timing"}) or ["cpu"]
        levels = {level: steps(config, claim, dataset, level, devices) for level in LEVELS}
        known = {level: costs.total(work) for level, work in levels.items() if work}
        within = [level for level, cost in known.items() if cost is not None and cost <= budget]
        best = claim.evidence if claim.evidence in within else max(within, default="L0")
        rows.append(
            {
                "Claim": claim.claim,
                "Dataset": config.facts(dataset).title,
                **{level: _time(known[level]) if level in known else "" for level in LEVELS},
                "Settled by": _settled_by(config, claim),
                "Within the budget": best,
            }
        )
        if best != "L0":
            timings = [step for step in levels[best] if step[0] == "time"]
            turns.add(claim, timings)
            commands = [_command(step, words) for step in levels[best] if step not in timings]
            title = f"# {claim.id} on {dataset}, {best}, {_time(known[best])}"
            if commands:
                recipes.append("\n".join([title, *commands]))
    recipes += turns.recipes(costs, words, config.seeds[0])
    if recipes and recorded == Path(paths.PUBLISHED) / config.run:
        restore = shlex.join(["python", "-m", "benchmark", "restore", *words])
        recipes.insert(0, f"# The published weights, where the steps look for them\n{restore}")
    end = [shlex.join(["python", "-m", "benchmark", "claims", *words])]
    if recorded != own:
        end.append(shlex.join(["python", "-m", "benchmark", "compare", str(own), str(recorded)]))
    return "\n\n".join(
        [
            costs.machine.text(),
            "Cost of checking each claim, one step after the other. L0, judging the records again, "
            "takes seconds; L1 measures shipped samples again; L2 draws from shipped weights or "
            "times models again; L3 trains one seed again; L4 all seeds. Empty: the level says "
            "nothing about the claim. Unknown: not recorded.",
            table(rows) or "No claim is about the datasets and models of this configuration.",
            "```sh\n" + "\n\n".join([*recipes, "# L0, and the last step of all others"]) + "\n"
            + "\n".join(end) + "\n```",
        ]
    )  # fmt: skip


def _judgeable(config: Config, claims: list[Claim]) -> Iterator[tuple[Claim, str]]:
    """Name the claims that records of this configuration can judge, and the datasets."""
    for claim in claims:
        models = config.evaluated_models if claim.kind == "metrics" else config.models
        if claim.not_measured or not set(claim.entries) <= set(models):
            continue
        for dataset in claim.datasets:
            if dataset not in config.datasets:
                continue
            if claim.metric != "fid" or config.inception_sha256(dataset):
                yield claim, dataset


def _settled_by(config: Config, claim: Claim) -> str:
    """Return the least evidence level with which this configuration can settle a claim."""
    if config.demo:
        return "no demo"
    return "more seeds" if len(config.seeds) < (claim.seeds or 1) else claim.evidence


@dataclass
class Turns:
    """The timings of all claims: what is timed on one device takes turns, in one command.

    Attributes:
        asked: (dataset, device) -> the claims that need it, and the steps.
    """

    asked: dict[tuple[str, str], tuple[list[str], list[Step]]] = field(default_factory=dict)

    def add(self, claim: Claim, timings: list[Step]) -> None:
        """Add the timings that a claim needs."""
        for step in timings:
            _, dataset, _, device = step
            asking, steps = self.asked.setdefault((dataset, device), ([], []))
            asking += [claim.id] if claim.id not in asking else []
            steps += [step] if step not in steps else []

    def recipes(self, costs: Costs, words: list[str], seed: int) -> Iterator[str]:
        """Write a command for each dataset and device, below what it is for."""
        for (dataset, device), (asking, steps) in self.asked.items():
            cost = _time(costs.total(steps))
            named = [word for _, _, entry, _ in steps for word in ("--model", entry)]
            last = ["--dataset", dataset, *named, "--seed", str(seed), "--device", device]
            last += ["--untrained"]  # costs the same, and not all weights are published
            command = shlex.join(["python", "-m", "benchmark", "time", *words, *last])
            yield f"# {', '.join(asking)} on {dataset}: in turns, {cost}\n{command}"


def _command(step: Step, words: list[str]) -> str:
    command, dataset, entry, seed = step
    last = ["--seed", str(seed)] if entry != CLASSIFIER else []
    named = ["--dataset", dataset, "--model", entry, *last]
    return shlex.join(["python", "-m", "benchmark", command, *words, *named])


def _time(seconds: float | None) -> str:
    return "unknown" if seconds is None else duration(seconds)

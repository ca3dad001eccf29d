"""What ARTIFACT.md shows: each claim with the command that checks it, the published runs and what
they took, and what no published run can judge. All of it comes from records and verdicts."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import pandas as pd

from benchmark.base import paths
from benchmark.base.devices import DEVICE_LABELS
from benchmark.base.files import atomic
from benchmark.base.foreign import parse_json, read_text
from benchmark.base.markdown import markdown_table
from benchmark.base.paths import ROOT
from benchmark.base.progress import duration
from benchmark.claims.claims import (
    NOT_RUN,
    VERDICTS,
    Claim,
    judgeable,
    load_claims,
    record_files,
)
from benchmark.config.config import Config, load_config
from benchmark.config.facts import known_datasets
from benchmark.records.folder import read_folder
from benchmark.records.provenance import Provenance
from benchmark.records.record import read_record

MAIN = ("cpu", "timing")  # the published runs on which the findings rest
PARAMETER_BYTES = 4


@dataclass
class Judged:
    """A claim as a published run judged it on one device; `verdicts` are those of each dataset."""

    claim: Claim
    device: str | None
    source: Path  # the run's configuration
    config: Config
    verdicts: dict[str, dict]

    @property
    def command(self) -> str:
        """What makes the records anew on which the verdicts rest; times are taken of all models,
        which take turns."""
        if self.claim.kind == "timing":
            return (
                f"for dataset in {' '.join(self.config.datasets)}; do\n"
                f"    python -m benchmark time --config {self.source} --dataset $dataset "
                f"--device {self.device} --untrained\ndone"
            )
        targets = record_files(self.claim, self.config, list(self.verdicts))
        return f"snakemake --cores all {targets} \\\n    --configfile {self.source}"

    @property
    def seconds(self) -> float:
        """What the command took by the records."""
        if self.claim.kind != "timing":
            return sum(verdict["seconds"] or 0 for verdict in self.verdicts.values())
        timings = (self.source.parent / "timing" / self.device).rglob("*.json")
        return sum(read_record(path).wall_time_s for path in timings)


def render(sources: list[Path]) -> None:
    """Write results/published/experiments/{claims,commands,runs,missing}.md.

    Args:
        sources: the configurations of the published runs, with the verdicts beside them.
    """
    main = [source for source in sources if source.parent.name in MAIN]
    claims = [claim for source in main for claim in judged(source)]
    commands = list(dict.fromkeys(claim.command for claim in claims))
    pages = {
        "claims": _table(_claim_row(claim, commands) for claim in claims),
        "commands": _commands(claims, commands),
        "runs": _table(map(_run_row, sources)),
        "missing": _missing(sources),
    }
    for name, text in pages.items():
        with atomic(Path(paths.PUBLISHED) / "experiments" / f"{name}.md") as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")


def judged(source: Path) -> list[Judged]:
    """Return the claims that a published run could judge."""
    config, found = load_config(source), {}
    for verdict in _verdicts(source):
        if verdict["verdict"] != NOT_RUN:
            claim, device = Claim(**verdict["claim"]), verdict["device"]
            new = Judged(claim, device, source, config, {})
            found.setdefault((claim.id, device), new).verdicts[verdict["dataset"]] = verdict
    return list(found.values())


def _verdicts(source: Path) -> list[dict]:
    found = parse_json(read_text(source.with_name("claims.json")))
    return found["verdicts"] + found["own_verdicts"]


def _table(rows: Iterable[dict]) -> str:
    return markdown_table(pd.DataFrame(rows))


def _claim_row(judged: Judged, commands: list[str]) -> dict[str, str]:
    device = f" ({DEVICE_LABELS[judged.device]})" if judged.device else ""
    expected = [
        f"{judged.config.facts(dataset).title}: {verdict['verdict']}"
        for dataset, verdict in judged.verdicts.items()
    ]
    return {
        "Claim": judged.claim.claim + device,
        "Expected": ", ".join(expected),
        "Check": f"E{commands.index(judged.command) + 1}",
        "Time": duration(judged.seconds),
    }


def _commands(claims: list[Judged], commands: list[str]) -> str:
    """Return the commands as a block of shell, numbered as in the table of claims."""
    seconds = {claim.command: claim.seconds for claim in claims}
    blocks = [
        f"# E{number}: {duration(seconds[command])}\n{command}"
        for number, command in enumerate(commands, 1)
    ]
    sources = dict.fromkeys(claim.source for claim in claims)
    verdicts = [f"python -m benchmark claims --config {source}" for source in sources]
    blocks.append("\n".join(["# After any of them: the verdicts", *verdicts]))
    return "```sh\n" + "\n\n".join(blocks) + "\n```"


def _run_row(source: Path) -> dict[str, str]:
    """Describe a published run: its length, what it leaves on disk, its machines, its verdicts."""
    config, records = load_config(source), read_folder(source.parent)
    trained = [record for record in records if record.kind == "training"]
    weights = sum(record.metrics.parameters for record in trained) * PARAMETER_BYTES
    drawn = sum(
        record.sample_count * prod(config.facts(record.dataset).image_shape)
        for record in records
        if record.kind == "metrics"
    )
    counts = Counter(verdict["verdict"] for verdict in _verdicts(source))
    return {
        "Run": source.parent.name,
        "Trainings": str(len(trained)),
        "Time, one step after the other": duration(sum(r.wall_time_s for r in records)),
        "Disk": f"{(weights + drawn) / 1e6:.0f} MB",
        "Hardware": "; ".join(sorted({_hardware(record.provenance) for record in records})),
        "Verdicts": ", ".join(f"{counts[v]} {v}" for v in VERDICTS if v != NOT_RUN and counts[v]),
    }


def _hardware(origin: Provenance) -> str:
    return origin.gpu or f"{origin.cpu.partition(' (family')[0]}, {origin.cpu_cores} cores"


def _missing(sources: list[Path]) -> str:
    """Return the claims that no published run judges and, for each dataset, how many are judged on
    others alone; with the configurations that would judge them."""
    reached = {(each.claim.id, d) for s in sources for each in judged(s) for d in each.verdicts}
    able: dict[tuple[str, str], list[str]] = {}
    for config in map(load_config, filter(_is_run, sorted(ROOT.glob("config/*.yaml")))):
        for claim, dataset in judgeable(config, load_claims()):
            able.setdefault((claim.id, dataset), []).append(config.run)
    whys: dict[str, str] = {}
    elsewhere: dict[str, list[list[str]]] = {}
    for claim in load_claims():
        places = [(claim.id, dataset) for dataset in claim.datasets]
        left = {place[1]: able[place] for place in places if place in able.keys() - reached}
        if reached.isdisjoint(places):
            whys[claim.claim] = claim.not_measured or f"not run: {_names(left.values())}"
        else:
            for dataset, runs in left.items():
                elsewhere.setdefault(dataset, []).append(runs)
    rows = [{"Claim": claim, "Why": why} for claim, why in whys.items()]
    facts = known_datasets()
    more = [
        f"- {facts[dataset]['title']}: {len(runs)} more claims, not run: {_names(runs)}"
        for dataset, runs in elsewhere.items()
    ]
    return "\n".join([_table(rows), "", *more])


def _names(runs: Iterable[list[str]]) -> str:
    names = dict.fromkeys(f"`config/{run}.yaml`" for each in runs for run in each)
    return ", ".join(names)


def _is_run(path: Path) -> bool:
    """Say whether a file of config/ is a run's configuration that gives verdicts."""
    text = read_text(path)
    return "\nmodels:" in text and "budget: demo" not in text

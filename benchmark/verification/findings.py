"""What a verification finds: of a published run, and of each verdict on its records."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmark.claims.claims import (
    INCONCLUSIVE,
    NOT_RUN,
    TIMES,
    Verdict,
    load_claims,
    record_files,
)
from benchmark.claims.judge import Records, judge_all
from benchmark.config.config import Config
from benchmark.records.record import Record
from benchmark.verification.redraw import Redrawn

AGREES, DISAGREES, NOT_CHECKED = "agrees", "disagrees", "not checked here"
BUSY = "other work keeps this machine busy: no time would be the model's"


class Finding(NamedTuple):
    """A published verdict beside the one on what was measured here.

    Attributes:
        here: None where nothing that it rests on was measured here.
        word: `AGREES`, `DISAGREES` or `NOT_CHECKED`.
        why: what of it was measured here, or why nothing.
        command: that checks what was not.
    """

    published: Verdict
    here: Verdict | None
    word: str
    why: str
    command: str = ""


@dataclass
class Run:
    """A published run, and what was found of it.

    Attributes:
        faults: what is wrong with its files.
        records, verdicts: the published ones; none where a record is at fault.
        undrawn: (dataset, entry) -> why its images were not drawn.
        timed: the records of times taken here.
    """

    config: Config
    folder: Path
    faults: list[str] = field(default_factory=list)
    records: Records = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    drawn: list[Redrawn] = field(default_factory=list)
    undrawn: dict[tuple[str, str], str] = field(default_factory=dict)
    timed: list[Record] = field(default_factory=list)
    judged: list[Finding] = field(default_factory=list)


def compare_verdicts(run: Run, fresh: list[Record]) -> Iterator[Finding]:
    """Judge the claims with the records that were made here in place of the published ones, and set
    each verdict beside the published one."""
    records = {subject: list(of_seeds) for subject, of_seeds in run.records.items()}
    for record in fresh:
        others = [r for r in records.get(record.subject, []) if r.seed != record.seed]
        records[record.subject] = sorted([*others, record], key=lambda each: each.seed)
    made = {str(record.path): record for record in fresh}
    here = {_key(v): v for v in judge_all(run.config, records, load_claims())}
    for verdict in run.verdicts:
        if verdict.verdict != NOT_RUN:
            yield _finding(run, verdict, here.get(_key(verdict)), made)


def _key(verdict: Verdict) -> tuple:
    return verdict.claim.id, verdict.dataset, verdict.device


def _finding(run: Run, verdict: Verdict, here: Verdict | None, made: dict[str, Record]) -> Finding:
    resting = [made[path] for path in (here.records if here else ()) if path in made]
    if here is None or not resting:
        return Finding(verdict, None, NOT_CHECKED, _why_not(run, verdict), _command(run, verdict))
    if verdict.claim.metric in TIMES and any(r.metrics.disturbed for r in resting):
        return Finding(verdict, here, NOT_CHECKED, BUSY, _command(run, verdict))
    if here.verdict == NOT_RUN or (
        len(resting) < len(here.records) and verdict.claim.metric in TIMES
    ):
        why = "; ".join(here.reasons) or "only one of the two was timed here"
        return Finding(verdict, here, NOT_CHECKED, why, _command(run, verdict))
    word = AGREES if _agree(verdict, here) else DISAGREES
    return Finding(verdict, here, word, f"{len(resting)} of {len(here.records)} records from here")


def _agree(published: Verdict, here: Verdict) -> bool:
    """Say whether two verdicts are the same; or one is inconclusive, and the intervals overlap."""
    if published.verdict == here.verdict:
        return True
    if INCONCLUSIVE not in (published.verdict, here.verdict):
        return False
    if not (published.interval and here.interval):
        return False
    (low, high), (from_, to) = published.interval, here.interval
    return low <= to and from_ <= high


def _why_not(run: Run, verdict: Verdict) -> str:
    if verdict.claim.kind == "training":
        return "only a training tells"
    if verdict.claim.kind == "metrics":
        drawn = [each for each in run.drawn if each.dataset == verdict.dataset]
        if any(each.model in verdict.claim.entries for each in drawn):
            return "too slow here: fewer images were drawn than for the records"
        return "no weights of these models are published"
    if verdict.device == "cuda":
        return "takes a GPU"
    return BUSY if run.drawn else "no weights of this run are published: it is not timed"


def _command(run: Run, verdict: Verdict) -> str:
    """Return the command that checks a verdict anew, from nothing."""
    config = run.folder / "config.yaml"
    if verdict.claim.kind != "timing":
        targets = record_files(verdict.claim, run.config, [verdict.dataset])
        return f"snakemake --cores all {targets} --configfile {config.as_posix()}"
    device = f" --device {verdict.device}" if verdict.device else ""
    where = f"--config {config.as_posix()} --dataset {verdict.dataset}{device}"
    return f"python -m benchmark time {where} --untrained"

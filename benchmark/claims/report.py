"""`python -m benchmark claims`: a run's records, checked against it, and the pages of verdicts."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from benchmark.base import paths
from benchmark.base.devices import DEVICE_LABELS
from benchmark.base.files import atomic, write_json
from benchmark.base.markdown import markdown_table
from benchmark.claims.claims import NOT_RUN, OWN_CLAIMS, VERDICTS, Claim, Verdict, load_claims
from benchmark.claims.estimates import CONFIDENCE
from benchmark.claims.judge import APART, DRIFT, judge_all
from benchmark.config.config import Config
from benchmark.config.jobs import JUDGED, judged_jobs
from benchmark.records.drawn import forget_drawn, note_drawn
from benchmark.records.folder import by_subject, nothing_there, own_records
from benchmark.records.record import Record


def report(config: Config, claims: list[Claim] | None = None) -> str:
    """Judge claims on the records of results/<run>, write claims.json, claims.md and the short
    verdicts.md there, and return the text of claims.md.

    Raises:
        RecordError: there are no records, or one is not what it should be.
    """
    folder = config.folder
    records = own_records(config, *JUDGED)
    if not records:
        raise nothing_there(folder)
    verdicts = judge_all(config, by_subject(records), claims or load_claims())
    text = page(config, verdicts, _remarks(folder, records))
    forget_drawn(config, "claims")
    write_json(
        paths.fill(paths.CLAIMS, config.run, format="json"),
        {
            "run": config.run,
            "note": config.note,
            "confidence": CONFIDENCE,
            **{
                name: [_content(verdict) for verdict in part]
                for name, part in zip(("verdicts", "own_verdicts"), _parts(verdicts), strict=True)
            },
        },
    )
    pages = {
        paths.fill(paths.CLAIMS, config.run, format="md"): text,
        paths.fill(paths.VERDICTS, config.run): brief(config, verdicts),
    }
    for path, content in pages.items():
        with atomic(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    note_drawn(config, "claims", judged_jobs(config))
    return text


def _content(verdict: Verdict) -> dict:
    """Return what claims.json holds of a verdict; of one that was not reached no more than why."""
    claim = verdict.claim
    if verdict.verdict == NOT_RUN:
        names = {"claim": {"id": claim.id}, "dataset": verdict.dataset}
        found = {"device": verdict.device, "verdict": NOT_RUN, "reasons": verdict.reasons}
        return names | found
    given = [name for name in Claim.model_fields if name in claim.model_fields_set]
    return asdict(verdict) | {"claim": {name: getattr(claim, name) for name in given}}


def _remarks(folder: Path, records: list[Record]) -> list[str]:
    """Say what the records are as a whole."""
    others = sum(1 for kind in JUDGED for _ in (folder / kind).rglob("*.json")) - len(records)
    sources = sorted({record.provenance.source_digest for record in records})
    remarks = [f"{others} records of other datasets, entries or seeds: not read."] if others else []
    if len(sources) > 1:
        remarks.append(f"Made by {len(sources)} versions of the source: {', '.join(sources)}.")
    return remarks


def table(rows: list[dict]) -> str:
    """Return rows as a Markdown table; a missing cell is empty, and so is the table of no rows."""
    frame = pd.DataFrame(rows).fillna("")
    return markdown_table(frame) if len(frame) else ""


def _parts(verdicts: list[Verdict]) -> tuple[list[Verdict], list[Verdict]]:
    """Return the verdicts on the paper's claims, and those on this suite's own."""
    return tuple([v for v in verdicts if v.claim.of == of] for of in ("paper", "suite"))


def page(config: Config, verdicts: list[Verdict], remarks: list[str]) -> str:
    """Return claims.md: the verdicts that were reached, then what was not run and why."""
    paper, own = _parts(verdicts)
    reached = [verdict for verdict in verdicts if verdict.verdict != NOT_RUN]
    noted = dict.fromkeys(f"- {_where(config, v)}, {note}" for v in reached for note in v.notes)
    missing, missing_own = ("\n".join(_not_run(config, part)) for part in (paper, own))
    parts = [
        f"The paper's claims on the records of `{config.run}`: {_counts(paper)}.",
        config.note,
        _table(config, paper),
        f"{OWN_CLAIMS}: {_counts(own)}." if own else "",
        _table(config, own),
        f"Effect: the ratio or difference of the two values and its {CONFIDENCE:.0%} confidence "
        "interval, over training seeds; of times, over repetitions on one machine. That of a "
        f"time has its ends {DRIFT - 1:.0%} further out, that of times not taken in turns a "
        f"factor of {APART:g}: no machine is equally fast all day. Cost: recorded "
        "seconds of everything that the verdict rests on, training included. Values, files and "
        "digests are in claims.json; docs/guide/claims.md has the rules.",
        "\n".join(noted),
        *remarks,
        f"Not run:\n\n{missing}" if missing else "",
        f"Not run, of this suite's own:\n\n{missing_own}" if missing_own else "",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _counts(verdicts: list[Verdict]) -> str:
    numbers = Counter(verdict.verdict for verdict in verdicts)
    return ", ".join(f"{numbers[verdict]} {verdict}" for verdict in VERDICTS)


def _table(config: Config, verdicts: list[Verdict]) -> str:
    return table([_cells(config, verdict) for verdict in verdicts if verdict.verdict != NOT_RUN])


def brief(config: Config, verdicts: list[Verdict]) -> str:
    """Return verdicts.md: a row for each claim that was judged, a column for each dataset."""
    paper, own = (_in_brief(config, part) for part in _parts(verdicts))
    note = (
        "The paper's claims, some of them made of other datasets, with margins of this suite: "
        "config/claims.yaml. Abstract: its versions that say so; undated is one between that of "
        "April 2026 and v14. In brackets the effect and its "
        f"{CONFIDENCE:.0%} confidence interval, of times wider by {DRIFT - 1:.0%} at each end."
    )
    parts = [f"{paper}\n\n{note}" if paper else "", f"{OWN_CLAIMS}:\n\n{own}" if own else ""]
    return ("\n\n".join(filter(None, parts)) or "No claim could be judged on these records.") + "\n"


def _in_brief(config: Config, verdicts: list[Verdict]) -> str:
    rows: dict[tuple, dict[str, str]] = {}
    for verdict in verdicts:
        if verdict.verdict != NOT_RUN:
            where = DEVICE_LABELS.get(verdict.device, "")
            text = f"{verdict.claim.claim} {where and f'({where})'}".rstrip()
            first = {"Claim": text} | _abstract(verdict.claim)
            row = rows.setdefault((verdict.claim.id, where), first)
            row[config.facts(verdict.dataset).title] = _brief_cell(verdict)
    return markdown_table(pd.DataFrame(rows.values()).fillna("not run")) if rows else ""


def _abstract(claim: Claim) -> dict[str, str]:
    """Return the cell with the versions of the paper's abstract that make a claim."""
    return {"Abstract": claim.version} if claim.of == "paper" else {}


def _brief_cell(verdict: Verdict) -> str:
    if verdict.effect is None:
        return f"**{verdict.verdict}**"
    interval = ", {:.2g} to {:.2g}".format(*verdict.interval) if verdict.interval else ""
    return f"**{verdict.verdict}** ({verdict.claim.effect} {verdict.effect:.2g}{interval})"


def _cells(config: Config, verdict: Verdict) -> dict[str, str]:
    claim = verdict.claim
    batch = f", batch {claim.batch_size}" if claim.batch_size else ""
    operator = "/" if claim.effect == "ratio" else "-"
    reasons = f" ({'; '.join(verdict.reasons)})" if verdict.reasons else ""
    low, high = verdict.interval or (None, None)
    return {
        "Claim": claim.claim,
        **_abstract(claim),
        "Dataset": _where(config, verdict),
        "Verdict": f"**{verdict.verdict}**{reasons}",
        "Effect": "" if verdict.effect is None else f"{verdict.effect:.3g}",
        "Interval": "" if low is None else f"{low:.3g} to {high:.3g}",
        "Claimed": f"{claim.comparison} {claim.margin:.3g}",
        "Of": f"{claim.metric}{batch}: {claim.model} {operator} {claim.against}",
        "Seeds": str(min(map(len, verdict.seeds.values()))) if claim.seeds else "",
        "Cost, s": "" if verdict.seconds is None else f"{verdict.seconds:,.0f}",
    }


def _where(config: Config, verdict: Verdict) -> str:
    device = DEVICE_LABELS.get(verdict.device)
    return config.facts(verdict.dataset).title + (f", {device}" if device else "")


def _not_run(config: Config, verdicts: list[Verdict]) -> list[str]:
    """Return a line for each claim that was not run, on a dataset of this run or at all."""
    here = [verdict for verdict in verdicts if verdict.dataset in config.datasets]
    about_these = {verdict.claim.id for verdict in here}
    lines: dict[str, dict[str, list[str]]] = {}
    for verdict in here + [v for v in verdicts if v.claim.id not in about_these]:
        if verdict.verdict == NOT_RUN:
            whys = lines.setdefault(verdict.claim.claim, {})
            whys.setdefault("; ".join(verdict.reasons), []).append(_where(config, verdict))
    return [
        f"- {claim} " + "; ".join(f"{', '.join(where)}: {why}" for why, where in whys.items()) + "."
        for claim, whys in lines.items()
    ]

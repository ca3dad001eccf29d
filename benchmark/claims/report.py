"""`python -m benchmark claims`: a run's records, checked against it, and the pages of verdicts."""

from dataclasses import asdict
from itertools import product
from pathlib import Path

import pandas as pd

from benchmark.base import paths
from benchmark.base.devices import DEVICE_LABELS
from benchmark.base.errors import RecordError
from benchmark.base.files import atomic, write_json
from benchmark.claims.claims import NOT_RUN, VERDICTS, Verdict
from benchmark.claims.estimates import CONFIDENCE
from benchmark.claims.judge import APART, DRIFT, judge_all
from benchmark.config.config import REAL, Config
from benchmark.config.facts import reference_splits
from benchmark.records.results import Result, by_job, place, read_results

JOBS = {"training": "training_job", "metrics": "evaluation_job", "timing": "timing_job"}


def report(config: Config) -> str:
    """Judge every claim on the records of results/<run>, write claims.json, claims.md and the short
    verdicts.md there, and return the text of claims.md.

    Raises:
        RecordError: there are no records, or one is not what it should be.
    """
    folder = paths.fill(paths.RUN, config.run)
    results = own_results(config, folder)
    verdicts = judge_all(config, by_job(results))
    text = page(config, verdicts, _remarks(folder, results))
    write_json(
        paths.fill(paths.CLAIMS, config.run, format="json"),
        {
            "run": config.run,
            "note": config.note,
            "confidence": CONFIDENCE,
            "verdicts": [asdict(verdict) for verdict in verdicts],
        },
    )
    pages = {
        paths.fill(paths.CLAIMS, config.run, format="md"): text,
        paths.fill(paths.VERDICTS, config.run): brief(config, verdicts),
    }
    for path, content in pages.items():
        with atomic(path) as temporary:
            temporary.write_text(content)
    return text


def own_results(config: Config, folder: Path) -> list[Result]:
    """The results of the configuration's jobs, as far as they are there.

    Raises:
        RecordError: none are; or one is of another run or of other settings, or was measured
            against other images than the split it names.
    """
    wanted = {
        place(folder, kind, dataset=dataset, model=model, seed=seed, device=device)
        for kind, dataset, device in product(JOBS, config.datasets, ("cpu", "cuda"))
        for model in (REAL, *config.models)
        for seed in config.seeds_of(model)
    }
    results = read_results(folder, wanted)
    for result in results:
        kind, dataset, model, _ = result.job
        job = getattr(config, JOBS[kind])(dataset, model)
        found = result.record["run"], result.record["config_hash"]
        if found != (config.run, job.config_hash):
            raise RecordError(
                f"{result.path}: belongs to another job: run {found[0]}, hash {found[1]} (now "
                f"{config.run}, {job.config_hash})\n  Run the workflow again to replace it."
            )
        if kind == "metrics":
            _check_references(config, dataset, result)
    return results


def _check_references(config: Config, dataset: str, result: Result) -> None:
    splits = config.facts(dataset).splits
    for split in config.resolved(dataset)["evaluation"]["references"]:
        expected = sum(splits[each]["count"] for each in reference_splits(splits, split))
        found = result.metrics.get(f"reference_count_{split}")
        if found != expected:
            raise RecordError(
                f"{result.path}: compares with {found} images as the {split} split of {dataset}, "
                f"which has {expected}: measured against another split"
            )


def _remarks(folder: Path, results: list[Result]) -> list[str]:
    """What is to be said of the records as a whole."""
    others = sum(1 for kind in JOBS for _ in (folder / kind).rglob("*.json")) - len(results)
    sources = sorted({result.record["provenance"]["source_digest"] for result in results})
    remarks = [f"{others} records of other datasets, entries or seeds: not read."] if others else []
    if len(sources) > 1:
        remarks.append(f"Made by {len(sources)} versions of the source: {', '.join(sources)}.")
    return remarks


def page(config: Config, verdicts: list[Verdict], remarks: list[str]) -> str:
    """claims.md: the verdicts that were reached as a table, then what was not run and why."""
    counts = [f"{[v.verdict for v in verdicts].count(each)} {each}" for each in VERDICTS]
    reached = [verdict for verdict in verdicts if verdict.verdict != NOT_RUN]
    parts = [f"Claims on the records of `{config.run}`: {', '.join(counts)}."]
    parts += [config.note] if config.note else []
    if reached:
        cells = pd.DataFrame([_cells(config, verdict) for verdict in reached])
        parts.append(cells.to_markdown(index=False, disable_numparse=True))
    parts.append(
        f"Effect: the ratio or difference of the two values and its {CONFIDENCE:.0%} confidence "
        "interval, over training seeds; of times, over repetitions on one machine. That of a "
        f"time has its ends {DRIFT - 1:.0%} further out, that of times not taken in turns a "
        f"factor of {APART:g}: no machine is equally fast all day. Cost: recorded "
        "seconds of everything that the verdict rests on, training included. Values, files and "
        "digests are in claims.json; docs/guide/claims.md has the rules."
    )
    noted = dict.fromkeys(f"- {_where(config, v)}, {note}" for v in reached for note in v.notes)
    parts += ["\n".join(noted)] if noted else []
    parts += remarks
    missing = _not_run(config, verdicts)
    parts += ["Not run:\n\n" + "\n".join(missing)] if missing else []
    return "\n\n".join(parts) + "\n"


def brief(config: Config, verdicts: list[Verdict]) -> str:
    """verdicts.md: the claims that records could judge, one row each, a column for each dataset."""
    rows: dict[tuple, dict[str, str]] = {}
    for verdict in verdicts:
        if verdict.verdict != NOT_RUN:
            where = DEVICE_LABELS.get(verdict.device, "")
            said = f"{verdict.claim.claim} {where and f'({where})'}".rstrip()
            row = rows.setdefault((verdict.claim.id, where), {"Claim": said})
            row[config.facts(verdict.dataset).title] = _in_brief(verdict)
    if not rows:
        return "No claim could be judged on these records.\n"
    shown = pd.DataFrame(rows.values()).fillna("not run")
    return (
        shown.to_markdown(index=False, disable_numparse=True)
        + f"\n\nIn brackets the effect and its {CONFIDENCE:.0%} confidence interval. These are the "
        "paper's words as assertions, with margins of this suite; some were said of other "
        "datasets: config/claims.yaml has the source of each.\n"
    )


def _in_brief(verdict: Verdict) -> str:
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
    """A line for each claim that was not run on a dataset of this run, or that is about others."""
    here = [verdict for verdict in verdicts if verdict.dataset in config.datasets]
    asked = {verdict.claim.id for verdict in here}
    lines: dict[str, dict[str, list[str]]] = {}
    for verdict in here + [v for v in verdicts if v.claim.id not in asked]:
        if verdict.verdict == NOT_RUN:
            why = lines.setdefault(verdict.claim.claim, {})
            why.setdefault("; ".join(verdict.reasons), []).append(_where(config, verdict))
    return [
        f"- {claim} " + "; ".join(f"{', '.join(where)}: {why}" for why, where in each.items()) + "."
        for claim, each in lines.items()
    ]

"""Writes what a verification found: results/verify/index.md and index.html."""

from collections import Counter
from pathlib import Path

from benchmark.base.files import atomic
from benchmark.claims.claims import Verdict
from benchmark.claims.estimates import CONFIDENCE
from benchmark.claims.report import table
from benchmark.verification.findings import AGREES, DISAGREES, NOT_CHECKED, Finding, Run
from benchmark.verification.redraw import FALSE_ALARMS, Redrawn

WORDS = (AGREES, DISAGREES, NOT_CHECKED)


def write_pages(folder: Path, runs: list[Run]) -> list[str]:
    """Write both pages; return what is not as it was published, a line each."""
    tests = max(1, sum(len(drawn.values) for run in runs for drawn in run.drawn))
    claims = [_claim(run, finding) for run in runs for finding in run.judged]
    values = [row for run in runs for drawn in run.drawn for row in _values(run, drawn, tests)]
    undrawn = [
        {"Run": run.folder.name, "Dataset": dataset, "Model": model, "Why": why}
        for run in runs if run.drawn for (dataset, model), why in run.undrawn.items()
    ]  # fmt: skip
    problems = [line for run in runs for line in run.faults]
    problems += [
        f"{row['Run']}: {row['Dataset']} {row['Model']}: {row['Metric']} {row['Here']}, published "
        f"{row['Published']}, tolerance {row['Tolerance']}"
        for row in values
        if row["Finding"] == DISAGREES
    ]
    problems += [
        f"{row['Run']}: {row['Claim']} {row['Dataset']}: here {row['Here']}, published "
        f"{row['Published']}"
        for row in claims
        if row["Finding"] == DISAGREES
    ]
    sections = {
        "": _summary(runs, claims, values, problems),
        "Claims": _claims_note() + "\n\n" + table(claims),
        "Models drawn again": _values_note(tests) + "\n\n" + table(values),
        "Not drawn again": table(undrawn),
        "Times on this machine": table([row for run in runs for row in _times(run)]),
    }
    text = "\n\n".join(
        part
        for title, content in sections.items()
        if content
        for part in ([f"## {title}"] if title else []) + [content]
    )
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / "index.md") as temporary:
        temporary.write_text(f"# Verification\n\n{text}\n", encoding="utf-8")
    return problems


def _summary(runs: list[Run], claims: list[dict], values: list[dict], problems: list[str]) -> str:
    drawn = [d for run in runs for d in run.drawn]
    lines = [
        f"- {sum(map(len, (run.records for run in runs)))} measured subjects in {len(runs)} runs: "
        f"{sum(len(run.faults) for run in runs) or 'no'} faults in files and records.",
        f"- {len(drawn)} models drawn again, {sum(d.images for d in drawn):,} images: "
        f"{_counts(values)}.",
        f"- Claims: {_counts(claims)}.",
    ]
    wrong = ["What is not as it was published:", "\n".join(f"- {line}" for line in problems)]
    return "\n\n".join(["\n".join(lines), *(wrong if problems else [])])


def _counts(rows: list[dict]) -> str:
    numbers = Counter(row["Finding"] for row in rows)
    return ", ".join(f"{numbers[word]} {word}" for word in WORDS)


def _claims_note() -> str:
    return (
        "Published: the verdict on the published records. Here: on the same records, with those in "
        "their place that were made here. Two verdicts agree where they are the same, or where one "
        "is inconclusive and the intervals overlap. Effect: the ratio or difference, and its "
        f"{CONFIDENCE:.0%} confidence interval."
    )


def _values_note(tests: int) -> str:
    return (
        "The first seed of each model. Where the first images are the published ones, up to "
        "rounding, values may differ by 1%. Other images, as another processor may draw, are "
        "another sample: the tolerance is then that of two samples of one model, and of "
        f"{tests} tests together {FALSE_ALARMS:.1%} find a difference where there is none."
    )


def _claim(run: Run, finding: Finding) -> dict:
    verdict, here = finding.published, finding.here
    device = f", {verdict.device}" if verdict.device else ""
    return {
        "Run": run.folder.name,
        "Claim": verdict.claim.claim,
        "Dataset": run.config.facts(verdict.dataset).title + device,
        "Published": verdict.verdict,
        "Here": here.verdict if here else "",
        "Finding": finding.word,
        "Effect published": _effect(verdict),
        "Effect here": _effect(here) if here else "",
        "Why": finding.why,
        "What checks it": finding.command and f"`{finding.command}`",
    }


def _effect(verdict: Verdict) -> str:
    if verdict.effect is None:
        return ""
    interval = " ({:.3g} to {:.3g})".format(*verdict.interval) if verdict.interval else ""
    return f"{verdict.effect:.3g}{interval}"


def _values(run: Run, drawn: Redrawn, tests: int) -> list[dict]:
    differing = drawn.differing(tests)
    return [
        {
            "Run": run.folder.name,
            "Dataset": run.config.facts(drawn.dataset).title,
            "Model": drawn.model,
            "Images": f"{drawn.images:,} of {drawn.of:,}",
            "The same": "yes" if drawn.same else "others",
            "Metric": value.metric,
            "Published": f"{value.published:.4g}",
            "Here": f"{value.here:.4g}",
            "Tolerance": f"{drawn.tolerance(value, tests):.2g}",
            "Finding": DISAGREES if value in differing else AGREES,
        }
        for value in drawn.values
    ]


def _times(run: Run) -> list[dict]:
    """Return a row for each model that was timed here: medians in ms, the published ones beside."""
    rows = []
    for record in run.timed:
        before = run.records.get(record.subject, [None])[0]
        row = {"Run": run.folder.name, "Dataset": record.dataset, "Model": record.model}
        for size, time in record.metrics.latencies().items():
            was = before.metrics.latencies().get(size) if before else None
            row[f"{size} images, ms"] = _beside(time, was)
        if record.metrics.update_time():
            row["Update, ms"] = _beside(
                record.metrics.update_time(), before and before.metrics.update_time()
            )
        rows.append(row)
    return rows


def _beside(time, was) -> str:
    published = f" ({was.latency_ms.median:.3g})" if was else ""
    return f"{time.latency_ms.median:.3g}{published}"

"""Writes what a verification found: results/verify/index.md and index.html."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from benchmark.base.files import atomic
from benchmark.claims.claims import Verdict
from benchmark.claims.estimates import CONFIDENCE
from benchmark.claims.report import table
from benchmark.verification.findings import AGREES, DISAGREES, NOT_CHECKED, Finding, Run
from benchmark.verification.redraw import FALSE_ALARMS, Redrawn

WORDS = (AGREES, DISAGREES, NOT_CHECKED)
FILTERS = ("Run", "Dataset", "Model", "Published", "Finding")
SHOWN = 10  # columns of a table that are to be seen at first
CLAIMS_NOTE = (
    "Published: the verdict on the published records. Here: on the same records, with those in "
    "their place that were made here. Two verdicts agree where they are the same, or where one "
    "is inconclusive and the intervals overlap. Effect: the ratio or difference, and its "
    f"{CONFIDENCE:.0%} confidence interval."
)
TIMES_NOTE = "Medians in ms, those that were published in brackets; all models took turns."


class Section(NamedTuple):
    """A part of the page: a heading, a paragraph and a table, each of which may be empty."""

    title: str
    text: str
    rows: list[dict]


def write_pages(folder: Path, runs: list[Run]) -> tuple[list[str], list[str]]:
    """Write both pages; return what they sum up, and what is not as it was published, in lines."""
    tests = max(1, sum(len(drawn.values) for run in runs for drawn in run.drawn))
    claims = [_claim(run, finding) for run in runs for finding in run.judged]
    values = [row for run in runs for drawn in run.drawn for row in _values(run, drawn, tests)]
    wrong = [line for run in runs for line in run.faults] + _disagreeing(claims, values)
    checked = [row for row in claims if row["Finding"] != NOT_CHECKED]
    unchecked = [row for row in claims if row["Finding"] == NOT_CHECKED]
    summary = _summary(runs, claims, values)
    sections = [
        Section("Verification", "\n".join(f"- {line}" for line in summary), []),
        Section("What is not as it was published", "", [{"What": line} for line in wrong]),
        Section("Claims", CLAIMS_NOTE, _without(checked, "What checks it")),
        Section("Models drawn again", _values_note(tests), values),
        Section(
            "Claims not checked here", "", _without(unchecked, "Here", "Effect here", "Finding")
        ),
        Section("Models not drawn again", "", [row for run in runs for row in _undrawn(run)]),
        Section("Times on this machine", TIMES_NOTE, [row for run in runs for row in _times(run)]),
    ]
    shown = [sections[0], *(section for section in sections[1:] if section.rows)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("index.md", _markdown(shown)), ("index.html", _html(shown))):
        with atomic(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return summary, wrong


def _markdown(sections: list[Section]) -> str:
    parts = [
        part
        for number, section in enumerate(sections)
        for part in (
            f"{'##' if number else '#'} {section.title}",
            section.text,
            table(section.rows),
        )
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _html(sections: list[Section]) -> str:
    """Return the page with the look of all others: `paper_figures` may import this package, not the
    other way round but here, late."""
    from markupsafe import Markup

    from paper_figures.base.html import document, sortable_table

    parts = []
    for number, section in enumerate(sections):
        parts.append(Markup("<{0}>{1}</{0}>").format("h2" if number else "h1", section.title))
        lines = filter(None, section.text.split("\n"))
        parts += [Markup("<p>{}</p>").format(line.removeprefix("- ")) for line in lines]
        if section.rows:
            cells = pd.DataFrame(section.rows).fillna("").map(_marked)
            name = f"table{number}"
            filters = [column for column in FILTERS if column in cells]
            table = sortable_table(cells, name, section.title, shown=SHOWN, filters=filters)
            parts.append(table)
    return document("Verification", Markup("\n").join(parts))


def _marked(cell: str) -> str:
    """Set what disagrees in bold, and a command as code."""
    from markupsafe import Markup

    if cell == DISAGREES:
        return Markup("<strong>{}</strong>").format(cell)
    return Markup("<code>{}</code>").format(cell.strip("`")) if cell.startswith("`") else cell


def _disagreeing(claims: list[dict], values: list[dict]) -> list[str]:
    """Return a line for each value and each verdict that disagrees."""
    lines = [
        f"{row['Run']}: {row['Dataset']}, {row['Model']}: {row['Metric']} {row['Here']}, published "
        f"{row['Published']}, tolerance {row['Tolerance']}"
        for row in values
        if row["Finding"] == DISAGREES
    ]
    return lines + [
        f"{row['Run']}: {row['Dataset']}: {row['Claim']} Here {row['Here']}, published "
        f"{row['Published']}"
        for row in claims
        if row["Finding"] == DISAGREES
    ]


def _without(rows: list[dict], *columns: str) -> list[dict]:
    return [{key: value for key, value in row.items() if key not in columns} for row in rows]


def _undrawn(run: Run) -> list[dict]:
    """Return a row for each model that was not drawn, of the runs that have any weights."""
    return [
        {
            "Run": run.folder.name,
            "Dataset": run.config.facts(dataset).title,
            "Model": model,
            "Why": why,
        }
        for (dataset, model), why in (run.undrawn if run.drawn else {}).items()
    ]


def _summary(runs: list[Run], claims: list[dict], values: list[dict]) -> list[str]:
    drawn = [d for run in runs for d in run.drawn]
    records = sum(len(of_seeds) for run in runs for of_seeds in run.records.values())
    at_fault = sum(len(run.faults) for run in runs)
    whys = Counter(row["Why"] for row in claims if row["Finding"] == NOT_CHECKED)
    lines = [
        f"{records:,} records of {len(runs)} runs, on which verdicts rest, and all files "
        f"beside them: {at_fault or 'no'} faults.",
        f"{len(drawn)} models drawn again, {sum(d.images for d in drawn):,} images; their "
        f"values: {_counts(values)}.",
        f"Verdicts on claims: {_counts(claims)}.",
    ]
    if whys:
        reasons = "; ".join(f"{why} ({count})" for why, count in whys.most_common())
        lines.append(f"Why not checked: {reasons}.")
    return lines


def _counts(rows: list[dict]) -> str:
    numbers = Counter(row["Finding"] for row in rows)
    agree, disagree = (word.removesuffix("s") for word in (AGREES, DISAGREES))
    words = zip(WORDS, (agree, disagree, NOT_CHECKED), strict=True)
    return ", ".join(f"{numbers[word]} {shown}" for word, shown in words)


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
            "Finding": DISAGREES if drawn.differs(value, tests) else AGREES,
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

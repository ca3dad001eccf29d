"""What the page of a run says of the claims: each verdict, and on a click what it rests on."""

import math

from markupsafe import Markup

from benchmark.base.devices import DEVICE_LABELS
from benchmark.claims.claims import NOT_RUN, TIMES, VERDICTS, Claim, Verdict, load_claims
from benchmark.claims.judge import judge_all
from benchmark.config.config import Config
from benchmark.config.jobs import JUDGED
from benchmark.records.folder import by_subject, own_records
from paper_figures.base.html import fill
from paper_figures.base.style import model_label
from paper_figures.overview.provenance import Provenance

SHARE = 0.25  # of the interval drawn, beyond what is to be seen of it


def findings(config: Config, provenance: Provenance) -> Markup:
    """Return the claims that the run's records can judge, and their verdicts."""
    records = by_subject(own_records(config, *JUDGED))
    claims: dict[str, dict] = {}
    for verdict in judge_all(config, records, load_claims()):
        if verdict.verdict != NOT_RUN:
            row = claims.setdefault(verdict.claim.id, {"claim": verdict.claim, "verdicts": []})
            row["verdicts"].append(_shown(config, provenance, verdict))
    reached = [verdict["verdict"] for row in claims.values() for verdict in row["verdicts"]]
    return fill(
        "overview/verdicts.html",
        claims=list(claims.values()),
        counts={name: reached.count(name) for name in VERDICTS if name != NOT_RUN},
    )


def _shown(config: Config, provenance: Provenance, verdict: Verdict) -> dict:
    """Return a verdict as the template shows it."""
    device = DEVICE_LABELS.get(verdict.device)
    claim = verdict.claim
    unit = " ms" if claim.metric in TIMES else ""
    values = {
        model_label(config, entry): [f"{value:.4g}{unit}" for value in values]
        for entry, values in verdict.values.items()
    }
    return {
        "verdict": verdict.verdict,
        "where": config.facts(verdict.dataset).title + (f", {device}" if device else ""),
        "effect": None if verdict.effect is None else f"{verdict.effect:.3g}",
        "interval": "{:.3g} to {:.3g}".format(*verdict.interval) if verdict.interval else None,
        "drawing": _drawing(verdict),
        "compared": _compared(config, claim),
        "values": values,
        "reasons": verdict.reasons,
        "notes": verdict.notes,
        "cost": None if verdict.seconds is None else f"{verdict.seconds:,.0f} s",
        "evidence": provenance.evidence({tuple(verdict.records): []}),
    }


def _compared(config: Config, claim: Claim) -> str:
    against = claim.against
    other = model_label(config, against) if isinstance(against, str) else f"{against:g}"
    batch = f", batches of {claim.batch_size:,}" if claim.batch_size else ""
    what = claim.metric.replace("_", " ") + batch
    return f"{claim.effect.capitalize()} of {what}: {model_label(config, claim.model)} to {other}"


def _drawing(verdict: Verdict) -> dict | None:
    """Return where effect, interval and margin lie on a line from 0 to 100, ratios on a log scale;
    None where they cannot be drawn."""
    claim = verdict.claim
    if verdict.effect is None or not verdict.interval:
        return None
    scale = math.log if claim.effect == "ratio" else float
    margins = [claim.margin]
    if claim.comparison == "within":
        margins = (
            [1 / claim.margin, claim.margin]
            if claim.effect == "ratio"
            else [-claim.margin, claim.margin]
        )
    values = [verdict.effect, *verdict.interval, *margins]
    if claim.effect == "ratio" and min(values) <= 0:
        return None
    low, high = min(map(scale, values)), max(map(scale, values))
    width = (high - low) or 1.0
    places = [
        round(100 * (scale(value) - low + SHARE * width) / (width * (1 + 2 * SHARE)), 2)
        for value in values
    ]
    return {"effect": places[0], "low": places[1], "high": places[2], "margins": places[3:]}

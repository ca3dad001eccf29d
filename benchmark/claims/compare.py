"""`python -m benchmark compare MINE PUBLISHED`: do the records of a rerun agree with others?

Each metric of each model is tested twice: for a difference (a t-test) and for equivalence within a
stated margin (two one-sided tests). A rerun with the same seeds starts from the same weights and
sees the same batches, so each seed is set against its twin. What varies between training seeds and
what varies between samples of one model are told apart where records give a standard error. Times
of different machines are never set beside each other: only the ratio to one model timed on the same
machine is.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmark.base.errors import RecordError
from benchmark.claims.estimates import (
    ALPHA,
    CONFIDENCE,
    Estimate,
    log_latency,
    mean_estimate,
    mean_of_estimates,
)
from benchmark.claims.gates import is_distance
from benchmark.claims.judge import APART, DRIFT, drift_of
from benchmark.claims.report import table
from benchmark.records.folder import by_subject, read_folder
from benchmark.records.names import METRIC
from benchmark.records.record import Record, Subject

RELATIVE_MARGIN = 0.1  # of a distance: of the published mean
ABSOLUTE_MARGIN = 0.05  # of shares and of bits per dimension
# What is in a metric's name -> that of its standard error, and the error's degrees of freedom: of a
# fit with six points and two parameters; of hundreds of draws for each of the images.
ERRORS = {
    "infinity_": ("infinity_se_", 4),
    "bits_per_dimension_": ("bits_per_dimension_error_", math.inf),
}
UNTESTED = re.compile(
    r"nats(_error)?(_fitted|_constant)?|bits_per_dimension_error.*|sigma_.*|.*_se"
)  # bits say it, or an error of another
OTHER_CLASSIFIER = (
    "Measured with another training of the classifier, by which its features differ as well "
    "(`benchmark restore` brings the published one)"
)
REFERENCE = "vae"  # to whose times others are compared, where it was timed


class Side(NamedTuple):
    """One metric on one side."""

    values: list[float]
    """One of each seed."""
    errors: list[float] | None
    """Their standard errors of sampling, where the records give them."""
    df: float
    """Degrees of freedom of each error."""


Pair = tuple[list[Record], list[Record]]
Remarks = dict[str, list[str]]
"""Why something was not compared -> what."""


def compare(mine: str | Path, published: str | Path) -> str:
    """Return the tests as Markdown.

    Raises:
        RecordError: a folder has no valid records, or the two have nothing in common.
    """
    sides = [by_subject(read_folder(folder)) for folder in (mine, published)]
    remarks: Remarks = defaultdict(list)
    pairs = dict(_pairs(sides, remarks))
    if not pairs:
        lines = "".join(f"\n  {why}: {', '.join(what)}" for why, what in remarks.items())
        raise RecordError(f"{mine} and {published} have no comparable records in common{lines}")
    quality = [row for subject, pair in pairs.items() for row in _quality(subject, pair, remarks)]
    parts = [
        f"Mine: {mine}. Published: {published}.",
        f"Tested at {ALPHA:.0%} each: different (t-test), equivalent (two one-sided tests) within "
        f"{RELATIVE_MARGIN:.0%} of the published mean of a distance, or {ABSOLUTE_MARGIN} of a "
        "share or of bits per dimension; equal is the same to every digit. Seeds that both sides "
        "have are compared in pairs, other seeds by their means (Welch). Nothing is corrected for "
        f"the number of tests: one in {1 / ALPHA:.0f} finds a difference where there is none. With "
        "one training seed on a side only the sampling error is known, where it is recorded: such "
        "a difference may be one of training.",
        table(quality) or "No metric of samples is on both sides.",
        "Speed, as ratios of the times of two models on one machine, mine beside published; the "
        f"{CONFIDENCE:.0%} interval of their ratio has its ends {DRIFT - 1:.0%} further out for "
        f"each side, a factor of {APART:g} where its two models were not timed in turns: no "
        "machine is equally fast all day.",
        table(list(_speed(pairs))) or "No times are on both sides.",
        "\n".join(f"- {why}: {', '.join(what)}" for why, what in remarks.items()),
    ]
    return "\n\n".join(filter(None, parts))


def _pairs(sides: list[dict], remarks: Remarks) -> Iterator[tuple[Subject, Pair]]:
    """Match what both sides have with equal settings, and remark on the rest."""
    for subject in sorted({*sides[0], *sides[1]}, key=str):
        if subject.kind == "classifier":
            continue
        what = " ".join(filter(None, (subject.kind, subject.device)))
        name = f"{subject.dataset} {subject.model}"
        pair = tuple(side.get(subject, []) for side in sides)
        settings = {_identity(record) for records in pair for record in records}
        digests = [{record.digest for record in records} for records in pair]
        seeds = [{record.seed for record in records} for records in pair]
        if not all(pair):
            remarks[f"{'Published' if pair[1] else 'Mine'} alone, {what}"].append(name)
        elif len(settings) > 1:
            remarks[f"Not compared, for the settings differ, {what}"].append(name)
        elif digests[0] & digests[1]:
            remarks[f"Not compared, for a record is a copy, not a rerun, {what}"].append(name)
        else:
            for owner, more in (("Mine", seeds[0] - seeds[1]), ("Published", seeds[1] - seeds[0])):
                for seed in sorted(more) if subject.kind != "timing" else ():
                    remarks[f"{owner} alone, {what}"].append(f"{name} seed {seed}")
            yield subject, pair


def _identity(record: Record) -> str:
    """Return what has to be equal: all but how often and where a timing was repeated."""
    if record.kind == "timing":
        return f"{record.settings['training']} {record.settings.get('variant')}"
    return record.config_hash


def _quality(subject: Subject, pair: Pair, remarks: Remarks) -> Iterator[dict]:
    """Test each metric that all records of both sides have, a row each."""
    if subject.kind != "metrics":
        return
    twins = _twins(pair)
    keys = [set.intersection(*({m.key for m in r.metrics.values} for r in side)) for side in pair]
    title = f"{subject.dataset} {subject.model}"
    for key in sorted(keys[0] ^ keys[1]):
        remarks["Not measured on both sides"].append(f"{title} {key}")
    classifiers = [{r.metrics.classifier_sha256 for r in records} - {None} for records in pair]
    if all(classifiers) and classifiers[0] != classifiers[1]:
        remarks[OTHER_CLASSIFIER].append(title)
    for key in sorted(keys[0] & keys[1]):
        name = METRIC.fullmatch(key)["name"]
        if not UNTESTED.fullmatch(name):
            sides = [_side(key, records) for records in pair]
            matched = [_side(key, records) for records in twins] if twins else None
            names = {"Dataset": subject.dataset, "Model": subject.model, "Metric": key}
            yield names | _tested(name, sides, matched)


def _twins(pair: Pair) -> Pair | None:
    """Return the records of the seeds that both sides have, seed by seed.

    None where there are none, or where one such pair would stand for several seeds of each side.
    """
    sides = [{record.seed: record for record in records} for records in pair]
    common = sorted(sides[0].keys() & sides[1].keys())
    if not common or (len(common) == 1 and min(map(len, pair)) > 1):
        return None
    return tuple([side[seed] for seed in common] for side in sides)


def _side(key: str, records: list[Record]) -> Side:
    """Return a metric's values, and the standard errors that records give beside it."""
    found = ((key.replace(part, name), df) for part, (name, df) in ERRORS.items() if part in key)
    name, df = next(found, ("", math.inf))
    errors = [record.metrics.get(name) for record in records]
    return Side([r.metrics.get(key) for r in records], None if None in errors else errors, df)


def _tested(metric: str, sides: list[Side], twins: list[Side] | None) -> dict:
    used = twins or sides
    means = [float(np.mean(side.values)) for side in used]
    relative = is_distance(metric) or metric.startswith(("fd_", "kid_"))
    margin = RELATIVE_MARGIN * abs(means[1]) if relative else ABSOLUTE_MARGIN
    difference, basis = _difference(used, paired=twins is not None)
    low, high = difference.interval()
    equal = twins is not None and twins[0].values == twins[1].values
    return {
        "Mine": f"{means[0]:.4g}",
        "Published": f"{means[1]:.4g}",
        "Difference": f"{difference.value:+.3g}",
        "Interval": f"{low:.3g} to {high:.3g}" if math.isfinite(low) else "",
        "Margin": f"{margin:.3g}",
        "Finding": "equal" if equal else _finding(difference, margin),
        "Rests on": basis,
        "SD of training": _apart([_training_sd(side.values, side.errors) for side in sides]),
        "SD of sampling": _apart(
            [side.errors and math.hypot(*side.errors) / len(side.errors) ** 0.5 for side in sides]
        ),
    }


def _difference(sides: list[Side], *, paired: bool) -> tuple[Estimate, str]:
    """Return mine less published, and what its standard error rests on."""
    several = min(len(side.values) for side in sides) > 1
    if several and paired:
        differences = np.subtract(*(side.values for side in sides)).tolist()
        return mean_estimate(differences), f"{len(differences)} pairs of seeds"
    basis = f"{' and '.join(str(len(side.values)) for side in sides)} seeds"
    if several:
        estimates = [mean_estimate(side.values) for side in sides]
    else:
        known = all(side.errors for side in sides)
        estimates = [
            mean_of_estimates(side.values, side.errors, side.df)
            if known
            else Estimate(float(np.mean(side.values)), math.inf)
            for side in sides
        ]
        basis = "one seed of both" if paired else basis
        basis = f"{'sampling error alone,' if known else 'none:'} {basis}"
    return estimates[0] - estimates[1], basis


def _finding(difference: Estimate, margin: float) -> str:
    if math.isinf(difference.error):
        return "not tested: its error is not known"
    different = difference.p_different() < ALPHA
    equivalent = difference.p_equivalent(margin) < ALPHA
    words = {(True, True): "equivalent, though different", (True, False): "different"}
    return words.get((different, equivalent), "equivalent" if equivalent else "undecided")


def _training_sd(values: list[float], errors: list[float] | None) -> float | None:
    """Return the seeds' SD beyond the sampling error; all of it where that is not known."""
    if len(values) < 2:
        return None
    sampling = np.mean(np.square(errors)) if errors else 0.0
    return math.sqrt(max(np.var(values, ddof=1) - sampling, 0.0))


def _apart(sds: list[float | None]) -> str:
    return " and ".join("?" if sd is None else f"{sd:.2g}" for sd in sds)


def _speed(pairs: dict[Subject, Pair]) -> Iterator[dict]:
    """Compare the times of each model, a row for each device and batch size."""
    times: dict[tuple, dict[str, tuple[Pair, list[Estimate]]]] = {}
    for subject, pair in pairs.items():
        for what, estimates in _times(subject, pair):
            times.setdefault((subject.dataset, what), {})[subject.model] = pair, estimates
    for (dataset, what), models in times.items():
        reference = REFERENCE if REFERENCE in models else next(iter(models))
        for model in (name for name in models if name != reference):
            (pair, estimates), (others, theirs) = models[model], models[reference]
            row = {"Dataset": dataset, "Time": what, "Ratio": f"{model} / {reference}"}
            sides = [records + other for records, other in zip(pair, others, strict=True)]
            if any(len({record.provenance.machine for record in side}) > 1 for side in sides):
                yield row | {"Mine / published": "the two were timed on different machines"}
            else:
                ratios = [a - b for a, b in zip(estimates, theirs, strict=True)]
                yield row | _ratios(ratios, math.prod(map(drift_of, sides)))


def _times(subject: Subject, pair: Pair) -> Iterator[tuple[str, list[Estimate]]]:
    """Name what was timed on both sides, with the logarithms of the times."""
    if subject.kind == "training":
        logs = [[math.log(r.metrics.seconds_per_update) for r in records] for records in pair]
        yield "an update of training", [mean_estimate(seconds) for seconds in logs]
    if subject.kind == "timing":
        metrics = [records[0].metrics for records in pair]
        sides = [timing.latencies() for timing in metrics]
        for size in sorted(sides[0].keys() & sides[1].keys()):
            yield f"{size} images, {subject.device}", [log_latency(side[size]) for side in sides]
        updates = [timing.update_time() for timing in metrics]
        if all(updates):
            yield f"an update of training, {subject.device}", [log_latency(t) for t in updates]


def _ratios(ratios: list[Estimate], drift: float) -> dict[str, str]:
    """Return two ratios and the ratio of them as cells, from their logarithms."""
    both = ratios[0] - ratios[1]
    low, high = (math.exp(end) for end in both.interval())
    return {
        "Mine": f"{math.exp(ratios[0].value):.3g}",
        "Published": f"{math.exp(ratios[1].value):.3g}",
        "Mine / published": f"{math.exp(both.value):.3g}",
        "Interval": f"{low / drift:.3g} to {high * drift:.3g}" if low > 0 else "",
    }

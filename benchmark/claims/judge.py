"""The verdict on each claim, from the records of a run.

A verdict follows from a 95% confidence interval of the effect: supported where the whole interval
fulfils the claim, contradicted where none of it does, inconclusive otherwise, and wherever a rule
of docs/guide/claims.md says that the records cannot decide. Ratios are compared on a log scale.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from benchmark.claims.claims import INCONCLUSIVE, SUPPORTED, TIMES, Claim, Verdict, claims
from benchmark.claims.estimates import Estimate, log_latency, mean_estimate
from benchmark.claims.gates import FEWEST_IMAGES, failures, first_reference, is_distance, means_of
from benchmark.config.config import REAL, Config
from benchmark.records.names import METRIC, metric_name
from benchmark.records.results import Result

# By how much a machine's speed may differ between two timings, our choices: in turns, or minutes or
# days apart. On a shared machine the same work, minutes apart, mostly differed by up to 1.7.
DRIFT, APART = 1.1, 2.0

Records = dict[tuple, list[Result]]
"""The results of a configuration's jobs, by (kind, dataset, model, device)."""


@dataclass(frozen=True)
class Case:
    """A claim on a dataset, with the records that it rests on.

    Attributes:
        used: entry -> its results, one per seed; a timing has one.
        unhealthy: (dataset, entry) -> the gates that it fails, of all entries that were measured.
    """

    claim: Claim
    dataset: str
    config: Config
    used: dict[str, list[Result]]
    unhealthy: dict[tuple[str, str], list[str]]

    def value(self, result: Result) -> float | None:
        """The claim's metric in a record (of a time, the median); None where it is not there."""
        claim, metrics = self.claim, result.metrics
        if claim.metric in TIMES:
            row = self.row(result)
            return row and row["latency_ms"]["median"]
        if claim.kind == "metrics":
            split = first_reference(self.config, self.dataset)
            count = self.config.resolved(self.dataset)["evaluation"]["references"][split]
            return metrics.get(metric_name(claim.metric, split, count))
        return metrics.get(claim.metric, metrics.get("final", {}).get(claim.metric))

    def row(self, result: Result) -> dict | None:
        """The timing of an update, or of sampling with the claim's batch size."""
        if self.claim.metric == "update":
            return result.update()
        return result.latencies().get(self.claim.batch_size)

    def side(self, side: str | float) -> Estimate | None:
        """One side's estimate, its logarithm for a ratio; None where there is no logarithm."""
        scale = math.log if self.claim.effect == "ratio" else float
        if not isinstance(side, str):
            return Estimate(scale(side), 0.0)
        results = self.used[side]
        if self.claim.metric in TIMES:
            return log_latency(self.row(results[0]))
        values = [self.value(result) for result in results]
        if self.claim.effect == "ratio" and min(values) <= 0:
            return None
        scaled = [scale(value) for value in values]
        return Estimate(scaled[0], 0.0) if self.claim.kind == "timing" else mean_estimate(scaled)

    def interval(self, effect: Estimate) -> tuple[float, float]:
        """Of the effect; of a ratio, its logarithm's. Wider for a time."""
        low, high = effect.interval()
        drift = math.log(drift_of(self.results)) if self.claim.metric in TIMES else 0.0
        return low - drift, high + drift

    @property
    def results(self) -> list[Result]:
        """All that the claim rests on."""
        return [result for each in self.used.values() for result in each]

    def lacks(self) -> Iterator[str]:
        """Why the claim cannot be judged at all."""
        if self.claim.not_measured:
            yield self.claim.not_measured
            return
        if self.dataset not in self.config.datasets:
            yield "not in this run"
            return
        for entry, results in self.used.items():
            if entry not in self.config.models:
                yield f"{entry} is not in this run"
            elif not results:
                yield f"{entry}: no {self.claim.kind} record"
            elif None in map(self.value, results):
                batch = f" of batch size {self.claim.batch_size}" if self.claim.batch_size else ""
                yield f"{entry}: {self.claim.metric}{batch} was not measured"

    def forbids(self) -> Iterator[str]:
        """Why the records cannot decide, whatever they say.

        An ill rival decides nothing: a broken one flatters KAEM, and one that drops modes may win
        by a distance all the same.
        """
        claim, results = self.claim, self.results
        if self.config.demo:
            yield "demo budget"
        seeds = min(map(len, self.used.values()))
        if claim.seeds and seeds < claim.seeds:
            yield "one seed" if seeds == 1 else f"{seeds} of {claim.seeds} seeds"
        if claim.metric in TIMES:
            if len({result.machine for result in results}) > 1:
                yield "timed on different machines"
            if any(result.metrics["disturbed"] for result in results):
                yield "timed beside other work"
            if len({self.row(result)["batch_size"] for result in results}) > 1:
                yield "trained in batches of different sizes"
        if claim.shared and len(values := dict.fromkeys(self._setting(claim.shared))) > 1:
            yield f"{claim.shared} of {' and '.join(values)}"
        if is_distance(claim.metric):
            real = f"reference_count_{first_reference(self.config, self.dataset)}"
            fewest = min(min(r.record["sample_count"], r.metrics[real]) for r in results)
            if fewest < FEWEST_IMAGES:
                yield f"a distance from {fewest:,} images, fewer than {FEWEST_IMAGES:,}"
        for entry in self.used:
            if entry != claim.model:
                yield from self._illness(entry)

    def forbids_support(self) -> Iterator[str]:
        """Why the records cannot support the claim, though they may contradict it: what an ill
        model wins is no merit, and its failure must not keep it from losing."""
        yield from self._illness(self.claim.model)

    def _illness(self, entry: str) -> Iterator[str]:
        """That an entry failed a gate, if the claim is about samples and not about that gate."""
        failed = self.unhealthy.get((self.dataset, entry)) or []
        subject = tuple(f"{metric} " for metric in self.claim.despite)
        if self.claim.kind == "metrics" and not all(each.startswith(subject) for each in failed):
            yield f"{entry} failed its health gate"

    def _setting(self, name: str) -> Iterator[str]:
        """Both entries' values of a setting, such as "sampler.steps"."""
        for entry in self.used:
            value = self.config.model_settings(self.dataset, entry)
            for key in name.split("."):
                value = value.get(key, {}) if isinstance(value, dict) else {}
            yield "its default" if value == {} else str(value)

    def notes(self) -> Iterator[str]:
        """What the verdict is to be read with."""
        for entry, results in self.used.items():
            missing = sorted(set(self.config.seeds) - {result.seed for result in results})
            if self.claim.kind != "timing" and missing:
                yield f"{entry}: no record of seed {', '.join(map(str, missing))}"
            failed = self.unhealthy.get((self.dataset, entry))
            if failed is None:
                yield f"{entry}: its samples were not measured, so its health is not known"
            elif failed:
                yield f"{entry} failed its health gate: {'; '.join(failed)}"
        if self.claim.metric in TIMES:
            if drift_of(self.results) == APART:
                yield "timed apart, not in turns"
            origin = next(iter(self.used.values()))[0].record["provenance"]
            threads = "1 thread" if origin["threads"] == 1 else f"{origin['threads']} threads"
            yield f"times on {origin['gpu'] or origin['cpu']}, {threads}"
        if self.claim.metric == "update":
            for entry, (result, *_) in self.used.items():
                yield f"{entry}: timed after {self.row(result)['warmup']} updates"


def drift_of(results: list[Result]) -> float:
    """By how much the machine's speed may have differed between these times. No two trainings take
    turns."""
    sessions = {r.metrics.get("session", r.path) for r in results}
    return APART if len(sessions) > 1 else DRIFT


def judge_all(config: Config, records: Records) -> list[Verdict]:
    """Every claim on each of its datasets, and on each device that it was timed on."""
    unhealthy = _unhealthy(config, records)
    found = []
    for claim in claims():
        for dataset in claim.datasets:
            for device in _devices(claim, dataset, records):
                used = {
                    entry: records.get(_job(config, claim, dataset, entry, device), [])
                    for entry in claim.entries
                }
                case = Case(claim, dataset, config, used, unhealthy)
                found.append(_judge(case, Verdict(claim, dataset, device), records))
    return found


def _devices(claim: Claim, dataset: str, records: Records) -> list[str | None]:
    """The devices that a claim about timings has records of."""
    jobs = [job for job in records if job[:2] == ("timing", dataset) and job[2] in claim.entries]
    return sorted({job[3] for job in jobs}) if claim.kind == "timing" and jobs else [None]


def _job(config: Config, claim: Claim, dataset: str, entry: str, device: str | None) -> tuple:
    trained = claim.kind == "training" and entry in config.models
    return (claim.kind, dataset, config.trained_entry(entry) if trained else entry, device)


def _judge(case: Case, verdict: Verdict, records: Records) -> Verdict:
    claim = case.claim
    verdict.reasons = list(case.lacks())
    if verdict.reasons:
        return verdict
    _cite(case, verdict, records)
    verdict.notes += case.notes()
    verdict.verdict, verdict.reasons = INCONCLUSIVE, list(case.forbids())
    sides = [case.side(side) for side in (claim.model, claim.against)]
    if None in sides:
        verdict.reasons.append("a value is not positive: there is no ratio")
        return verdict
    effect = sides[0] - sides[1]
    low, high = case.interval(effect)
    plain = math.exp if claim.effect == "ratio" else float
    verdict.effect = plain(effect.value)
    if math.isfinite(low):
        verdict.interval = plain(low), plain(high)
    if not verdict.reasons:
        verdict.verdict = claim.verdict(low, high)
        if verdict.verdict == INCONCLUSIVE:
            verdict.reasons = ["the interval lies on both sides of the margin"]
        elif verdict.verdict == SUPPORTED and (reasons := list(case.forbids_support())):
            verdict.verdict, verdict.reasons = INCONCLUSIVE, reasons
    return verdict


def _cite(case: Case, verdict: Verdict, records: Records) -> None:
    """Which files the verdict rests on, of which seeds, and what making them took."""
    resting = {result.path: result for results in case.used.values() for result in results}
    verdict.records = {str(path): r.record["digest"] for path, r in sorted(resting.items())}
    known = True
    for entry, results in case.used.items():
        verdict.seeds[entry] = [result.seed for result in results]
        verdict.values[entry] = [case.value(result) for result in results]
        job = ("training", case.dataset, case.config.trained_entry(entry), None)
        trained = {result.seed: result for result in records.get(job, [])}
        resting |= {trained[r.seed].path: trained[r.seed] for r in results if r.seed in trained}
        if any(result.seed not in trained for result in results):
            verdict.notes.append(f"{entry}: no training record, so the cost is not known")
            known = False
    if known:
        verdict.seconds = round(sum(result.seconds for result in resting.values()), 1)


def _unhealthy(config: Config, records: Records) -> dict[tuple[str, str], list[str]]:
    """(dataset, entry) -> the gates that it fails, of every entry whose samples were measured."""
    rows = [
        {"dataset": job[1], "model": job[2], "metric": name, "value": value}
        for job, results in records.items()
        if job[0] == "metrics"
        for result in results
        for name, value in result.metrics.items()
        if METRIC.fullmatch(name)
    ]
    means = means_of(config, pd.DataFrame(rows))
    return {key: failures(config, means, *key) for key in means if key[1] != REAL}

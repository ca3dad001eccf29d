"""The verdict on each claim, from the records of a run.

A verdict follows from a 95% confidence interval of the effect: supported where the whole interval
fulfils the claim, contradicted where none of it does, inconclusive otherwise, and wherever a rule
of docs/guide/claims.md says that the records cannot decide. Ratios are compared on a log scale.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pandas as pd

from benchmark.claims.claims import INCONCLUSIVE, SUPPORTED, TIMES, UPDATES, Claim, Verdict
from benchmark.claims.estimates import Estimate, log_latency, mean_estimate
from benchmark.claims.gates import FEWEST_IMAGES, failures, first_reference, is_distance, means_of
from benchmark.config.config import REAL, Config
from benchmark.config.jobs import job_of
from benchmark.records.measurements import Time
from benchmark.records.names import metric_name
from benchmark.records.record import Record, Subject

# By how much a machine's speed may differ between two timings, our choices: in turns, or minutes or
# days apart. On a shared machine the same work, minutes apart, mostly differed by up to 1.7.
DRIFT, APART = 1.1, 2.0

Records = dict[Subject, list[Record]]
"""The records of a configuration's jobs, one per seed."""


@dataclass(frozen=True)
class Case:
    """A claim on a dataset, with the records that it rests on.

    Attributes:
        used: entry -> its records, one per seed; a timing has one.
        unhealthy: (dataset, entry) -> the gates that it fails, of all entries that were measured.
    """

    claim: Claim
    dataset: str
    config: Config
    used: dict[str, list[Record]]
    unhealthy: dict[tuple[str, str], list[str]]

    def value(self, record: Record) -> float | None:
        """Return the claim's metric in a record (of a time, the median in ms); None where it is not
        there."""
        claim, metrics = self.claim, record.metrics
        if claim.metric in TIMES:
            time = self.time(record)
            return time and time.latency_ms.median * self._count(record)
        if claim.kind == "metrics":
            split = first_reference(self.config, self.dataset)
            count = self.config.evaluation(self.dataset).references[split]
            return metrics.get(metric_name(claim.metric, split, count))
        return metrics.final.get(claim.metric) if claim.kind == "training" else metrics.nfe

    def time(self, record: Record) -> Time | None:
        """Return the time of an update, or of sampling with the claim's batch size."""
        if self.claim.metric in UPDATES:
            return record.metrics.update_time()
        return record.metrics.latencies().get(self.claim.batch_size)

    def _count(self, record: Record) -> int:
        """Return how many of these times the metric is the sum of."""
        if self.claim.metric != "all_updates":
            return 1
        job = job_of(self.config, "training", self.dataset, self.config.trained_entry(record.model))
        return job.settings.training.updates

    def side(self, side: str | float) -> Estimate | None:
        """Return one side's estimate, its logarithm for a ratio; None where there is none."""
        scale = math.log if self.claim.effect == "ratio" else float
        if not isinstance(side, str):
            return Estimate(scale(side), 0.0)
        records = self.used[side]
        if self.claim.metric in TIMES:
            one = log_latency(self.time(records[0]))
            return replace(one, value=one.value + math.log(self._count(records[0])))
        values = [self.value(record) for record in records]
        if self.claim.effect == "ratio" and min(values) <= 0:
            return None
        scaled = [scale(value) for value in values]
        return Estimate(scaled[0], 0.0) if self.claim.kind == "timing" else mean_estimate(scaled)

    def interval(self, effect: Estimate) -> tuple[float, float]:
        """Return the interval of the effect (of a ratio, of its logarithm), wider for a time."""
        low, high = effect.interval()
        drift = math.log(drift_of(self.records)) if self.claim.metric in TIMES else 0.0
        return low - drift, high + drift

    @property
    def records(self) -> list[Record]:
        """All that the claim rests on."""
        return [record for records in self.used.values() for record in records]

    def lacks(self) -> Iterator[str]:
        """Say why the claim cannot be judged at all."""
        if self.claim.not_measured:
            yield self.claim.not_measured
            return
        if self.dataset not in self.config.datasets:
            yield "not in this run"
            return
        for entry, records in self.used.items():
            if entry not in self.config.models:
                yield f"{entry} is not in this run"
            elif not records:
                yield f"{entry}: no {self.claim.kind} record"
            elif None in map(self.value, records):
                batch = f" of batch size {self.claim.batch_size}" if self.claim.batch_size else ""
                yield f"{entry}: {self.claim.metric}{batch} was not measured"

    def forbids(self) -> Iterator[str]:
        """Say why the records cannot decide, whatever they say.

        An ill rival decides nothing: a broken one flatters KAEM, and one that drops modes may win
        by a distance all the same.
        """
        claim, records = self.claim, self.records
        if self.config.demo:
            yield "demo budget"
        seeds = min(map(len, self.used.values()))
        if claim.seeds and seeds < claim.seeds:
            yield "one seed" if seeds == 1 else f"{seeds} of {claim.seeds} seeds"
        if claim.metric in TIMES:
            if len({record.provenance.machine for record in records}) > 1:
                yield "timed on different machines"
            if any(record.metrics.disturbed for record in records):
                yield "timed beside other work"
            if len({self.time(record).batch_size for record in records}) > 1:
                yield "trained in batches of different sizes"
        for name in claim.shared:
            if len(values := dict.fromkeys(self._setting(name))) > 1:
                yield f"{name} of {' and '.join(values)}"
        if is_distance(claim.metric):
            split = first_reference(self.config, self.dataset)
            count = self.config.evaluation(self.dataset).references[split]
            fewest = min(count, *(r.metrics.reference_count(split) for r in records))
            if fewest < FEWEST_IMAGES:
                yield f"a distance from {fewest:,} images, fewer than {FEWEST_IMAGES:,}"
        for entry in self.used:
            if entry != claim.model:
                yield from self._illness(entry)

    def forbids_support(self) -> Iterator[str]:
        """Say why the records cannot support the claim, though they may contradict it: what an ill
        model wins is no merit, and its failure must not keep it from losing."""
        yield from self._illness(self.claim.model)

    def _illness(self, entry: str) -> Iterator[str]:
        """Say that an entry failed a gate, if the claim is about samples and not about that
        gate."""
        failures = self.unhealthy.get((self.dataset, entry)) or []
        subject = tuple(f"{metric} " for metric in self.claim.despite)
        if self.claim.kind == "metrics" and not all(text.startswith(subject) for text in failures):
            yield f"{entry} failed its health gate"

    def _setting(self, name: str) -> Iterator[str]:
        """Give both entries' values of a setting, such as "sampler.steps", or of what follows from
        several, "passes"."""
        for entry in self.used:
            value = self.config.entry(self.config.trained_entry(entry), self.dataset)
            for key in name.split("."):
                value = getattr(value, key, None)
            yield "its default" if value is None else str(value)

    def notes(self) -> Iterator[str]:
        """Say what the verdict is to be read with."""
        for entry, records in self.used.items():
            missing = sorted(set(self.config.seeds) - {record.seed for record in records})
            if self.claim.kind != "timing" and missing:
                yield f"{entry}: no record of seed {', '.join(map(str, missing))}"
            failed = self.unhealthy.get((self.dataset, entry))
            if failed is None:
                yield f"{entry}: its samples were not measured, so its health is not known"
            elif failed:
                yield f"{entry} failed its health gate: {'; '.join(failed)}"
        if self.claim.metric in TIMES:
            if drift_of(self.records) == APART:
                yield "timed apart, not in turns"
            origin = self.records[0].provenance
            yield f"times on {origin.gpu or origin.cpu}, {origin.threads_text}"
        if self.claim.metric in UPDATES:
            for entry, (record, *_) in self.used.items():
                yield f"{entry}: timed after {self.time(record).warmup} updates"


def drift_of(records: list[Record]) -> float:
    """Return by how much the machine's speed may have differed between these times. No two
    trainings take turns."""
    sessions = {r.metrics.session if r.kind == "timing" else r.path for r in records}
    return APART if len(sessions) > 1 else DRIFT


def judge_all(config: Config, records: Records, claims: list[Claim]) -> list[Verdict]:
    """Judge every claim on each of its datasets, and on each device that it was timed on."""
    unhealthy = _unhealthy(config, records)
    return [
        _judge(Case(claim.on(dataset), dataset, config, used, unhealthy), device, records)
        for claim in claims
        for dataset in claim.datasets
        for device in _devices(claim, dataset, records)
        for used in [_used(config, claim, dataset, device, records)]
    ]


def _devices(claim: Claim, dataset: str, records: Records) -> list[str | None]:
    """Return the devices that a claim about timings has records of."""
    devices = {
        subject.device
        for subject in records
        if (subject.kind, subject.dataset) == ("timing", dataset) and subject.model in claim.entries
    }
    return sorted(devices) if claim.kind == "timing" and devices else [None]


def _used(
    config: Config, claim: Claim, dataset: str, device: str | None, records: Records
) -> dict[str, list[Record]]:
    used = {}
    for entry in claim.entries:
        trained = claim.kind == "training" and entry in config.models
        model = config.trained_entry(entry) if trained else entry
        used[entry] = records.get(Subject(claim.kind, dataset, model, device), [])
    return used


def _judge(case: Case, device: str | None, records: Records) -> Verdict:
    claim, verdict = case.claim, Verdict(case.claim, case.dataset, device)
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
    """Say which files the verdict rests on, of which seeds, and what making them took."""
    resting = {record.path: record for record in case.records}
    verdict.records = {str(path): r.digest for path, r in sorted(resting.items())}
    known = True
    for entry, used in case.used.items():
        verdict.seeds[entry] = [record.seed for record in used]
        verdict.values[entry] = [case.value(record) for record in used]
        subject = Subject("training", case.dataset, case.config.trained_entry(entry))
        trained = {record.seed: record for record in records.get(subject, [])}
        resting |= {trained[r.seed].path: trained[r.seed] for r in used if r.seed in trained}
        if any(record.seed not in trained for record in used):
            verdict.notes.append(f"{entry}: no training record, so the cost is not known")
            known = False
    if known:
        verdict.seconds = round(sum(record.wall_time_s for record in resting.values()), 1)


def _unhealthy(config: Config, records: Records) -> dict[tuple[str, str], list[str]]:
    """Return (dataset, entry) -> the gates that it fails, of all entries that were measured."""
    rows = [
        {"dataset": record.dataset, "model": record.model, "metric": m.key, "value": m.value}
        for subject, of_seeds in records.items()
        if subject.kind == "metrics"
        for record in of_seeds
        for m in record.metrics.values
    ]
    means = means_of(config, pd.DataFrame(rows))
    return {key: failures(config, means, *key) for key in means if key[1] != REAL}

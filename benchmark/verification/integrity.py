"""Whether what was published is whole, and what its own records say of it is true."""

from collections.abc import Iterator
from pathlib import Path

from benchmark.base.arrays import arrays_digest
from benchmark.base.errors import RecordError
from benchmark.base.files import file_digest
from benchmark.base.foreign import parse_json, read_text
from benchmark.base.paths import CLAIMS, REPEAT, VERDICTS
from benchmark.claims.claims import Verdict
from benchmark.claims.report import brief
from benchmark.config.config import Config
from benchmark.config.jobs import KINDS, Job
from benchmark.records.folder import own_record, own_records, read_folder, recorded_jobs
from benchmark.records.record import Record
from benchmark.run.checksums import changed_files
from benchmark.training.weights import weights_digest

RECORDED = [kind for kind in KINDS if kind not in ("data", "sampling")]
Pair = tuple[Job, Record]


def faults(config: Config, folder: Path) -> Iterator[str]:
    """Say of each file of a published run that is not what was published, or that contradicts
    another."""
    try:
        yield from changed_files(folder)
    except RecordError as error:
        yield str(error)
    pairs, damaged = _records(config, folder)
    yield from damaged
    if not damaged:
        yield from _together(config, folder)
    for job, record in pairs:
        yield from _beside(folder, job, record)


def _records(config: Config, folder: Path) -> tuple[list[Pair], list[str]]:
    """Return the sound records, and what is wrong with each of the others."""
    pairs, damaged = [], []
    for job in recorded_jobs(config, *RECORDED):
        try:
            record = own_record(job, folder)
        except RecordError as error:
            damaged.append(_first_line(error))
            continue
        if record:
            pairs.append((job, record))
    return pairs, damaged


def _together(config: Config, folder: Path) -> Iterator[str]:
    try:
        own_records(config, *RECORDED, folder=folder)
        if (folder / REPEAT).is_dir():
            read_folder(folder / REPEAT)
    except RecordError as error:
        yield _first_line(error)


def _beside(folder: Path, job: Job, record: Record) -> Iterator[str]:
    """Say whether the weights or arrays that a record describes are others."""
    name = "arrays" if "arrays" in KINDS[job.kind].files else "weights"
    told = getattr(record.metrics, f"{name}_sha256", None)
    if told is None or not (path := job.path(name, folder)).exists():
        return
    try:
        digests = {"training": weights_digest, "classifier": file_digest}
        found = digests.get(job.kind, arrays_digest)(path)
    except RecordError as error:
        yield _first_line(error)
        return
    if found != told:
        yield f"{path}: is not what {record.path} describes: of another training, or edited"


def differing_verdicts(config: Config, folder: Path, verdicts: list[Verdict]) -> Iterator[str]:
    """Say of each published verdict that does not follow from the published records.

    Args:
        verdicts: on these records.
    """
    path = folder / Path(CLAIMS.format(run=config.run, format="json")).name
    try:
        content = parse_json(read_text(path))
        told = {
            (v["claim"]["id"], v["dataset"], v.get("device")): v["verdict"]
            for part in ("verdicts", "own_verdicts")
            for v in content[part]
        }
        page = read_text(folder / Path(VERDICTS).name)
    except (OSError, ValueError, LookupError, TypeError) as error:
        yield f"{path}: cannot be read as verdicts: {error!r}"
        return
    for verdict in verdicts:
        key = (verdict.claim.id, verdict.dataset, verdict.device)
        if told.get(key, verdict.verdict) != verdict.verdict:
            yield (
                f"{path}: says {told[key]} of {verdict.claim.id} on {verdict.dataset}; "
                f"its records say {verdict.verdict}"
            )
    if page != brief(config, verdicts):
        yield f"{folder / Path(VERDICTS).name}: is not what follows from the records"


def _first_line(error: RecordError) -> str:
    return str(error).splitlines()[0]

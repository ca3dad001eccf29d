"""Where the numbers of a run's page are from: each record's commit, machine and date."""

import pandas as pd
from markupsafe import Markup

from benchmark.base.errors import MissingError
from benchmark.config.config import Config
from benchmark.records.folder import own_records
from benchmark.records.record import Record
from paper_figures.base.html import fill, sortable_table

KINDS = ("training", "metrics", "timing", "classifier", "inspection")


class Provenance:
    """The records of a run, by their files.

    Raises:
        MissingError: there are none; RecordError: one is damaged or belongs to another job.
    """

    def __init__(self, config: Config):
        self._config = config
        self._records = {str(record.path): record for record in own_records(config, *KINDS)}
        if not self._records:
            raise MissingError(
                f"{config.folder}: has no records to show\n  Run the workflow first."
            )

    @property
    def kinds(self) -> set[str]:
        """Of the records."""
        return {record.kind for record in self._records.values()}

    @property
    def machines(self) -> list[str]:
        """What computed, in the order of the alphabet."""
        return sorted({record.provenance.hardware for record in self._records.values()})

    @property
    def commits(self) -> list[str]:
        """The versions of the source that made the records."""
        return sorted({commit(record) for record in self._records.values()})

    def evidence(self, by_files: dict[tuple[str, ...], list[tuple[str, str]]]) -> Markup:
        """Return what rests on which records.

        Args:
            by_files: files -> the names and texts of what rests on them.
        """
        parts = [
            (texts, [self._origin(file) for file in files]) for files, texts in by_files.items()
        ]
        return fill("overview/evidence.html", parts=parts)

    def _origin(self, file: str) -> dict[str, str]:
        record = self._records.get(file)
        if record is None:
            return {"file": self._short(file), "text": ""}
        origin = record.provenance
        text = f"{commit(record)}, {origin.hardware}, {origin.created[:10]}"
        return {"file": self._short(file), "text": text}

    def _short(self, file: str) -> str:
        return file.removeprefix(f"{self._config.folder}/")

    def table(self) -> Markup:
        """Return all records with their origin."""
        rows = [self._row(file, record) for file, record in self._records.items()]
        caption = f"{len(rows)} records, JSON files below {self._config.folder}."
        return sortable_table(
            pd.DataFrame(rows), "records", caption, filters=("Kind", "Dataset", "Machine")
        )

    def _row(self, file: str, record: Record) -> dict[str, str]:
        origin = record.provenance
        return {
            "Record": self._short(file),
            "Commit": commit(record),
            "Machine": origin.hardware,
            "Made": origin.created[:10],
            "Seconds": f"{record.wall_time_s:,.1f}",
            "Digest": record.digest[:16],
            "Kind": record.kind,
            "Dataset": self._config.facts(record.dataset).title,
            "torch": origin.packages.get("torch") or "",
            "Settings": record.config_hash,
            "Source": origin.source_digest,
        }


def commit(record: Record) -> str:
    """Return the commit that made a record, in short; dirty where files had changed since."""
    made_by = record.provenance
    return (made_by.commit or "no commit")[:10] + (" (dirty)" if made_by.dirty else "")

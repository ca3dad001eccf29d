"""What was measured of devices alone, with no configuration: by `make bench` and `make scaling`."""

from pathlib import Path

from benchmark.base import paths
from benchmark.base.devices import DEVICE_LABELS
from benchmark.base.errors import RecordError
from benchmark.base.foreign import parse_json, read_text
from benchmark.records.provenance import Provenance


def read_by_device(run: str) -> dict[str, dict]:
    """Read what the command `make <run>` wrote, by device.

    Raises:
        RecordError: nothing was measured, or a file is damaged.
    """
    records = {}
    for device in DEVICE_LABELS:
        path = Path(paths.fill(paths.BENCH, run, name=f"{device}.json"))
        if path.exists():
            try:
                records[device] = parse_json(read_text(path))
            except ValueError as error:
                raise RecordError(f"{path}: is not valid JSON: {error}") from error
    if not records:
        raise RecordError(
            f"{paths.fill(paths.RUN, run)}: nothing was measured there\n  Run `make {run}` first."
        )
    return records


def machine_notes(records: dict[str, dict]) -> list[str]:
    """Return a line about the machine of each device's record."""
    return [
        f"{DEVICE_LABELS[device]}: {Provenance(**record['provenance']).hardware}."
        for device, record in records.items()
    ]

"""`make fuzz`: every reader on many spoilt files, and a table of what happened."""

import argparse
import sys
import tempfile
import warnings
from contextlib import chdir
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch

from benchmark.base.files import atomic
from studies.fuzz.readers import readers
from studies.fuzz.run import LONGEST, MEMORY, fuzz
from studies.pages import FOLDER, write_page


def main() -> int:
    """Fuzz; return 0 when no reader raised what it may not."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="of each reader, at least")
    parser.add_argument("--only", action="append", help="a reader's name; all by default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # Pillow and zipfile warn of what is damaged
    rows, faults = [], 0
    with tempfile.TemporaryDirectory() as name, chdir(name):
        for reader in readers(Path(name)):
            if options.only and reader.name not in options.only:
                continue
            try:
                rows.append(asdict(fuzz(reader, options.inputs, Path(name))))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                faults += 1
                kept = _keep(Path(name) / f"input{reader.suffix}", reader.name)
                print(f"{reader.name}: {type(error).__name__}: {error}\n  The file: {kept}")
            else:
                print(rows[-1], file=sys.stderr, flush=True)
    if options.only is None and not faults:
        _write(rows)
    return min(faults, 1)


def _keep(path: Path, name: str) -> Path:
    """Copy the smallest file that leads to a fault out of the temporary folder."""
    kept = FOLDER / "fuzz" / f"{name.replace(' ', '_')}{path.suffix}"
    with atomic(kept) as temporary:
        temporary.write_bytes(path.read_bytes())
    return kept


def _write(rows: list[dict]) -> None:
    table = pd.DataFrame(rows).rename(columns=str.capitalize)
    table["Slowest"] = table["Slowest"].map("{:.2f} s".format)
    for column in ("Inputs", "Refused", "Accepted"):
        table[column] = table[column].map("{:,}".format)
    note = f"No input may take more than {LONGEST} s of the processor or {MEMORY / 2**30:.0f} GiB."
    write_page("fuzz", table, note, rows)


if __name__ == "__main__":
    sys.exit(main())

"""`make fuzz`: every reader on many spoilt files; a table of what happened, in results/fuzz/."""

import argparse
import json
import sys
import tempfile
import warnings
from contextlib import chdir
from pathlib import Path

import pandas as pd
import torch

from benchmark.base.files import atomic
from benchmark.base.paths import ROOT
from studies.fuzz.readers import readers
from studies.fuzz.run import LONGEST, MEMORY, fuzz

FOLDER = ROOT / "results" / "fuzz"


def main() -> int:
    """Fuzz; returns 0 when no reader raised what it may not."""
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
                rows.append(fuzz(reader, options.inputs, Path(name)).row())
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
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
    kept = FOLDER / f"{name.replace(' ', '_')}{path.suffix}"
    with atomic(kept) as temporary:
        temporary.write_bytes(path.read_bytes())
    return kept


def _write(rows: list[dict]) -> None:
    table = pd.DataFrame(rows).rename(columns=str.capitalize)
    table["Slowest"] = table["Slowest"].map("{:.2f} s".format)
    table["Inputs"], table["Refused"], table["Accepted"] = (
        table[column].map("{:,}".format) for column in ("Inputs", "Refused", "Accepted")
    )
    note = f"No input may take more than {LONGEST} s of the processor or {MEMORY / 2**30:.0f} GiB."
    texts = {
        "fuzz.json": json.dumps(rows, indent=2) + "\n",
        "fuzz.md": f"{table.to_markdown(index=False, disable_numparse=True)}\n\n{note}\n",
    }
    for name, text in texts.items():
        with atomic(FOLDER / name) as temporary:
            temporary.write_text(text)
    print(texts["fuzz.md"])


if __name__ == "__main__":
    sys.exit(main())

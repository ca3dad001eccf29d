"""What a training logged."""

import csv
from dataclasses import dataclass, field

import numpy as np

from benchmark.base.files import atomic

FINAL_FRACTION = 0.05  # of the updates, over which the record's final values are averaged


@dataclass
class History:
    """Logged values, averaged over stretches of updates.

    Attributes:
        rows: {"update", "seconds", "loss", ...}, one per stretch.
        stretch: {"loss", ...} of each update since the last row.
    """

    rows: list[dict] = field(default_factory=list)
    stretch: list[dict] = field(default_factory=list)

    def close_stretch(self, update: int, seconds: float) -> dict[str, float]:
        """End the stretch with a row of its own; returns the means."""
        means = {key: float(np.mean([s[key] for s in self.stretch])) for key in self.stretch[0]}
        self.rows.append({"update": update, "seconds": round(seconds, 3), **means})
        self.stretch.clear()
        return means

    def final(self) -> dict[str, float]:
        """The values averaged over the last 5% of the updates."""
        first = self.rows[-1]["update"] * (1 - FINAL_FRACTION)
        tail = [row for row in self.rows if row["update"] > first]
        keys = [key for key in tail[0] if key not in ("update", "seconds")]
        return {key: float(np.mean([row[key] for row in tail])) for key in keys}

    def write(self, path) -> None:
        """Write the rows as CSV, atomically."""
        with atomic(path) as temporary, temporary.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, fieldnames=list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)

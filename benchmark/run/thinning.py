"""Makes a run's files as small as what is shown of them allows, always to the same bytes."""

from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.base.arrays import WHOLE, arrays_digest, read_arrays, write_arrays
from benchmark.base.files import atomic

DIGITS = 5  # of the numbers of a history
FEW = 1000  # numbers of an array that stays as it is


def thin_history(source: Path, target: Path) -> None:
    """Copy a training's history, its numbers rounded to `DIGITS` digits."""
    with atomic(target) as temporary:
        pd.read_csv(source).to_csv(temporary, index=False, float_format=f"%.{DIGITS}g")


def thin_arrays(source: Path, target: Path) -> None:
    """Copy arrays, the large ones of floating point in half precision; they name the digest of the
    whole file."""
    digest = arrays_digest(source)
    arrays = read_arrays(source, "arrays")
    halved = {name: _halved(array) for name, array in arrays.items() if name != WHOLE}
    write_arrays(target, **halved, **{WHOLE: np.array(digest)})


def _halved(array: np.ndarray) -> np.ndarray:
    small = array.size < FEW or array.dtype.kind != "f"
    return array if small or np.abs(array).max() > np.finfo(np.float16).max else array.astype("f2")

"""Makes a run's files as small as what is shown of them allows, always to the same bytes."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.base.arrays import WHOLE, arrays_digest, read_arrays, write_arrays
from benchmark.base.files import atomic

DIGITS = 5  # of the numbers of a history
COLUMNS = re.compile("update|seconds|loss|ess|acceptance|outside|walls|stiffness|swap_[0-9]+")
FEW = 1000  # numbers of an array that stays as it is
CURVES = re.compile("(nodes|density)_.*")  # a training's, of which every other point is enough


def thin_history(source: Path, target: Path) -> None:
    """Copy what figures show of a training's history, rounded to `DIGITS` digits."""
    frame = pd.read_csv(source)
    shown = frame[[name for name in frame if COLUMNS.fullmatch(name)]]
    with atomic(target) as temporary:
        shown.to_csv(temporary, index=False, float_format=f"%.{DIGITS}g")


def thin_arrays(source: Path, target: Path) -> None:
    """Copy arrays, curves with half of their points and what is large in half precision; the copy
    names the digest of the whole file. A copy stays as it is."""
    arrays = read_arrays(source, "arrays")
    if WHOLE in arrays:
        shutil.copyfile(source, target)
        return
    thinned = {name: _halved(name, array) for name, array in arrays.items()}
    write_arrays(target, **thinned, **{WHOLE: np.array(arrays_digest(source))})


def _halved(name: str, array: np.ndarray) -> np.ndarray:
    array = array[..., ::2] if CURVES.fullmatch(name) else array
    small = array.size < FEW or array.dtype.kind != "f"
    return array if small or np.abs(array).max() > np.finfo(np.float16).max else array.astype("f2")

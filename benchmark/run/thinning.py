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
THINNED = {  # names of arrays -> what figures show of them
    "(nodes|density)_.*": np.s_[..., ::2],  # a training's curves
    "(images|followed|followed_latents|bases|base_images)": np.s_[:2],  # an inspection's draws
    "posterior_draws": np.s_[1::2],  # the last, and every other before
    "component_draws": np.s_[:, :5],
}


def thin_history(source: Path, target: Path) -> None:
    """Copy what figures show of a training's history, rounded to `DIGITS` digits."""
    frame = pd.read_csv(source)
    shown = frame[[name for name in frame if COLUMNS.fullmatch(name)]]
    with atomic(target) as temporary:
        shown.to_csv(temporary, index=False, float_format=f"%.{DIGITS}g")


def thin_arrays(source: Path, target: Path) -> None:
    """Copy what is shown of arrays, and what is large in half precision; the copy names the digest
    of the whole file. A copy stays as it is."""
    arrays = read_arrays(source, "arrays")
    if WHOLE in arrays:
        shutil.copyfile(source, target)
        return
    thinned = {name: _thinned(name, array) for name, array in arrays.items()}
    write_arrays(target, **thinned, **{WHOLE: np.array(arrays_digest(source))})


def _thinned(name: str, array: np.ndarray) -> np.ndarray:
    for names, kept in THINNED.items():
        if re.fullmatch(names, name):
            array = array[kept]
    small = array.size < FEW or array.dtype.kind != "f"
    return array if small or np.abs(array).max() > np.finfo(np.float16).max else array.astype("f2")

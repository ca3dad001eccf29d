"""Telling a workflow that runs from one that was killed.

Snakemake's own locks are files, which stay behind when it is killed or the machine goes down. A
workflow of this repository also holds a lock that goes with its process.
"""

import fcntl
import shutil
from pathlib import Path
from typing import TextIO

LOCK = Path(".snakemake/workflow.lock")
SNAKEMAKE_LOCKS = Path(".snakemake/locks")


def hold() -> TextIO:
    """Say that a workflow runs in this folder, as long as the returned file is open.

    Several may, each on files of its own, which Snakemake sees to.
    """
    LOCK.parent.mkdir(exist_ok=True)
    handle = LOCK.open("w", encoding="utf-8")
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def clear_stale_locks() -> bool:
    """Remove Snakemake's locks where no workflow runs in this folder; whether there were any."""
    if not SNAKEMAKE_LOCKS.is_dir() or not any(SNAKEMAKE_LOCKS.iterdir()):
        return False
    with LOCK.open("a", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        shutil.rmtree(SNAKEMAKE_LOCKS)
    return True

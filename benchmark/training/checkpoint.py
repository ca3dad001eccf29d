"""Checkpoints: what a training needs to go on after an interruption, in a folder of its own.

The folder is named by dataset, entry, seed and the hash of the settings. It holds the last two
states, so that a damaged one costs no more than the time since the one before; a lock, held as
long as the process lives; and `progress.json` for `python -m benchmark status`. When the training
has written its results, the folder goes.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from benchmark.base import paths
from benchmark.base.errors import RecordError, Stopped, TrainingError
from benchmark.base.files import remove_temporaries
from benchmark.base.process import StopRequests, say
from benchmark.base.tensors import read_tensors, write_tensors
from benchmark.config.jobs import Job
from benchmark.training.progress_file import LOCK, Checkpoint, write_progress

KEPT = 2
LARGEST_SHARE = 0.02  # of the time, that writing checkpoints may take
SECONDS_BETWEEN_PROGRESS = 2.0


@dataclass(frozen=True)
class State:
    """All that the updates to come depend on, beside the data and the settings.

    Attributes:
        update: number of updates made.
        tensors: by name.
        values: the plain rest, fit for JSON.
    """

    update: int
    tensors: dict[str, Tensor]
    values: dict


class Checkpoints:
    """The states of one training on disk.

    Args:
        job, device: the training's.
        every: seconds between checkpoints, by a clock that does not jump; more where writing
            would otherwise take over 2% of the time. 0 for one after each update.
        stop: whether the process was told to end.
        write: what writes a file of tensors.
    """

    def __init__(
        self,
        job: Job,
        device: torch.device,
        every: float,
        stop: StopRequests,
        write: Callable[[Path, dict[str, Tensor], dict], None] = write_tensors,
    ):
        self.folder = job.checkpoints
        self.title = job.title
        self.job, self.device, self.stop = job, device, stop
        self._every, self._write_tensors = every, write
        self._last: Checkpoint | None = None
        self._progress_at = -float("inf")
        self._begin: tuple[int, float] | None = None  # update and time when this process began

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the training's lock; yield whether another process had it first.

        A TrainingError from within says afterwards which state is kept.
        """
        lock = self._acquire(timeout=1)  # `status` may hold it for an instant
        rival = lock is None
        if rival:
            say(f"{self.title}: another process is training this; waiting for it to end")
            lock = self._acquire(timeout=-1)
        try:
            remove_temporaries(self.folder / "*")
            yield rival
        except TrainingError as error:
            states = self._states()
            kept = f"The last good state is kept: {states[-1]}" if states else ""
            raise TrainingError(f"{error}\n  {kept or 'Nothing was written.'}") from error
        finally:
            if not self._states():
                self.discard()
            lock.release()

    def _acquire(self, timeout: float) -> FileLock | None:
        """Return the lock, held; None when another process holds it for so many seconds, -1 for
        ever."""
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock = FileLock(self.folder / LOCK)
                lock.acquire(timeout)
            except FileNotFoundError:
                continue  # whoever held it has just finished and removed the folder
            except Timeout:
                return None
            return lock

    def _states(self) -> list[Path]:
        """Return the files of states, the newest last."""
        return sorted(self.folder.glob("state-*.safetensors"))

    def latest(self) -> State | None:
        """Return the newest state that can be read; a damaged one is said, and left to look at.

        Raises:
            TrainingError: the training was begun on another kind of device.
        """
        self._begin, self._written_at = None, time.monotonic()
        for path in reversed(self._states()):
            try:
                state = self._read(path)
            except RecordError as error:
                path.replace(path.with_suffix(".damaged"))
                say(f"{error}\n  It is kept as {path.stem}.damaged; trying an older one.")
                continue
            say(f"{self.title}: goes on after update {state.update}, from {path}")
            self._last = Checkpoint(update=state.update, written=path.stat().st_mtime)
            return state
        return None

    def _read(self, path: Path) -> State:
        tensors, header = read_tensors(path, "a checkpoint")
        if header.get("hash") != self.job.config_hash:
            raise RecordError(f"{path}: is a checkpoint of other settings")
        if not {"device", "update", "values"} <= header.keys():
            raise RecordError(f"{path}: does not say which state it is")
        if header["device"] != self.device.type:
            raise TrainingError(
                f"{self.title}: was begun on device {header['device']}, and this is "
                f"{self.device.type}\n  Go on there, or delete {self.folder} to begin anew."
            )
        return State(header["update"], tensors, header["values"])

    def after_update(
        self, update: int, updates: int, loss: float, snapshot: Callable[[], State]
    ) -> None:
        """Write a checkpoint, or progress, where it is time to.

        Args:
            update, updates: number of updates made, and to be made in all.
            loss: of late.
            snapshot: () -> the training's state; called where it is written.

        Raises:
            Stopped: the process was told to end, and a checkpoint was written.
        """
        now = time.monotonic()
        self._begin = self._begin or (update, now)
        stopping = self.stop.signal is not None
        # The last state is kept as the others are: what comes after it may fail.
        done = update == updates and self._last is not None
        if stopping or done or now - self._written_at >= self._every:
            self._write(snapshot)
        if stopping or now - self._progress_at >= SECONDS_BETWEEN_PROGRESS:
            self._show(update, updates, loss, now)
        if stopping:
            raise Stopped(
                f"{self.title}: stopped at update {update} of {updates}; the same command goes on "
                "from there",
                self.stop.signal,
            )

    def _write(self, snapshot: Callable[[], State]) -> None:
        """Write a checkpoint. One that cannot be written ends nothing: an older one is there."""
        started = time.monotonic()
        state = snapshot()
        header = {"hash": self.job.config_hash, "device": self.device.type}
        header |= {"update": state.update, "values": state.values}
        path = self.folder / f"state-{state.update:09}.safetensors"
        try:
            self._write_tensors(path, state.tensors, header)
        except OSError as error:
            say(f"{path}: no checkpoint could be written: {error.strerror}; training goes on")
        else:
            self._last = Checkpoint(update=state.update, written=time.time())
            for old in self._states()[:-KEPT]:
                old.unlink()
        self._written_at = time.monotonic()
        if self._every:
            self._every = max(self._every, (self._written_at - started) / LARGEST_SHARE)

    def _show(self, update: int, updates: int, loss: float, now: float) -> None:
        first, since = self._begin
        rate = (update - first) / (now - since) if update > first else None
        with suppress(OSError):  # progress is nobody's result
            write_progress(
                self.folder,
                update=update,
                updates=updates,
                rate=rate,
                checkpoint=self._last,
                values={"loss": loss},
            )
        self._progress_at = now

    def discard(self) -> None:
        """Remove the folder, and those above it that are empty then; to be called while held."""
        top = paths.fill(paths.RUN, self.job.run)
        with suppress(OSError):
            shutil.rmtree(self.folder)
            for parent in self.folder.parents:
                parent.rmdir()  # refuses where another training has its folder
                if parent == top:
                    break

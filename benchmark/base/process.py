"""Processes: how they are told to end, and with which exit code they do."""

import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from benchmark.base.errors import BenchmarkError, Stopped
from benchmark.base.paths import check_places

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def _handled(handlers: dict[int, Callable]) -> Iterator[None]:
    """Let handlers have their signals while the block runs."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may
        return
    before = _set_handlers(handlers)
    try:
        yield
    finally:
        _set_handlers(before)


def _set_handlers(handlers: dict) -> dict:
    return {number: signal.signal(number, handler) for number, handler in handlers.items()}


class StopRequests:
    """A note of the first of `SIGNALS`, for work that ends itself at the next good moment.

    Attributes:
        signal: its number; None before.
    """

    def __init__(self):
        self.signal: int | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note the first signal; a second one does what it would have done before."""
        before = {number: signal.getsignal(number) for number in SIGNALS}

        def note(number: int, _frame) -> None:
            self.signal = number
            _set_handlers(before)

        with _handled(dict.fromkeys(SIGNALS, note)):
            yield


class _Terminated(BaseException):
    """SIGTERM has come."""


def _terminate(_number: int, _frame) -> None:
    """Unwind the stack as Ctrl-C does, so that no temporary file stays."""
    raise _Terminated


# What an OSError asks for that is no fault of the code.
STORAGE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or have the quota raised",
    errno.EROFS: "make it writable",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
    errno.EIO: "look at the disk",
    errno.ENOTDIR: "move the file away that is where a folder should be",
    errno.EEXIST: "move the file away that is where a folder should be",
}


def exit_code(command: Callable[[], None]) -> int:
    """Run a command and return its exit code.

    That is 0 when it is done, 1 with a message when it is refused or fails, 128 and the signal's
    number when it is interrupted.
    """
    _speak_utf8()
    try:
        check_places()
        with _handled({signal.SIGTERM: _terminate}):
            command()
    except Stopped as stopped:
        return _fail(str(stopped), 128 + stopped.signal)
    except BenchmarkError as error:
        return _fail(f"error: {error}", 1)
    except KeyboardInterrupt:
        return _fail("interrupted; nothing half-written was left", 128 + signal.SIGINT)
    except _Terminated:
        return _fail("terminated; nothing half-written was left", 128 + signal.SIGTERM)
    except BrokenPipeError:  # as of `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in STORAGE:
            raise
        advice = f"Please {STORAGE[error.errno]}, and run it again; nothing half-written was left."
        return _fail(f"error: {error.filename or 'a file'}: {error.strerror}\n  {advice}", 1)
    return 0


def _speak_utf8() -> None:
    """Write UTF-8 into files and pipes, logs among them, and what a terminal can show into one."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a test's is not
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="replace")


def _fail(message: str, code: int) -> int:
    say(message)
    return code


def say(message: str) -> None:
    """Print to standard error, whoever may still listen there."""
    with suppress(OSError):
        print(message, file=sys.stderr, flush=True)

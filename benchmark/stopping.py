"""Being told to end: by Ctrl-C, by a scheduler, by a machine that goes down."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequests:
    """Whether one of `SIGNALS` has come, for work that ends itself at the next good moment.

    Attributes:
        signal: its number; None before.
    """

    def __init__(self):
        self.signal: int | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Take note of the first signal; a second one does what it would have done before."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}

        def note(number: int, _frame) -> None:
            self.signal = number
            restore()

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        for number in SIGNALS:
            signal.signal(number, note)
        try:
            yield
        finally:
            restore()

"""How much memory this process takes, by Linux's own account."""

import ctypes
import threading
import time
from pathlib import Path

STATUS = Path("/proc/self/status")


def resident(kind: str = "RssAnon") -> int:
    """Read the bytes in memory: "VmRSS" all, "RssAnon" without mapped files."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(kind))
    return 1024 * int(line.split()[1])


def give_back() -> None:
    """Return to the system what the allocator keeps of freed memory, where it is glibc's."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class Peak(threading.Thread):
    """A watch over a block; `grown` is the most that the memory grew by, in bytes. What earlier
    work left to the allocator is given back before: the block would grow into it unseen."""

    def __enter__(self):
        give_back()
        self.running, self.start_size, self.grown = True, resident(), 0
        self.start()
        return self

    def run(self):
        while self.running:
            self.grown = max(self.grown, resident() - self.start_size)
            time.sleep(0.001)

    def __exit__(self, *_error):
        self.running = False
        self.join()
        # On a busy machine the watch may have slept through the block.
        self.grown = max(self.grown, resident() - self.start_size)

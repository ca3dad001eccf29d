"""The process from which the steps of a workflow are forked, so that torch is imported once.

Importing takes seconds, more than many a step. `python -m benchmark` and `python -m paper_figures`
hand their work to the server that their workflow has started. It is done as they would have done
it: same folder, environment, output, exit code, and the same bits in every file. Where no server
is, on other systems than Linux or after it was killed, they do it themselves.

A job is in the process group of its client and of the server, so that signals for the group, such
as Ctrl-C, reach it without them. A signal for the client alone is passed on.
"""

import json
import os
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path

ADDRESS = "KAEM_FORK_SERVER"  # the environment variable that names the server's socket
SIGNALS = (signal.SIGINT, signal.SIGTERM)
SIZE = struct.Struct("!I")

# What some commands of the benchmark import, beyond what all of them do.
MODULES = {
    "preflight": "benchmark.run.preflight",
    "evaluate": "benchmark.evaluation.evaluate",
    "inspect": "benchmark.inspection.inspect",
    "claims": "benchmark.claims.report",
}


def start(threads: int) -> subprocess.Popen | None:
    """Start a server for what this process runs in this folder; it ends when this process does.

    Args:
        threads: of linear algebra, see `benchmark.base.devices.fix_threads`.
    """
    address = Path(f".snakemake/steps-{os.getpid()}.socket")
    if sys.platform != "linux":
        return None
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            address.unlink(missing_ok=True)
            listener.bind(str(address))
        except OSError:  # some file systems have no sockets
            return None
        listener.listen(socket.SOMAXCONN)
        os.environ[ADDRESS] = str(address)
        arguments = f"{listener.fileno()}, {threads}"
        return subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve({arguments})"],
            stdin=subprocess.PIPE,  # its other end closes with this process
            pass_fds=[listener.fileno()],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )


def hand_over(module: str) -> int | None:
    """Have the server run the command of this process; returns its exit code, None where no server
    is.

    Args:
        module: the one that `python -m` was given.
    """
    address = os.environ.pop(ADDRESS, None)  # what the job itself starts has no server
    if not address:
        return None
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(address)
        except OSError:
            return None

        def pass_on(number: int, _frame) -> None:
            with suppress(OSError):
                server.send(bytes([number]))

        request = json.dumps([module, sys.argv[1:], str(Path.cwd()), dict(os.environ)]).encode()
        socket.send_fds(server, [SIZE.pack(len(request))], [0, 1, 2])
        server.sendall(request)
        for number in SIGNALS:
            signal.signal(number, pass_on)
        code = server.recv(1)
    if not code:
        print("error: the server of the steps was killed; run it again", file=sys.stderr)
    return code[0] if code else 1


class Forked:
    """A child of the server and the client that waits for it."""

    def __init__(self, pid: int, client: socket.socket):
        self.pid, self.client, self.begun = pid, client, time.monotonic()
        self.process = os.pidfd_open(pid)  # readable when it has ended


def serve(listener: int, threads: int) -> None:
    """Fork a job for each client until the workflow, and all jobs, have ended."""
    from benchmark.base.devices import fix_threads  # for which no client waits

    fix_threads(threads)
    Server(socket.socket(fileno=listener)).serve()


class Server:
    """What waits for clients, their signals and the ends of jobs."""

    def __init__(self, listener: socket.socket):
        self._heard: dict[int, float] = {}  # the group's signals, and when each last came
        self._listener = listener
        self._events = selectors.DefaultSelector()
        self._events.register(listener, selectors.EVENT_READ, self._begin)
        self._events.register(0, selectors.EVENT_READ, self._leave)

    def serve(self) -> None:
        for number in SIGNALS:
            signal.signal(number, self._note)
        while self._events.get_map():
            self._events.select()[0][0].data()  # one at a time: it may end the others

    def _note(self, number: int, _frame) -> None:
        self._heard[number] = time.monotonic()

    def _leave(self) -> None:
        """Take no more clients: the workflow has ended."""
        Path(self._listener.getsockname()).unlink(missing_ok=True)
        self._events.unregister(self._listener)
        self._events.unregister(0)
        self._listener.close()

    def _begin(self) -> None:
        """Fork a job for a client."""
        client, _ = self._listener.accept()
        streams: list[int] = []
        try:
            size, streams, _, _ = socket.recv_fds(client, SIZE.size, 3)
            request = client.recv(*SIZE.unpack(size), socket.MSG_WAITALL)
            module, words, folder, environment = json.loads(request)
        except (OSError, struct.error, ValueError):  # the client is gone
            client.close()
            for descriptor in streams:
                os.close(descriptor)
            return
        with suppress(Exception):  # the job will say what is wrong
            _import_for(module, words)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the job has its own handlers
        pid = os.fork()
        if not pid:
            for key in self._events.get_map().values():
                os.close(key.fd)
            _become(module, words, folder, environment, streams)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for descriptor in streams:
            os.close(descriptor)
        job = Forked(pid, client)
        self._events.register(client, selectors.EVENT_READ, partial(self._pass_on, job))
        self._events.register(job.process, selectors.EVENT_READ, partial(self._end, job))

    def _pass_on(self, job: Forked) -> None:
        """Pass on what a client was sent alone; kill the job of one that is gone."""
        try:
            numbers = job.client.recv(64)
        except OSError:
            numbers = b""
        if not numbers:
            self._events.unregister(job.client)
            os.kill(job.pid, signal.SIGKILL)
        for number in numbers:
            if self._heard.get(number, 0) < job.begun:  # else the job had it with the group
                os.kill(job.pid, number)

    def _end(self, job: Forked) -> None:
        """Tell a client how its job has ended."""
        code = os.waitstatus_to_exitcode(os.waitpid(job.pid, 0)[1])
        if job.client in self._events.get_map():
            self._events.unregister(job.client)
            with suppress(OSError):
                job.client.send(bytes([code if code >= 0 else 128 - code]))  # as a shell says it
        self._events.unregister(job.process)
        os.close(job.process)
        job.client.close()


def _import_for(module: str, words: list[str]) -> None:
    """Import what a command needs, for it and all that follow."""
    if module == "benchmark":
        import_module("benchmark.steps")
        import_module(MODULES.get(words[0], "benchmark.steps"))
    else:
        from paper_figures.artefacts import ARTEFACTS

        import_module(ARTEFACTS[words[0]].module)


def _become(
    module: str, words: list[str], folder: str, environment: dict[str, str], streams: list[int]
) -> None:
    """Run a command in this process as if a client's shell had started it, and exit."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for own, given in enumerate(streams):
            os.dup2(given, own)
            os.close(given)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", closefd=False)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [module, *words]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(code)

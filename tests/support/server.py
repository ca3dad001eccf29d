"""A server on this machine that sends files whole, in part, or not at all."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Server:
    """Serves files by name.

    Attributes:
        files: their contents.
        answer: (handler, content) sends one.
        seconds: how long it waits before.
        requests: how many there were.
    """

    def __init__(self, files: dict[str, bytes]):
        self.files, self.answer, self.seconds, self.requests = files, whole, 0.0, 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests += 1
                time.sleep(server.seconds)
                server.answer(self, server.files[self.path.strip("/")])
                self.close_connection = True

            def log_message(self, *_args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Server]:
    """Run a server while the block runs, which no proxy stands before."""
    server = Server(files)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,))
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1")
        yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


def _send(handler: BaseHTTPRequestHandler, content: bytes, **headers: str) -> None:
    handler.send_response(200)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def whole(handler, content):
    _send(handler, content, Content_Length=str(len(content)))


def cut_in_half(handler, content):
    _send(handler, content[: len(content) // 2], Content_Length=str(len(content)))


def cut_in_half_without_a_length(handler, content):
    _send(handler, content[: len(content) // 2])


def cut_in_the_middle_of_a_chunk(handler, content):
    handler.protocol_version = "HTTP/1.1"
    begin = f"{len(content):x}\r\n".encode() + content[: len(content) // 2]
    _send(handler, begin, Transfer_Encoding="chunked")


def no_answer(handler, _content):
    handler.wfile.write(b"this is no HTTP\r\n\r\n")


def hung_up(_handler, _content):
    pass


def another_file(handler, content):
    whole(handler, content[::-1])


def not_found(handler, _content):
    handler.send_error(404)


FAILURES = [
    cut_in_half,
    cut_in_half_without_a_length,
    cut_in_the_middle_of_a_chunk,
    no_answer,
    hung_up,
    another_file,
    not_found,
]

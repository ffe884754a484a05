"""Servers of third parties, made up: an issuer that tells its keys, and a host that knows its sessions."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ThirdParty:
    """A server whose answer a test sets; `requests` are the (headers, body) that it got."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.status = 200
        self.answer: Any = {}
        self.headers: dict[str, str] = {}
        self.requests: list[tuple[dict[str, str], str]] = []
        #: Cleared, the server answers nothing until it is set again.
        self.answers = threading.Event()
        self.answers.set()

    def body_for(self, asked: str) -> bytes:
        """Return what is answered: the `answer`, or what it gives for a request's body if it is a function."""
        answer = self.answer(asked) if callable(self.answer) else self.answer
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()


@contextmanager
def third_party() -> Iterator[ThirdParty]:
    """A running server on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0"))).decode()
            told.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
            told.answers.wait(30)
            content = told.body_for(body)
            self.send_response(told.status)
            for name, value in told.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = handle_any

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told = ThirdParty(f"http://127.0.0.1:{server.server_address[1]}/path")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        told.answers.set()
        server.shutdown()
        server.server_close()
        thread.join()

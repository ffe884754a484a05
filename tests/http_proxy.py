"""An HTTP proxy before the real server that does, request by request, what a test tells it to."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import httpx

#: What to do with a request: answer with a status of one's own, hand it on, or hand it on and cut the answer off.
Step = tuple[int, dict[str, str]] | Literal["pass", "cut"]
_HOP_BY_HOP = ("connection", "content-length", "transfer-encoding", "date", "server", "host")


class Proxy:
    """`url` is its address; `steps` is what it does with the next requests (then: "pass"); `seen` what came."""

    def __init__(self, url: str, target: str) -> None:
        self.url = url
        self.target = target
        self.steps: deque[Step] = deque()
        self.seen: list[str] = []


def _handler(proxy: list[Proxy]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            (known,) = proxy
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            known.seen.append(f"{self.command} {self.path}")
            step = known.steps.popleft() if known.steps else "pass"
            if isinstance(step, tuple):
                self._answer(step[0], step[1], b"busy")
                return
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            told = httpx.request(self.command, known.target + self.path, content=body, headers=headers, timeout=60.0)
            if step == "cut":
                self.close_connection = True
                self.connection.close()
                return
            self._answer(told.status_code, dict(told.headers), told.content)

        do_GET = do_POST = do_PUT = do_DELETE = _do

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler


@contextmanager
def proxy_to(target: str) -> Iterator[Proxy]:
    """Run a proxy before the server at `target` for as long as the block lasts."""
    known: list[Proxy] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(known)) as server:
        known.append(Proxy(f"http://127.0.0.1:{server.server_port}", target))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield known[0]
        server.shutdown()
        thread.join()

"""A host application on an origin of its own: it serves what a test gives it, and tokens of the demo people."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: As strict as a page can be: modules of one other origin, no inline script or style, no string becomes code or markup.
STRICT = (
    "default-src 'none'; script-src 'self' {origin}; connect-src 'self' {origin}; style-src 'self'; img-src 'self'; "
    "base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


class Host:
    """`pages`: path → HTML or JavaScript. `/token` answers what `token()` returns."""

    def __init__(self, pages: dict[str, str], token: Callable[[], str], policy: str | None = None) -> None:
        self.pages, self.token, self.policy = pages, token, policy
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/carillon-token":
                    self._answer(200, "application/json", json.dumps({"token": host.token()}))
                elif path in host.pages:
                    kind = "text/javascript" if path.endswith(".js") else "text/html; charset=utf-8"
                    self._answer(200, kind, host.pages[path])
                else:
                    self._answer(404, "text/plain", "")

            def _answer(self, status: int, kind: str, text: str) -> None:
                body = text.encode()
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                if host.policy is not None:
                    self.send_header("content-security-policy", host.policy)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Tests print nothing of their own."""

        return Handler

"""What is no HTTP is answered as every other error is: uvicorn says it in plain text, and has no setting for it."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.problems import PROBLEM_JSON
from shared.errors import MalformedRequest
from shared.frames import dumps

_BODY = dumps(MalformedRequest("The request is not valid HTTP.").as_json())
_HEAD = (
    "HTTP/1.1 400 Bad Request\r\n"
    f"content-type: {PROBLEM_JSON}\r\n"
    f"content-length: {len(_BODY)}\r\n"
    "cache-control: no-store\r\n"
    "x-content-type-options: nosniff\r\n"
    "connection: close\r\n"
    "\r\n"
)


def _send_problem(protocol: Any, _message: str) -> None:
    """Answer a connection that sent something else than HTTP, and close it."""
    protocol.transport.write(_HEAD.encode() + _BODY)
    protocol.transport.close()


def answer_in_problems() -> None:
    """Have this process's uvicorn answer malformed requests by a problem. Again: nothing."""
    HttpToolsProtocol.send_400_response = _send_problem  # type: ignore[method-assign,assignment]

"""What is done past ASGI, by uvicorn's own names: a stream's chunks, and the answer to what is no HTTP.

uvicorn says the latter in plain text, and has no setting for it.
"""

from __future__ import annotations

from typing import Any

from starlette.types import Receive
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

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


def direct(receive: Receive) -> RequestResponseCycle | None:
    """Return the response that has begun in chunks behind a request's `receive`; None where ASGI is the only way.

    Its bytes may be written to its transport as `chunk_of` makes them, while its flow is not paused and it is not
    disconnected. Its end, and whatever waits, goes by `send`, which does the same and more: a chunk costs it two
    coroutines, three objects and some 3 µs.
    """
    cycle = getattr(receive, "__self__", None)
    if type(cycle) is not RequestResponseCycle or not cycle.response_started or not cycle.chunked_encoding:
        return None
    return cycle


def chunk_of(body: bytes) -> bytes:
    """Return one chunk of a response (RFC 9112, 7.1). `body` must not be empty: that would be the end."""
    return b"%x\r\n%b\r\n" % (len(body), body)

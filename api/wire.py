"""What is done past ASGI, by uvicorn's own names: a stream's chunks, and the answer to what is no HTTP.

uvicorn says the latter in plain text, and has no setting for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from starlette.types import Receive
from uvicorn.protocols.http.flow_control import FlowControl
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


class Direct(NamedTuple):
    """How bytes reach a connection past `send`: by `write`, as chunks, and only while `flow.write_paused` is false.

    `write` raises `RuntimeError` once the connection is over.
    """

    flow: FlowControl
    write: Callable[[bytes], None]


def direct(receive: Receive) -> Direct | None:
    """Return the way to the connection behind a request's `receive`, whose response has begun in chunks.

    None where ASGI is the only way. The response's end, and whatever waits, goes by `send`, which does the same and
    more: two coroutines, three objects and some 3 µs for each chunk.
    """
    cycle = getattr(receive, "__self__", None)
    if type(cycle) is not RequestResponseCycle or not cycle.response_started or not cycle.chunked_encoding:
        return None
    return Direct(cycle.flow, cycle.transport.write)

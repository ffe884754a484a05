"""What every answer has: the headers that browsers need, and an end in a problem where something went wrong."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from api.problems import unexpected
from shared import following
from shared.settings import settings

#: Where the request's own `send` is found by an answer of many parts, the stream: each part then goes to the server
#: without passing through what middleware puts around the answer's start.
PLAIN_SEND = "carillon.send"
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
]
#: A year, for this host alone: its other subdomains are not ours. Over plain http browsers ignore it (RFC 6797, 8.1).
HSTS = (b"strict-transport-security", b"max-age=31536000")


def _request_id(scope: Scope) -> str:
    name = following.REQUEST_HEADER.encode()
    given = next((value for each, value in scope["headers"] if each == name), b"")
    return following.request_id(given.decode("latin-1"))


class Answers:
    """Sees to it that every request is answered, and as browsers need it, and has an id.

    The id is the sender's `X-Request-Id` where that is well-formed and short, else a new one. It stands in the answer's
    header of that name, and in every line that is logged for the request. In a problem's body it would tell answers
    apart that must be the same; only the words of an unforeseen failure name it.

    Every answer has the headers that forbid a browser to guess, frame, cache or run what the API says; a page sets its
    own Content-Security-Policy, which is left as it is. In production browsers are told to come by https alone. A
    failure that nobody foresaw is a problem with status 500; if the answer has begun already, the connection is cut.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = HEADERS if settings().development else [*HEADERS, HSTS]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, request_id = False, _request_id(scope)
        told_id = (following.REQUEST_HEADER.encode(), request_id.encode())

        async def with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*self._completed(message["headers"]), told_id]
            await send(message)

        scope[PLAIN_SEND] = send
        bound = bind_contextvars(request_id=request_id)
        try:
            await self._app(scope, receive, with_headers)
        except Exception as error:
            answer = unexpected(error, scope["path"], request_id)
            if begun:
                raise ConnectionAbortedError from None
            await answer(scope, receive, with_headers)
        finally:
            reset_contextvars(**bound)

    def _completed(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        told = list(headers)
        names = {name.lower() for name, _ in told}
        return [*told, *(pair for pair in self._headers if pair[0] not in names)]

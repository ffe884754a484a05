"""`GET /api/notifications/stream`: a raw ASGI endpoint, and the calls around it (tickets, the list of connections)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable
from typing import Any
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from fastapi import APIRouter, FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from api import tickets
from api.answers import PLAIN_SEND
from api.credentials import OperatorKey
from api.deps import CurrentSubscriber
from api.hub import Hub
from api.read import Wish
from api.sign_in import SignIn
from api.sse import Stream
from api.wire import direct
from shared.cursor import parse_cursor
from shared.errors import FieldError, InvalidInput
from shared.settings import settings

PATHS = ("/api/notifications/stream", "/api/notifications/subscribe")
#: Where an open stream is found in its scope.
_OPEN = "carillon.stream"
_TCP_FAMILIES = (socket.AF_INET, socket.AF_INET6)
#: Parameters that speak for somebody: they are taken out of the request before anything can log it.
_SECRET = ("ticket", "token")

router = APIRouter(tags=["stream"])


def _start() -> dict[str, Any]:
    """Return the response's start; the connection is not used again after a stream."""
    headers = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store, no-transform"),
        (b"x-accel-buffering", b"no"),
        (b"connection", b"close"),
    ]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def _parameters(scope: Scope) -> dict[str, str]:
    """Return the query's parameters (the last of each name), and leave no secret in the request for a log to find."""
    query: bytes = scope["query_string"]
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    if any(name in _SECRET for name, _ in pairs):
        scope["query_string"] = urlencode([pair for pair in pairs if pair[0] not in _SECRET]).encode()
    return dict(pairs)


def _header(scope: Scope, name: bytes) -> str | None:
    for each, value in scope["headers"]:
        if each == name:
            text: str = value.decode("utf-8", "replace")
            return text
    return None


def _client(value: str | None) -> str | None:
    if value is None:
        return None
    try:
        return str(UUID(value))
    except ValueError:
        raise InvalidInput(errors=(FieldError("client", "must be a UUID"),)) from None


def _snapshot(value: str | None) -> int | None:
    if value is None:
        return None
    limit = settings().max_page_size
    if not (value.isascii() and value.isdecimal() and len(value) <= 4 and 1 <= int(value) <= limit):
        raise InvalidInput(errors=(FieldError("snapshot", f"must be a number from 1 to {limit}"),))
    return int(value)


def _wish(scope: Scope, asked: dict[str, str]) -> Wish:
    """Return how the stream is to begin; the header `Last-Event-ID` wins over `lastEventId`, an empty one is none."""
    last = _header(scope, b"last-event-id") or asked.get("lastEventId") or None
    after = parse_cursor(last) if last is not None else None
    foreign = last is not None and after is None
    return Wish(after, foreign, _client(asked.get("client")), _snapshot(asked.get("snapshot")))


def _transport(receive: Receive) -> Any:
    """Return uvicorn's transport, to cut a connection that takes no bytes; None under another server."""
    transport: Any = getattr(getattr(receive, "__self__", None), "transport", None)
    if not hasattr(transport, "abort"):
        return None
    give_up_on_dead_peer(transport, settings().stream_send_timeout_seconds)
    return transport


def give_up_on_dead_peer(transport: asyncio.Transport, seconds: float) -> None:
    """Have the kernel end the connection when sent bytes stay unacknowledged for so long: the peer lost its power or
    its cable. Heartbeats are such bytes. Systems other than Linux go by their own, much longer time.
    """
    plain = transport.get_extra_info("socket")
    if plain is not None and plain.family in _TCP_FAMILIES and hasattr(socket, "TCP_USER_TIMEOUT"):
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1_000 * seconds))


async def _opened(hub: Hub, scope: Scope, receive: Receive, send: Send) -> Stream:
    """Return a stream that has begun. What was needed to begin it (a replay may be large) ends with this call."""
    asked = _parameters(scope)
    if scope["method"] != "GET":
        raise HTTPException(405, headers={"Allow": "GET"})
    sign_in: SignIn = scope["app"].state.sign_in
    who = await sign_in.listener(scope, asked)
    wish = _wish(scope, asked)
    # Since the sign-in nothing waited: a revocation that comes from now on finds the stream.
    stream = hub.admit(who, wish.client, scope.get(PLAIN_SEND, send), _transport(receive))
    try:
        opening = await hub.join(stream, wish)
        await send(_start())
        hub.go_live(stream, opening, who.expires_at, direct(receive))
    except BaseException:
        hub.leave(stream)
        raise
    return stream


async def _follow(hub: Hub, stream: Stream, receive: Receive) -> None:
    """Wait until the client goes away, or the stream is cut."""
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    except asyncio.CancelledError:
        if not stream.is_cut:
            raise
    finally:
        hub.leave(stream)


class StreamEndpoint:
    """The stream. Everything that can be refused is refused before the response starts, as a problem."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hub: Hub = scope["app"].state.hub
        await _follow(hub, await _opened(hub, scope, receive, send), receive)


class StreamingApp(FastAPI):
    """FastAPI, but a stream's request passes by what is around other calls, and is let go of once it is open.

    What remains of it is one coroutine instead of twelve: a third less for each idle stream, and a tenth for its
    opening. Errors and headers are made by the same middleware as everybody's.
    """

    _opener: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in PATHS:
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        await self._open(scope, receive, send)
        stream: Stream | None = scope.pop(_OPEN, None)
        if stream is not None:
            _let_go(scope)
            await _follow(self.state.hub, stream, receive)

    def _open(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if self._opener is None:
            self._opener = self._with_middleware(_open)
        return self._opener(scope, receive, send)

    def _with_middleware(self, app: ASGIApp) -> ASGIApp:
        handlers = {of: handler for of, handler in self.exception_handlers.items() if of not in (500, Exception)}
        app = ExceptionMiddleware(app, handlers=handlers)
        for middleware in reversed(self.user_middleware):
            app = middleware.cls(app, *middleware.args, **middleware.kwargs)
        return app


def _let_go(scope: Scope) -> None:
    """Forget the request of a stream that is open: its credentials, and 2 KiB. The server still asks for its method."""
    scope["headers"].clear()
    kept = {name: scope[name] for name in ("type", "method", "path")}
    scope.clear()
    scope.update(kept)


async def _open(scope: Scope, receive: Receive, send: Send) -> None:
    """Open a stream and leave it in the scope, for whoever follows it."""
    scope[_OPEN] = await _opened(scope["app"].state.hub, scope, receive, send)


@router.post("/api/notifications/stream/tickets", status_code=201)
async def make_ticket(request: Request, who: CurrentSubscriber) -> dict[str, Any]:
    """A single-use ticket for `GET /api/notifications/stream?ticket=…`, for clients that can set no header."""
    ticket = await tickets.issue(request.app.state.hub.redis, who)
    return {"ticket": ticket, "expiresIn": tickets.LIFE_S}


@router.get("/api/stream/connections", tags=["operators"])
async def connections(request: Request, key: OperatorKey) -> dict[str, Any]:
    """The streams that this process has open: all of them counted, and each recipient's of the key's tenants."""
    told = request.app.state.hub.stats()
    return {**told, "recipients": [each for each in told["recipients"] if key.may_use(each["tenant"])]}


def install(app: FastAPI) -> None:
    """Add the stream, its alias and the calls around it to `app`; its lifespan must set `app.state.hub`."""
    endpoint = StreamEndpoint()
    for path in PATHS:
        app.router.routes.append(Route(path, endpoint))
    app.include_router(router)

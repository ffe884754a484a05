"""The API's application: its parts, what it starts and stops, and the middleware around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import directory, events, graphql, health, inbox, pages, probe, revocations, session, stream, webhooks
from api.cross_origin import allow_origins
from api.description import install_description, operation_id
from api.drain import drain_on_signal
from api.hub import Hub, tune_gc
from api.listen import listen_for_events
from api.problems import install_problems, unexpected
from api.publish import Publisher
from api.sign_in import SignIn
from api.tasks import end
from api.token_keys import fixed_keys
from api.wake import Waker
from api.watch import Watch
from shared import db
from shared.catalog import catalog
from shared.errors import StartError, tell_in_one_sentence
from shared.logs import configure_logs, log
from shared.settings import settings

DESCRIPTION = """Carillon delivers domain events as notifications: in order, exactly once, on every tab and device.

Producers post CloudEvents; browsers read pages and follow a stream of Server-Sent Events. Errors are RFC 9457 problems.
"""


#: FastAPI's page of the OpenAPI description runs a script of its own.
SWAGGER = ("/docs", "/docs/oauth2-redirect")


#: Streams are told and closed within a second; a server that does not answer must not hold up a stop for longer: twice
#: this, as the database's connections are closed last.
CLOSE_S = 2.0


def _require_servers() -> None:
    chosen = settings()
    for name in ("database_url", "redis_url", "broker_url", "secret_key"):
        if getattr(chosen, name) is None:
            raise StartError(f"CARILLON_{name.upper()} is not set: set it, or start everything with `make up`.")
    if not chosen.names_signer:
        raise StartError(
            "CARILLON_JWT_SECRET is not set: set it, CARILLON_JWT_PUBLIC_KEY or CARILLON_JWT_JWKS_URL, or start "
            "everything with `make up`."
        )
    fixed_keys()


async def _closed(what: str, closing: Awaitable[Any]) -> None:
    """Await `closing`, but no longer than `CLOSE_S`: a stop must end, and what is left ends with the process."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await closing
    except TimeoutError:
        log().warning("api.close_abandoned", what=what)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.publisher = Publisher()
    app.state.waker = Waker()
    app.state.hub = Hub()
    app.state.sign_in = SignIn(app.state.hub.redis)
    app.state.watch = Watch(app.state.hub, app.state.sign_in)
    app.state.waker.start()
    await app.state.sign_in.start()
    await app.state.hub.start()
    await app.state.watch.start()
    listening = asyncio.create_task(listen_for_events(app.state.waker.wake))
    tune_gc()
    log().info("api.started")
    with drain_on_signal(app.state.hub):
        yield
    await asyncio.gather(
        _closed("listening", end(listening)),
        _closed("watch", app.state.watch.stop()),
        _closed("hub", app.state.hub.stop()),
        _closed("sign-in", app.state.sign_in.stop()),
        _closed("waker", asyncio.to_thread(app.state.waker.stop)),
        _closed("publisher", app.state.publisher.close()),
    )
    await _closed("database", db.close_async_engines())
    log().info("api.stopped")


class Answers:
    """Sees to it that every request is answered, and as browsers need it.

    Every answer has the headers that forbid a browser to guess, frame, cache or run what the API says; a page sets its
    own Content-Security-Policy, which is left as it is, and /docs has none. A failure that nobody foresaw is a problem
    with status 500; if the answer has begun already, the connection is cut.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = [
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
            (b"cache-control", b"no-store"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = self._completed(message["headers"], scope["path"])
            await send(message)

        try:
            await self._app(scope, receive, with_headers)
        except Exception as error:
            answer = unexpected(error, scope["path"])
            if begun:
                raise ConnectionAbortedError from None
            await answer(scope, receive, with_headers)

    def _completed(self, headers: Iterable[tuple[bytes, bytes]], path: str) -> list[tuple[bytes, bytes]]:
        told = {name.lower() for name, _ in headers}
        if path in SWAGGER:
            told.add(b"content-security-policy")
        return [*headers, *(pair for pair in self._headers if pair[0] not in told)]


def create_app() -> FastAPI:
    """Return the application; raises `StartError` or `CatalogError` with one sentence when it cannot serve."""
    tell_in_one_sentence()
    configure_logs("api")
    _require_servers()
    db.require_bound_login("api")
    catalog()
    documented: dict[str, Any] = {} if settings().development else {"docs_url": None, "openapi_url": None}
    app = FastAPI(
        title="Carillon",
        version=version("carillon"),
        description=DESCRIPTION,
        redoc_url=None,
        # A redirect would repeat a ticket in its location, and the access log would show it.
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
        lifespan=_lifespan,
        **documented,
    )
    install_problems(app)
    app.add_middleware(Answers)
    allow_origins(app, settings().allowed_origins)
    stream.install(app)
    for part in (events, webhooks, directory, revocations, session, inbox, graphql, health, probe, pages):
        app.include_router(part.router)
    install_description(app)
    return app

"""The API's application: its parts, what it starts and stops, and the middleware around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import directory, events, health, inbox, pages, probe, stream, webhooks
from api.drain import drain_on_signal
from api.hub import Hub, tune_gc
from api.listen import listen_for_events
from api.problems import install_problems
from api.publish import Publisher
from api.wake import Waker
from shared import db
from shared.catalog import catalog
from shared.errors import StartError, tell_in_one_sentence
from shared.logs import configure_logs, log
from shared.settings import settings

DESCRIPTION = """Carillon delivers domain events as notifications: in order, exactly once, on every tab and device.

Producers post CloudEvents; browsers read pages and follow a stream of Server-Sent Events. Errors are RFC 9457 problems.
"""


def _require_servers() -> None:
    chosen = settings()
    for name in ("database_url", "redis_url", "broker_url", "jwt_secret", "secret_key"):
        if getattr(chosen, name) is None:
            raise StartError(f"CARILLON_{name.upper()} is not set: set it, or start everything with `make up`.")


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.publisher = Publisher()
    app.state.waker = Waker()
    app.state.hub = Hub()
    app.state.waker.start()
    await app.state.hub.start()
    listening = asyncio.create_task(listen_for_events(app.state.waker.wake))
    tune_gc()
    log().info("api.started")
    with drain_on_signal(app.state.hub):
        yield
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await app.state.hub.stop()
    app.state.waker.stop()
    await app.state.publisher.close()
    await db.async_engine_of().dispose()
    log().info("api.stopped")


class SecurityHeaders:
    """Adds to every answer the headers that forbid a browser to guess, frame, cache or run what the API says.

    A page sets its own Content-Security-Policy; it is left as it is.
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
        if scope["type"] != "http" or scope["path"].startswith("/docs"):
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in self._headers if pair[0] not in told)]
            await send(message)

        await self._app(scope, receive, with_headers)


def create_app() -> FastAPI:
    """Return the application; raises `StartError` or `CatalogError` with one sentence when it cannot serve."""
    tell_in_one_sentence()
    configure_logs("api")
    _require_servers()
    catalog()
    documented: dict[str, Any] = {} if settings().development else {"docs_url": None, "openapi_url": None}
    app = FastAPI(
        title="Carillon",
        version=version("carillon"),
        description=DESCRIPTION,
        redoc_url=None,
        lifespan=_lifespan,
        **documented,
    )
    install_problems(app)
    app.add_middleware(SecurityHeaders)
    stream.install(app)
    for part in (events, webhooks, directory, inbox, health, probe, pages):
        app.include_router(part.router)
    return app

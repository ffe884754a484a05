"""The API's application: its parts, what it starts and stops, and the middleware around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import State

from api import (
    directory,
    docs,
    events,
    explain,
    graphql,
    health,
    inbox,
    metrics,
    ops,
    pages,
    probe,
    revocations,
    session,
    stream,
    webhooks,
)
from api.acceptance import Acceptance
from api.access_log import keep_queries_out
from api.answers import Answers
from api.cross_origin import allow_origins
from api.denied import Denied
from api.description import install_description, operation_id
from api.drain import drain_on_signal
from api.hub import Hub
from api.listen import listen_for_events
from api.measure import Measures
from api.overview import Overview
from api.problems import install_problems
from api.publish import Publisher
from api.rates import Rates
from api.sign_in import SignIn
from api.tasks import end
from api.token_keys import fixed_keys
from api.wake import Waker
from api.watch import Watch
from api.wire import answer_in_problems
from shared import db, traces
from shared.catalog import catalog
from shared.errors import StartError, tell_in_one_sentence
from shared.garbage import tune_gc
from shared.logs import configure_logs, log
from shared.settings import settings

DESCRIPTION = """Carillon delivers domain events as notifications: in order, exactly once, on every tab and device.

Producers post CloudEvents; browsers read pages and follow a stream of Server-Sent Events. Errors are RFC 9457 problems.
"""


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


async def _stop(waker: Waker) -> None:
    await waker.stop_asking()
    await asyncio.to_thread(waker.stop)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    _make_parts(app.state)
    await _start_parts(app.state)
    listening = asyncio.create_task(listen_for_events(app.state.waker.wake))
    tune_gc()
    log().info("api.started")
    with drain_on_signal(app.state.hub):
        yield
    await _stop_parts(app.state, listening)
    log().info("api.stopped")


def _make_parts(parts: State) -> None:
    """Make what requests find in the application's state (`api/deps.py`)."""
    parts.publisher = Publisher()
    parts.waker = Waker()
    parts.acceptance = Acceptance()
    parts.hub = Hub()
    parts.rates = Rates(parts.hub.redis)
    parts.denied = Denied(parts.rates)
    parts.sign_in = SignIn(parts.hub.redis, parts.rates)
    parts.watch = Watch(parts.hub, parts.sign_in)
    parts.measures = Measures(parts.hub)
    parts.overview = Overview(parts.measures)
    parts.ops_pages = 0


async def _start_parts(parts: State) -> None:
    parts.waker.start()
    parts.waker.start_asking()
    parts.rates.start()
    parts.denied.start()
    await parts.sign_in.start()
    await parts.hub.start()
    await parts.watch.start()
    await parts.measures.start()


async def _stop_parts(parts: State, listening: asyncio.Task[None]) -> None:
    """End everything, at once where nothing of it needs another; the database's connections, which all need, last."""
    await asyncio.gather(
        _closed("listening", end(listening)),
        _closed("measures", parts.measures.stop()),
        _closed("watch", parts.watch.stop()),
        _closed("hub", parts.hub.stop()),
        _closed("sign-in", parts.sign_in.stop()),
        _closed("rates", parts.rates.stop()),
        _closed("denied", parts.denied.stop()),
        _closed("waker", _stop(parts.waker)),
        _closed("publisher", parts.publisher.close()),
    )
    await _closed("database", db.close_async_engines())
    await _closed("traces", asyncio.to_thread(traces.end))


def create_app() -> FastAPI:
    """Return the application; raises `StartError` or `CatalogError` with one sentence when it cannot serve."""
    tell_in_one_sentence()
    configure_logs("api")
    _require_servers()
    traces.require()
    db.require_bound_login("api")
    catalog()
    keep_queries_out()
    answer_in_problems()
    app = stream.StreamingApp(
        title="Carillon",
        version=version("carillon"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if settings().development else None,
        # A redirect would repeat a ticket in its location, and the access log would show it.
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
        lifespan=_lifespan,
    )
    install_problems(app)
    # Within the answers: a preflight has their headers, too, and the stream's parts pass it by.
    allow_origins(app, settings().allowed_origins)
    app.add_middleware(Answers)
    stream.install(app)
    # Before `events`, whose ids may have slashes.
    app.include_router(explain.router)
    callable_parts = (events, webhooks, directory, revocations, session, inbox, graphql, health, metrics, probe)
    for part in (*callable_parts, docs, ops, pages):
        app.include_router(part.router)
    install_description(app)
    return app

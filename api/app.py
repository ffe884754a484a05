"""The API's application: its parts, what it starts and stops, and the middleware around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

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
    app.state.publisher = Publisher()
    app.state.waker = Waker()
    app.state.acceptance = Acceptance()
    app.state.hub = Hub()
    app.state.rates = Rates(app.state.hub.redis)
    app.state.denied = Denied(app.state.rates)
    app.state.sign_in = SignIn(app.state.hub.redis, app.state.rates)
    app.state.watch = Watch(app.state.hub, app.state.sign_in)
    app.state.measures = Measures(app.state.hub)
    app.state.overview = Overview(app.state.measures)
    app.state.ops_pages = 0
    app.state.waker.start()
    app.state.waker.start_asking()
    app.state.rates.start()
    app.state.denied.start()
    await app.state.sign_in.start()
    await app.state.hub.start()
    await app.state.watch.start()
    await app.state.measures.start()
    listening = asyncio.create_task(listen_for_events(app.state.waker.wake))
    tune_gc()
    log().info("api.started")
    with drain_on_signal(app.state.hub):
        yield
    await asyncio.gather(
        _closed("listening", end(listening)),
        _closed("measures", app.state.measures.stop()),
        _closed("watch", app.state.watch.stop()),
        _closed("hub", app.state.hub.stop()),
        _closed("sign-in", app.state.sign_in.stop()),
        _closed("rates", app.state.rates.stop()),
        _closed("denied", app.state.denied.stop()),
        _closed("waker", _stop(app.state.waker)),
        _closed("publisher", app.state.publisher.close()),
    )
    await _closed("database", db.close_async_engines())
    await _closed("traces", asyncio.to_thread(traces.end))
    log().info("api.stopped")


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

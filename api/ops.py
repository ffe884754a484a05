"""The operators' page `/ops`, what it follows, and the retry of a failed event.

It asks for a producer key with the scope `ops:read` (`ops:write` to retry), which stays in the page's memory. In
development, pages of this server need none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response, StreamingResponse

from api import pages
from api.body import answer, read_body, require_type
from api.credentials import RequireScope, require_tenant
from api.cross_site import require_own_page
from api.deps import FanOutWaker
from api.hub import Hub
from api.overview import Overview
from api.problems import invalid
from shared import audit, databases, db, operations, strict_json
from shared.audit import Entry
from shared.errors import CarillonError, NotFound, TooManyRequests
from shared.following import trace_of
from shared.frames import dumps
from shared.keys import ProducerKey
from shared.logs import log
from shared.settings import PROJECT_ROOT, settings
from shared.statements import Row, arun

router = APIRouter(include_in_schema=False)

FOLDER = PROJECT_ROOT / "web" / "src" / "ops"
#: What the page takes of the demonstration's files.
_SHARED = {name: pages.FOLDER / name for name in ("tokens.css", "dom.js", "icon.svg")}
FILES = _SHARED | {path.name: path for path in FOLDER.glob("*") if path.suffix in pages.MEDIA_TYPES}
#: A page is told so often. A key that was revoked ends its page at the second tell after that at the latest.
TELL_S = 2.0
#: Between two looks whether the server stops: a drain takes less than a second.
LOOK_S = 0.25
#: Pages that one process tells: operators are few, and each open page is a connection.
MOST_PAGES = 50
#: Three names of 200 characters, each written with escapes at worst.
MAX_BODY_BYTES = 8 * 1024
MAX_NAME = 200
STREAM_HEADERS = {"cache-control": "no-store, no-transform", "x-accel-buffering": "no", "connection": "close"}


@dataclass(frozen=True, slots=True)
class Operator:
    """Who looks, and whose events may be seen (None: all)."""

    actor: str
    key: ProducerKey | None

    @property
    def tenants(self) -> frozenset[str] | None:
        """The tenants whose events are listed."""
        return None if self.key is None else self.key.tenants

    @property
    def may_retry(self) -> bool:
        """Whether failed events may be retried."""
        return self.key is None or self.key.may("ops:write")


class _RequireOperator:
    def __init__(self, scope: str) -> None:
        self._key = RequireScope(scope)

    async def __call__(self, request: Request) -> Operator:
        if settings().development and "authorization" not in request.headers:
            require_own_page(request.method, Headers(scope=request.scope))
            return Operator("operator:development", None)
        key = await self._key(request)
        return Operator(key.actor, key)


_reader = _RequireOperator("ops:read")
Reader = Annotated[Operator, Depends(_reader)]
Writer = Annotated[Operator, Depends(_RequireOperator("ops:write"))]


def _overview(request: Request) -> Overview:
    overview: Overview = request.app.state.overview
    return overview


@router.get("/ops")
async def page() -> Response:
    """The page. It holds nothing by itself: whoever sees it needs a key to see more."""
    return FileResponse(FOLDER / "index.html", headers=pages.HEADERS, media_type="text/html")


@router.get("/static/ops/{name}")
async def file(name: str) -> Response:
    """One of the page's files."""
    path = FILES.get(name)
    if path is None:
        raise NotFound
    return FileResponse(path, headers=pages.HEADERS, media_type=pages.MEDIA_TYPES[path.suffix])


@router.get("/api/ops/overview")
async def overview(request: Request, who: Reader) -> Response:
    """What the page shows, once."""
    return answer(await _told(request, who))


async def _told(request: Request, who: Operator) -> dict[str, Any]:
    return {**await _overview(request).tell(who.tenants), "mayRetry": who.may_retry}


@router.get("/api/ops/stream")
async def stream(request: Request, who: Reader) -> Response:
    """The same every two seconds, as Server-Sent Events, until the server stops or the key is void."""
    state = request.app.state
    if state.ops_pages >= MOST_PAGES:
        raise TooManyRequests("There are too many operators' pages open.", retry_after=10)
    return StreamingResponse(_tell(request, who), media_type="text/event-stream", headers=STREAM_HEADERS)


async def _tell(request: Request, who: Operator) -> AsyncIterator[bytes]:
    hub: Hub = request.app.state.hub
    state = request.app.state
    state.ops_pages += 1
    try:
        while not hub.draining:
            yield b"event: overview\ndata: " + dumps(await _told(request, who)) + b"\n\n"
            await _pause(hub)
            who = await _reader(request)
    except CarillonError as error:
        # A key that was revoked meanwhile: the page's next stream is refused with the reason.
        log().info("ops.stream_ended", reason=error.reason())
    finally:
        state.ops_pages -= 1


async def _pause(hub: Hub) -> None:
    for _ in range(round(TELL_S / LOOK_S)):
        if not hub.draining:
            await asyncio.sleep(LOOK_S)


class RetryBody(BaseModel):
    """A failed event."""

    model_config = ConfigDict(extra="forbid", strict=True)

    tenant: str = Field(min_length=1, max_length=MAX_NAME)
    source: str = Field(min_length=1, max_length=MAX_NAME)
    id: str = Field(min_length=1, max_length=MAX_NAME)


@router.post("/api/ops/events/retry", status_code=202)
async def retry(request: Request, who: Writer, waker: FanOutWaker) -> Response:
    """Give a failed event another try; what of it was told already is not told again. 404: no failed one is it."""
    require_type(request, ("application/json",))
    try:
        body = RetryBody.model_validate(strict_json.loads(await read_body(request, MAX_BODY_BYTES)))
    except ValidationError as error:
        raise invalid(error.errors()) from None
    if who.key is not None:
        require_tenant(who.key, body.tenant)
    found = [row for name in databases.names() if (row := await _retry_in(name, body, who.actor)) is not None]
    if not found:
        raise NotFound("There is no such failed event.")
    waker.wake(databases.database_of(body.tenant))
    names = {"tenant": body.tenant, "source": body.source, "id": body.id, "trace_id": trace_of(found[0])}
    log().info("event.retried", actor=who.actor, **names)
    return answer({"state": "accepted"}, 202)


async def _retry_in(database: str, body: RetryBody, actor: str) -> Row | None:
    async with db.watching_transaction(body.tenant, database=database) as connection:
        row = await arun(connection, operations.retry(body.tenant, body.source, body.id))
        if row is not None:
            details = {"source": body.source}
            entry = Entry(actor, "event.retried", body.tenant, body.id, details=details)
            await arun(connection, audit.record(entry))
    return row

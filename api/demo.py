"""What the demonstration page needs beside the product: people to be, the catalog, and a producer. Development only."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import text
from starlette.responses import Response

from api.deps import FanOutWaker, TheAcceptance
from api.events import store
from shared import cloudevent, databases, db, demo, events, forwards, statements
from shared.catalog import EventType, catalog
from shared.databases import database_of
from shared.errors import NotFound
from shared.frames import dumps
from shared.plans import arun_plan
from shared.settings import settings
from shared.tokens import make_token

#: Who posts what the page sends.
SOURCE = "/demo"
#: A session of the page; it asks for another token when this one ends.
TOKEN_SECONDS = 3600
#: People whom the page offers; a demonstration has a few dozen.
MOST_PEOPLE = 500
MAX_NAME = 200


async def _development_only() -> None:
    if not settings().development:
        raise NotFound


router = APIRouter(
    prefix="/api/demo", tags=["demonstration"], dependencies=[Depends(_development_only)], include_in_schema=False
)


def _answer(body: dict[str, Any], status: int = 200) -> Response:
    return Response(dumps(body), status, media_type="application/json")


_PEOPLE = text("""
    SELECT r.tenant, r.id, r.attributes,
           ARRAY(SELECT o.role FROM recipient_roles o WHERE o.key = r.key ORDER BY o.role) AS roles
    FROM recipients r
    WHERE r.attributes @> '{"demo": true}' AND r.tenant = coalesce(CAST(:tenant AS text), r.tenant)
      AND r.id = coalesce(CAST(:id AS text), r.id)
    ORDER BY r.key LIMIT :most""")


async def _people(tenant: str | None = None, id: str | None = None) -> list[dict[str, Any]]:
    """Return the demo people of the directory (or the one asked for): those of `shared.demo` first, in their order."""
    values = {"tenant": tenant, "id": id, "most": MOST_PEOPLE}
    named = (tenant,) if tenant else demo.tenants()
    rows: list[statements.Row] = []
    for name in databases.names():
        async with db.async_transaction(*named, database=name) as connection:
            rows += map(dict, (await connection.execute(_PEOPLE, values)).mappings())
    found = [_person(row["tenant"], row["id"], row["attributes"], row["roles"]) for row in rows]
    return sorted(found, key=lambda one: demo.place_of(one["tenant"], one["id"]))


def _person(tenant: str, id: str, attributes: dict[str, Any], roles: list[str]) -> dict[str, Any]:
    name, about = str(attributes.get("name", id)), str(attributes.get("about", ""))
    return {"tenant": tenant, "id": id, "name": name, "about": about, "roles": roles}


@router.get("/people")
async def people() -> Response:
    """Whom one may be on the page. At the first visit the people of the five domains are registered."""
    there = await _people()
    if not {(person.tenant, person.id) for person in demo.PEOPLE} <= {(one["tenant"], one["id"]) for one in there}:
        await arun_plan(demo.seed())
        there = await _people()
    return _answer({"people": there})


class SessionOf(BaseModel):
    """Whom to be."""

    model_config = ConfigDict(extra="forbid", strict=True)

    tenant: str = Field(max_length=MAX_NAME)
    recipient: str = Field(max_length=MAX_NAME)


@router.post("/session")
async def session(body: SessionOf) -> Response:
    """A token of one of the demo people; anybody else is unknown here."""
    if settings().jwt_secret is None:
        raise NotFound("The demonstration makes its own tokens: it needs CARILLON_JWT_SECRET.")
    found = await _people(body.tenant, body.recipient)
    if not found:
        raise NotFound("There is no such person in the demonstration.")
    return _answer({"token": make_token(body.tenant, body.recipient, found[0]["roles"], TOKEN_SECONDS)})


@router.get("/catalog")
async def event_types() -> Response:
    """Every event type that can be sent, by domain, with what its form needs."""
    domains: dict[str, list[dict[str, Any]]] = {}
    for kind in catalog():
        if not kind.retired:
            domains.setdefault(kind.domain, []).append(_event_type(kind))
    order = [
        *(name for name in demo.TENANTS if name in domains),
        *(name for name in domains if name not in demo.TENANTS),
    ]
    told = [{"name": name, "tenant": demo.TENANTS.get(name), "types": domains[name]} for name in order]
    return _answer({"domains": told, "tenants": demo.tenants()})


def _event_type(kind: EventType) -> dict[str, Any]:
    """Return a type for its form; `recipientFields` are the data fields that name who is told."""
    named = dict.fromkeys(audience.field for audience in kind.audiences if audience.field)
    return {
        "name": kind.name,
        "description": kind.description,
        "schema": kind.schema,
        "example": kind.example,
        "tenant": demo.TYPE_TENANTS.get(kind.name),
        "recipientFields": list(named),
    }


class DemoEvent(BaseModel):
    """An event as the form makes it; the rest of its envelope is made here."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: str
    tenant: str
    data: dict[str, Any]


@router.post("/events")
async def send(body: DemoEvent, acceptance: TheAcceptance, waker: FanOutWaker) -> Response:
    """Post an event as a producer would: the same judgement, the same queue of record."""
    id = str(uuid4())
    envelope = {"specversion": cloudevent.SPECVERSION, "source": SOURCE, "id": id, **body.model_dump()}
    posting = events.posting_of([cloudevent.read(envelope)])
    await store(acceptance, posting, registers=False)
    waker.wake(database_of(body.tenant))
    return _answer({"id": id, "status": "accepted"}, 202)


@router.get("/events/{id}")
async def sent(id: str, tenant: str) -> Response:
    """How far an event of the page is."""
    row = await arun_plan(forwards.read(tenant, SOURCE, id))
    return _answer({name: row[name] for name in ("id", "state", "recipients", "notifications")})

"""Webhooks of others: GitHub's own, and Standard Webhooks. The signature is the credential; nothing is registered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.body import answer, problems, read_body, require_type
from api.deps import FanOutWaker, TheAcceptance
from api.events import Posted, store
from api.json_schemas import EXAMPLE_WEBHOOK
from api.paths import Name
from shared import cloudevent, db, directory, events, following, github, metrics, signing, strict_json, topics
from shared.cloudevent import Event
from shared.databases import SHARED, database_of
from shared.directory import NAME
from shared.errors import FieldError, InvalidInput, MalformedBody, Unauthenticated
from shared.github import GithubEvent
from shared.plans import Part, Plan, arun_plan
from shared.settings import settings
from shared.signing import Purpose
from shared.statements import Program, arun
from shared.strict_json import Limits
from shared.topics import Membership

router = APIRouter(prefix="/api/webhooks", tags=["webhooks"])

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
GITHUB_SOURCE = "github"
STANDARD_SOURCE = "standard"
#: GitHub's payloads describe whole repositories, in texts that are other people's: they are cleaned, not refused.
GITHUB_LIMITS = Limits(keys=100_000, characters=False)
#: A payload beyond this is read on a thread of its own, so that live streams do not wait for it (about 1 ms of work).
_INLINE_BYTES = 16 * 1024
#: What a Standard Webhooks body says, and the attribute that it becomes.
_STANDARD_FIELDS = {"type": "type", "timestamp": "time", "data": "data"}


_RESPONSES = problems(400, 401, 409, 413, 415, 422, 503)


async def _secrets(tenant: str, purpose: Purpose) -> list[str]:
    """Return the tenant's live secrets; without one there is nothing to verify, and no body is read."""
    async with db.async_transaction(tenant, database=SHARED) as connection:
        found = await arun(connection, signing.secrets_of(tenant, purpose))
    if not found:
        raise Unauthenticated("The signature is not valid.")
    return found


@dataclass(frozen=True, slots=True)
class _Delivery:
    """A delivery that was verified: its event before the directory was asked, and the hash of what GitHub sent."""

    id: str
    event: GithubEvent
    content: bytes


def _delivery(id: str, name: str, body: bytes, kind: str) -> _Delivery:
    payload = strict_json.loads(_payload_of(body) if kind == FORM else body, GITHUB_LIMITS)
    if not isinstance(payload, dict):
        raise MalformedBody("The payload must be a JSON object.")
    payload = strict_json.clean(payload)
    # What the event says depends on the directory and on our mapping; a redelivery must not differ by those.
    content = events.hash_of({"type": name, "subject": None, "time": None, "dataschema": None, "data": payload})
    return _Delivery(id, github.event_of(name, id, payload), content)


def _payload_of(body: bytes) -> str:
    try:
        fields = parse_qs(body.decode(), strict_parsing=True, errors="strict", max_num_fields=2)
    except ValueError:
        raise MalformedBody("The body is not a valid form.") from None
    if [*fields] != ["payload"] or len(fields["payload"]) != 1:
        raise MalformedBody("The form must have one field: payload.")
    return fields["payload"][0]


def deliver(tenant: str, delivery: _Delivery) -> Plan[tuple[Event, events.Status]]:
    """As `accept_delivery`, with the participants who are at home in the shared database."""
    home, elsewhere = database_of(tenant), {}
    if home != SHARED:
        logins = [*github.logins_of(delivery.event)]
        elsewhere = yield Part(SHARED, (tenant,), directory.ids_by_login(tenant, logins))
    event, status, joining = yield Part(home, (tenant,), accept_delivery(tenant, delivery, elsewhere))
    if joining:
        yield Part(SHARED, (tenant,), topics.change_members(joining))
    return event, status


def accept_delivery(
    tenant: str, delivery: _Delivery, elsewhere: Mapping[str, str]
) -> Program[tuple[Event, events.Status, list[Membership]]]:
    """Store the delivery's event, and let the participants whom the directory knows join the thread's topic.

    `elsewhere` are those whom another database knows, by login: their memberships are returned.
    """
    here = yield from directory.ids_by_login(tenant, [*github.logins_of(delivery.event)])
    known = {**elsewhere, **here}
    told = github.respelled(delivery.event, known)
    event = cloudevent.read(_envelope(tenant, delivery.id, told))
    posting = events.posting_of([event], [delivery.content])
    (status,) = yield from events.accept(posting, registers=False)
    if status != "accepted" or not told.thread_topic:
        return event, status, []
    joining = [Membership(tenant, told.thread_topic, who) for who in told.participants if who in known.values()]
    mine = [each for each in joining if each.recipient in here.values()]
    if mine:
        yield from topics.change_members(mine)
    return event, status, [each for each in joining if each not in mine]


def _envelope(tenant: str, id: str, told: GithubEvent) -> dict[str, Any]:
    envelope = {"specversion": "1.0", "id": id, "source": GITHUB_SOURCE, "tenant": tenant, "type": told.type}
    return {**envelope, "subject": told.subject or None, "data": told.data}


def _github_headers(request: Request) -> tuple[str, str, str]:
    """Return the delivery's id, its event's name and its signature. Raises `Unauthenticated`, `InvalidInput`."""
    signature = request.headers.get("x-hub-signature-256", "")
    if not signature:
        raise Unauthenticated("Sign the delivery: X-Hub-Signature-256.")
    told = {name: request.headers.get(name, "") for name in ("X-GitHub-Delivery", "X-GitHub-Event")}
    wrong = tuple(
        FieldError(name, NAME if value else "is required")
        for name, value in told.items() if not cloudevent.is_name(value)
    )  # fmt: skip
    if wrong:
        raise InvalidInput(errors=wrong)
    return told["X-GitHub-Delivery"], told["X-GitHub-Event"], signature


def headers_of(name: str, description: str, pattern: str = "^[!-~]{1,200}$") -> dict[str, Any]:
    """Return the OpenAPI description of a header that must be there."""
    schema = {"type": "string", "pattern": pattern}
    return {"name": name, "in": "header", "required": True, "description": description, "schema": schema}


_PAYLOAD = {"type": "object", "description": "The delivery, as GitHub sends it."}
_GITHUB_BODY = {
    "parameters": [
        headers_of("X-Hub-Signature-256", "`sha256=` and the HMAC of the body", "^sha256=[0-9a-f]{64}$"),
        headers_of("X-GitHub-Delivery", "The delivery's id, which becomes the event's"),
        headers_of("X-GitHub-Event", "What happened, as GitHub names it"),
    ],
    "requestBody": {
        "required": True,
        "content": {JSON: {"schema": _PAYLOAD, "example": {"action": "opened"}}},
    },
}


@router.post("/github", status_code=202, response_model=Posted, openapi_extra=_GITHUB_BODY, responses=_RESPONSES)
async def from_github(request: Request, waker: FanOutWaker, tenant: Name) -> Response:
    """Take a delivery of GitHub, as JSON or as GitHub's form with one field `payload`.

    `X-GitHub-Delivery` is the event's id: a redelivery notifies nobody again.
    """
    id, name, signature = _github_headers(request)
    kind = require_type(request, (JSON, FORM))
    found = await _secrets(tenant, "github")
    body = await read_body(request, settings().webhook_max_bytes)
    signing.verify_github(found, signature, body)
    if len(body) > _INLINE_BYTES:
        delivery = await asyncio.to_thread(_delivery, id, name, body, kind)
    else:
        delivery = _delivery(id, name, body, kind)
    began = time.time()
    event, status = await arun_plan(deliver(tenant, delivery))
    metrics.count_events([status])
    following.note_accepted([event], [status], began)
    waker.wake(database_of(tenant))
    return answer({"events": events.told([event], [status])}, 202)


def _standard_event(tenant: str, id: str, body: bytes) -> Event:
    told = strict_json.loads(body)
    if not isinstance(told, dict):
        raise MalformedBody("The body must be a JSON object.")
    wrong = [FieldError(strict_json.shown((name,)), "is not a field here") for name in told.keys() - _STANDARD_FIELDS]
    wrong += [FieldError(name, "is required") for name in _STANDARD_FIELDS if name not in told]
    if wrong:
        raise InvalidInput("The event is not valid.", errors=tuple(wrong))
    envelope = {attribute: told[name] for name, attribute in _STANDARD_FIELDS.items()}
    if envelope["time"] is None:
        raise InvalidInput("The event is not valid.", errors=(FieldError("timestamp", "is required"),))
    try:
        fixed = {"specversion": "1.0", "id": id, "source": STANDARD_SOURCE, "tenant": tenant}
        return cloudevent.read({**envelope, **fixed})
    except InvalidInput as refused:
        raise InvalidInput(refused.detail, errors=tuple(map(_as_sent, refused.errors))) from None


def _as_sent(error: FieldError) -> FieldError:
    """Return the error under the name that the sender gave the field."""
    names = {"time": "timestamp", "id": "webhook-id"}
    return FieldError(names.get(error.field, error.field), error.message)


_SIGNATURES = "^v1,[A-Za-z0-9+/]{43}=( v1,[A-Za-z0-9+/]{43}=)*$"
_STANDARD_BODY = {
    "parameters": [
        headers_of("webhook-id", "The event's id"),
        headers_of("webhook-timestamp", "Unix seconds", "^[0-9]{1,12}$"),
        headers_of(
            "webhook-signature", "`v1,` and the HMAC of id, timestamp and body; several apart by blanks", _SIGNATURES
        ),
    ],
    "requestBody": {
        "required": True,
        "content": {JSON: {"schema": {"$ref": "#/components/schemas/StandardWebhook"}, "example": EXAMPLE_WEBHOOK}},
    },
}


@router.post("/standard", status_code=202, response_model=Posted, openapi_extra=_STANDARD_BODY, responses=_RESPONSES)
async def from_standard(request: Request, acceptance: TheAcceptance, waker: FanOutWaker, tenant: Name) -> Response:
    """Take a Standard Webhook. `webhook-id` is the event's id: the same again notifies nobody."""
    signed = signing.signed_by(request.headers)
    require_type(request, (JSON,))
    found = await _secrets(tenant, "standard")
    body = await read_body(request, settings().event_max_bytes)
    signing.verify_standard(found, signed, body)
    event = _standard_event(tenant, signed.id, body)
    told = await store(acceptance, events.posting_of([event]), registers=False)
    waker.wake(database_of(tenant))
    return told

"""The Celery task by which producers post without HTTP: `carillon.accept_event`.

Whoever reaches the broker is not thereby a producer: each message is signed (Standard Webhooks) with a secret that was
made for it. The result is what HTTP would have answered, problems included; until a producer has it, the event is not
acknowledged.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, NoReturn

from celery import Task
from celery.exceptions import Ignore, Reject
from sqlalchemy import Connection
from structlog.contextvars import bound_contextvars

from shared import cloudevent, db, events, metrics, overview, signing, strict_json
from shared.broker import AWAY, is_amqp, sending
from shared.cloudevent import Event
from shared.databases import SHARED, database_of, working_in
from shared.errors import BodyTooLarge, CarillonError, FieldError, Forbidden, MalformedBody, Unauthenticated
from shared.following import REQUEST_HEADER, note_accepted, request_id
from shared.logs import log
from shared.settings import settings
from shared.statements import run
from shared.wake import ACCEPT_TASK
from workers.app import BROKER_TIMEOUT_S, app, wake

#: Between two tries while the database is away; longer than its restart, short enough to be soon after it.
PAUSE_S = 1.0
#: Then the message goes back to the queue: well below the task's time limit, so that it is never killed for waiting.
PATIENCE_S = 20.0
DAY_S = 24 * 3600
#: The headers of a message that its signature is about.
SIGNED = ("carillon-secret-id", "webhook-id", "webhook-timestamp", "webhook-signature")


class _Postponed(Exception):
    """The database is away for longer than is waited for it."""


Accepted = tuple[Event, list[events.Status]]


@app.task(name=ACCEPT_TASK, bind=True, ignore_result=False)
def accept_event(self: Task, *given: Any, **named: Any) -> dict[str, Any]:
    """Store one event; returns the body of HTTP's answer. The one argument is a CloudEvent as a JSON text.

    A database that is away is waited for, and then the message is put back: it is never lost, and never answered before
    the event is durable.
    """
    headers = self.request.headers or {}
    event = given[0] if len(given) == 1 and not named else None
    with bound_contextvars(request_id=request_id(headers.get(REQUEST_HEADER), self.request.id)):
        return _answered(self, event, headers)


def _answered(task: Task, event: Any, headers: dict[str, Any]) -> dict[str, Any]:
    began = time.time()
    try:
        found, statuses = _patiently(event, headers)
    except _Postponed as away:
        _put_back(task, event, headers, str(away))
    except CarillonError as refused:
        metrics.REFUSED.add(1, refused.reason())
        log().info("accept.refused", problem=refused.slug(), secret_id=headers.get("carillon-secret-id"))
        return refused.as_json()
    metrics.count_events(statuses)
    note_accepted([found], statuses, began)
    with working_in(database_of(found.tenant)):
        wake()
    return {"events": events.told([found], statuses)}


def _patiently(event: Any, headers: dict[str, Any]) -> Accepted:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return _accept(event, headers)
        except Exception as error:
            if not db.is_transient(error):
                raise
            log().warning("accept.waits", reason=type(error).__name__)
            if time.monotonic() + PAUSE_S > deadline:
                raise _Postponed(type(error).__name__) from None
            time.sleep(PAUSE_S)


def _put_back(task: Task, event: Any, headers: dict[str, Any], reason: str) -> NoReturn:
    """Give the message back to its queue.

    RabbitMQ 4 drops a message that came back 20 times (an outage of some minutes); there it is sent anew instead, with
    its id, and this one is done with.
    """
    if is_amqp(overview.url_of(settings(), "broker_url")):
        kept = {name: headers[name] for name in (*SIGNED, REQUEST_HEADER) if name in headers}
        given = {"args": [event], "headers": kept, "task_id": task.request.id, "ignore_result": False}
        with suppress(*AWAY):
            app.send_task(ACCEPT_TASK, retry=False, **given, **sending(BROKER_TIMEOUT_S))
            raise Ignore
    raise Reject(reason, requeue=True)


def _accept(event: Any, headers: dict[str, Any]) -> Accepted:
    """Return the event and its status."""
    body = _body_of(event)
    with db.transaction(database=SHARED) as connection:
        tenant = _signer(connection, headers, body)
        found = _event_of(body, tenant)
        posting = events.posting_of([found])
        if database_of(tenant) == SHARED:
            return found, run(connection, events.accept(posting, registers=False))
    with db.transaction(tenant) as connection:
        return found, run(connection, events.accept(posting, registers=False))


def _body_of(event: Any) -> bytes:
    if not isinstance(event, str):
        raise MalformedBody("The task's one argument must be a CloudEvent as a JSON text.")
    try:
        body = event.encode()
    except UnicodeEncodeError:
        raise MalformedBody("The event is not UTF-8.") from None
    if len(body) > settings().event_max_bytes:
        raise BodyTooLarge(f"The event is larger than {settings().event_max_bytes} bytes.")
    return body


def _signer(connection: Connection, headers: dict[str, Any], body: bytes) -> str:
    """Return the tenant whose secret signed the message, not longer ago than an event is remembered."""
    signed, id = signing.signed_by(headers), headers.get("carillon-secret-id")
    if not cloudevent.is_name(id):
        raise Unauthenticated("Name the secret: carillon-secret-id.")
    found = run(connection, signing.secret_called(str(id), "celery"))
    tenant, secrets = (found[0], [found[1]]) if found else ("", [])
    signing.verify_standard(secrets, signed, body, settings().event_retention_days * DAY_S)
    return tenant


def _event_of(body: bytes, tenant: str) -> Event:
    event = cloudevent.read(strict_json.parse(body))
    if event.tenant != tenant:
        told = (FieldError("tenant", "is not the one that the secret was made for"),)
        raise Forbidden("The secret may not post for this tenant.", errors=told)
    return event

"""Why somebody did, or did not, get an event: what is stored of the two, told in one answer.

Nothing is written for it on the way of an event but what is written anyway. The rules are tried against the directory
as it is now: the notification says what happened, the rules say whom the event would reach today.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import text

from shared import audience
from shared.audience import Sought, sought
from shared.catalog import Audience, EventType, catalog, targets
from shared.databases import database_of
from shared.errors import InvalidInput, NotFound
from shared.following import trace_of
from shared.homes import home_of
from shared.notification_id import notification_id, time_prefix
from shared.plans import Part, Plan
from shared.statements import Program, Row

Outcome = Literal[
    "stored", "published", "seen", "read", "archived", "deleted", "expired", "capped", "withdrawn",
    "waiting", "failed", "cancelled", "counted", "no_rule", "unknown_recipient", "too_late", "purged",
]  # fmt: skip

_EVENT = text("""
    SELECT e.key, e.tenant, e.source, e.id, e.type, e.traceparent, e.data, e.state, e.error, e.accepted_at,
           e.finished_at, e.expires_at, e.published, e.notifications, e.published_at, e.repeats, e.repeated_at
    FROM events e WHERE e.tenant = :tenant AND e.source = :source AND e.id = :id""")
_INBOX = text("""
    SELECT i.key, i.floor_seq, r.created_at AS registered_at
    FROM inboxes i LEFT JOIN recipients r ON r.key = i.key WHERE i.tenant = :tenant AND i.recipient = :id""")
_NOTIFICATION = text("""
    SELECT n.id, n.created_at, n.seen_at, n.read_at, n.archived_at, n.expires_at, n.deleted_at, n.deleted_for
    FROM notifications n WHERE n.id = :id""")
#: The chunk of a large event that an inbox is in.
_CHUNK = text("""
    SELECT c.published, c.notifications, c.published_at, c.state FROM fan_out_chunks c
    WHERE c.event_key = :event_key AND c.after_key < :key AND c.up_to_key >= :key""")
#: A target for each audience at most, and a hundred named recipients of one.
_MOST_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Facts:
    """What the recipient's home knows: rows or None. `reached` are the places of the targets that match today."""

    event: Row | None
    inbox: Row | None
    notification: Row | None
    chunk: Row | None
    reached: frozenset[int]


def explain(tenant: str, source: str, id: str, recipient: str, recipient_tenant: str | None = None) -> Plan[Row]:
    """Return what became of the event for the recipient, as the API tells it. Raises `NotFound` for an unknown event.

    `recipient_tenant`: where the recipient is registered; unset: the event's tenant.
    """
    theirs = recipient_tenant or tenant
    own = database_of(tenant)
    event = yield Part(own, (tenant,), _event(tenant, source, id))
    home, _ = yield from home_of(theirs, recipient)
    wanted = _targets_of(event)
    tenants = tuple(dict.fromkeys((tenant, theirs)))
    facts: Facts = yield Part(home, tenants, _facts(event, home == own, (theirs, recipient), wanted))
    return _told(event, facts, (theirs, recipient), wanted)


def _event(tenant: str, source: str, id: str) -> Program[Row]:
    rows = yield _EVENT, {"tenant": tenant, "source": source, "id": id}
    if not rows:
        raise NotFound("There is no such event.")
    return rows[0]


def _targets_of(event: Row) -> list[Sought]:
    """Return whom the event's data names; nobody where the catalog does not know it or its data does not fit."""
    kind = catalog().get(event["type"])
    try:
        found = targets(kind, event["tenant"], event["data"]) if kind is not None and kind.shown else ()
        return sought(0, event["tenant"], event["data"], found)
    except (InvalidInput, KeyError):
        # What came through SQL is judged when it is fanned out: it has failed, or will.
        return []


def _facts(event: Row, is_home: bool, who: tuple[str, str], wanted: Sequence[Sought]) -> Program[Facts]:
    there: Row | None = event
    if not is_home:
        rows = yield _EVENT, {name: event[name] for name in ("tenant", "source", "id")}
        there = rows[0] if rows else None
    rows = yield _INBOX, {"tenant": who[0], "id": who[1]}
    inbox = rows[0] if rows else None
    if inbox is None:
        return Facts(there, None, None, None, frozenset())
    notification = chunk = None
    if there is not None:
        key = notification_id(time_prefix(there["accepted_at"]), there["key"], inbox["key"])
        rows = yield _NOTIFICATION, {"id": str(key)}
        notification = rows[0] if rows else None
        rows = yield _CHUNK, {"event_key": there["key"], "key": inbox["key"]}
        chunk = rows[0] if rows else None
    reached = (yield from _reached(inbox["key"], wanted)) if wanted else frozenset()
    return Facts(there, inbox, notification, chunk, reached)


def _reached(key: int, wanted: Sequence[Sought]) -> Program[frozenset[int]]:
    given = {**audience.columns(wanted), "after_key": key - 1, "up_to_key": key, "limit": _MOST_ROWS}
    rows = yield audience.read_audience(), given
    return frozenset(row["place"] for row in rows)


def _told(event: Row, facts: Facts, who: tuple[str, str], wanted: Sequence[Sought]) -> dict[str, Any]:
    rules = list(_rules(event, facts, who, wanted))
    rule = min((rule for rule in rules if rule["matches"]), key=lambda rule: rule.pop("place"), default=None)
    for each in rules:
        each.pop("place", None)
    outcome, reason = _outcome(event, facts, rule is not None)
    return {
        "event": {name: event[name] for name in ("tenant", "source", "id", "type", "state")}
        | {"traceId": trace_of(event)},
        "recipient": {"tenant": who[0], "id": who[1], "registered": _registered_at(facts) is not None},
        "outcome": outcome,
        "reason": reason,
        "rule": rule,
        "rules": rules,
        "notificationId": None if facts.notification is None else str(facts.notification["id"]),
        "steps": _steps(event, facts),
    }


def _registered_at(facts: Facts) -> datetime | None:
    return None if facts.inbox is None else facts.inbox["registered_at"]


# --- the rules ---


def _rules(event: Row, facts: Facts, who: tuple[str, str], wanted: Sequence[Sought]) -> Iterator[dict[str, Any]]:
    kind = catalog().get(event["type"])
    for each in kind.audiences if kind is not None else ():
        its = [one for one in wanted if one.target.audience is each]
        hit = next((one for one in its if one.place in facts.reached), None)
        shown = hit or next(iter(its), None)
        yield {
            "audience": each.position,
            "kind": each.kind if shown is None else shown.target.kind,
            "name": _name_of(each, shown, its),
            "tenant": event["tenant"] if shown is None else shown.target.tenant,
            "matches": hit is not None,
            "why": None if hit is not None else _why_not(event, each, shown, facts, who),
            "place": -1 if shown is None else shown.place,
        }


def _name_of(rule: Audience, shown: Sought | None, its: Sequence[Sought]) -> str | None:
    if rule.kind == "recipient":
        return ", ".join(one.target.name for one in its) or None
    return (shown.target.name or None) if shown is not None else rule.role


def _why_not(event: Row, rule: Audience, shown: Sought | None, facts: Facts, who: tuple[str, str]) -> str:
    data: Mapping[str, Any] = event["data"]
    if rule.when is not None and data.get(rule.when) is not True:
        return f"It asks for data.{rule.when} to be true."
    if rule.exclude_actor and data.get("actor_id") == who[1] and event["tenant"] == who[0]:
        return "It leaves out who did it (actor_id)."
    if shown is None:
        return f"The data names nobody in {rule.field}." if rule.kind == "recipient" else "It reaches nobody."
    target = shown.target
    if _registered_at(facts) is None:
        return "The directory does not know the recipient."
    if target.tenant is not None and target.tenant != who[0]:
        return f"It is for people of the tenant {target.tenant}."
    return {
        "recipient": f"The data names another recipient in {rule.field}.",
        "topic": f"The recipient is no member of the topic {target.name}.",
        "role": f"The recipient lacks the role {target.name}.",
        "everyone": "It reaches nobody.",
    }[target.kind]


# --- the outcome ---

_DELETED: dict[str | None, tuple[Outcome, str]] = {
    "expired": ("expired", "Its time to live was over."),
    "capped": ("capped", "Newer notifications took its place: the inbox keeps so many and no more."),
    "withdrawn": ("withdrawn", "The event was cancelled, and what it had made was withdrawn."),
    "user": ("deleted", "The recipient deleted it."),
    None: ("deleted", "It was deleted."),
}


def _outcome(event: Row, facts: Facts, matches: bool) -> tuple[Outcome, str]:
    if facts.notification is not None:
        return _of_stored(facts)
    return _of_missing(event, facts, catalog().get(event["type"]), matches)


def _of_stored(facts: Facts) -> tuple[Outcome, str]:
    row = facts.notification
    assert row is not None
    if row["deleted_at"] is not None:
        return _DELETED[row["deleted_for"]]
    if row["archived_at"] is not None:
        return "archived", "The recipient put it away."
    if row["read_at"] is not None:
        return "read", "The recipient opened it."
    if row["seen_at"] is not None:
        return "seen", "The recipient saw it in the list, and has not opened it."
    if _published_at(facts) is not None:
        return "published", "It is in the inbox and was published to the recipient's streams; it was not seen yet."
    return "stored", "It is in the inbox; streams that were open are told by the reconciler."


def _of_missing(event: Row, facts: Facts, kind: EventType | None, matches: bool) -> tuple[Outcome, str]:
    there = facts.event or event
    if kind is not None and not kind.shown:
        return "counted", "Events of this type are counted, not shown."
    if there["state"] in ("failed", "cancelling", "cancelled"):
        return _of_ended(there)
    if _registered_at(facts) is None:
        return "unknown_recipient", "The directory does not know the recipient."
    if not matches:
        return "no_rule", "No audience of the event's type matches the recipient."
    return _of_missed(facts)


def _of_ended(event: Row) -> tuple[Outcome, str]:
    if event["state"] == "failed":
        return "failed", f"The event failed: {event['error'] or 'no reason is known'}"
    return "cancelled", "The event was cancelled before it reached the recipient."


def _of_missed(facts: Facts) -> tuple[Outcome, str]:
    """Tell why a rule matches today and nothing is there."""
    event, inbox = facts.event, facts.inbox
    assert inbox is not None
    ended = None if event is None else event["finished_at"]
    if event is None or ended is None:
        return "waiting", "The event is still being fanned out."
    if event["expires_at"] is not None and event["expires_at"] <= ended:
        return "expired", "The event had expired before it was fanned out."
    if inbox["registered_at"] > ended:
        return "too_late", "The recipient was registered after the event had been fanned out."
    if inbox["floor_seq"] > 0:
        return "purged", "It was deleted so long ago that its mark is gone, or a rule matched only afterwards."
    return "too_late", "The rule matches today, and did not when the event was fanned out."


# --- the steps ---


def _published_at(facts: Facts) -> datetime | None:
    """Return when the recipient's part of the event was published whole; None where it was not, or only in part."""
    part = facts.chunk or facts.event
    if part is None or part["published"] < part["notifications"]:
        return None
    told: datetime | None = part["published_at"]
    return told


#: What an event's end is called.
_ENDS = {"failed": "failed", "cancelled": "cancelled"}


def _steps(event: Row, facts: Facts) -> list[dict[str, Any]]:
    row, there = facts.notification, facts.event or event
    found: list[tuple[str, datetime | None, str | None]] = [
        ("accepted", event["accepted_at"], None),
        ("duplicate", event["repeated_at"], f"posted {event['repeats']} times more; nobody is told again"),
        (_ENDS.get(there["state"], "fanned_out"), there["finished_at"], None),
    ]
    if row is not None:
        found += [
            ("stored", row["created_at"], None),
            ("published", _published_at(facts), None),
            ("seen", row["seen_at"], None),
            ("read", row["read_at"], None),
            ("archived", row["archived_at"], None),
            (_DELETED[row["deleted_for"]][0], row["deleted_at"], None),
        ]
    told = [{"step": step, "at": at, "note": note} for step, at, note in found if at is not None]
    return sorted(told, key=lambda step: step["at"])

"""Events that reach people in several databases: what is left for the others, and how far the whole is.

An event lives in its tenant's database and is fanned out to whoever is at home there. The transaction that ends its
fan-out leaves a forward for each other database where it may reach somebody; a worker stores the same event there, as a
derived one, and then marks the forward done. Between the two commits it may die: the next try finds the event stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import TextClause, text

from shared import audit, events
from shared.audit import Entry
from shared.databases import database_of, is_split
from shared.plans import Part, Plan
from shared.statements import Program, Row

#: A pending forward that nobody took for this long lost its message.
LOST_AFTER_S = 2


@cache
def who_is_elsewhere() -> TextClause:
    """Select those of these places whose tenant has somebody elsewhere: the one named, or (name null) anybody.

    Array parameters: places, tenants, names.
    """
    return text("""
        SELECT u.place FROM unnest(CAST(:places AS int[]), CAST(:tenants AS text[]), CAST(:names AS text[]))
            AS u(place, tenant, name)
        WHERE EXISTS (SELECT FROM recipients_elsewhere r
                      WHERE r.tenant = u.tenant AND (u.name IS NULL OR r.id = u.name))""")


@cache
def leave() -> TextClause:
    """Leave forwards; those that are there stay. Array parameters: keys, databases."""
    return text("""
        INSERT INTO forwards (event_key, database)
        SELECT u.key, u.database FROM unnest(CAST(:keys AS bigint[]), CAST(:databases AS text[])) AS u(key, database)
        ON CONFLICT DO NOTHING""")


#: What makes the same event in another database, with the type of its array parameter.
COPIED = {
    "tenant": "text",
    "source": "text",
    "id": "text",
    "type": "text",
    "subject": "text",
    "time": "text",
    "dataschema": "text",
    "data": "text",
    "content_hash": "bytea",
    "traceparent": "text",
    "occurred_at": "timestamptz",
    "accepted_at": "timestamptz",
    "expires_at": "timestamptz",
}
_READ = ", ".join("e.data::text AS data" if name == "data" else f"e.{name}" for name in COPIED)
_ARRAYS = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in COPIED.items())
_VALUES = ", ".join("t.data::jsonb" if name == "data" else f"t.{name}" for name in COPIED)


@cache
def claim() -> TextClause:
    """Lock pending forwards to a database and select their events. Parameters: database, limit."""
    return text(f"""
        SELECT f.event_key, f.cancelled, f.revision, f.data::text AS told, {_READ}
        FROM forwards f JOIN events e ON e.key = f.event_key
        WHERE f.database = :database AND f.state = 'pending' ORDER BY f.event_key LIMIT :limit
        FOR NO KEY UPDATE OF f SKIP LOCKED""")


#: Those of all tenants that are told here; a tenant of another database may be new to this one.
KNOW_TENANTS = text("""
    INSERT INTO tenants (id) SELECT DISTINCT t FROM unnest(CAST(:tenant AS text[])) t ORDER BY t
    ON CONFLICT DO NOTHING""")


@cache
def store() -> TextClause:
    """Store derived events; those that are there stay. Array parameters: `COPIED`."""
    return text(f"""
        INSERT INTO events ({", ".join(COPIED)}, derived) SELECT {_VALUES}, true
        FROM unnest({_ARRAYS}) AS t({", ".join(COPIED)}) ORDER BY t.tenant, t.source, t.id
        ON CONFLICT (tenant, source, id) DO NOTHING""")


@cache
def cancel_stored() -> TextClause:
    """Cancel derived events; one that was never stored never will be. Array parameters: tenant, source, id."""
    return text("""
        UPDATE events e SET state = 'cancelling', finished_at = NULL
        FROM unnest(CAST(:tenant AS text[]), CAST(:source AS text[]), CAST(:id AS text[])) AS t(tenant, source, id)
        WHERE e.tenant = t.tenant AND e.source = t.source AND e.id = t.id AND e.derived
          AND e.state NOT IN ('cancelling', 'cancelled')""")


@cache
def done() -> TextClause:
    """Mark locked forwards done. Parameters: keys, database."""
    return text("""
        UPDATE forwards SET state = 'done', data = NULL
        WHERE event_key = ANY(CAST(:keys AS bigint[])) AND database = :database""")


@cache
def due() -> TextClause:
    """Stamp and select the databases whose first forward waits for too long, held by nobody. Parameters: databases."""
    return text(f"""
        UPDATE forwards u SET tried_at = clock_timestamp()
        FROM unnest(CAST(:databases AS text[])) AS d(name) CROSS JOIN LATERAL (
            SELECT f.event_key FROM forwards f WHERE f.database = d.name AND f.state = 'pending'
              AND f.tried_at < clock_timestamp() - make_interval(secs => {LOST_AFTER_S})
            ORDER BY f.event_key LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) o
        WHERE u.event_key = o.event_key AND u.database = d.name RETURNING u.database""")


# --- the whole event ---

_FORWARDED = text("""
    SELECT f.database, f.state FROM forwards f JOIN events e ON e.key = f.event_key
    WHERE e.tenant = :tenant AND e.source = :source AND e.id = :id ORDER BY f.database""")
_CANCEL = text("""
    UPDATE forwards f SET cancelled = true, state = 'pending', tried_at = '-infinity' FROM events e
    WHERE e.key = f.event_key AND e.tenant = :tenant AND e.source = :source AND e.id = :id""")
_SUMMED = ("recipients", "notifications", "published", "seen", "read")
#: The state of the whole is the first of these that any part is in; a part that was not told yet is `accepted`.
_ORDER = ("cancelling", "fanning_out", "accepted", "failed", "done", "cancelled")


def _forwarded(tenant: str, source: str, id: str) -> Program[Sequence[Row]]:
    rows: Sequence[Row] = yield _FORWARDED, {"tenant": tenant, "source": source, "id": id}
    return rows


def read(tenant: str, source: str, id: str) -> Plan[Row]:
    """As `events.read`: the counts of all databases summed, and the state of the whole. Raises `NotFound`."""
    home = database_of(tenant)
    row: Row = yield Part(home, (tenant,), events.read(tenant, source, id))
    if not is_split():
        return row
    told = yield Part(home, (tenant,), _forwarded(tenant, source, id))
    parts = [row]
    for forward in told:
        found = yield Part(forward["database"], (tenant,), events.find(tenant, source, id))
        waiting = [{"state": "accepted"}] if forward["state"] == "pending" and not _is_cancelled(row) else []
        parts += found or waiting
    return whole(parts)


def _is_cancelled(row: Row) -> bool:
    return row["state"] in ("cancelling", "cancelled")


def whole(parts: Sequence[Row]) -> Row:
    """Return the first part's row with the sum of all counts and the state of the whole."""
    states = {part["state"] for part in parts}
    state = next(each for each in _ORDER if each in states)
    if state == "accepted" and states != {"accepted"}:
        state = "fanning_out"
    counts = {name: sum(part.get(name, 0) for part in parts) for name in _SUMMED}
    errors = [part["error"] for part in parts if part.get("error")]
    ends: list[Any] = [part.get("finished_at") for part in parts]
    finished = {"finished_at": None if None in ends else max(ends), "error": errors[0] if errors else None}
    return {**parts[0], **counts, **finished, "state": state}


def cancel(tenant: str, source: str, id: str, actor: str) -> Plan[bool]:
    """As `events.cancel`: from the commit on nothing more is fanned out at home, and the others are told to stop.

    The audit log tells who asked for it.
    """
    deed = Entry(actor, "event.cancelled", tenant, id, details={"source": source})
    is_new: bool = yield Part(database_of(tenant), (tenant,), audit.told(_cancel(tenant, source, id), deed))
    return is_new


def _cancel(tenant: str, source: str, id: str) -> Program[bool]:
    is_new = yield from events.cancel(tenant, source, id)
    if is_new and is_split():
        yield _CANCEL, {"tenant": tenant, "source": source, "id": id}
    return is_new

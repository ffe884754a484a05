"""A directory and events for tests, written straight into the database: what the producers' API would have stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import psycopg

from shared.following import trace_of

Row = dict[str, Any]


def connect(url: str) -> psycopg.Connection[Row]:
    """Return an autocommitting connection that gives rows as dicts."""
    return psycopg.connect(url, autocommit=True, row_factory=psycopg.rows.dict_row)


def count(db: psycopg.Connection[Row], what: str) -> int:
    """Return how many rows `FROM <what>` has."""
    row = db.execute(f"SELECT count(*) AS many FROM {what}".encode()).fetchone()
    assert row is not None
    many: int = row["many"]
    return many


def add_tenant(db: psycopg.Connection[Row], tenant: str) -> None:
    """Make a tenant; one that exists stays."""
    db.execute("INSERT INTO tenants (id) VALUES (%s) ON CONFLICT DO NOTHING", (tenant,))


def add_recipients(
    db: psycopg.Connection[Row],
    tenant: str,
    ids: Iterable[str],
    *,
    roles: Iterable[str] = (),
    topics: Iterable[str] = (),
    attributes: Mapping[str, Any] | None = None,
) -> dict[str, int]:
    """Make recipients with inboxes, and return their inbox keys by id."""
    add_tenant(db, tenant)
    names = list(ids)
    rows = db.execute(
        "INSERT INTO inboxes (tenant, recipient) SELECT %s, unnest(%s::text[]) RETURNING key, recipient",
        (tenant, names),
    ).fetchall()
    keys = {row["recipient"]: row["key"] for row in rows}
    told = orjson.dumps(attributes or {}).decode()
    db.execute(
        "INSERT INTO recipients (key, tenant, id, attributes)"
        " SELECT key, tenant, recipient, %s::jsonb FROM inboxes WHERE key = ANY(%s)",
        (told, list(keys.values())),
    )
    for role in roles:
        db.execute(
            "INSERT INTO recipient_roles (tenant, role, key) SELECT %s, %s, unnest(%s::bigint[])",
            (tenant, role, list(keys.values())),
        )
    for topic in topics:
        db.execute(
            "INSERT INTO topic_members (tenant, topic, key) SELECT %s, %s, unnest(%s::bigint[])",
            (tenant, topic, list(keys.values())),
        )
    return keys


def add_event(
    db: psycopg.Connection[Row],
    type: str,
    data: Mapping[str, Any],
    *,
    tenant: str = "acme",
    id: str | None = None,
    registers: bool = False,
) -> int:
    """Store an accepted event as the API would, and return its key."""
    row = db.execute(
        "INSERT INTO events (tenant, source, id, type, data, content_hash, registers, occurred_at)"
        " VALUES (%s, '/tests', coalesce(%s, gen_random_uuid()::text), %s, %s::jsonb, %s, %s, clock_timestamp())"
        " RETURNING key",
        (tenant, id, type, orjson.dumps(data).decode(), hashlib.sha256(orjson.dumps(data)).digest(), registers),
    ).fetchone()
    assert row is not None
    key: int = row["key"]
    return key


def event(db: psycopg.Connection[Row], key: int) -> Row:
    """Return an event's row."""
    row = db.execute("SELECT * FROM events WHERE key = %s", (key,)).fetchone()
    assert row is not None
    return row


def alarm(db: psycopg.Connection[Row], key: int, **more: Any) -> dict[str, Any]:
    """Return the log line that tells of an event given up after five attempts."""
    line = {"event": "event.given_up", "log_level": "error", "event_key": key, "attempts": 5}
    return {**line, "trace_id": trace_of(event(db, key)), **more}


def inbox(db: psycopg.Connection[Row], key: int) -> Row:
    """Return an inbox's row."""
    row = db.execute("SELECT * FROM inboxes WHERE key = %s", (key,)).fetchone()
    assert row is not None
    return row


def notifications(db: psycopg.Connection[Row], key: int) -> list[Row]:
    """Return an inbox's notifications, tombstones included, oldest first."""
    return db.execute("SELECT * FROM notifications WHERE key = %s ORDER BY ordinal", (key,)).fetchall()


def assert_numbered_without_gaps(db: psycopg.Connection[Row]) -> None:
    """Check I3 and I6 for every inbox in which notifications were only created: numbers 1…n, counters as counted."""
    wrong = db.execute("""
        SELECT i.key FROM inboxes i LEFT JOIN LATERAL (
            SELECT count(*) AS many, coalesce(array_agg(n.ordinal ORDER BY n.ordinal), '{}') AS ordinals,
                   coalesce(array_agg(n.created_seq ORDER BY n.ordinal), '{}') AS seqs
            FROM notifications n WHERE n.key = i.key) n ON true
        WHERE (i.seq, i.created, i.unread, i.unseen, i.total) <> (n.many, n.many, n.many, n.many, n.many)
           OR n.ordinals <> coalesce((SELECT array_agg(g) FROM generate_series(1, n.many) g), '{}')
           OR n.seqs <> n.ordinals""").fetchall()
    assert wrong == []

"""Sessions of browsers: what a cookie stands for. The cookie is a random name of a row, kept as its SHA-256.

PostgreSQL is the one place where a session lives: ending it deletes the row, so that no loss of Redis brings a logout
back to life.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text

from shared.statements import Program, Row

_ID_BYTES = 32
#: `_ID_BYTES` in url-safe base64; a longer value is not looked up.
MAX_ID = 64
#: Browsers and profiles that one person is signed in with; one more ends the oldest, so that the table is bounded.
MOST_SESSIONS = 20


@dataclass(frozen=True, slots=True)
class Session:
    """A session that lives: `name` is how it is stored and told about, never what the cookie holds. Unix seconds."""

    name: str
    tenant: str
    recipient: str
    roles: tuple[str, ...]
    created_at: float
    expires_at: float


def name_of(id: str) -> str:
    """Return the name under which the session of a cookie's value is stored: 256 random bits need no salt."""
    return hashlib.sha256(id.encode(errors="surrogateescape")).hexdigest()


_CREATE = text(f"""
    WITH made AS (
        INSERT INTO sessions (name, tenant, recipient, roles, expires_at)
        VALUES (:name, :tenant, :recipient, :roles, to_timestamp(:expires_at)) RETURNING created_at),
    ended AS (
        DELETE FROM sessions WHERE name IN (
            SELECT s.name FROM sessions s WHERE s.tenant = :tenant AND s.recipient = :recipient
            ORDER BY s.created_at DESC OFFSET {MOST_SESSIONS - 1}))
    SELECT extract(epoch FROM created_at)::float AS created_at FROM made""")
_FIND = text("""
    SELECT name, tenant, recipient, roles, extract(epoch FROM created_at)::float AS created_at,
           extract(epoch FROM expires_at)::float AS expires_at
    FROM sessions WHERE name = :name AND expires_at > clock_timestamp()""")
_END = text("DELETE FROM sessions WHERE name = :name RETURNING tenant, recipient")
_ENDED = text("""
    SELECT asked.name FROM unnest(CAST(:names AS text[])) AS asked (name)
    WHERE NOT EXISTS (SELECT FROM sessions s WHERE s.name = asked.name AND s.expires_at > clock_timestamp())""")
_FORGET = text("""
    DELETE FROM sessions WHERE name IN (
        SELECT s.name FROM sessions s WHERE s.expires_at < clock_timestamp() LIMIT :most) RETURNING name""")


def create(tenant: str, recipient: str, roles: Sequence[str], expires_at: float) -> Program[str]:
    """Store a new session and return what its cookie holds; afterwards nobody can tell it.

    The recipient's oldest session ends where there would be more than `MOST_SESSIONS`.
    """
    id = secrets.token_urlsafe(_ID_BYTES)
    yield _CREATE, {
        "name": name_of(id), "tenant": tenant, "recipient": recipient, "roles": list(roles), "expires_at": expires_at,
    }  # fmt: skip
    return id


def find(name: str) -> Program[Session | None]:
    """Return the session of that name, None where it never was, has ended or has expired."""
    rows = yield _FIND, {"name": name}
    return _session(rows[0]) if rows else None


def _session(row: Row) -> Session:
    return Session(**{**row, "roles": tuple(row["roles"])})


def end(name: str) -> Program[tuple[str, str] | None]:
    """End a session for good; returns whose it was (tenant, recipient), None where there is none."""
    rows = yield _END, {"name": name}
    return (rows[0]["tenant"], rows[0]["recipient"]) if rows else None


def ended(names: Sequence[str]) -> Program[list[str]]:
    """Return those of `names` whose sessions live no longer: one statement for any number."""
    rows = yield _ENDED, {"names": list(names)}
    return [row["name"] for row in rows]


def forget(most: int) -> Program[int]:
    """Remove sessions that have expired, `most` at most; returns how many."""
    return len((yield _FORGET, {"most": most}))

"""The producer keys as operators handle them: made, listed, rotated, revoked, each in the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from shared import audit
from shared.audit import Entry
from shared.errors import Conflict, NotFound
from shared.keys import make_key
from shared.logs import log
from shared.statements import run

#: A rotation has an old key and a new one; a third would only be forgotten.
MOST_LIVE = 2

_CREATE = text("""
    INSERT INTO producer_keys (prefix, secret_hash, tenants, scopes, family, expires_at)
    VALUES (:prefix, :secret_hash, :tenants, :scopes, :family,
            clock_timestamp() + make_interval(secs => CAST(:lives_s AS double precision)))""")
_REVOKE = text("""
    UPDATE producer_keys SET revoked_at = clock_timestamp() WHERE prefix = :prefix AND revoked_at IS NULL
    RETURNING prefix""")
_LIST = text("""
    SELECT prefix, coalesce(family, prefix) AS family, tenants, scopes, created_at, last_used_at, expires_at,
           revoked_at, revoked_at IS NULL AND coalesce(expires_at > clock_timestamp(), true) AS live
    FROM producer_keys ORDER BY created_at, prefix""")
#: Rotations of one family come one after the other.
_LIVE_OF_FAMILY = text("""
    SELECT k.prefix, coalesce(k.family, k.prefix) AS family, k.tenants, k.scopes FROM producer_keys k
    WHERE coalesce(k.family, k.prefix) =
        (SELECT coalesce(f.family, f.prefix) FROM producer_keys f WHERE f.prefix = :prefix)
      AND k.revoked_at IS NULL AND coalesce(k.expires_at > clock_timestamp(), true)
    ORDER BY k.created_at FOR UPDATE""")
_EXPIRE = text("""
    UPDATE producer_keys
    SET expires_at = least(expires_at, clock_timestamp() + make_interval(secs => :overlap_s))
    WHERE prefix = :prefix RETURNING expires_at""")


def create_key(
    connection: Connection, tenants: Sequence[str] | None, scopes: Sequence[str], lives_s: float | None = None
) -> str:
    """Store a new key and return it as it is printed; afterwards nobody can tell it. `tenants` None: every tenant.

    It ends after `lives_s` seconds; None: when it is revoked.
    """
    printed, row = make_key(tenants, scopes)
    _store(connection, row, lives_s, "key.created")
    return printed


def _store(connection: Connection, row: dict[str, Any], lives_s: float | None, action: str) -> None:
    connection.execute(_CREATE, {**row, "lives_s": lives_s})
    details = {name: row[name] for name in ("tenants", "scopes", "family")}
    run(connection, audit.record(Entry(audit.operator(), action, subject=row["prefix"], details=details)))
    log().info(action, prefix=row["prefix"], **details)


def rotate_key(connection: Connection, prefix: str, overlap_s: float) -> tuple[str, datetime]:
    """Store a key that may do what the live key `prefix` may, which ends after `overlap_s` seconds.

    Returns the new key as it is printed, and when the old one ends. Raises `NotFound` for a key that is not live, and
    `Conflict` where two of its family are already: revoke one first.
    """
    live = list(connection.execute(_LIVE_OF_FAMILY, {"prefix": prefix}).mappings())
    old = next((row for row in live if row["prefix"] == prefix), None)
    if old is None:
        raise NotFound(f"There is no live key {prefix}: `carillon key list` shows them.")
    if len(live) >= MOST_LIVE:
        other = next(row["prefix"] for row in live if row["prefix"] != prefix)
        raise Conflict(f"The key {prefix} is being rotated: {other} is live as well. Revoke one of them first.")
    printed, row = make_key(old["tenants"], old["scopes"])
    _store(connection, {**row, "family": old["family"]}, None, "key.rotated")
    ends: datetime = connection.execute(_EXPIRE, {"prefix": prefix, "overlap_s": overlap_s}).scalar_one()
    return printed, ends


def revoke_key(connection: Connection, prefix: str) -> bool:
    """Revoke a key; returns False where there is no live one. Servers refuse it within 10 s of the commit."""
    revoked = connection.execute(_REVOKE, {"prefix": prefix}).first() is not None
    if revoked:
        run(connection, audit.record(Entry(audit.operator(), "key.revoked", subject=prefix)))
        log().info("key.revoked", prefix=prefix)
    return revoked


def list_keys(connection: Connection) -> list[dict[str, Any]]:
    """Return every key's row but its hash, oldest first."""
    return [dict(row) for row in connection.execute(_LIST).mappings()]

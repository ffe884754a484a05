"""Revocations: everything that a recipient (or everyone of a tenant) signed in with up to a moment is void.

Tokens name when they were issued (`iat`), so one row for each recipient tells of all of them. A row is of use for as
long as a token may live, a day.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson
from sqlalchemy import text

from shared.statements import Program

#: The recipient of a row that is about everyone of its tenant; no recipient has this name.
EVERYONE = ""
#: Tokens live for a day at most, and clocks may differ: what was issued before is over by itself.
KEPT_S = 25 * 3600.0


class Revocation(NamedTuple):
    """What was issued to `recipient` up to `at` (Unix seconds) is void."""

    tenant: str
    recipient: str
    at: float


_REVOKE = text("""
    WITH ended AS (
        DELETE FROM sessions WHERE tenant = :tenant AND (:everyone OR recipient = :recipient))
    INSERT INTO revocations (tenant, recipient) VALUES (:tenant, :recipient)
    ON CONFLICT (tenant, recipient) DO UPDATE SET revoked_at = clock_timestamp()
    RETURNING tenant, recipient, extract(epoch FROM revoked_at)::float AS at""")
_RECENT = text("""
    SELECT tenant, recipient, extract(epoch FROM revoked_at)::float AS at FROM revocations
    WHERE revoked_at > clock_timestamp() - make_interval(secs => :within) ORDER BY revoked_at DESC LIMIT :most""")
_FORGET = text("""
    DELETE FROM revocations WHERE (tenant, recipient) IN (
        SELECT r.tenant, r.recipient FROM revocations r
        WHERE r.revoked_at < clock_timestamp() - make_interval(secs => :kept) LIMIT :most)
      AND revoked_at < clock_timestamp() - make_interval(secs => :kept) RETURNING recipient""")


def revoke(tenant: str, recipient: str = EVERYONE) -> Program[Revocation]:
    """Make void what the recipient (by default: everyone of the tenant) signed in with up to now; sessions end."""
    rows = yield _REVOKE, {"tenant": tenant, "recipient": recipient, "everyone": recipient == EVERYONE}
    return Revocation(**rows[0])


def order(revocation: Revocation) -> bytes:
    """Return the control message that ends the streams in question and makes every API process know at once."""
    return orjson.dumps({"revoke": revocation._asdict()})


def recent(within_s: float, most: int) -> Program[list[Revocation]]:
    """Return the revocations of the last `within_s` seconds, the latest first, `most` at most."""
    rows = yield _RECENT, {"within": within_s, "most": most}
    return [Revocation(**row) for row in rows]


def forget(most: int) -> Program[int]:
    """Remove revocations that no living token can meet, `most` at most; returns how many."""
    return len((yield _FORGET, {"kept": KEPT_S, "most": most}))

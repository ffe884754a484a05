"""A notification's id: the same whenever and wherever it is made for an event and an inbox, and ordered by time.

UUIDv8 (RFC 9562): 48 bits of the event's accepted time in milliseconds, then 72 bits of the SHA-256 of the event's and
the inbox's key, so that one event's notifications lie together in the primary key. SHA-256 and not MD5, which servers
in FIPS mode refuse; 3.9 µs a row against 3.6.
"""

from __future__ import annotations

import hashlib
import struct
from datetime import UTC, datetime, timedelta
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_LOWEST, _HIGHEST = "8000a000000000000000", "8fffafffffffffffffff"


def time_prefix(accepted_at: datetime) -> str:
    """Return the first 12 hex digits of the ids of an event accepted at that (aware) time."""
    return f"{(accepted_at - _EPOCH) // _MILLISECOND:012x}"


def notification_id(prefix: str, event_key: int, inbox_key: int) -> UUID:
    """Return the id of the notification that the event makes in the inbox; `prefix` is the event's `time_prefix`."""
    digest = hashlib.sha256(struct.pack(">qq", event_key, inbox_key)).hexdigest()
    return UUID(f"{prefix}8{digest[:3]}a{digest[4:19]}")


def notification_id_sql(prefix: str, event_key: str, inbox_key: str) -> str:
    """Return the SQL expression of `notification_id` over three SQL expressions (text, bigint, bigint).

    Inline on purpose: the same as an SQL function takes twice as long. The hash stands in it once, since PostgreSQL
    would compute a second mention a second time.
    """
    digest = f"encode(sha256(int8send({event_key}) || int8send({inbox_key})), 'hex')"
    return f"({prefix} || '8' || overlay(left({digest}, 19) placing 'a' from 4 for 1))::uuid"


def id_range(accepted_at: datetime) -> tuple[UUID, UUID]:
    """Return the least and the greatest id that an event accepted at that time can have given."""
    prefix = time_prefix(accepted_at)
    return UUID(prefix + _LOWEST), UUID(prefix + _HIGHEST)

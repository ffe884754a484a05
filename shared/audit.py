"""The audit log: who did what to whom that bears on access. Rows are only ever added; retention takes the old ones.

It holds names and ids, never a secret and never what a person reads. Every database has one: what is done in a tenant's
own database is told there, in the same transaction; keys, sign-ins, imports and refusals are told in the shared one.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
from sqlalchemy import text

from shared.databases import names
from shared.plans import Part, Plan
from shared.roles import EVERY_TENANT
from shared.statements import Program, Row

T = TypeVar("T")
#: Characters of a name that are kept: none of ours is longer, and what strangers send may be.
MAX_TEXT = 300


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done. `actor`: `key:<prefix>`, `recipient:<tenant>/<id>`, `operator:<name>` or `anybody`.

    `action` is a constant dotted name; `subject` is whom or what it was done to.
    """

    actor: str
    action: str
    tenant: str | None = None
    subject: str | None = None
    address: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


_RECORD = text("""
    INSERT INTO audit_log (actor, action, tenant, subject, address, details)
    SELECT * FROM unnest(CAST(:actors AS text[]), CAST(:actions AS text[]), CAST(:tenants AS text[]),
                         CAST(:subjects AS text[]), CAST(:addresses AS text[]), CAST(:details AS jsonb[]))""")
_READ = text("""
    SELECT at, actor, action, tenant, subject, address, details FROM audit_log
    WHERE at > clock_timestamp() - make_interval(secs => :within)
      AND (CAST(:action AS text) IS NULL OR action = :action) AND (CAST(:tenant AS text) IS NULL OR tenant = :tenant)
    ORDER BY at DESC, key DESC LIMIT :most""")
_FORGET = text("SELECT carillon_forget_audit(:days)")


def _kept(value: str | None) -> str | None:
    """Return a name as it can be stored: strangers send what PostgreSQL refuses."""
    if value is None:
        return None
    return value[:MAX_TEXT].encode(errors="replace").decode().replace("\x00", "?")


def record(*entries: Entry) -> Program[None]:
    """Add entries, in one statement: in the transaction of what they tell, so that neither is without the other."""
    yield (
        _RECORD,
        {
            "actors": [_kept(entry.actor) for entry in entries],
            "actions": [entry.action for entry in entries],
            "tenants": [_kept(entry.tenant) for entry in entries],
            "subjects": [_kept(entry.subject) for entry in entries],
            "addresses": [_kept(entry.address) for entry in entries],
            "details": [orjson.dumps(entry.details).decode() for entry in entries],
        },
    )


def told(program: Program[T], entry: Entry) -> Program[T]:
    """As `program`, with an entry in its transaction; where it returns False nothing was done, and nothing is told."""
    result = yield from program
    if result is not False:
        yield from record(entry)
    return result


def read(within_s: float, most: int, action: str | None = None, tenant: str | None = None) -> Program[Sequence[Row]]:
    """Return the latest entries of the last `within_s` seconds, the newest first."""
    return (yield _READ, {"within": within_s, "most": most, "action": action, "tenant": tenant})


def read_everywhere(
    within_s: float, most: int, action: str | None = None, tenant: str | None = None
) -> Plan[list[Row]]:
    """As `read`, of all databases together."""
    rows: list[Row] = []
    for name in names():
        rows += yield Part(name, (EVERY_TENANT,), read(within_s, most, action, tenant))
    return sorted(rows, key=lambda row: row["at"], reverse=True)[:most]


def forget(days: int) -> Program[int]:
    """Remove entries older than `days`; returns how many. The database itself refuses younger than 30 days."""
    rows = yield _FORGET, {"days": days}
    return int(rows[0]["carillon_forget_audit"])


def operator() -> str:
    """Return the actor of a command: the account that runs it."""
    try:
        return f"operator:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"operator:{os.getuid()}"

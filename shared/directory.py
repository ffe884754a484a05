"""The directory: tenants, and recipients with their roles.

Rows are judged one by one and stored set-wise: a thousand recipients cost the same few statements as one. Registering a
recipient makes its inbox, or finds the old one of a recipient that was deleted: the numbering goes on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
from sqlalchemy import Connection, text

from shared.cloudevent import MAX_ID, is_name
from shared.errors import FieldError, InvalidInput, NotFound
from shared.settings_checks import TENANT
from shared.statements import Program, Row, run
from shared.strict_json import faults, shown

#: BCP 47, with the underscore that many hosts write.
_LOCALE = re.compile(r"[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{1,8}){0,8}", re.ASCII)
DEFAULT_LOCALE = "en"
#: Attributes are for templates and filters, not for files.
MAX_ATTRIBUTES_BYTES = 16 * 1024
#: Nobody has more; each is a row.
MAX_ROLES = 100
#: As many rows go into one statement: 1 MB at most usual sizes, and well under the statement timeout.
ROWS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Recipient:
    """A person who can be notified, as the directory is told of them."""

    tenant: str
    id: str
    roles: tuple[str, ...] = ()
    locale: str = DEFAULT_LOCALE
    attributes: Mapping[str, Any] = field(default_factory=dict)


class HasTenant(Protocol):
    """A row of one tenant."""

    @property
    def tenant(self) -> str:
        """The tenant's id."""


@dataclass(frozen=True, slots=True)
class Report:
    """What became of rows: `errors` tell of the rejected ones, `index` is the row's place from 0; nothing else fails.

    A row that stands twice counts twice; the last one is what is stored.
    """

    created: int
    updated: int
    errors: tuple[FieldError, ...]

    @property
    def rejected(self) -> int:
        """How many rows were rejected; a row may have several errors."""
        return len({error.index for error in self.errors})


# --- judging rows ---

Faults = Iterator[tuple[str, str]]
NAME = f"must be a text of 1 to {MAX_ID} printable characters"


def row_faults(row: Any, allowed: Mapping[str, bool]) -> Faults:
    """Tell what is wrong with a row as a whole: `allowed` has each field's name and whether it must be there."""
    for fault in faults(row):
        yield fault.field, fault.message
    if not isinstance(row, dict):
        yield "", "must be an object"
        return
    for name in row.keys() - allowed.keys():
        yield shown((name,)), "is not a field here"
    for name, required in allowed.items():
        if required and name not in row:
            yield name, "is required"


_RECIPIENT_FIELDS = {"tenant": True, "id": True, "roles": False, "locale": False, "attributes": False}


def recipient_of(row: Any, index: int | None = None) -> Recipient:
    """Return the recipient that a row spells. Raises `InvalidInput` naming each field; unknown fields are refused."""
    refuse([*row_faults(row, _RECIPIENT_FIELDS)], index)
    refuse([*_recipient_faults(row)], index)
    return Recipient(
        row["tenant"], row["id"], tuple(dict.fromkeys(row.get("roles", ()))), row.get("locale", DEFAULT_LOCALE),
        row.get("attributes", {}),
    )  # fmt: skip


def refuse(found: list[tuple[str, str]], index: int | None) -> None:
    """Raise `InvalidInput` where there are faults; `index` is the row's place."""
    if found:
        raise InvalidInput(errors=tuple(FieldError(name, message, index) for name, message in found))


def _recipient_faults(row: Mapping[str, Any]) -> Faults:
    if not is_name(row["tenant"]):
        yield "tenant", NAME
    if not is_name(row["id"]):
        yield "id", NAME
    roles, locale, attributes = row.get("roles", []), row.get("locale", DEFAULT_LOCALE), row.get("attributes", {})
    if not isinstance(roles, list) or len(roles) > MAX_ROLES or not all(map(is_name, roles)):
        yield "roles", f"must be a list of at most {MAX_ROLES} names"
    if not isinstance(locale, str) or not _LOCALE.fullmatch(locale):
        yield "locale", "must be a language tag such as en or pt-BR"
    if not isinstance(attributes, dict):
        yield "attributes", "must be an object"
    elif len(orjson.dumps(attributes)) > MAX_ATTRIBUTES_BYTES:
        yield "attributes", f"must not be larger than {MAX_ATTRIBUTES_BYTES} bytes"


# --- tenants ---

_ENSURE_TENANT = text("INSERT INTO tenants (id) VALUES (:tenant) ON CONFLICT DO NOTHING RETURNING id")
_KNOWN_TENANTS = text("SELECT id FROM tenants WHERE id = ANY(CAST(:tenants AS text[]))")


def make_tenant(tenant: str) -> Program[bool]:
    """Make a tenant; returns False where it was there. Raises `InvalidInput` for an impossible name."""
    if not TENANT.fullmatch(tenant):
        message = "must have 1 to 100 letters, digits, and . _ : - after the first"
        raise InvalidInput(errors=(FieldError("tenant", message),))
    made = yield _ENSURE_TENANT, {"tenant": tenant}
    return bool(made)


def ensure_tenant(connection: Connection, tenant: str) -> bool:
    """As `make_tenant`, on a blocking connection."""
    return run(connection, make_tenant(tenant))


def require_tenant(tenant: str) -> Program[None]:
    """Raise `NotFound` for an unknown tenant."""
    if not (yield _KNOWN_TENANTS, {"tenants": [tenant]}):
        raise NotFound("There is no such tenant.")


def known_tenants(rows: Sequence[HasTenant]) -> Program[set[str]]:
    """Select which of the rows' tenants there are."""
    found = yield _KNOWN_TENANTS, {"tenants": sorted({row.tenant for row in rows})}
    return {row["id"] for row in found}


# --- recipients ---

_GIVEN = """jsonb_to_recordset(CAST(:rows AS jsonb))
    AS r(tenant text, id text, locale text, attributes jsonb, roles text[])"""
#: Only the missing ones are tried, so that importing a file again burns no numbers.
_MAKE_INBOXES = text(f"""
    WITH returned AS (UPDATE inboxes i SET deserted = false FROM {_GIVEN}
                      WHERE i.tenant = r.tenant AND i.recipient = r.id AND i.deserted)
    INSERT INTO inboxes (tenant, recipient) SELECT r.tenant, r.id FROM {_GIVEN}
    WHERE NOT EXISTS (SELECT FROM inboxes i WHERE i.tenant = r.tenant AND i.recipient = r.id)
    ORDER BY r.tenant, r.id ON CONFLICT (tenant, recipient) DO NOTHING""")
#: In key order, so that two imports of the same people wait for each other and never deadlock.
_PUT_RECIPIENTS = text(f"""
    INSERT INTO recipients AS known (key, tenant, id, locale, attributes)
    SELECT i.key, r.tenant, r.id, r.locale, r.attributes FROM {_GIVEN}
    JOIN inboxes i ON i.tenant = r.tenant AND i.recipient = r.id ORDER BY i.key
    ON CONFLICT (key) DO UPDATE
    SET locale = excluded.locale, attributes = excluded.attributes, updated_at = clock_timestamp()
    RETURNING known.tenant, known.id, xmax = 0 AS created""")
#: What goes is found by its place: of a table without statistics, as at a first import, a join read every row for each
#: thousand people.
_PUT_ROLES = text(f"""
    WITH given AS (SELECT p.key, r.tenant, r.roles FROM {_GIVEN}
                   JOIN recipients p ON p.tenant = r.tenant AND p.id = r.id),
    had AS MATERIALIZED (SELECT o.ctid AS place, o.key, o.role FROM recipient_roles o
                         WHERE o.key = ANY(ARRAY(SELECT key FROM given))),
    gone AS (DELETE FROM recipient_roles WHERE ctid = ANY(ARRAY(
                 SELECT h.place FROM had h JOIN given g ON g.key = h.key WHERE h.role <> ALL(g.roles))))
    INSERT INTO recipient_roles (tenant, role, key)
    SELECT g.tenant, role, g.key FROM given g CROSS JOIN unnest(g.roles) role ORDER BY g.tenant, role, g.key
    ON CONFLICT DO NOTHING""")


def _json_of(recipients: Sequence[Recipient]) -> str:
    rows = [
        {"tenant": one.tenant, "id": one.id, "locale": one.locale, "attributes": one.attributes, "roles": one.roles}
        for one in recipients
    ]
    return orjson.dumps(rows).decode()


def put_recipients(recipients: Sequence[Recipient]) -> Program[int]:
    """Register recipients of known tenants, or replace what is known of them; returns how many were not there before.

    Of one that stands twice the last is stored. Roles that are not named are taken away.
    """
    distinct = {(one.tenant, one.id): one for one in recipients}
    rows = {"rows": _json_of([*distinct.values()])}
    yield _MAKE_INBOXES, rows
    stored = yield _PUT_RECIPIENTS, rows
    yield _PUT_ROLES, rows
    return sum(row["created"] for row in stored)


def put_rows(rows: Sequence[Any], may_use: Callable[[str], bool] = lambda _tenant: True) -> Program[Report]:
    """Register a piece of a bulk import: what is right is stored, what is wrong is told, row by row."""
    judged, errors = judged_rows(rows, recipient_of)
    known = yield from known_tenants([*judged.values()])
    usable, refused = usable_rows(judged, known, may_use)
    created = (yield from put_recipients([*usable.values()])) if usable else 0
    return Report(created, len(usable) - created, (*errors, *refused))


def judged_rows(rows: Sequence[Any], judge: Callable[[Any, int], Any]) -> tuple[dict[int, Any], list[FieldError]]:
    """Return the rows that are right, by their index, and the errors of the others."""
    right: dict[int, Any] = {}
    wrong: list[FieldError] = []
    for index, row in enumerate(rows):
        try:
            right[index] = judge(row, index)
        except InvalidInput as refused:
            wrong += refused.errors
    return right, wrong


def usable_rows(
    judged: Mapping[int, Any], known: set[str], may_use: Callable[[str], bool]
) -> tuple[dict[int, Any], list[FieldError]]:
    """Return the rows whose tenant is known and allowed, and the errors of the others."""
    refused = [
        FieldError("tenant", "is not one that this key may use", index)
        for index, row in judged.items() if not may_use(row.tenant)
    ] + [
        FieldError("tenant", "is not a known tenant", index)
        for index, row in judged.items() if may_use(row.tenant) and row.tenant not in known
    ]  # fmt: skip
    out = {error.index for error in refused}
    return {index: row for index, row in judged.items() if index not in out}, refused


def import_recipients(connection: Connection, rows: Sequence[Any]) -> Report:
    """Register recipients from decoded rows `{"tenant","id","roles","locale","attributes"}`, for the command line.

    Any number of rows; they are stored a thousand at a time in the caller's transaction.
    """
    reports = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        report = run(connection, put_rows(rows[start : start + ROWS_AT_ONCE]))
        reports.append(shifted(report, start))
    return merged(reports)


def shifted(report: Report, by: int) -> Report:
    """Return the report with its indexes counted from a place further on."""
    moved = (FieldError(error.field, error.message, (error.index or 0) + by) for error in report.errors)
    return Report(report.created, report.updated, tuple(moved))


def merged(reports: Sequence[Report]) -> Report:
    """Return one report of several pieces."""
    return Report(
        sum(report.created for report in reports), sum(report.updated for report in reports),
        tuple(error for report in reports for error in report.errors),
    )  # fmt: skip


_GET_RECIPIENT = text("""
    SELECT r.tenant, r.id, r.locale, r.attributes, r.created_at, r.updated_at,
           ARRAY(SELECT o.role FROM recipient_roles o WHERE o.key = r.key ORDER BY o.role) AS roles
    FROM recipients r WHERE r.tenant = :tenant AND r.id = :id""")
_LOCK_INBOX = text("""
    SELECT i.key FROM inboxes i JOIN recipients r ON r.key = i.key
    WHERE i.tenant = :tenant AND i.recipient = :id FOR NO KEY UPDATE OF i""")
_DELETE_RECIPIENT = text("DELETE FROM recipients WHERE key = :key RETURNING key")
_DELETE_NOTIFICATIONS = text("DELETE FROM notifications WHERE key = :key")
#: Every cursor from before lies below the floor now: its holder is told to fetch the (empty) page.
_EMPTY_INBOX = text("""
    UPDATE inboxes SET seq = seq + 1, floor_seq = seq + 1, unread = 0, unseen = 0, total = 0, deserted = true
    WHERE key = :key""")


def get_recipient(tenant: str, id: str) -> Program[Row]:
    """Select one recipient with the roles, sorted. Raises `NotFound`."""
    rows = yield _GET_RECIPIENT, {"tenant": tenant, "id": id}
    if not rows:
        raise unknown_recipient()
    return rows[0]


def put_recipient(one: Recipient) -> Program[tuple[Row, bool]]:
    """Register or replace one recipient; returns it, and whether it is new. Raises `NotFound` for an unknown tenant."""
    yield from require_tenant(one.tenant)
    created = yield from put_recipients([one])
    row = yield from get_recipient(one.tenant, one.id)
    return row, bool(created)


def unknown_recipient() -> NotFound:
    """Return the answer for a recipient whom the directory does not know."""
    return NotFound("There is no such recipient.")


def delete_recipient(tenant: str, id: str) -> Program[None]:
    """Remove the person's data: the recipient, roles, topics and notifications. Raises `NotFound`.

    The emptied inbox stays with its numbering, which goes on if the id returns; older cursors get `reset`.
    """
    locked = yield _LOCK_INBOX, {"tenant": tenant, "id": id}
    deleted = (yield _DELETE_RECIPIENT, {"key": locked[0]["key"]}) if locked else ()
    if not deleted:
        raise unknown_recipient()
    yield _DELETE_NOTIFICATIONS, deleted[0]
    yield _EMPTY_INBOX, deleted[0]


_BY_LOGIN = text(
    "SELECT id FROM recipients WHERE tenant = :tenant AND login = ANY(CAST(:logins AS text[])) ORDER BY id"
)


def ids_by_login(tenant: str, logins: Sequence[str]) -> Program[dict[str, str]]:
    """Select which of the logins the directory knows, whatever their case: its own spelling by lower-case login."""
    rows = yield _BY_LOGIN, {"tenant": tenant, "logins": sorted({login.lower() for login in logins})}
    return {row["id"].lower(): row["id"] for row in rows}

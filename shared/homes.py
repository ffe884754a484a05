"""Where a recipient is at home, and the directory over all databases.

Whoever is registered with a shared role (`CARILLON_SHARED_ROLES`) is at home in the shared database, everybody else in
their tenant's; that is settled by the first registration and stays, whatever becomes of the roles. Where a tenant has a
database of its own, that one remembers who is elsewhere, and settles it under a lock: nobody has two homes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import text

from shared import audit, directory, topics
from shared.audit import Entry
from shared.databases import SHARED, database_of, is_split
from shared.directory import Recipient, Report
from shared.errors import FieldError
from shared.plans import Part, Plan
from shared.settings import settings
from shared.statements import Program, Row
from shared.topics import Membership

#: A tenant and an id.
Person = tuple[str, str]
MayUse = Callable[[str], bool]

_PEOPLE = "unnest(CAST(:tenants AS text[]), CAST(:ids AS text[])) AS u(tenant, id)"
_FIND = text(f"""
    SELECT u.tenant, u.id,
           EXISTS (SELECT FROM recipients_elsewhere e WHERE e.tenant = u.tenant AND e.id = u.id) AS elsewhere,
           EXISTS (SELECT FROM inboxes i WHERE i.tenant = u.tenant AND i.recipient = u.id) AS here
    FROM {_PEOPLE}""")
#: Held until the commit by whoever settles homes of a tenant's people.
_SETTLE = text("""
    SELECT pg_advisory_xact_lock(hashtextextended(t, 0)) FROM unnest(CAST(:tenants AS text[])) t ORDER BY t""")
_LEAVE = text(f"""
    INSERT INTO recipients_elsewhere (tenant, id) SELECT u.tenant, u.id FROM {_PEOPLE} ON CONFLICT DO NOTHING""")


def _columns(people: Iterable[Person]) -> dict[str, list[str]]:
    listed = sorted(set(people))
    return {"tenants": [tenant for tenant, _ in listed], "ids": [id for _, id in listed]}


def settle(people: Collection[Person]) -> Program[None]:
    """Wait until nobody else settles homes of these people's tenants, and keep others waiting until the commit."""
    yield _SETTLE, {"tenants": sorted({tenant for tenant, _ in people})}


def find(people: Collection[Person]) -> Program[tuple[set[Person], set[Person]]]:
    """Select, in their tenants' own database, who of these people is elsewhere and who has an inbox here."""
    rows = yield _FIND, _columns(people)
    elsewhere = {(row["tenant"], row["id"]) for row in rows if row["elsewhere"]}
    return elsewhere, {(row["tenant"], row["id"]) for row in rows if row["here"]}


def _claim(recipients: Sequence[Recipient]) -> Program[set[Person]]:
    """Settle the homes of recipients that are registered now; returns who of them is elsewhere."""
    people = [(one.tenant, one.id) for one in recipients]
    yield from settle(people)
    elsewhere, here = yield from find(people)
    shared = set(settings().shared_roles)
    leaving = {(one.tenant, one.id) for one in recipients if shared.intersection(one.roles)} - here - elsewhere
    if leaving:
        yield _LEAVE, _columns(leaving)
    return elsewhere | leaving


def home_of(tenant: str, id: str) -> Plan[tuple[str, bool]]:
    """Return the database where a recipient is at home, and whether that is settled: not before they are registered."""
    own = database_of(tenant)
    if own == SHARED:
        return SHARED, True
    elsewhere, here = yield Part(own, (tenant,), find([(tenant, id)]))
    return (SHARED if elsewhere else own), bool(elsewhere or here)


def _homes_of(people: Collection[Person]) -> Plan[dict[Person, str]]:
    """Return the home of each of these people; of an unknown one the tenant's own database."""
    homes: dict[Person, str] = {}
    for own, group in _by_database(people, lambda person: database_of(person[0])):
        elsewhere: set[Person] = set()
        if own != SHARED:
            elsewhere, _ = yield Part(own, _tenants(group), find(group))
        homes |= {person: SHARED if person in elsewhere else own for person in group}
    return homes


def _by_database(items: Iterable[Any], home: Callable[[Any], str]) -> list[tuple[str, list[Any]]]:
    return [(name, list(group)) for name, group in groupby(sorted(items, key=home), key=home)]


def _tenants(people: Iterable[Person]) -> tuple[str, ...]:
    return tuple(sorted({tenant for tenant, _ in people}))


# --- tenants and recipients ---


def make_tenant(tenant: str, actor: str) -> Plan[bool]:
    """As `directory.make_tenant`; a tenant with a database of its own is known in that one and in the shared one.

    The audit log of each tells who made it.
    """
    made = False
    for name in dict.fromkeys((database_of(tenant), SHARED)):
        program = audit.told(directory.make_tenant(tenant), Entry(actor, "tenant.created", tenant))
        made = (yield Part(name, (tenant,), program)) or made
    return made


def put_recipient(one: Recipient) -> Plan[tuple[Row, bool]]:
    """As `directory.put_recipient`, at the recipient's home."""
    own = database_of(one.tenant)
    told: tuple[Row, bool] | None = None
    if own != SHARED:
        told = yield Part(own, (one.tenant,), _put_here(one))
    if told is None:
        told = yield Part(SHARED, (one.tenant,), directory.put_recipient(one))
    return told


def _put_here(one: Recipient) -> Program[tuple[Row, bool] | None]:
    """Put a recipient who is at home here; None for one who is elsewhere."""
    yield from directory.require_tenant(one.tenant)
    if (yield from _claim([one])):
        return None
    return (yield from directory.put_recipient(one))


def get_recipient(tenant: str, id: str) -> Plan[Row]:
    """As `directory.get_recipient`."""
    home, _ = yield from home_of(tenant, id)
    row: Row = yield Part(home, (tenant,), directory.get_recipient(tenant, id))
    return row


def delete_recipient(tenant: str, id: str, actor: str) -> Plan[None]:
    """As `directory.delete_recipient`, with an entry of the audit log beside it.

    The home stays: it is where the inbox's numbering goes on if the id returns.
    """
    home, _ = yield from home_of(tenant, id)
    deed = Entry(actor, "recipient.deleted", tenant, id)
    yield Part(home, (tenant,), audit.told(directory.delete_recipient(tenant, id), deed))


def put_rows(rows: Sequence[Any], may_use: MayUse = lambda _tenant: True) -> Plan[Report]:
    """As `directory.put_rows`, each recipient at home; what was stored in one database stays if another one fails."""
    named = named_tenants(rows, may_use)
    if not is_split():
        report: Report = yield Part(SHARED, named, directory.put_rows(rows, may_use))
        return report
    judged, errors = directory.judged_rows(rows, directory.recipient_of)
    usable, refused = yield from _usable(judged, named, may_use)
    # Of one that stands twice the last is stored.
    distinct = {(one.tenant, one.id): one for one in usable.values()}
    created, elsewhere = 0, []
    for own, group in _by_database(distinct.values(), lambda one: database_of(one.tenant)):
        if own == SHARED:
            elsewhere += group
            continue
        made, others = yield Part(own, _tenants((one.tenant, one.id) for one in group), _put_those_here(group))
        created += made
        elsewhere += others
    if elsewhere:
        tenants = _tenants((one.tenant, one.id) for one in elsewhere)
        created += yield Part(SHARED, tenants, directory.put_recipients(elsewhere))
    return Report(created, len(usable) - created, (*errors, *refused))


def _put_those_here(recipients: Sequence[Recipient]) -> Program[tuple[int, list[Recipient]]]:
    """Put the recipients who are at home here; returns how many are new, and who is elsewhere."""
    elsewhere = yield from _claim(recipients)
    others = [one for one in recipients if (one.tenant, one.id) in elsewhere]
    here = [one for one in recipients if (one.tenant, one.id) not in elsewhere]
    return ((yield from directory.put_recipients(here)) if here else 0), others


def import_recipients(rows: Sequence[Any]) -> Plan[Report]:
    """As `put_rows`, for any number of rows: they are stored a thousand at a time."""
    reports = []
    for start in range(0, len(rows), directory.ROWS_AT_ONCE):
        report = yield from put_rows(rows[start : start + directory.ROWS_AT_ONCE])
        reports.append(directory.shifted(report, start))
    return directory.merged(reports)


def _usable(
    judged: Mapping[int, Any], named: tuple[str, ...], may_use: MayUse
) -> Plan[tuple[dict[int, Any], list[FieldError]]]:
    known: set[str] = set()
    for own, group in _by_database(judged.values(), lambda row: database_of(row.tenant)):
        known |= yield Part(own, named, directory.known_tenants(group))
    return directory.usable_rows(judged, known, may_use)


def named_tenants(rows: Sequence[Any], may_use: MayUse) -> tuple[str, ...]:
    """Return the tenants that decoded rows name and the key may use; a row without one is refused when it is judged."""
    named = {row.get("tenant") for row in rows if isinstance(row, dict)}
    return tuple(sorted(name for name in named if isinstance(name, str) and name.isprintable() and may_use(name)))


# --- topics ---


def change_members(changes: Sequence[Membership]) -> Plan[tuple[int, frozenset[int]]]:
    """As `topics.change_members`: a membership is where the recipient is."""
    homes = yield from _homes_of({(one.tenant, one.recipient) for one in changes})
    count, unknown = 0, set()
    places = range(len(changes))
    for home, group in _by_database(places, lambda place: homes[changes[place].tenant, changes[place].recipient]):
        tenants = tuple(sorted({changes[place].tenant for place in group}))
        told = yield Part(home, tenants, topics.change_members([changes[place] for place in group]))
        count += told[0]
        unknown |= {group[place] for place in told[1]}
    return count, frozenset(unknown)


def change_rows(rows: Sequence[Any], may_use: MayUse = lambda _tenant: True) -> Plan[Report]:
    """As `topics.change_rows`."""
    named = named_tenants(rows, may_use)
    if not is_split():
        report: Report = yield Part(SHARED, named, topics.change_rows(rows, may_use))
        return report
    judged, errors = directory.judged_rows(rows, topics.membership_of)
    usable, refused = yield from _usable(judged, named, may_use)
    changed, unknown = yield from change_members([*usable.values()])
    return topics.report_of([*usable], changed, unknown, [*errors, *refused])


def members_of(tenant: str, topic: str, after: str, limit: int) -> Plan[list[str]]:
    """As `topics.members_of`, over both of the tenant's databases."""
    found: list[str] = []
    for name in dict.fromkeys((database_of(tenant), SHARED)):
        found += yield Part(name, (tenant,), topics.members_of(tenant, topic, after, limit))
    return sorted(found)[:limit]

"""Topics: named sets of recipients within a tenant. One is there as soon as, and as long as, it has a member."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from shared.cloudevent import is_name
from shared.directory import NAME, Report, judged_rows, known_tenants, refuse, row_faults, usable_rows
from shared.errors import FieldError
from shared.statements import Program


@dataclass(frozen=True, slots=True)
class Membership:
    """That a recipient is, or is no longer, a member of a topic."""

    tenant: str
    topic: str
    recipient: str
    member: bool = True


_MEMBERSHIP_FIELDS = {"tenant": True, "topic": True, "recipient": True, "member": False}


def membership_of(row: Any, index: int | None = None) -> Membership:
    """Return the membership that a row spells. Raises `InvalidInput` naming each field; unknown fields are refused."""
    refuse([*row_faults(row, _MEMBERSHIP_FIELDS)], index)
    wrong = [(name, NAME) for name in ("tenant", "topic", "recipient") if not is_name(row[name])]
    if not isinstance(row.get("member", True), bool):
        wrong.append(("member", "must be true or false"))
    refuse(wrong, index)
    return Membership(**row)


#: Held until the commit, so that none of them is deleted before its membership is there.
_FIND = text("""
    SELECT r.tenant, r.id, r.key
    FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[])) AS k(tenant, id)
    JOIN recipients r ON r.tenant = k.tenant AND r.id = k.id ORDER BY r.key FOR KEY SHARE OF r""")
_CHANGED = "unnest(CAST(:tenants AS text[]), CAST(:topics AS text[]), CAST(:keys AS bigint[])) AS c(tenant, topic, key)"
_JOIN = text(f"""
    INSERT INTO topic_members (tenant, topic, key) SELECT c.tenant, c.topic, c.key FROM {_CHANGED}
    ORDER BY c.tenant, c.topic, c.key ON CONFLICT DO NOTHING RETURNING key""")
_LEAVE = text(f"""
    DELETE FROM topic_members m USING {_CHANGED}
    WHERE m.tenant = c.tenant AND m.topic = c.topic AND m.key = c.key RETURNING m.key""")
_MEMBERS = text("""
    SELECT r.id FROM topic_members m JOIN recipients r ON r.key = m.key
    WHERE m.tenant = :tenant AND m.topic = :topic AND r.id > :after ORDER BY r.id LIMIT :limit""")


def change_members(changes: Sequence[Membership]) -> Program[tuple[int, frozenset[int]]]:
    """Let recipients join and leave topics; of several changes of one membership the last counts.

    Returns how many memberships changed, and the places of changes whose recipient the directory does not know: those
    are left out.
    """
    people = sorted({(change.tenant, change.recipient) for change in changes})
    found = yield _FIND, {"tenants": [tenant for tenant, _ in people], "ids": [id for _, id in people]}
    keys = {(row["tenant"], row["id"]): row["key"] for row in found}
    unknown = [place for place, one in enumerate(changes) if (one.tenant, one.recipient) not in keys]
    wanted = {
        (one.tenant, one.topic, keys[one.tenant, one.recipient]): one.member
        for one in changes if (one.tenant, one.recipient) in keys
    }  # fmt: skip
    count = 0
    for statement, member in ((_JOIN, True), (_LEAVE, False)):
        chosen = [place for place, joins in wanted.items() if joins is member]
        if chosen:
            tenants, topics, members = map(list, zip(*chosen, strict=True))
            count += len((yield statement, {"tenants": tenants, "topics": topics, "keys": members}))
    return count, frozenset(unknown)


def change_rows(rows: Sequence[Any], may_use: Callable[[str], bool] = lambda _tenant: True) -> Program[Report]:
    """Change memberships from a piece of a bulk import; `created` counts the changed ones, `updated` the others."""
    judged, errors = judged_rows(rows, membership_of)
    known = yield from known_tenants([*judged.values()])
    usable, refused = usable_rows(judged, known, may_use)
    changed, unknown = (yield from change_members([*usable.values()])) if usable else (0, frozenset())
    return report_of([*usable], changed, unknown, [*errors, *refused])


def report_of(places: Sequence[int], changed: int, unknown: frozenset[int], errors: Sequence[FieldError]) -> Report:
    """Return what became of rows: `places` of those that could be tried, of which `unknown` named strangers."""
    strangers = [FieldError("recipient", "is not known to the directory", places[place]) for place in sorted(unknown)]
    return Report(changed, len(places) - len(unknown) - changed, (*errors, *strangers))


def members_of(tenant: str, topic: str, after: str, limit: int) -> Program[list[str]]:
    """Select a topic's members, at most `limit`, by id and beyond `after`; an unknown topic has none."""
    rows = yield _MEMBERS, {"tenant": tenant, "topic": topic, "after": after, "limit": limit}
    return [row["id"] for row in rows]

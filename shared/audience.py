"""Who an event reaches: the directory's side of the catalog's targets, as statements and the arithmetic around them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import TextClause, text

from shared import templates
from shared.catalog import Target

#: Beyond every inbox key: the end of an audience's last range.
MAX_KEY = 2**63 - 1

#: The keys of one target `t` (kind, tenant, name; tenant null: every tenant) within (t.after_key, t.up_to_key].
#: A branch of another kind is skipped by its one-time filter; the one that runs reads a range of one index.
_KEYS = """
    SELECT r.key FROM recipients r
    WHERE t.kind = 'recipient' AND r.tenant = t.tenant AND r.id = t.name
      AND r.key > t.after_key AND r.key <= t.up_to_key
    UNION ALL SELECT m.key FROM topic_members m
    WHERE t.kind = 'topic' AND m.tenant = t.tenant AND m.topic = t.name
      AND m.key > t.after_key AND m.key <= t.up_to_key
    UNION ALL SELECT o.key FROM recipient_roles o
    WHERE t.kind = 'role' AND o.tenant = t.tenant AND o.role = t.name
      AND o.key > t.after_key AND o.key <= t.up_to_key
    UNION ALL SELECT o.key FROM recipient_roles o
    WHERE t.kind = 'role' AND t.tenant IS NULL AND o.role = t.name
      AND o.key > t.after_key AND o.key <= t.up_to_key
    UNION ALL SELECT r.key FROM recipients r
    WHERE t.kind = 'everyone' AND r.tenant = t.tenant AND r.key > t.after_key AND r.key <= t.up_to_key
    UNION ALL SELECT r.key FROM recipients r
    WHERE t.kind = 'everyone' AND t.tenant IS NULL AND r.key > t.after_key AND r.key <= t.up_to_key"""

#: The one who did it, where the target leaves them out: known by their id in the event's tenant.
_NOT_LEFT_OUT = "(t.left_out IS NULL OR r.id <> t.left_out OR r.tenant <> t.event_tenant)"


@dataclass(frozen=True, slots=True)
class Sought:
    """A target of one event of a batch: `event` is the event's place in the batch, `place` the target's own in it."""

    event: int
    place: int
    tenant: str
    target: Target
    left_out: str | None

    @property
    def personal(self) -> bool:
        """Whether the target's texts read who the recipient is."""
        return templates.is_personal(self.target.audience)


def sought(event: int, tenant: str, data: dict[str, Any], found: Iterable[Target]) -> list[Sought]:
    """Return an event's targets, in their order of precedence, as the statements here take them."""
    actor = data.get("actor_id")
    return [
        Sought(event, place, tenant, target, actor if target.audience.exclude_actor else None)
        for place, target in enumerate(found)
    ]


def columns(targets: Sequence[Sought]) -> dict[str, list[Any]]:
    """Return the targets as the array parameters of every statement here."""
    return {
        "events": [one.event for one in targets],
        "places": [one.place for one in targets],
        "kinds": [one.target.kind for one in targets],
        "tenants": [one.target.tenant for one in targets],
        "names": [one.target.name for one in targets],
        "event_tenants": [one.tenant for one in targets],
        "left_outs": [one.left_out for one in targets],
        "personals": [one.personal for one in targets],
    }


_TARGETS = """(
    SELECT u.*, CAST(:after_key AS bigint) AS after_key, CAST(:up_to_key AS bigint) AS up_to_key
    FROM unnest(CAST(:events AS int[]), CAST(:places AS int[]), CAST(:kinds AS text[]), CAST(:tenants AS text[]),
                CAST(:names AS text[]), CAST(:event_tenants AS text[]), CAST(:left_outs AS text[]),
                CAST(:personals AS boolean[]))
         AS u(event, place, kind, tenant, name, event_tenant, left_out, personal)) t"""
#: Parameters of an unlimited range of keys.
EVERYWHERE = {"after_key": 0, "up_to_key": MAX_KEY}


@cache
def read_audience() -> TextClause:
    """Select whom the targets of many events reach: event, place, key, tenant, id, and for personal texts locale and
    attributes. Parameters: those of `columns`, a range of keys, limit.

    Someone whom several targets of an event match has a row for each. At most `limit` rows come back: with exactly
    as many, the answer may be incomplete.
    """
    return text(f"""
        SELECT t.event, t.place, r.key, r.tenant, r.id, r.locale,
               CASE WHEN t.personal THEN r.attributes END AS attributes
        FROM {_TARGETS} CROSS JOIN LATERAL ({_KEYS} LIMIT :limit) f JOIN recipients r ON r.key = f.key
        WHERE {_NOT_LEFT_OUT} LIMIT :limit""")


#: An audience's keys, each once, with the first target that it matches. The range is repeated for the recipients: a
#: plan that joins them in their order reads all before it otherwise, for each chunk again.
_AUDIENCE = f"""
    SELECT r.key, min(t.place) AS place
    FROM {_TARGETS} CROSS JOIN LATERAL ({_KEYS}) f JOIN recipients r ON r.key = f.key
    WHERE r.key > CAST(:after_key AS bigint) AND r.key <= CAST(:up_to_key AS bigint) AND {_NOT_LEFT_OUT}
    GROUP BY r.key"""


@cache
def plan_chunks() -> TextClause:
    """Insert the chunks of one event's audience: ranges of keys with `size` recipients each, the last one open-ended.

    Parameters: those of `columns`, an unlimited range, event_key, size. Selects the numbers; none: nobody is reached.
    """
    return text(f"""
        INSERT INTO fan_out_chunks (event_key, number, after_key, up_to_key)
        SELECT :event_key, c.number, coalesce(lag(c.last_key) OVER w, 0),
               CASE WHEN lead(c.number) OVER w IS NULL THEN {MAX_KEY} ELSE c.last_key END
        FROM (SELECT p.number, max(p.key) AS last_key
              FROM (SELECT a.key, (row_number() OVER (ORDER BY a.key) - 1) / :size AS number FROM ({_AUDIENCE}) a) p
              GROUP BY p.number) c
        WINDOW w AS (ORDER BY c.number) RETURNING number""")


@cache
def read_range() -> TextClause:
    """Select the first `limit` of one event's audience in a range of keys, by key: key, place, tenant, id, locale,
    attributes. Parameters: those of `columns`, the range, limit.
    """
    return text(f"""
        SELECT a.key, a.place, r.tenant, r.id, r.locale, r.attributes
        FROM ({_AUDIENCE} ORDER BY r.key LIMIT :limit) a JOIN recipients r ON r.key = a.key
        WHERE r.key > CAST(:after_key AS bigint) AND r.key <= CAST(:up_to_key AS bigint) ORDER BY a.key""")


@cache
def lock_range() -> TextClause:
    """Lock the inboxes of the first `limit` of one event's audience in a range of keys, in key order: key, place,
    deserted (as of the lock: its recipient was deleted meanwhile).

    Parameters: those of `columns`, the range, limit. The range is repeated for the inboxes, whose part of it a plan can
    then read in order.
    """
    return text(f"""
        SELECT i.key, a.place, i.deserted
        FROM ({_AUDIENCE} ORDER BY r.key LIMIT :limit) a JOIN inboxes i ON i.key = a.key
        WHERE i.key > CAST(:after_key AS bigint) AND i.key <= CAST(:up_to_key AS bigint)
        ORDER BY i.key FOR NO KEY UPDATE OF i""")


@cache
def register_inboxes() -> TextClause:
    """Make inboxes for those (tenants, ids) that have none; in one order, so that two of these cannot deadlock."""
    return text("""
        WITH given AS (SELECT DISTINCT u.tenant, u.id
                       FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[])) AS u(tenant, id)),
        returned AS (UPDATE inboxes i SET deserted = false FROM given u
                     WHERE i.tenant = u.tenant AND i.recipient = u.id AND i.deserted)
        INSERT INTO inboxes (tenant, recipient) SELECT u.tenant, u.id FROM given u
        ORDER BY u.tenant, u.id ON CONFLICT (tenant, recipient) DO NOTHING""")


@cache
def register_recipients() -> TextClause:
    """Make recipients of those (tenants, ids) that are none, without roles, once they have their inboxes."""
    return text("""
        INSERT INTO recipients (key, tenant, id)
        SELECT DISTINCT ON (i.tenant, i.recipient) i.key, i.tenant, i.recipient
        FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[])) AS u(tenant, id)
        JOIN inboxes i ON i.tenant = u.tenant AND i.recipient = u.id
        ORDER BY i.tenant, i.recipient ON CONFLICT DO NOTHING""")

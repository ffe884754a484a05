"""The statements of telling a forwarded event anew: left at its home, stored where it was forwarded to, told there.

What an event says grows by revisions. The latest one alone is left, stored and told: a database that was away is told
what is so now, once.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import TextClause, text

from shared.fan_out import CLAIMED


@cache
def leave() -> TextClause:
    """Leave what events say now for each database that they were or will be forwarded to.

    Array parameters: keys, revisions, datas.
    """
    return text("""
        UPDATE forwards f SET state = 'pending', revision = t.revision, data = t.data::jsonb, tried_at = '-infinity'
        FROM unnest(CAST(:keys AS bigint[]), CAST(:revisions AS bigint[]), CAST(:datas AS text[]))
             AS t(key, revision, data)
        WHERE f.event_key = t.key AND NOT f.cancelled""")


@cache
def store() -> TextClause:
    """Store what forwarded events say now; an older revision changes nothing, nor does the same again.

    Array parameters: tenant, source, id, revision, told (JSON texts).
    """
    return text("""
        INSERT INTO event_updates (event_key, revision, data)
        SELECT e.key, t.revision, t.told::jsonb
        FROM unnest(CAST(:tenant AS text[]), CAST(:source AS text[]), CAST(:id AS text[]), CAST(:revision AS bigint[]),
                    CAST(:told AS text[])) AS t(tenant, source, id, revision, told)
        JOIN events e ON e.tenant = t.tenant AND e.source = t.source AND e.id = t.id AND e.derived
        ON CONFLICT (event_key) DO UPDATE SET revision = excluded.revision, data = excluded.data
        WHERE event_updates.revision < excluded.revision""")


@cache
def claim_untold() -> TextClause:
    """Lock events whose latest revision is not told and select both: rounds under way first. Parameters: limit.

    Only once the event is done: before, its fan-out would write the old text after the new one.
    """
    return text(f"""
        SELECT {CLAIMED}, u.data AS says, u.revision, u.telling, u.told_up_to
        FROM event_updates u JOIN events e ON e.key = u.event_key
        WHERE u.told < u.revision AND e.state = 'done'
        ORDER BY u.telling IS NULL, e.key LIMIT :limit FOR NO KEY UPDATE OF e SKIP LOCKED""")


@cache
def set_told() -> TextClause:
    """Note which revisions are told, to everybody. Array parameters: keys, told."""
    return text("""
        UPDATE event_updates u SET told = t.told, telling = NULL, told_up_to = 0
        FROM unnest(CAST(:keys AS bigint[]), CAST(:told AS bigint[])) AS t(key, told) WHERE u.event_key = t.key""")


@cache
def set_telling() -> TextClause:
    """Note how far a round through a large audience is. Parameters: key, telling, told_up_to."""
    return text("UPDATE event_updates SET telling = :telling, told_up_to = :told_up_to WHERE event_key = :key")

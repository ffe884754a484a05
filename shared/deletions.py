"""Deleting in bulk, by the jobs: what is withdrawn, expired or over the cap becomes tombstones; old tombstones go.

Candidates are found without locks; then their inboxes are locked in key order, and what still holds is done. What one
transaction takes from an inbox is one change of it.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import TextClause, text

#: What the person had of it is gone at once; the rest of the row tells cursors that it was there.
_TOMBSTONE = (
    "deleted_at = coalesce(CAST(:now AS timestamptz), now()), deleted_for = :reason, "
    "title = '', message = '', action_url = NULL, metadata = '{}'"
)
#: The clock that a job goes by: the one that it was given, else the database's. As a query of its own: in line,
#: `coalesce` is nothing that row-level security trusts, so that no index served it and all that is to expire was read.
_NOW = "(SELECT coalesce(CAST(:now AS timestamptz), now()))"
_COUNTED = """
    count(*) FILTER (WHERE c.read_at IS NULL) AS unread, count(*) FILTER (WHERE c.seen_at IS NULL) AS unseen,
    count(*) FILTER (WHERE c.archived_at IS NULL) AS total, array_agg(c.id ORDER BY c.id) AS ids"""
_COUNTERS = "unread = i.unread - p.unread, unseen = i.unseen - p.unseen, total = i.total - p.total"
_TOLD = "i.key, i.tenant, i.recipient, i.seq, i.unread, i.unseen, p.ids"
#: By unnesting: a join of two CTEs, of which the planner knows nothing, compared each row with each (ten times slower).
#: The ids stay uuids: under row-level security a condition with a cast in it is no index's, and every row was read.
_GONE = f"""
    UPDATE notifications n SET {_TOMBSTONE}, seq = m.seq
    FROM moved m CROSS JOIN LATERAL unnest(m.ids) AS u(id) WHERE n.id = u.id"""


@cache
def delete_these() -> TextClause:
    """Delete those of these notifications that still exist, in locked inboxes; selects each inbox after its change.

    Parameters: ids, reason, now. Rows: epoch, key, tenant, recipient, seq, unread, unseen, ids.
    """
    return text(f"""
        WITH chosen AS (
            SELECT n.id, n.key, n.read_at, n.seen_at, n.archived_at FROM notifications n
            WHERE n.id = ANY(CAST(:ids AS uuid[])) AND n.deleted_at IS NULL),
        per_inbox AS (SELECT c.key, {_COUNTED} FROM chosen c GROUP BY c.key),
        moved AS (UPDATE inboxes i SET seq = i.seq + 1, {_COUNTERS} FROM per_inbox p WHERE i.key = p.key
                  RETURNING {_TOLD}),
        gone AS ({_GONE})
        SELECT d.epoch, m.* FROM moved m CROSS JOIN deployment d ORDER BY m.key""")


@cache
def event_notifications() -> TextClause:
    """Select an event's notifications after one of them: id, key. Parameters: event_key, after, last, limit.

    An event's ids lie between those of `id_range`, so that the primary key finds them.
    """
    return text("""
        SELECT n.id, n.key FROM notifications n
        WHERE n.id > CAST(:after AS uuid) AND n.id <= CAST(:last AS uuid) AND n.event_key = :event_key
          AND n.deleted_at IS NULL
        ORDER BY n.id LIMIT :limit""")


@cache
def cancel_chunks() -> TextClause:
    """Cancel what is pending of an event, once the chunks that run have ended. Parameters: event_key."""
    return text("UPDATE fan_out_chunks SET state = 'cancelled' WHERE event_key = :event_key AND state = 'pending'")


@cache
def finish_cancel() -> TextClause:
    """End a cancel. Parameters: event_key."""
    return text("""
        UPDATE events SET state = 'cancelled', finished_at = clock_timestamp()
        WHERE key = :event_key AND state = 'cancelling'""")


@cache
def due_cancels() -> TextClause:
    """Stamp the cancels that nobody has worked on for some seconds and select them. Parameters: limit."""
    return text("""
        UPDATE events SET tried_at = clock_timestamp() WHERE key IN (
            SELECT e.key FROM events e WHERE e.state = 'cancelling'
              AND (e.tried_at IS NULL OR e.tried_at < clock_timestamp() - interval '5 s')
            ORDER BY e.key LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED) RETURNING key""")


@cache
def expired() -> TextClause:
    """Select expired notifications, the longest expired first: id, key. Parameters: now, limit."""
    return text(f"""
        SELECT n.id, n.key FROM notifications n WHERE n.deleted_at IS NULL AND n.expires_at < {_NOW}
        ORDER BY n.expires_at LIMIT :limit""")


#: An inbox's cap: its tenant's own, where the settings give it one.
_CAP = """coalesce((SELECT u.cap FROM unnest(CAST(:tenants AS text[]), CAST(:caps AS bigint[])) AS u(tenant, cap)
        WHERE u.tenant = i.tenant), :cap)"""


@cache
def over_caps() -> TextClause:
    """Select of the next `inboxes` inboxes the last key (null: there are none) and those over their cap, in the order
    of their keys, with their excesses.

    `capped` is the ordinal up to which everything is gone: arithmetic finds what is due, where a look for the oldest
    row that is left would step over hundreds of tombstones in every inbox. So many inboxes and no more are read,
    however few of them are due. Parameters: cap, and those of some tenants (tenants, caps); least (the least of all
    these), after, inboxes.
    """
    is_over = f"FILTER (WHERE i.over > :least AND i.over > {_CAP})"
    return text(f"""
        SELECT max(i.key) AS last, array_agg(i.key) {is_over} AS keys, array_agg(i.over - {_CAP}) {is_over} AS excesses
        FROM (SELECT i.key, i.tenant, i.created - i.capped AS over
              FROM inboxes i WHERE i.key > :after ORDER BY i.key LIMIT :inboxes) i""")


@cache
def grown() -> TextClause:
    """Select of the next `inboxes` inboxes the last key and those that got something since the caps of types were last
    kept there, as `over_caps`; what they have over those is not known (excesses: 1). Parameters: after, inboxes.
    """
    return text("""
        SELECT max(i.key) AS last, array_agg(i.key) FILTER (WHERE i.has_grown) AS keys,
               array_agg(1) FILTER (WHERE i.has_grown) AS excesses
        FROM (SELECT i.key, i.created > i.type_capped AS has_grown
              FROM inboxes i WHERE i.key > :after ORDER BY i.key LIMIT :inboxes) i""")


@cache
def cap_these() -> TextClause:
    """Delete what locked inboxes have over the cap, `most` of each at most; rows as `delete_these`.

    An inbox whose surplus was deleted by its owner already is only marked as capped, which is no change. What is due is
    worked out first: then the index gives the surplus alone.
    Parameters: keys, cap, tenants, caps, most, reason, now.
    """
    return text(f"""
        WITH due AS MATERIALIZED (
            SELECT i.key, i.capped, least(i.created - i.cap, i.capped + :most) AS up_to
            FROM (SELECT i.*, {_CAP} AS cap FROM inboxes i WHERE i.key = ANY(CAST(:keys AS bigint[]))) i
            WHERE i.created - i.capped > i.cap),
        per_inbox AS (
            SELECT d.key, d.up_to, s.* FROM due d CROSS JOIN LATERAL (
                SELECT count(*) AS many, {_COUNTED} FROM notifications c
                WHERE c.key = d.key AND c.ordinal > d.capped AND c.ordinal <= d.up_to AND c.deleted_at IS NULL) s),
        moved AS (UPDATE inboxes i SET capped = p.up_to, seq = i.seq + least(p.many, 1), {_COUNTERS}
                  FROM per_inbox p WHERE i.key = p.key RETURNING {_TOLD}, p.many),
        gone AS ({_GONE})
        SELECT d.epoch, m.* FROM moved m CROSS JOIN deployment d WHERE m.many > 0 ORDER BY m.key""")


@cache
def cap_types_of_these() -> TextClause:
    """Delete what locked inboxes show of some types beyond the last `cap` of each, `most` of an inbox at most.

    Oldest first; an inbox of which more was to go is looked at again. Rows as `delete_these`. Parameters: keys, types,
    caps, most, reason, now.
    """
    return text(f"""
        WITH due AS (
            SELECT i.key, i.capped FROM inboxes i
            WHERE i.key = ANY(CAST(:keys AS bigint[])) AND i.created > i.type_capped),
        per_inbox AS (
            SELECT d.key, s.* FROM due d CROSS JOIN LATERAL (
                SELECT count(*) AS many, {_COUNTED} FROM (
                    SELECT r.* FROM (
                        SELECT n.id, n.ordinal, n.read_at, n.seen_at, n.archived_at, t.cap,
                               row_number() OVER (PARTITION BY n.type ORDER BY n.ordinal DESC) AS place
                        FROM notifications n
                        JOIN unnest(CAST(:types AS text[]), CAST(:caps AS bigint[])) AS t(type, cap) ON t.type = n.type
                        WHERE n.key = d.key AND n.ordinal > d.capped AND n.deleted_at IS NULL) r
                    WHERE r.place > r.cap ORDER BY r.ordinal LIMIT :most) c) s),
        moved AS (UPDATE inboxes i SET seq = i.seq + least(p.many, 1), {_COUNTERS},
                      type_capped = CASE WHEN p.many < :most THEN i.created ELSE i.type_capped END
                  FROM per_inbox p WHERE i.key = p.key RETURNING {_TOLD}, p.many),
        gone AS ({_GONE})
        SELECT d.epoch, m.* FROM moved m CROSS JOIN deployment d WHERE m.many > 0 ORDER BY m.key""")


#: Whether a notification is a tombstone, said so that the index of all tombstones is none of the plan's choices. Where
#: statistics are from before they came it looks empty, and the whole of it was read in each batch: 270,000 rows.
_IS_TOMBSTONE = "num_nonnulls(n.deleted_at) = 1"
#: A tombstone of an event that may still write notifications is kept: it stops the deleted one from coming back.
_FINISHED = """NOT EXISTS (SELECT FROM events e WHERE e.key = n.event_key
    AND e.state IN ('accepted', 'fanning_out', 'cancelling'))"""


@cache
def old_tombstones() -> TextClause:
    """Select tombstones older than `days`: id, key. Parameters: now, days, limit."""
    return text(f"""
        SELECT n.id, n.key FROM notifications n
        WHERE n.deleted_at < {_NOW} - make_interval(days => :days) AND {_FINISHED}
        ORDER BY n.deleted_at LIMIT :limit""")


@cache
def next_inboxes() -> TextClause:
    """Select the greatest key of the next `inboxes` inboxes after `after`; None: there is none.

    Of all inboxes, not of those that may have a surplus: where few have, one page would be the whole table.
    """
    return text("""
        SELECT max(p.key) FROM (SELECT i.key FROM inboxes i WHERE i.key > :after ORDER BY i.key LIMIT :inboxes) p""")


@cache
def beyond_kept() -> TextClause:
    """Select what is not among the last `keep` created of its inbox, or of its tenant's cap where that is more.

    Rows, by key and ordinal: id, key, ordinal, is_tombstone. Parameters: keep, tenants, caps, after, up_to (inboxes'
    keys), partly and ordinal (an inbox that was looked at up to there; ordinal 0: from its first row), limit.

    With `keep` at least the cap, only tombstones are that old once the cap has run; so no inbox has more than `keep`
    of them, without anybody counting them. What is to stay is selected as well: `limit` bounds what is read, and the
    next look begins behind it. The bound is worked out first: then an inbox without a surplus costs one look into an
    index, and not the reading of all its rows.
    """
    keep = _CAP.replace(":cap)", "0)")
    return text(f"""
        SELECT n.* FROM (
            SELECT i.key, i.created - greatest(:keep, {keep}) AS bound,
                   CASE WHEN i.key = :partly THEN :ordinal ELSE 0 END AS seen
            FROM inboxes i
            WHERE i.created > :keep AND i.key > :after AND i.key <= :up_to ORDER BY i.key) i
        CROSS JOIN LATERAL (
            SELECT n.id, n.key, n.ordinal, {_IS_TOMBSTONE} AS is_tombstone FROM notifications n
            WHERE n.key = i.key AND n.ordinal <= i.bound AND n.ordinal > i.seen ORDER BY n.ordinal LIMIT :limit) n
        ORDER BY i.key, n.ordinal LIMIT :limit""")


@cache
def purge_these() -> TextClause:
    """Remove tombstones of locked inboxes and raise their floors to the greatest seq removed. Parameters: ids."""
    return text(f"""
        WITH purged AS (
            DELETE FROM notifications n WHERE n.id = ANY(CAST(:ids AS uuid[])) AND {_IS_TOMBSTONE}
            AND {_FINISHED} RETURNING n.key, n.seq),
        per_inbox AS (SELECT key, max(seq) AS seq FROM purged GROUP BY key),
        raised AS (UPDATE inboxes i SET floor_seq = greatest(i.floor_seq, p.seq) FROM per_inbox p WHERE i.key = p.key)
        SELECT count(*) FROM purged""")


@cache
def old_events() -> TextClause:
    """Select events after `after`, in key order, which is nearly the order of acceptance.

    Rows: key, accepted_at, is_old (accepted and finished more than `days` ago), is_young (accepted since then).
    Parameters: now, days, after, limit.
    """
    return text(f"""
        SELECT e.key, e.accepted_at, e.accepted_at >= b.bound AS is_young,
               coalesce(e.accepted_at < b.bound AND e.finished_at < b.bound, false) AS is_old
        FROM events e, (SELECT {_NOW} - make_interval(days => :days) AS bound) b
        WHERE e.key > :after ORDER BY e.key LIMIT :limit""")


@cache
def forget_these() -> TextClause:
    """Remove finished events of which no notification is left, with their chunks. Parameters: keys, lows, highs.

    `OFFSET 0` keeps the look for notifications a probe of the primary key for each event: as a join it read every row.
    """
    return text("""
        DELETE FROM events e USING unnest(CAST(:keys AS bigint[]), CAST(:lows AS uuid[]), CAST(:highs AS uuid[]))
            AS u(key, low, high)
        WHERE e.key = u.key AND e.state IN ('done', 'cancelled', 'failed') AND NOT EXISTS (
            SELECT FROM notifications n
            WHERE n.id >= u.low AND n.id <= u.high AND n.event_key = u.key AND n.deleted_at IS NULL OFFSET 0)
          AND NOT EXISTS (SELECT FROM forwards f WHERE f.event_key = u.key AND f.state = 'pending')""")

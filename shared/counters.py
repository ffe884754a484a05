"""Recounting inboxes: whether their counters say what their rows do, and putting right those that do not."""

from __future__ import annotations

from functools import cache

from sqlalchemy import TextClause, text

#: What the counters of an inbox `i` should be; the same arithmetic as in every change of it.
_COUNTED = """
    SELECT count(*) FILTER (WHERE n.read_at IS NULL) AS unread, count(*) FILTER (WHERE n.seen_at IS NULL) AS unseen,
           count(*) FILTER (WHERE n.archived_at IS NULL) AS total
    FROM notifications n WHERE n.key = i.key AND n.deleted_at IS NULL"""
_DRIFTS = "(i.unread, i.unseen, i.total) IS DISTINCT FROM (c.unread, c.unseen, c.total)"


@cache
def recount() -> TextClause:
    """Select the next inboxes after `after`, in key order, and whether their counters differ from their rows.

    Without a lock: one statement sees both as of one moment. Rows: key, drifts. Parameters: after, limit.
    """
    return text(f"""
        SELECT i.key, {_DRIFTS} AS drifts
        FROM (SELECT * FROM inboxes WHERE key > :after ORDER BY key LIMIT :limit) i CROSS JOIN LATERAL ({_COUNTED}) c
        ORDER BY i.key""")


@cache
def repair() -> TextClause:
    """Set the counters of locked inboxes that still drift to what their rows say: one change of each.

    The change has no row of its own: the reconciler finds the inbox ahead of its streams, and tells them the counters
    with the head. Rows: key, and by how much the counters were too high: unread, unseen, total. Parameters: keys.
    """
    return text(f"""
        WITH fresh AS (
            SELECT i.key, c.*, i.unread - c.unread AS more_unread, i.unseen - c.unseen AS more_unseen,
                   i.total - c.total AS more_total
            FROM inboxes i CROSS JOIN LATERAL ({_COUNTED}) c
            WHERE i.key = ANY(CAST(:keys AS bigint[])) AND {_DRIFTS})
        UPDATE inboxes i SET seq = i.seq + 1, unread = f.unread, unseen = f.unseen, total = f.total
        FROM fresh f WHERE i.key = f.key
        RETURNING i.key, f.more_unread AS unread, f.more_unseen AS unseen, f.more_total AS total""")

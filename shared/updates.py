"""The statements of telling notifications anew: in their places, with their marks, under their inboxes' locks."""

from __future__ import annotations

from functools import cache

from sqlalchemy import TextClause, text

from shared.inbox import COLUMNS

_ROW = ", ".join(f"n.{name}" for name in COLUMNS)


@cache
def find() -> TextClause:
    """Select those of these notifications that are not deleted, without locks: id, key. Parameters: ids."""
    return text("""
        SELECT n.id, n.key FROM notifications n WHERE n.id = ANY(CAST(:ids AS uuid[])) AND n.deleted_at IS NULL""")


@cache
def read() -> TextClause:
    """Select them whole, once their inboxes are locked, in the order in which they were created. Parameters: ids."""
    return text(f"""
        SELECT n.key, {_ROW} FROM notifications n
        WHERE n.id = ANY(CAST(:ids AS uuid[])) AND n.deleted_at IS NULL ORDER BY n.key, n.ordinal""")


@cache
def write() -> TextClause:
    """Write new texts with their seqs, and move the locked inboxes. Array parameters: id, seq, title, message,
    action_url, metadata; inbox_key, inbox_seq.
    """
    return text("""
        WITH told AS (
            UPDATE notifications n SET seq = t.seq, title = t.title, message = t.message, action_url = t.action_url,
                                       metadata = t.metadata::jsonb
            FROM unnest(CAST(:id AS uuid[]), CAST(:seq AS bigint[]), CAST(:title AS text[]), CAST(:message AS text[]),
                        CAST(:action_url AS text[]), CAST(:metadata AS text[]))
                 AS t(id, seq, title, message, action_url, metadata)
            WHERE n.id = t.id)
        UPDATE inboxes i SET seq = t.seq
        FROM unnest(CAST(:inbox_key AS bigint[]), CAST(:inbox_seq AS bigint[])) AS t(key, seq) WHERE i.key = t.key""")

"""The comparison at a run's end: what was acknowledged, what the database holds, and what each stream knows."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

import psycopg

from tests.directory import Row
from tests.fault.ledger import EVERYONE
from tests.fault.load import Load
from tests.fault.streams import StreamClient

#: Notifications by event and recipient, tombstones too.
_PAIRS = """
    SELECT e.id AS event, i.recipient, count(*) AS many
    FROM notifications n JOIN events e ON e.key = n.event_key JOIN inboxes i ON i.key = n.key
    WHERE e.tenant = %s GROUP BY e.id, i.recipient"""
#: Inboxes whose numbers do not fit their rows. Changes without rows of their own (read all) take a seq as well, so a
#: seq may name no row, but none is beyond the inbox's and none of two creations is the same. The first rows may be
#: missing where tombstones were purged, which the floor says; no other is.
_DRIFT = """
    SELECT i.recipient, i.seq, i.created, i.unread, i.unseen, i.total, i.floor_seq, n.*
    FROM inboxes i CROSS JOIN LATERAL (
        SELECT count(*) AS many, count(DISTINCT n.ordinal) AS ordinals, coalesce(min(n.ordinal), 1) AS first,
               coalesce(max(n.ordinal), 0) AS last, count(DISTINCT n.created_seq) AS seqs,
               coalesce(max(n.seq), 0) AS last_seq,
               count(*) FILTER (WHERE n.deleted_at IS NULL AND n.archived_at IS NULL) AS there,
               count(*) FILTER (WHERE n.deleted_at IS NULL AND n.archived_at IS NULL AND n.read_at IS NULL) AS not_read,
               count(*) FILTER (WHERE n.deleted_at IS NULL AND n.archived_at IS NULL AND n.seen_at IS NULL) AS not_seen
        FROM notifications n WHERE n.key = i.key) n
    WHERE i.tenant = %s AND ((i.created, n.ordinals, n.last - n.first + 1, i.unread, i.unseen, i.total)
              IS DISTINCT FROM (n.last, n.many, n.many, n.not_read, n.not_seen, n.there)
           OR n.seqs <> n.many OR n.last_seq > i.seq OR (n.first > 1 AND i.floor_seq = 0))"""
#: How many tombstones were purged of each inbox that had some purged.
_PURGED = """
    SELECT i.recipient, i.created - (SELECT count(*) FROM notifications n WHERE n.key = i.key) AS many
    FROM inboxes i WHERE i.tenant = %s AND i.floor_seq > 0"""
_INBOXES = """
    SELECT i.recipient, i.seq, i.unread, i.unseen, d.epoch,
           coalesce(array_agg(n.id::text) FILTER (WHERE n.id IS NOT NULL), '{}') AS ids,
           coalesce(array_agg(n.id::text) FILTER (WHERE n.read_at IS NOT NULL), '{}') AS read
    FROM inboxes i CROSS JOIN deployment d LEFT JOIN notifications n ON n.key = i.key AND n.deleted_at IS NULL
    WHERE i.tenant = %s GROUP BY i.key, d.epoch"""
_NAMES = """
    SELECT n.id::text AS id, e.id AS event FROM notifications n JOIN events e ON e.key = n.event_key
    WHERE n.id = ANY(%s::uuid[])"""

#: Longer than the reconciler takes, all together.
LOOKS = 10
BETWEEN_LOOKS_S = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run came to. All but `acknowledged` and `notifications` must be 0, and `words` empty."""

    acknowledged: int
    notifications: int
    lost: int
    doubled: int
    seq: int
    drift: int
    other: int
    words: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing was wrong."""
        return not (self.lost or self.doubled or self.seq or self.drift or self.other)


def name_deleted(load: Load, session: psycopg.Connection[Row]) -> None:
    """Find out of which events the streams were told only that they are deleted by now."""

    def unnamed_ones() -> dict[str, StreamClient]:
        return {id: stream for stream in load.streams for id in stream.unnamed}

    unnamed = load.cluster.loop.call(unnamed_ones)
    if not unnamed:
        return
    rows = session.execute(_NAMES, [list(unnamed)]).fetchall()

    def hear() -> None:
        for row in rows:
            stream = unnamed[row["id"]]
            stream.unnamed.discard(row["id"])
            load.ledger.hear(stream.number, row["event"])

    load.cluster.loop.call(hear)


def is_told(load: Load, session: psycopg.Connection[Row]) -> bool:
    """Tell whether every stream has been told everything acknowledged and stands where its inbox stands."""
    name_deleted(load, session)
    if any(load.owed()):
        return False
    heads = {row["recipient"]: (row["epoch"], row["seq"]) for row in session.execute(_INBOXES, [load.tenant])}
    return all((one.inbox.epoch, one.inbox.mark) == heads[f"s{one.number}"] for one in load.streams)


def audit(load: Load, session: psycopg.Connection[Row]) -> Verdict:
    """Compare everything. The load must have stopped, and what was owed been told or given up."""
    ledger = load.ledger
    pairs = {(row["event"], row["recipient"]): row["many"] for row in session.execute(_PAIRS, [load.tenant])}
    purged = {row["recipient"]: row["many"] for row in session.execute(_PURGED, [load.tenant])}
    lost = _lost(load, pairs, purged)
    doubled = [f"{event} for {who} {many} times" for (event, who), many in pairs.items() if many > 1]
    drift = [f"drift: {dict(row)}" for row in session.execute(_DRIFT, [load.tenant])] + _lasting_drift(load, session)
    wrong = Counter(ledger.wrong)
    seq = wrong.pop("seq missing", 0) + wrong.pop("seq told twice", 0)
    twice = wrong.pop("notification doubled", 0)
    words = (*ledger.words, *lost[:10], *doubled[:10], *drift[:10])
    return Verdict(
        len(ledger.acknowledged), len(pairs), len(lost), len(doubled) + twice, seq, len(drift), wrong.total(), words
    )


def _lost(load: Load, pairs: dict[tuple[str, str], int], purged: dict[str, int]) -> list[str]:
    """Return what was acknowledged and was not told, or is not in the database.

    Of an inbox that had so many tombstones purged, so many that were told may be gone.
    """
    lost, gone = [], Counter(purged)
    for id, recipient in load.ledger.acknowledged.items():
        for one in range(load.people) if recipient == EVERYONE else (recipient,):
            if id in load.ledger.owed[one]:
                lost.append(f"{id} was not told to s{one}")
            elif (id, f"s{one}") not in pairs:
                gone[f"s{one}"] -= 1
                if gone[f"s{one}"] < 0:
                    lost.append(f"{id} for s{one} is not stored")
    return lost


def _lasting_drift(load: Load, session: psycopg.Connection[Row]) -> list[str]:
    """Return the streams that know something else than a page would say, each time that both are looked at.

    Jobs go on meanwhile: between a look at the rows and one at the streams the cap may have been kept.
    """
    told: list[str] = []
    for _ in range(LOOKS):
        told = _streams_drift(load, session)
        if not told:
            break
        threading.Event().wait(BETWEEN_LOOKS_S)
    return told


def _streams_drift(load: Load, session: psycopg.Connection[Row]) -> list[str]:
    """Return the streams that know something else than a page fetched now would say."""
    rows = {row["recipient"]: row for row in session.execute(_INBOXES, [load.tenant])}
    return [
        f"stream {stream.number}: {told}"
        for stream in load.streams
        if (told := _differs(stream, rows[f"s{stream.number}"]))
    ]


def _differs(stream: StreamClient, row: Row) -> str:
    inbox = stream.inbox
    known = {id for id, read in inbox.items.items() if read}
    told = (inbox.epoch, inbox.mark, inbox.unread, inbox.unseen, set(inbox.items), known)
    there = (row["epoch"], row["seq"], row["unread"], row["unseen"], set(row["ids"]), set(row["read"]))
    names = ("epoch", "mark", "unread", "unseen", "items", "read items")
    return ", ".join(
        f"{name} {_short(one)} instead of {_short(other)}"
        for name, one, other in zip(names, told, there, strict=True)
        if one != other
    )


def _short(value: object) -> str:
    return str(len(value)) if isinstance(value, set) else str(value)

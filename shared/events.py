"""The queue of record: accepting events once, telling how far they are, and cancelling them.

A posting of any size is one INSERT; what was there already is compared in one SELECT more. The decisions are plain
functions over rows; the programs run in the API and in the accept task alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, KeysView, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from sqlalchemy import text

from shared.canonical import canonical
from shared.cloudevent import Event
from shared.errors import Conflict, FieldError, InvalidInput, NotFound
from shared.statements import Program, Row, Rows

Status = Literal["accepted", "duplicate"]
Key = tuple[str, str, str]
#: What makes two events of one key the same, in the words of their row; absent ones are left out of the form.
_COMPARED = ("type", "subject", "time", "dataschema", "data")


def hash_of(row: Mapping[str, Any]) -> bytes:
    """Return the SHA-256 of what makes an event the same: of a row, also one that `carillon_publish` left without."""
    return hashlib.sha256(canonical({name: row[name] for name in _COMPARED if row[name] is not None})).digest()


@dataclass(frozen=True, slots=True)
class Posting:
    """Events posted together: each key once, with its content's hash. `repeated` are the places of repetitions.

    The errors of a batch name the event's place in it.
    """

    is_batch: bool
    events: tuple[Event, ...]
    first: Mapping[Key, Event]
    hashes: Mapping[Key, bytes]
    repeated: frozenset[int]

    @property
    def tenants(self) -> list[str]:
        return sorted({event.tenant for event in self.events})

    @property
    def keys(self) -> KeysView[Key]:
        return self.first.keys()

    def errors(self, places: Iterable[int], field: str, message: str) -> tuple[FieldError, ...]:
        """Return the same error of each of some events."""
        return tuple(FieldError(field, message, place if self.is_batch else None) for place in places)


def content_of(event: Event) -> bytes:
    """Return the hash of an event's content."""
    return hash_of({name: getattr(event, name) for name in _COMPARED})


def posting_of(events: Sequence[Event], contents: Sequence[bytes] | None = None, *, is_batch: bool = False) -> Posting:
    """Return the posting; raises `Conflict` where one key stands for two contents.

    `contents` are hashes to compare by, where what was sent is not what is stored.
    """
    first: dict[Key, Event] = {}
    hashes: dict[Key, bytes] = {}
    repeated: set[int] = set()
    different: list[int] = []
    for index, event in enumerate(events):
        content = content_of(event) if contents is None else contents[index]
        known = hashes.setdefault(event.key, content)
        if first.setdefault(event.key, event) is not event:
            repeated.add(index)
        if known != content:
            different.append(index)
    posting = Posting(is_batch, tuple(events), first, hashes, frozenset(repeated))
    if different:
        raise _conflict(posting, different)
    return posting


def merged(postings: Sequence[Posting]) -> Posting:
    """Return postings that have no event in common as one, in their order."""
    if len(postings) == 1:
        return postings[0]
    found: list[Event] = []
    repeated: set[int] = set()
    for posting in postings:
        repeated.update(len(found) + place for place in posting.repeated)
        found += posting.events
    first = {key: event for posting in postings for key, event in posting.first.items()}
    hashes = {key: content for posting in postings for key, content in posting.hashes.items()}
    return Posting(True, tuple(found), first, hashes, frozenset(repeated))


def _conflict(posting: Posting, places: Iterable[int]) -> Conflict:
    detail = "An event of this tenant, source and id was posted before with other content."
    return Conflict(detail, errors=posting.errors(places, "id", "was posted before with other content"))


#: Keys are inserted in one order, so that two postings of the same events wait for each other and never deadlock.
#: Where a tenant is not known, nothing is inserted and the known ones alone are told.
_INSERT = text("""
    WITH known AS (SELECT t.id FROM tenants t WHERE t.id = ANY(CAST(:given AS text[]))),
    inserted AS (
        INSERT INTO events (tenant, source, id, type, subject, time, dataschema, data, content_hash, traceparent,
                            registers, occurred_at, expires_at)
        SELECT e.tenant, e.source, e.id, e.type, e.subject, e.time, e.dataschema, e.data::jsonb, e.content_hash,
               e.traceparent, :registers, coalesce(e.occurred_at, clock_timestamp()), e.expires_at
        FROM unnest(CAST(:tenants AS text[]), CAST(:sources AS text[]), CAST(:ids AS text[]), CAST(:types AS text[]),
                    CAST(:subjects AS text[]), CAST(:times AS text[]), CAST(:schemas AS text[]), CAST(:datas AS text[]),
                    CAST(:hashes AS bytea[]), CAST(:traces AS text[]), CAST(:moments AS timestamptz[]),
                    CAST(:expiries AS timestamptz[]))
             AS e(tenant, source, id, type, subject, time, dataschema, data, content_hash, traceparent, occurred_at,
                  expires_at)
        WHERE (SELECT count(*) FROM known) = cardinality(CAST(:given AS text[]))
        ORDER BY e.tenant, e.source, e.id
        ON CONFLICT (tenant, source, id) DO NOTHING RETURNING tenant, source, id)
    SELECT id AS tenant, NULL AS source, NULL AS id FROM known
    UNION ALL SELECT tenant, source, id FROM inserted""")

#: Repetitions are counted by the way, but for an event that somebody holds: nobody waits for a count.
_COMPARE = text("""
    WITH free AS (
        SELECT e.key FROM unnest(CAST(:tenants AS text[]), CAST(:sources AS text[]), CAST(:ids AS text[]))
            AS k(tenant, source, id)
        JOIN events e ON e.tenant = k.tenant AND e.source = k.source AND e.id = k.id
        FOR NO KEY UPDATE OF e SKIP LOCKED),
    counted AS (UPDATE events e SET repeats = e.repeats + 1, repeated_at = clock_timestamp()
                FROM free f WHERE e.key = f.key AND CAST(:counts AS boolean))
    SELECT e.tenant, e.source, e.id, e.content_hash, e.type, e.subject, e.time, e.dataschema,
           CASE WHEN e.content_hash IS NULL THEN e.data END AS data
    FROM unnest(CAST(:tenants AS text[]), CAST(:sources AS text[]), CAST(:ids AS text[])) AS k(tenant, source, id)
    JOIN events e ON e.tenant = k.tenant AND e.source = k.source AND e.id = k.id""")


def accept(posting: Posting, registers: bool, again: bool = False) -> Program[list[Status]]:
    """Store what is new and return each event's status, in the order of the posting; durable with the commit.

    `registers`: whether recipients that the events name and the directory does not know are registered. `again`: this
    very posting may be stored already, so that what is there is counted as nobody's repetition. Raises `InvalidInput`
    for unknown tenants and `Conflict` for other content: then the caller's transaction must not commit, for a posting
    is all or nothing.
    """
    told = yield _INSERT, {**_columns(posting), "given": posting.tenants, "registers": registers}
    _refuse_unknown(posting, {row["tenant"] for row in told if row["id"] is None})
    inserted = {_key(row) for row in told if row["id"] is not None}
    repeated = {posting.events[index].key for index in posting.repeated}
    missing = [key for key in posting.first if key not in inserted or key in repeated]
    if missing:
        rows = yield _COMPARE, {**_keys(missing), "counts": not again}
        _refuse_different(posting, rows)
    return [_status(posting, inserted, index) for index in range(len(posting.events))]


def _key(row: Mapping[str, Any]) -> Key:
    return row["tenant"], row["source"], row["id"]


def _keys(keys: Sequence[Key]) -> dict[str, list[str]]:
    tenants, sources, ids = zip(*keys, strict=True)
    return {"tenants": list(tenants), "sources": list(sources), "ids": list(ids)}


def _columns(posting: Posting) -> dict[str, Any]:
    events = posting.first.values()
    return {
        **_keys(list(posting.first)),
        "types": [event.type for event in events],
        "subjects": [event.subject for event in events],
        "times": [event.time for event in events],
        "schemas": [event.dataschema for event in events],
        "datas": [orjson.dumps(event.data).decode() for event in events],
        "hashes": [posting.hashes[event.key] for event in events],
        "traces": [event.traceparent for event in events],
        "moments": [event.occurred_at for event in events],
        "expiries": [event.expires_at for event in events],
    }


def _refuse_unknown(posting: Posting, known: set[str]) -> None:
    places = [index for index, event in enumerate(posting.events) if event.tenant not in known]
    if places:
        errors = posting.errors(places, "tenant", "is not a known tenant")
        raise InvalidInput("The tenant is not known.", errors=errors)


def _refuse_different(posting: Posting, rows: Rows) -> None:
    wrong = {_key(row) for row in rows if (row["content_hash"] or hash_of(row)) != posting.hashes[_key(row)]}
    if wrong:
        raise _conflict(posting, [place for place, event in enumerate(posting.events) if event.key in wrong])


def _status(posting: Posting, inserted: set[Key], index: int) -> Status:
    is_new = posting.events[index].key in inserted and index not in posting.repeated
    return "accepted" if is_new else "duplicate"


def told(found: Sequence[Event], statuses: Sequence[Status]) -> list[dict[str, str]]:
    """Return what a producer is answered about its events."""
    return [{"id": event.id, "status": status} for event, status in zip(found, statuses, strict=True)]


#: A notification's id begins with its event's accepted time in milliseconds, so one event's lie together; the event's
#: key tells them from those of the same millisecond. Chunks are summed, as an event's own counts may come at its end.
_READ = text("""
    SELECT e.tenant, e.source, e.id, e.type, e.traceparent, e.state, e.attempts, e.error, e.accepted_at, e.finished_at,
           greatest(e.recipients, c.recipients) AS recipients,
           greatest(e.notifications, c.notifications) AS notifications,
           greatest(e.published, c.published) AS published, n.seen, n.read
    FROM events e
    CROSS JOIN LATERAL (SELECT floor(extract(epoch FROM e.accepted_at) * 1000)::bigint AS first_ms) m
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(f.recipients), 0)::bigint AS recipients, coalesce(sum(f.published), 0)::bigint AS published,
               coalesce(sum(f.notifications), 0)::bigint AS notifications
        FROM fan_out_chunks f WHERE f.event_key = e.key) c
    CROSS JOIN LATERAL carillon_seen_and_read(e.key,
        (lpad(to_hex(m.first_ms), 12, '0') || repeat('0', 20))::uuid,
        (lpad(to_hex(m.first_ms + 2), 12, '0') || repeat('0', 20))::uuid) n
    WHERE e.tenant = :tenant AND e.source = :source AND e.id = :id""")

_CANCEL = text("""
    UPDATE events SET state = 'cancelling', finished_at = NULL
    WHERE tenant = :tenant AND source = :source AND id = :id AND state NOT IN ('cancelling', 'cancelled')
    RETURNING id""")


def read(tenant: str, source: str, id: str) -> Program[Row]:
    """Select one event's state and counts; raises `NotFound`."""
    rows = yield from find(tenant, source, id)
    if not rows:
        raise NotFound("There is no such event.")
    return rows[0]


def find(tenant: str, source: str, id: str) -> Program[Rows]:
    """Select one event's state and counts, or no row."""
    rows = yield _READ, {"tenant": tenant, "source": source, "id": id}
    return rows


def cancel(tenant: str, source: str, id: str) -> Program[bool]:
    """Stop an event and have what it made withdrawn; returns False where that was asked for before.

    From the commit on nothing more is fanned out; a worker withdraws what is out already. Raises `NotFound`.
    """
    changed = yield _CANCEL, {"tenant": tenant, "source": source, "id": id}
    if not changed:
        yield from read(tenant, source, id)
    return bool(changed)

"""The fan-out of large audiences: a plan of chunks, then each chunk in a transaction and a task of its own.

A text that is the same for all is rendered once and multiplied by the server; personal texts go through COPY.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from celery import Task
from sqlalchemy import Connection

from shared import audience, chunks, databases, db, fan_out, metrics, traces
from shared.cursor import Cursor
from shared.errors import InvalidInput
from shared.following import Followed, is_followed, trace_of
from shared.frames import Counters, channel_of, created
from shared.logs import log, place_of
from shared.notification_id import notification_id
from shared.settings import settings
from shared.wake import CHUNK_SHARDS, CHUNK_TASK, chunk_channel
from workers.app import PLAN_TASK, app, send
from workers.deliver import MAX_BATCH_BYTES, register
from workers.measure import count_commits
from workers.patience import is_blameless, patience
from workers.prepare import Prepared, Row, Text, prepare, reason_of, see_targets
from workers.publish import Message, publish


@app.task(name=PLAN_TASK)
def plan_task(event_key: int) -> None:
    """Divide a large event's audience into chunks."""
    with patience(PLAN_TASK):
        plan(event_key)


@app.task(name=CHUNK_TASK, bind=True)
def chunk_task(self: Task, event_key: int, number: int) -> None:
    """Fan out one chunk; one whose worker died also where PostgreSQL has not noticed that yet."""
    with patience(CHUNK_TASK):
        run_chunk(event_key, number, waits=bool((self.request.delivery_info or {}).get("redelivered")))


def plan(event_key: int) -> None:
    """Make a large event's chunks and queue them; one that has chunks gets its failed ones queued again.

    An event that nobody plans any more, or that another worker plans now, is left alone.
    """
    with db.transaction() as connection:
        rows = connection.execute(fan_out.claim_one(), {"key": event_key, "state": "fanning_out"}).mappings().all()
        numbers = _plan_claimed(connection, rows[0]) if rows else []
    for number in numbers:
        send(CHUNK_TASK, event_key, number, trace_id=trace_of(rows[0]))


def _plan_claimed(connection: Connection, row: Row) -> list[int]:
    event_key = row["key"]
    known = connection.execute(chunks.read_chunks(), {"event_key": event_key}).all()
    if known:
        return [chunk.number for chunk in known if chunk.pending]
    try:
        event = prepare(row)
        size = chunk_size(event)
        see_targets(connection, [event])
    except InvalidInput as refused:
        log().warning("event.refused", event_key=event_key, trace_id=trace_of(row))
        connection.execute(fan_out.fail(), {"key": event_key, "error": reason_of(refused)})
        return []
    if event.registers:
        register(connection, [target for target in event.targets if target.target.kind == "recipient"])
    given = {**audience.columns(event.targets), **audience.EVERYWHERE, "event_key": event_key, "size": size}
    numbers = sorted(connection.scalars(audience.plan_chunks(), given))
    if not numbers:
        connection.execute(fan_out.finish_empty(), {"key": event_key})
    return numbers


def chunk_size(event: Prepared) -> int:
    """Return how many recipients a chunk of the event has: fewer where its texts are long. Raises `InvalidInput`.

    The shared texts are rendered for it, so that one that cannot be fails the event before anybody is told.
    """
    longest = len(orjson.dumps(event.data)) + len(event.metadata_json)
    for target in event.targets:
        if not target.personal:
            longest = max(longest, event.shared_text(target.place).size)
    return max(1, min(settings().chunk_size, MAX_BATCH_BYTES // longest))


@dataclass(slots=True)
class _Done:
    """What one chunk's transaction did, for after its commit."""

    recipients: int = 0
    notifications: int = 0
    messages: list[Message] = field(default_factory=list)
    #: How many notifications each message tells.
    told: list[int] = field(default_factory=list)
    left: int | None = None
    event_type: str = ""
    accepted_at: float = 0.0
    followed: Followed | None = None
    trace_id: str = ""
    error: str | None = None


def run_chunk(event_key: int, number: int, *, waits: bool = False) -> None:
    """Fan out one chunk, counting the attempt by a commit of its own first: it outlives this process.

    A chunk that is held, done, cancelled or exhausted is left alone; `waits`: a held one is waited for, as the process
    that died of it may be known to everyone but PostgreSQL. After the last attempt it is failed, and its event
    with it once no other is pending.
    """
    names = {"event_key": event_key, "number": number}
    with db.transaction() as connection:
        attempt = connection.scalar(chunks.begin_chunk(waits=waits), {**names, "most": settings().max_attempts})
    if attempt is None:
        return
    began = time.monotonic()
    rows: Sequence[Row] = ()
    try:
        with db.transaction() as connection:
            rows = connection.execute(chunks.claim_chunk(), names).mappings().all()
            done = _Chunk(connection, rows[0], number, careful=attempt > 1).run() if rows else None
    except Exception as error:
        trace_ids = {"trace_id": trace_of(rows[0])} if rows else {}
        _judge({**names, **trace_ids}, attempt, error, time.monotonic() - began)
        return
    if done is not None:
        _after_commit(event_key, number, done)


def _judge(ids: dict[str, Any], attempt: int, error: Exception, seconds: float) -> None:
    names = {name: ids[name] for name in ("event_key", "number")}
    kind, state = type(error).__name__, db.sqlstate_of(error)
    log().error("chunk.failed", **ids, attempt=attempt, reason=kind, sqlstate=state, where=place_of(error))
    blameless = is_blameless(error, seconds)
    given_up = not blameless and attempt >= settings().max_attempts
    with db.transaction() as connection:
        if blameless:
            connection.execute(chunks.take_back_chunk(), names)
        elif given_up:
            connection.execute(chunks.fail_chunk(), names)
            metrics.FINISHED.add(1, "given_up")
    if given_up:
        log().error("event.given_up", **ids, attempts=attempt)
        progress(names["event_key"])


def _after_commit(event_key: int, number: int, done: _Done) -> None:
    if done.error is None:
        count_commits("fan_out", [(done.event_type, done.accepted_at)])
    metrics.FINISHED.add(1, "refused" if done.error else "done")
    metrics.NOTIFICATIONS.add(sum(done.told), "fan_out")
    if done.left is not None:
        send(CHUNK_TASK, event_key, done.left, trace_id=done.trace_id)
    committed = time.time()
    taken = publish(done.messages, [done.followed.as_order(committed)] if done.followed else ())
    if done.followed is not None:
        _tell_published(done.followed, number, done, committed, len(taken))
    with patience("chunk.progress"):
        progress(event_key, number, sum(done.told[place] for place in taken), done.error)


def _tell_published(event: Followed, number: int, done: _Done, committed: float, taken: int) -> None:
    ids = {"event_key": event.event_key, "chunk": number}
    event.note("event.fanned_out", chunk=number, recipients=done.recipients)
    event.note("event.published", chunk=number, messages=taken)
    traces.tell("carillon.fan_out_chunk", event.traceparent, done.accepted_at, committed, **ids)
    traces.tell("carillon.publish", event.traceparent, committed, time.time(), **ids)


def progress(event_key: int, number: int | None = None, published: int = 0, error: str | None = None) -> None:
    """Bring an event's counts up to its chunks', and end it when none is pending."""
    with db.transaction() as connection:
        connection.execute(chunks.lock_event(), {"event_key": event_key})
        if number is not None and published:
            given = {"event_key": event_key, "number": number, "published": published}
            connection.execute(chunks.count_published(), given)
        connection.execute(chunks.sum_chunks(), {"event_key": event_key, "error": error})


class _Chunk:
    """One claimed chunk inside its transaction."""

    def __init__(self, connection: Connection, row: Row, number: int, careful: bool) -> None:
        self._connection = connection
        self._row = row
        self._names = {"event_key": row["key"], "number": number}
        self._careful = careful
        self._done = _Done()

    def run(self) -> _Done:
        """Write and end the chunk; one whose texts cannot be made is failed, with the reason."""
        try:
            event = prepare(self._row)
            size = chunk_size(event)
            see_targets(self._connection, [event])
            self._done.event_type, self._done.accepted_at = event.event_type.name, event.accepted_at.timestamp()
            self._done.trace_id = trace_of(self._row)
            if any(target.personal for target in event.targets):
                self._write_personal(event, size)
            else:
                self._write_shared(event, size)
        except InvalidInput as refused:
            log().warning("chunk.refused", **self._names, trace_id=trace_of(self._row))
            self._connection.execute(chunks.fail_chunk(), self._names)
            return _Done(error=reason_of(refused))
        return self._done

    def _range(self, event: Prepared, size: int) -> dict[str, Any]:
        given = {"after_key": self._row["after_key"], "up_to_key": self._row["up_to_key"], "limit": size + 1}
        return {**audience.columns(event.targets), **given}

    def _write_shared(self, event: Prepared, size: int) -> None:
        # Plain tuples, for there are thousands: key, place, deserted.
        rows = self._connection.execute(audience.lock_range(), self._range(event, size)).all()
        taken = rows[:size]
        there = [key for key, _, deserted in taken if not deserted]
        fresh = self._fresh(event, there)
        keys_of: dict[int, list[int]] = {}
        for key, place, _ in taken:
            if key in fresh:
                keys_of.setdefault(place, []).append(key)
        for place, keys in self._by_text(event, keys_of).items():
            self._multiply(event, event.shared_text(place), keys)
        self._end([key for key, _, _ in rows], size, gone=len(taken) - len(there))

    @staticmethod
    def _by_text(event: Prepared, keys_of: Mapping[int, list[int]]) -> dict[int, list[int]]:
        """Return the keys of places by the first place with the same text."""
        first: dict[int, int] = {}
        found: dict[int, list[int]] = {}
        for place, keys in keys_of.items():
            same = first.setdefault(event.targets[place].target.audience.position, place)
            found[same] = sorted(found[same] + keys) if same in found else keys
        return found

    def _multiply(self, event: Prepared, text: Text, keys: list[int]) -> None:
        told = {"title": text.rendered.title, "message": text.rendered.message, "action_url": text.rendered.action_url}
        row = self._connection.execute(chunks.multiply(), {**self._given(event, keys), **told}).one()
        head = f"{databases.current()} {self._row['epoch']}\n".encode()
        # The frame's end without its two newlines: a line of the message must not contain one.
        body = b"\n".join((head + text.rest.removesuffix(b"\n\n"), row.lines.encode()))
        self._done.messages.append((chunk_channel(event.key % CHUNK_SHARDS), body))
        self._done.told.append(row.written)

    def _given(self, event: Prepared, keys: Sequence[int]) -> dict[str, Any]:
        return {
            "keys": list(keys),
            "prefix": event.prefix,
            "event_key": event.key,
            "type": event.event_type.name,
            "priority": event.priority,
            "metadata": event.metadata_json,
            "expires_at": event.expires_at,
        }

    def _fresh(self, event: Prepared, keys: Iterable[int]) -> set[int]:
        """Return the inboxes that do not have the notification yet. Only a chunk that failed before asks."""
        if not self._careful:
            return set(keys)
        ids = {str(notification_id(event.prefix, event.key, key)): key for key in keys}
        existing = self._connection.scalars(fan_out.read_existing(), {"ids": list(ids)})
        return set(ids.values()) - {ids[str(id)] for id in existing}

    def _write_personal(self, event: Prepared, size: int) -> None:
        # Rendered before any inbox is locked: a template takes longer than a row.
        rows = self._connection.execute(audience.read_range(), self._range(event, size)).mappings().all()
        taken: dict[int, Row] = {row["key"]: row for row in rows[:size]}
        texts = {key: event.text_for(row["place"], row) for key, row in taken.items()}
        locked = self._connection.execute(fan_out.lock_inboxes(), {"keys": list(taken)}).mappings().all()
        there = [row["key"] for row in locked]
        fresh = self._fresh(event, there)
        if fresh:
            self._copy({key: text for key, text in texts.items() if key in fresh})
            keys = sorted(fresh)
            result = self._connection.execute(chunks.write_personal(), self._given(event, keys)).one()
            self._tell_each(result.lines, taken, texts)
        self._end([row["key"] for row in rows], size, gone=len(taken) - len(there))

    def _copy(self, texts: dict[int, Text]) -> None:
        self._connection.execute(chunks.TEXTS_TABLE)
        raw = self._connection.connection.driver_connection
        assert raw is not None
        with raw.cursor() as cursor, cursor.copy(chunks.COPY_TEXTS) as copy:
            for key, text in texts.items():
                copy.write_row((key, text.rendered.title, text.rendered.message, text.rendered.action_url))
        self._connection.execute(chunks.ANALYZE_TEXTS)

    def _tell_each(self, lines: str, taken: dict[int, Row], texts: dict[int, Text]) -> None:
        for line in lines.splitlines():
            key, seq, id, unread, unseen = line.split(" ")
            row = taken[int(key)]
            cursor, counters = Cursor(self._row["epoch"], int(seq)), Counters(int(unread), int(unseen), 0)
            frame = created(cursor, id, orjson.dumps(row["tenant"]), counters, texts[int(key)].rest)
            self._done.messages.append((channel_of(row["tenant"], row["id"]), frame))
            self._done.told.append(1)

    def _end(self, keys: list[int], size: int, gone: int) -> None:
        """End the chunk after `size` inboxes, of which `gone` lost their recipients meanwhile.

        What has grown beyond that becomes a chunk of its own.
        """
        count, up_to = min(len(keys), size) - gone, self._row["up_to_key"]
        if len(keys) > size:
            rest = {"event_key": self._row["key"], "after_key": keys[size - 1], "up_to_key": up_to}
            self._done.left = self._connection.scalar(chunks.add_chunk(), rest)
            up_to = keys[size - 1]
        if is_followed(self._row["traceparent"]):
            self._follow(keys[:size])
        self._done.recipients = self._done.notifications = count
        given = {**self._names, "recipients": count, "notifications": count, "up_to_key": up_to}
        self._connection.execute(chunks.end_chunk(), given)

    def _follow(self, keys: Sequence[int]) -> None:
        key, traceparent, here = self._row["key"], self._row["traceparent"], databases.current()
        self._done.followed = Followed(self._done.trace_id, traceparent, key, self._row["type"], here, keys)

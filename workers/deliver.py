"""One batch of claimed events in one transaction: who is reached, which texts, which numbers, all written at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection

from shared import audience, databases, failed_logins, fan_out, homes
from shared.cursor import Cursor
from shared.errors import InvalidInput
from shared.following import Followed, is_followed, trace_of
from shared.frames import Counters, channel_of, created
from shared.notification_id import notification_id
from shared.settings import settings
from shared.statements import run
from workers import at_work
from workers.forward import leave_forwards
from workers.prepare import Prepared, Row, Text, prepare, reason_of, see_targets
from workers.publish import Message
from workers.reach import Reached, Rows, by_event, read_within

#: Bytes of texts that one batch writes: bounds a worker's memory where texts are long and audiences wide.
MAX_BATCH_BYTES = 8 * 1024 * 1024


@dataclass(slots=True)
class Delivery:
    """What one transaction did, for after its commit: the frames to publish, and how each event ended.

    `released` events were claimed and left pending: the batch would have touched too many inboxes with them.
    """

    messages: list[Message] = field(default_factory=list)
    #: The event of each message.
    owners: list[int] = field(default_factory=list)
    large: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    #: The trace ids of those that are large or refused.
    trace_ids: dict[int, str] = field(default_factory=dict)
    released: int = 0
    #: Whether other databases are to be told of any.
    forwarded: bool = False
    #: Events left pending because somebody holds an inbox of theirs.
    held: list[int] = field(default_factory=list)
    #: Of each event that is done: its type, and when it was accepted (Unix time).
    done: list[tuple[str, float]] = field(default_factory=list)
    #: Those of them that are followed, and when they were accepted (Unix time).
    followed: list[tuple[Followed, float]] = field(default_factory=list)


def deliver(connection: Connection, rows: Rows, careful: bool, *, around: bool = False) -> Delivery:
    """Fan out claimed events: each becomes `done`, `failed` with its reason, or `fanning_out` where it is large.

    `careful`: leave out what exists already (an event that was worked on before). At most a chunk's worth of inboxes is
    locked; events beyond that are released. `around`: wait for nobody; events with an inbox that is held are `held`.
    """
    batch = _Batch(connection, careful, around)
    try:
        prepared = batch.prepare(rows)
        batch.write(batch.reach(prepared))
    finally:
        at_work.begin(0)
    return batch.delivery


class _Batch:
    def __init__(self, connection: Connection, careful: bool, around: bool) -> None:
        self.delivery = Delivery()
        self._connection = connection
        self._careful = careful
        self._around = around
        self._bound = settings().chunk_size
        self._rows: dict[str, list[Any]] = defaultdict(list)
        self._ends: dict[str, list[Any]] = defaultdict(list)
        self._failed_logins: list[int] = []
        self._moved_on: list[Prepared] = []
        self._claimed: dict[int, Row] = {}

    def prepare(self, rows: Rows) -> list[Prepared]:
        """Return the events that can be fanned out; the others are failed."""
        prepared = []
        for place, row in enumerate(rows):
            at_work.begin(row["key"])
            self._claimed[row["key"]] = row
            try:
                prepared.append(prepare(row, place))
            except InvalidInput as refused:
                self._refuse(row["key"], refused)
        at_work.begin(0)
        see_targets(self._connection, prepared)
        return prepared

    def _refuse(self, key: int, refused: InvalidInput) -> None:
        self.delivery.refused[key] = reason_of(refused)
        self.delivery.trace_ids[key] = trace_of(self._claimed[key])
        self._end(key, "failed", error=reason_of(refused))

    def _end(
        self, key: int, state: str, *, count: int = 0, error: str | None = None, content_hash: bytes | None = None
    ) -> None:
        values = (key, state, count, count, error, content_hash)
        for name, value in zip(fan_out.EVENT_COLUMNS, values, strict=True):
            self._ends[name].append(value)

    def reach(self, prepared: list[Prepared]) -> Reached:
        """Return the events that this batch keeps, each with its audience; a single one over the bound is `large`."""
        kept, rows = read_within(self._connection, prepared, self._bound)
        self.delivery.released += len(prepared) - len(kept)
        if len(rows) > self._bound:
            self._leave_to_chunks(kept[0])
            return []
        if self._register_unknown(kept, rows):
            kept, rows = read_within(self._connection, kept, self._bound)
        return by_event(kept, rows)

    def _leave_to_chunks(self, event: Prepared) -> None:
        self.delivery.large.append(event.key)
        self.delivery.trace_ids[event.key] = trace_of(self._claimed[event.key])
        self._move_on(event, "fanning_out")

    def _move_on(self, event: Prepared, state: str, count: int = 0) -> None:
        self._end(event.key, state, count=count, content_hash=event.content_hash)
        self._moved_on.append(event)
        if event.event_type.name == failed_logins.FAILED:
            self._failed_logins.append(event.key)

    def _register_unknown(self, kept: list[Prepared], rows: Rows) -> bool:
        reached = {(row["event"], row["place"]) for row in rows}
        unknown = [
            target
            for event in kept
            if event.registers
            for target in event.targets
            if target.target.kind == "recipient" and (target.event, target.place) not in reached
        ]
        if unknown:
            register(self._connection, unknown)
        return bool(unknown)

    def write(self, reached: Reached) -> None:
        """Number and write everything, end every event, stage those that are counted, and leave forwards."""
        ready = self._render(reached)
        inboxes = self._lock(ready)
        if self._around:
            ready = self._leave_held(ready, inboxes)
        existing = self._existing(ready) if self._careful else frozenset()
        for event, texts in ready:
            there = [(inboxes[key], text) for key, text in texts.items() if key in inboxes]
            for inbox, text in there:
                self._number(event, inbox, text, existing)
            self._move_on(event, "done", len(there))
            self.delivery.done.append((event.event_type.name, event.accepted_at.timestamp()))
            if is_followed(event.traceparent):
                self._follow(event, [inbox.key for inbox, _ in there])
        given = {
            **{f"row_{name}": self._rows[name] for name in fan_out.ROW_COLUMNS},
            **{f"event_{name}": self._ends[name] for name in fan_out.EVENT_COLUMNS},
            **_inbox_columns([inbox for inbox in inboxes.values() if inbox.added]),
        }
        self._connection.execute(fan_out.write_batch(), given)
        if self._failed_logins:
            self._connection.execute(failed_logins.stage(), {"keys": self._failed_logins})
        self.delivery.forwarded = leave_forwards(self._connection, self._moved_on)

    def _follow(self, event: Prepared, keys: list[int]) -> None:
        trace_id, name = trace_of(self._claimed[event.key]), event.event_type.name
        followed = Followed(trace_id, event.traceparent, event.key, name, databases.current(), keys)
        self.delivery.followed.append((followed, event.accepted_at.timestamp()))

    def _render(self, reached: Reached) -> list[tuple[Prepared, dict[int, Text]]]:
        """Return the events with a text for each inbox, before any inbox is locked, as far as their size allows."""
        ready: list[tuple[Prepared, dict[int, Text]]] = []
        size = 0
        for index, (event, found) in enumerate(reached):
            at_work.begin(event.key)
            try:
                texts = {key: event.text_for(place, row) for key, (place, row) in found.items()}
            except InvalidInput as refused:
                self._refuse(event.key, refused)
                continue
            size += sum(text.size for text in texts.values())
            if size > MAX_BATCH_BYTES and ready:
                self.delivery.released += len(reached) - index
                break
            if size > MAX_BATCH_BYTES:
                self._leave_to_chunks(event)
                self.delivery.released += len(reached) - index - 1
                break
            ready.append((event, texts))
        at_work.begin(0)
        return ready

    def _lock(self, ready: list[tuple[Prepared, dict[int, Text]]]) -> dict[int, _Inbox]:
        keys = sorted({key for _, texts in ready for key in texts})
        if not keys:
            return {}
        rows = self._connection.execute(fan_out.lock_inboxes(around=self._around), {"keys": keys}).mappings()
        return {row["key"]: _Inbox(row) for row in rows}

    def _leave_held(
        self, ready: list[tuple[Prepared, dict[int, Text]]], inboxes: dict[int, _Inbox]
    ) -> list[tuple[Prepared, dict[int, Text]]]:
        """Return the events none of whose inboxes somebody else holds."""
        missing = {key for _, texts in ready for key in texts} - inboxes.keys()
        held = missing - set(self._connection.scalars(fan_out.read_deserted(), {"keys": sorted(missing)}))
        self.delivery.held.extend(event.key for event, texts in ready if not held.isdisjoint(texts))
        return [(event, texts) for event, texts in ready if held.isdisjoint(texts)]

    def _existing(self, ready: list[tuple[Prepared, dict[int, Text]]]) -> frozenset[str]:
        ids = [str(notification_id(event.prefix, event.key, key)) for event, texts in ready for key in texts]
        return frozenset(str(id) for id in self._connection.scalars(fan_out.read_existing(), {"ids": ids}))

    def _number(self, event: Prepared, inbox: _Inbox, text: Text, existing: frozenset[str]) -> None:
        id = str(notification_id(event.prefix, event.key, inbox.key))
        if id in existing:
            return
        inbox.add()
        rendered = text.rendered
        values = (
            id, inbox.key, inbox.tenant, event.key, inbox.created, inbox.seq, event.event_type.name, event.priority,
            rendered.title, rendered.message, rendered.action_url, event.metadata_json, event.expires_at,
        )  # fmt: skip
        for name, value in zip(fan_out.ROW_COLUMNS, values, strict=True):
            self._rows[name].append(value)
        self.delivery.messages.append((inbox.channel, inbox.frame(id, text.rest)))
        self.delivery.owners.append(event.key)


class _Inbox:
    """A locked inbox: hands out its next numbers."""

    __slots__ = ("added", "channel", "created", "epoch", "key", "seq", "tenant", "unread", "unseen")

    def __init__(self, row: Mapping[Any, Any]) -> None:
        self.epoch, self.key, self.tenant = row["epoch"], row["key"], row["tenant"]
        self.seq, self.created, self.unread, self.unseen = row["seq"], row["created"], row["unread"], row["unseen"]
        self.channel = channel_of(row["tenant"], row["recipient"])
        self.added = 0

    def add(self) -> None:
        self.added += 1
        self.seq += 1
        self.created += 1
        self.unread += 1
        self.unseen += 1

    def frame(self, id: str, rest: bytes) -> bytes:
        counters = Counters(self.unread, self.unseen, 0)
        return created(Cursor(self.epoch, self.seq), id, orjson.dumps(self.tenant), counters, rest)


def _inbox_columns(inboxes: list[_Inbox]) -> dict[str, list[Any]]:
    return {f"inbox_{name}": [getattr(inbox, name) for inbox in inboxes] for name in fan_out.INBOX_COLUMNS}


def register(connection: Connection, targets: Sequence[audience.Sought]) -> None:
    """Register the named recipients that the directory does not know; those that it knows stay as they are.

    In a tenant's own database, not those who are at home elsewhere.
    """
    people = {(target.target.tenant or "", target.target.name) for target in targets}
    if databases.current() != databases.SHARED:
        run(connection, homes.settle(people))
        people -= run(connection, homes.find(people))[0]
    listed = sorted(people)
    given = {"tenants": [tenant for tenant, _ in listed], "ids": [id for _, id in listed]}
    connection.execute(audience.register_inboxes(), given)
    connection.execute(audience.register_recipients(), given)

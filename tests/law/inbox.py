"""One recipient's inbox as the law test drives it: HTTP calls, the workers' jobs, and everything ever known of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any
from urllib.parse import quote

import orjson
import psycopg

from shared import db, inbox
from shared.cursor import Cursor
from shared.frames import Replay, dumps, inbox_name
from tests import directory
from tests.directory import Row
from tests.law.events import TENANT, Posted, envelope, mark, numbers
from tests.law.logins import Account, Logins
from tests.law.model import Copy, assert_same, cursor_of
from tests.law.wire import Answer, Call, Caller, Wire
from tests.listener import Frame, token_for
from tests.producers import BATCHED, STRUCTURED
from workers import cancel, chunks, fan_out, retention

INBOX = "/api/notifications"
#: Members of every course beside the recipient: with one more, an event to them is too large for one transaction.
COMPANIONS = ("c1", "c2", "c3", "c4")
CHUNK_SIZE = len(COMPANIONS)
#: The companions' inboxes are older, so the recipient is alone in the last chunk.
THEIRS, OURS = 0, 1
CAP = 3
MAX_CHANGES = 8


@dataclass
class World:
    """What all examples share: two API processes, their database, a producer."""

    urls: Sequence[str]
    environment: dict[str, str]
    database: psycopg.Connection[Row]
    caller: Caller
    #: A producer's key.
    key: str
    #: How often streams told what: kinds of change, reasons of deletions, other events.
    heard: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        directory.add_recipients(self.database, TENANT, COMPANIONS)

    def new_inbox(self) -> Inbox:
        """Return the empty inbox of a new recipient, who takes a course with the companions and is the one admin."""
        name = f"law{next(numbers)}"
        key = directory.add_recipients(self.database, TENANT, [name])[name]
        self.database.execute(
            "INSERT INTO recipient_roles (tenant, role, key) VALUES (%s, 'university_admin', %s)", (TENANT, key)
        )
        self.database.execute(
            "INSERT INTO topic_members (tenant, topic, key) SELECT %s, %s, key FROM recipients WHERE id = ANY(%s)",
            (TENANT, f"course:{name}", [*COMPANIONS, name]),
        )
        return Inbox(self, name, key)


@dataclass
class Inbox:
    """The inbox. Methods that change it return nothing: what changed is for the law to find."""

    world: World
    name: str
    key: int
    bearer: str = ""
    #: What a page told, or would have told, at each seq.
    known: dict[int, Copy] = field(default_factory=dict)
    floor: int = 0
    events: list[Posted] = field(default_factory=list)
    #: The counters and the cursor of the last mutation's answer.
    answered: tuple[str, int, int] | None = None

    def __post_init__(self) -> None:
        self._streams = 0
        self.logins = Logins(self.world.database)
        self.bearer = token_for(self.world.environment, self.name, tenant=TENANT)

    def _call(self, method: str, path: str = "", body: Any = None) -> Call:
        return Call(self.bearer, method, INBOX + path, body)

    def _get(self, *paths: str) -> list[dict[str, Any]]:
        return [self._ok(answer) for answer in self.world.caller.all([self._call("GET", path) for path in paths])]

    # What a client reads

    def stream(self, last_event_id: str | None = None, snapshot: bool = False) -> Wire:
        """Return a new stream, asked for and not yet answered: the API processes take turns."""
        self._streams += 1
        url = self.world.urls[self._streams % len(self.world.urls)]
        return Wire(url, self.bearer, "snapshot=100" if snapshot else "", last_event_id)

    def page(self) -> Copy:
        """Return the whole inbox, fetched now, after holding page and counters to each other."""
        shown, archive = self._get("?first=100", "?first=100&archived=true")
        heads = [(told["cursor"], told["unreadCount"], told["unseenCount"]) for told in (shown, archive)]
        assert heads[0] == heads[1], "nothing changed between the two"
        for told, archived in ((shown, False), (archive, True)):
            _assert_is_page(told, archived)
        rows = {row["id"]: row for told in (shown, archive) for row in told["nodes"]}
        copy = Copy(cursor_of(shown["cursor"]), rows, shown["unreadCount"], shown["unseenCount"])
        assert (copy.unread, copy.unseen) == copy.counted(), "badge and list disagree"
        self.remember(copy)
        return copy

    def shown(self, frame: Frame) -> None:
        """Hold a page that came with the stream to one fetched now."""
        (fresh,) = self._get("?first=100")
        if frame.data["cursor"] == fresh["cursor"]:
            # Whose inbox it is stands in the stream's first frame.
            assert {"inbox": fresh["inbox"], **frame.data} == fresh

    def pages(self, size: int) -> list[str]:
        """Return the ids of what the inbox shows, read in pages of `size`."""
        ids: list[str] = []
        after = ""
        while True:
            (told,) = self._get(f"?first={size}{after}")
            assert len(told["nodes"]) <= size
            ids += [row["id"] for row in told["nodes"]]
            if not told["pageInfo"]["hasNextPage"]:
                return ids
            after = f"&after={told['pageInfo']['endCursor']}"

    def changes(self, cursors: Sequence[Cursor]) -> list[dict[str, Any]]:
        """Return what `/changes` tells since each of these."""
        return self._get(*(f"/changes?since={cursor}" for cursor in cursors))

    def ways(self, cursors: Sequence[Cursor]) -> list[dict[str, Any]]:
        """Return what `/changes` would tell since each of these, by the product's one query for many cursors.

        That costs a tenth of the calls; the law compares some of them with what is told over HTTP each time.
        """
        given = {
            "tenants": [TENANT] * len(cursors),
            "recipients": [self.name] * len(cursors),
            "epochs": [cursor.epoch for cursor in cursors],
            "seqs": [cursor.seq for cursor in cursors],
            "max_changes": MAX_CHANGES,
            "max_rows": inbox.MAX_REPLAY_ROWS,
        }
        with db.transaction("*") as connection:
            rows = connection.execute(inbox.read_changes(), given).mappings().all()
        found = groupby(rows, key=lambda row: row["place"])
        whose = {"inbox": inbox_name(TENANT, self.name)}
        return [whose | _told(inbox.replay_of(cursors[place - 1], list(group), MAX_CHANGES)) for place, group in found]

    def replayed(self, copy: Copy) -> Copy:
        """Return the copy after `/changes` since its mark; fetched fresh where that cannot be told."""
        (told,) = self.changes([copy.mark])
        return self.page() if told["reset"] else copy.replayed(told)

    def heard(self, what: str) -> None:
        """Count what streams told."""
        self.world.heard[what] += 1

    def remember(self, copy: Copy) -> None:
        """The copy is what a page would have told at its mark; everyone who was there agrees on it."""
        assert_same(copy, self.known.setdefault(copy.mark.seq, copy), "what another client has at the same seq")

    def servable(self, cursor: Cursor, head: Cursor) -> bool:
        """Tell whether the way from a cursor can be told whole, by the protocol."""
        return cursor.epoch == head.epoch and max(self.floor, head.seq - MAX_CHANGES) <= cursor.seq <= head.seq

    # What the recipient does

    def mark(self, id: str, wish: dict[str, bool]) -> Answer:
        """Set marks of one notification; returns the answer."""
        return self._change("PATCH", f"/{id}", wish)

    def delete(self, id: str) -> Answer:
        """Delete one."""
        return self._change("DELETE", f"/{id}")

    def mark_all(self, what: str, up_to: Cursor | None) -> None:
        """Mark all as `read` or `seen`, or, with `read-all`, as read by the other call."""
        bound = {} if up_to is None else {"upTo": str(up_to)}
        if what == "read-all":
            answer = self._change("POST", "/read-all", bound or None)
        else:
            answer = self._change("PATCH", "", {what: True, **bound})
        self._ok(answer)

    def delete_read(self, up_to: Cursor | None) -> None:
        """Delete what is read."""
        bound = "" if up_to is None else f"&upTo={up_to}"
        self._ok(self._change("DELETE", f"?read=true{bound}"))

    def _change(self, method: str, path: str, body: Any = None) -> Answer:
        answer = self.world.caller.one(self._call(method, path, body))
        if answer.status == 200:
            self.answered = (answer.told["cursor"], answer.told["unreadCount"], answer.told["unseenCount"])
        return answer

    @staticmethod
    def _ok(answer: Answer) -> dict[str, Any]:
        assert answer.status == 200, answer
        told: dict[str, Any] = answer.told
        return told

    # What producers and workers do

    def post(self, kinds: Sequence[str], *, together: bool) -> None:
        """Post an event of each kind (a key of `_DATA`), in one batch or one after the other."""
        told = [mark() for _ in kinds]
        made = [envelope(kind, self.name, each) for kind, each in zip(kinds, told, strict=True)]
        for batch in [made] if together else [[each] for each in made]:
            assert self._post(batch) == ["accepted"] * len(batch)
        keys = self.world.database.execute(
            "SELECT key, id FROM events WHERE id = ANY(%s)", ([each["id"] for each in made],)
        ).fetchall()
        by_id = {row["id"]: row["key"] for row in keys}
        self.events += [
            Posted(posted["id"], by_id[posted["id"]], [posted], text, kind == "wide")
            for posted, text, kind in zip(made, told, kinds, strict=True)
        ]

    def _post(self, envelopes: list[dict[str, Any]]) -> list[str]:
        body, kind = (envelopes[0], STRUCTURED) if len(envelopes) == 1 else (envelopes, BATCHED)
        answer = self.world.caller.one(Call(self.world.key, "POST", "/api/events", body, kind))
        assert answer.status == 202, answer
        return [told["status"] for told in answer.told["events"]]

    def fail(self, account: Account | None, many: int) -> None:
        """Post so many failed logins of an account; None: of a new one."""
        if account is None:
            account = Account(mark())
            self.logins.accounts.append(account)
        made = [envelope("failure", self.name, account.name) for _ in range(many)]
        assert self._post(made) == ["accepted"] * many
        account.envelopes += made

    def count_failures(self) -> None:
        """Run the job that counts them, and know of the events that it made."""
        self.events += self.logins.count()

    def leave(self) -> None:
        """Let nothing of this inbox reach the next one's owner, who will be the one admin."""
        self.world.database.execute("DELETE FROM recipient_roles WHERE key = %s", (self.key,))
        self.logins.leave()

    def fan_out(self) -> None:
        """Run the fan-out of whatever is pending, and the planning of what is too large for it."""
        fan_out.fan_out_pending()
        self.logins.ended()
        for event in self.events:
            if not event.wide and not event.cancelled:
                event.due = True
            elif event.wide and not event.planned and not event.cancelled:
                chunks.plan(event.key)
                event.planned = True

    def run_our_chunks(self) -> None:
        """Run the recipient's chunks of large events; the events go on being fanned out."""
        self._run_chunks(OURS)

    def run_their_chunks(self) -> None:
        """Run the companions' chunks."""
        self._run_chunks(THEIRS)

    def run_all_chunks(self) -> None:
        """Run all chunks of large events."""
        self._run_chunks(THEIRS, OURS)

    def _run_chunks(self, *numbers: int) -> None:
        for event in self.events:
            for number in numbers:
                if event.planned and number not in event.run:
                    self._run_chunk(event, number)

    def _run_chunk(self, event: Posted, number: int) -> None:
        chunks.run_chunk(event.key, number)
        event.run.add(number)
        event.due = event.due or (number == OURS and not event.cancelled)

    def redeliver(self, event: Posted) -> None:
        """Post again what it is of and run again every task of it that ran."""
        assert self._post(event.envelopes) == ["duplicate"] * len(event.envelopes)
        fan_out.run_alone(event.key)
        if event.planned:
            chunks.plan(event.key)
        for number in event.run:
            self._run_chunk(event, number)
        self.fan_out()

    def cancel(self, event: Posted) -> None:
        """Ask for the event to be cancelled."""
        target = f"/api/events/{quote(event.id, safe='')}?source={quote(event.source, safe='')}&tenant={TENANT}"
        answer = self.world.caller.one(Call(self.world.key, "DELETE", target))
        assert answer.status == (200 if event.cancelled else 202), answer
        event.cancelled = True

    def withdraw(self) -> None:
        """Withdraw what was cancelled."""
        for event in self.events:
            if event.cancelled:
                assert cancel.withdraw(event.key)

    def expire(self) -> None:
        """Delete what has expired."""
        assert retention.expire()

    def cap(self) -> None:
        """Keep the last `CAP` created."""
        assert retention.cap()

    def purge(self) -> None:
        """Remove the inbox's tombstones, as in a week, and work out the floor that this makes."""
        last = self.world.database.execute(
            "WITH aged AS (UPDATE notifications SET deleted_at = now() - interval '8 days'"
            " WHERE key = %s AND deleted_at IS NOT NULL RETURNING event_key, seq)"
            " SELECT max(a.seq) AS seq FROM aged a JOIN events e ON e.key = a.event_key"
            " WHERE e.state IN ('done', 'cancelled', 'failed')",
            (self.key,),
        ).fetchone()
        assert last is not None
        assert retention.purge()
        self.floor = max(self.floor, last["seq"] or 0)


def _told(replay: Replay) -> dict[str, Any]:
    steps = [{"id": str(Cursor(replay.head.epoch, seq)), **step} for seq, step in replay.steps]
    head = {"reset": replay.reset, "cursor": str(replay.head), **replay.counters.as_json()}
    told: dict[str, Any] = orjson.loads(dumps({"changes": steps, "hasMore": False, **head}))
    return told


def _assert_is_page(told: dict[str, Any], archived: bool) -> None:
    nodes = told["nodes"]
    assert not told["pageInfo"]["hasNextPage"]
    assert told["totalCount"] == len(nodes)
    order = [row["createdSeq"] for row in nodes]
    assert order == sorted(set(order), reverse=True)
    assert all((row["archivedAt"] is not None) == archived for row in nodes)
    head = cursor_of(told["cursor"]).seq
    for row in nodes:
        assert row["createdSeq"] <= row["seq"] <= head
        assert row["read"] == (row["readAt"] is not None)
        assert not row["read"] or row["seenAt"] is not None, "read is seen"
        assert row["archivedAt"] is None or row["read"], "archived is read"
